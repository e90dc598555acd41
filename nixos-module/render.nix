# The content of secrets.json, from services.onecred and from the services with credentials.
{ config, lib }:
let
  inherit (lib)
    concatLists
    filterAttrs
    mapAttrsToList
    optionalAttrs
    ;
  inherit (import ./lib.nix { inherit lib; })
    grant
    granted
    isOwn
    isReference
    requestedByName
    secretName
    said
    ;
  cfg = config.services.onecred;

  # onecred's own units depend on the result
  services = filterAttrs (name: _: !isOwn name) config.systemd.services;
  asked = concatLists (
    mapAttrsToList (
      service: unit:
      mapAttrsToList (id: what: { inherit service id what; }) unit.onecred.credentials
      ++ map ({ id, name }: {
        inherit service id;
        what = name;
      }) (requestedByName unit.serviceConfig)
    ) services
  );
  needed = concatLists (mapAttrsToList (_: unit: unit.onecred.environmentFiles) services);

  grants =
    name:
    map ({ service, id, ... }: "${granted service}/${id}") (
      builtins.filter (one: one.what == name) asked
    );
  # the units of an entry, and those of services that use it and are not among them
  allUnits =
    name: units:
    units
    ++ lib.unique (
      builtins.filter (new: !builtins.elem (grant name new) (map (grant name) units)) (grants name)
    );
  # what a service with `environmentFiles` and `credentials` adds to an entry
  extend =
    {
      name,
      target ? null,
      units ? [ ],
      ...
    }@written:
    let
      of = if target == null && builtins.elem name needed then "${cfg.publishRoot}/${name}" else target;
      ofFiles = [
        "owner"
        "group"
        "mode"
        "links"
        "makeDirectories"
      ];
    in
    said (
      removeAttrs written (lib.optionals (of == null) ofFiles)
      // {
        inherit name;
        target = of;
        units = allUnits name units;
      }
    );
  entry =
    name: written:
    extend (
      removeAttrs written [
        "path"
        "publish"
        "services"
        "otherPaths"
        "socketPath"
        "sealedSocketPath"
        "switchAction"
      ]
      // {
        inherit name;
      }
    );
  # the same for entries of `settings`; `onecred check` reports those without a name
  given =
    kind: map (one: if one ? name then one // extend one else one) (cfg.settings.${kind} or [ ]);

  declared = map (
    {
      service,
      id,
      what,
    }:
    {
      name = secretName service id;
      reference = what;
      units = [ "${granted service}/${id}" ];
    }
  ) (builtins.filter ({ what, ... }: isReference what) asked);

  secrets = given "secrets" ++ mapAttrsToList entry cfg.secrets ++ declared;
  templates = given "templates" ++ mapAttrsToList entry cfg.templates;
  sources =
    (cfg.settings.sources or { })
    // lib.mapAttrs (
      _: source:
      said (
        removeAttrs source [
          "tokenFile"
          "tokenCredential"
        ]
      )
    ) cfg.sources;

  # the library of a service account
  withCore =
    source:
    if
      source.kind or "service-account" == "service-account"
      && !(source ? library)
      && cfg.core.package != null
    then
      source
      // {
        library = "${cfg.core.package}/lib/onecred/libop_uniffi_core.so";
      }
      // optionalAttrs (cfg.core.package ? librarySha256 && !(source ? librarySha256)) {
        inherit (cfg.core.package) librarySha256;
      }
    else
      source;

  vault = {
    kind = "file";
    path = "/etc/onecred/vault.json";
  };
  developing = cfg.development.vault != null;
  hasSource = cfg.settings ? source || sources == { };
in
filterAttrs (_: value: value != null) cfg.settings
// {
  inherit secrets;
}
// optionalAttrs (templates != [ ]) { inherit templates; }
// optionalAttrs (sources != { }) {
  sources = lib.mapAttrs (_: source: if developing then vault else withCore source) sources;
}
// optionalAttrs (hasSource && (developing || cfg.core.package != null)) {
  source = if developing then vault else withCore (cfg.settings.source or { });
}
