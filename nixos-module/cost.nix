# Service accounts whose budget is lower than the calls of one start of all hosts: the source, the calls and the budget. `onecred check`
# computes the same.
{ lib, rendered }:
let
  own = import ./lib.nix { inherit lib; };
  inherit (builtins)
    attrNames
    attrValues
    foldl'
    groupBy
    head
    length
    mapAttrs
    match
    ;
  inherit (lib) concatMap optionalAttrs;

  # the calls for a session and for the list of vaults
  session = 5 + 1;
  # how many items of a vault one call returns
  batch = 50;

  sources =
    rendered.sources or { }
    // optionalAttrs (rendered ? source || !(rendered ? sources)) { default = rendered.source or { }; };
  only = if length (attrNames sources) == 1 then head (attrNames sources) else "default";
  sourceOf = entry: entry.source or rendered.defaults.source or only;

  wanted =
    map (entry: {
      source = sourceOf entry;
      reference = own.referenceOf entry;
    }) rendered.secrets
    ++ concatMap (
      entry:
      map (place: {
        source = sourceOf entry;
        reference = head (own.partsOf place);
      }) (own.placesIn (entry.content or ""))
    ) rendered.templates or [ ];
  # vault and item of each reference, by source; names in placeholders are those of secrets
  items = groupBy (one: one.source) (
    concatMap (
      { source, reference }:
      let
        parts = match "op://([^/]*)/([^/]*)/.*" reference;
        part = n: lib.toLower (builtins.elemAt parts n);
      in
      lib.optional (parts != null) {
        inherit source;
        vault = part 0;
        item = part 1;
      }
    ) wanted
  );
  ofVault = found: 1 + (length (attrNames (groupBy (one: one.item) found)) + batch - 1) / batch;
  ofSource =
    name:
    if items ? ${name} then
      foldl' builtins.add session (map ofVault (attrValues (groupBy (one: one.vault) items.${name})))
    else
      0;

  number =
    key: default: source:
    if builtins.isInt (source.${key} or null) then source.${key} else default;
  costs = mapAttrs (name: source: {
    inherit name;
    cost = ofSource name;
    hosts = number "hosts" 1 source;
    budget = number "budget" 800 source;
  }) (lib.filterAttrs (_: source: (source.kind or "service-account") == "service-account") sources);
in
builtins.filter (
  {
    cost,
    hosts,
    budget,
    ...
  }:
  cost * hosts > budget
) (attrValues costs)
