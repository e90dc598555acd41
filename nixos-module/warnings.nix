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
      "services.onecred.${kindOf entry}.${entry.name}: no unit may load it, and it is not published; use it in systemd.services.<name>.onecred.credentials, or set publish = true";

  # services that bring the network up cannot wait for 1Password
  ofNetwork =
    name: service:
    let
      early = [
        "network-pre.target"
        "network.target"
        "network-online.target"
      ];
      isKnown =
        builtins.match "(systemd-(networkd|resolved)|NetworkManager|wpa_supplicant(-.*)?|dhcpcd|iwd|connman|ModemManager|network-(setup|local-commands|addresses-.*)|supplicant-.*)" name
        != null;
      needs =
        service.onecred.credentials != { }
        || lib.any (lib.hasPrefix "onecred-file@") service.requires
        || own.requestedByName service.serviceConfig != [ ]
        || own.askedAt own.socket (service.serviceConfig.LoadCredential or [ ]) != [ ]
        || own.askedAt own.sealedSocket (service.serviceConfig.LoadCredentialEncrypted or [ ]) != [ ];
    in
    optional (needs && (isKnown || lib.any (one: builtins.elem one early) service.before))
      "systemd.services.${name}: it brings the network up, and onecred can give it no secret before; keep this secret in a file of the machine, or with sops-nix or agenix";

  readable =
    entry:
    optional
      (
        builtins.isString (entry.mode or null)
        && builtins.match ".*[4567]" entry.mode != null
        # OpNix's users have chosen the mode
        && !(ofOpNix ? ${entry.name})
      )
      "services.onecred.${kindOf entry}.${entry.name}.mode: every user can read the file; let the owner or a group read it, with mode 0400 or 0440";
  ofOpNix = config.services.onepassword-secrets.secrets or { };
  kindOf = entry: if entry ? content then "templates" else "secrets";
in
{
  config.warnings = lib.mkIf cfg.enable (
    map unrequested requests
    ++ concatMap (entry: unused entry ++ readable entry) (builtins.filter (entry: entry ? name) entries)
    ++ lib.concatLists (
      lib.mapAttrsToList ofNetwork (lib.filterAttrs (name: _: !own.isOwn name) config.systemd.services)
    )
  );
}
