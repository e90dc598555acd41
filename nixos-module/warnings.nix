# Warnings for what is valid, but is probably a mistake.
{ config, lib, ... }:
let
  inherit (lib) concatMap optional;
  own = import ./lib.nix { inherit lib; };
  cfg = config.services.onecred;
  entries = cfg.rendered.secrets ++ cfg.rendered.templates or [ ];
  requests = import ./requests.nix { inherit config lib; };

  unrequested =
    { service, id }:
    "systemd.services.${service}: no secret grants the credential ID ${id}, so the service will not start; use services.onecred.secrets.<name>.socketPath instead of the socket, or add \"${service}/${id}\" to services.onecred.secrets.<name>.units";

  # a secret may be part of a template
  contents = builtins.concatStringsSep "\n" (map (entry: entry.content or "") entries);
  unused =
    entry:
    optional
      ((entry.units or [ ]) == [ ] && entry.target or null == null && !own.hasPlace entry.name contents)
      "services.onecred.${
        if entry ? content then "templates" else "secrets"
      }.${entry.name}: no unit may load it, and it is not published; use it in systemd.services.<name>.onecred.credentials, or set publish = true";
in
{
  config.warnings = lib.mkIf cfg.enable (
    map unrequested requests ++ concatMap unused (builtins.filter (entry: entry ? name) entries)
  );
}
