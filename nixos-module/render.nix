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
    granted
    isReference
    secretName
    said
    ;
  cfg = config.services.onecred;

  asked = concatLists (
    mapAttrsToList (
      service: unit: mapAttrsToList (id: what: { inherit service id what; }) unit.onecred.credentials
    ) config.systemd.services
  );
  needed = concatLists (
    mapAttrsToList (_: unit: unit.onecred.environmentFiles) config.systemd.services
  );

  grants =
    name:
    map ({ service, id, ... }: "${granted service}/${id}") (
      builtins.filter (one: one.what == name) asked
    );
  entry =
    name: written:
    let
      target =
        if written.target == null && builtins.elem name needed then
          "${cfg.publishRoot}/${name}"
        else
          written.target;
      ofFiles = [
        "owner"
        "group"
        "mode"
        "links"
        "makeDirectories"
      ];
    in
    said (
      removeAttrs written (
        [
          "path"
          "publish"
        ]
        ++ lib.optionals (target == null) ofFiles
      )
      // {
        inherit name target;
        units = written.units ++ grants name;
      }
    );

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

  secrets = (cfg.settings.secrets or [ ]) ++ mapAttrsToList entry cfg.secrets ++ declared;
  templates = (cfg.settings.templates or [ ]) ++ mapAttrsToList entry cfg.templates;
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
  sources = if developing then lib.mapAttrs (_: _: vault) sources else sources;
}
// optionalAttrs (developing && hasSource) { source = vault; }
