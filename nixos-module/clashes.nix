# Entries that exclude each other: two for one file, or two for one unit and credential ID.
{ config, lib, ... }:
let
  inherit (builtins)
    attrNames
    concatStringsSep
    filter
    groupBy
    head
    length
    ;
  inherit (lib) concatMap mapAttrsToList;
  own = import ./lib.nix { inherit lib; };
  cfg = config.services.onecred;
  entries = filter (entry: entry ? name) (cfg.rendered.secrets ++ cfg.rendered.templates or [ ]);

  # the names of the entries that have the same key; a name twice is another mistake
  shared =
    keyed:
    lib.filterAttrs (_: names: length names > 1) (
      builtins.mapAttrs (_: found: attrNames (groupBy (one: one.name) found)) (
        groupBy (one: one.key) keyed
      )
    );
  said = concatStringsSep " and ";

  files = shared (
    concatMap (
      entry:
      map (key: {
        inherit key;
        inherit (entry) name;
      }) (lib.optionals (entry ? target) ([ entry.target ] ++ entry.links or [ ]))
    ) entries
  );
  claims = concatMap (
    entry:
    map (
      written:
      let
        grant = own.grant entry.name written;
      in
      {
        inherit (entry) name;
        inherit (grant) unit id;
        key = "${grant.unit}/${grant.id}";
      }
    ) (entry.units or [ ])
  ) entries;
  ofClaim = key: head (filter (one: one.key == key) claims);

  # a unit twice in an option
  written =
    kind:
    mapAttrsToList (name: entry: {
      place = "services.onecred.${kind}.${name}.units";
      keys = map (keyOf name) entry.units;
    }) cfg.${kind}
    ++ map (entry: {
      place = "services.onecred.settings.${kind} (${entry.name}).units";
      keys = map (keyOf entry.name) (entry.units or [ ]);
    }) (filter (entry: entry ? name) (cfg.settings.${kind} or [ ]));
  keyOf =
    name: text:
    let
      grant = own.grant name text;
    in
    "${grant.unit}/${grant.id}";
  twice =
    { place, keys }:
    map (key: "${place}: ${key} is in the list twice; remove one of the two") (
      attrNames (lib.filterAttrs (_: found: length found > 1) (groupBy (key: key) keys))
    );
in
{
  config = lib.mkIf cfg.enable {
    assertions =
      mapAttrsToList (path: names: {
        assertion = false;
        message = "services.onecred: ${said names} have the same file ${path}; give each another target";
      }) files
      ++ mapAttrsToList (key: names: {
        assertion = false;
        message = "services.onecred: ${(ofClaim key).unit} would get the credential ID ${(ofClaim key).id} from ${said names}; give one of them another ID, as UNIT/ID in units";
      }) (shared claims);
    warnings = concatMap twice (written "secrets" ++ written "templates");
  };
}
