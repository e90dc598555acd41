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
        builtins.match "(systemd-(networkd|resolved)|pppd-.*|NetworkManager|wpa_supplicant(-.*)?|dhcpcd|iwd|connman|ModemManager|network-(setup|local-commands|addresses-.*)|supplicant-.*)" name
        != null;
      isTunnel =
        builtins.match "(wireguard|wg-quick|openvpn|tailscaled|nebula@|tinc\\.|yggdrasil).*" name != null;
      needs =
        service.onecred.credentials != { }
        || lib.any (lib.hasPrefix "onecred-file@") service.requires
        || own.requestedByName service.serviceConfig != [ ]
        || own.askedAt own.socket (service.serviceConfig.LoadCredential or [ ]) != [ ]
        || own.askedAt own.sealedSocket (service.serviceConfig.LoadCredentialEncrypted or [ ]) != [ ];
    in
    # a tunnel is set up on a network
    optional (needs && !isTunnel && (isKnown || lib.any (one: builtins.elem one early) service.before))
      "systemd.services.${name}: it brings the network up, and onecred can give it no secret before; keep this secret in a file of the machine, or with sops-nix or agenix";

  isReadable = mode: builtins.isString mode && builtins.match ".*[4567]" mode != null;
  readable =
    entry:
    optional
      (
        isReadable (entry.mode or null)
        # OpNix's users have chosen the mode
        && !(ofOpNix ? ${entry.name})
      )
      "services.onecred.${kindOf entry}.${entry.name}.mode: every user can read the file; let the owner or a group read it, with mode 0400 or 0440";
  # the entries with a file
  files = lib.genAttrs (map (entry: entry.name) (
    builtins.filter (entry: entry ? name && entry.target or null != null) entries
  )) (_: null);
  # settings of a file that is not published
  withoutFile =
    place: name: written:
    let
      keys = builtins.attrNames (
        own.said (
          builtins.intersectAttrs {
            owner = null;
            group = null;
            mode = null;
            links = null;
            makeDirectories = null;
          } written
        )
      );
    in
    optional (keys != [ ] && !(files ? ${name}))
      "${place}: ${builtins.concatStringsSep ", " keys}: without effect, because no file is published; set publish = true, or remove it";
  ofOptions =
    kind:
    lib.concatLists (
      lib.mapAttrsToList (name: withoutFile "services.onecred.${kind}.${name}" name) cfg.${kind}
    )
    ++ concatMap (
      entry: withoutFile "services.onecred.settings.${kind} (${entry.name})" entry.name entry
    ) (builtins.filter (entry: entry ? name) (cfg.settings.${kind} or [ ]));

  tooLong =
    entry:
    optional (entry.target or null != null && builtins.stringLength entry.name > own.longestFile)
      "services.onecred.${kindOf entry}.${entry.name}: systemd does not accept onecred-file@${entry.name}.service, so no unit can be ordered after the file; use a name of at most ${toString own.longestFile} bytes";

  # values that may change the meaning of a file
  raw =
    entry:
    let
      extensionOf =
        text:
        let
          parts = lib.splitString "." text;
        in
        if builtins.length parts > 1 then lib.last parts else null;
      target = entry.target or "";
      extension = if extensionOf target != null then extensionOf target else extensionOf entry.name;
      hasForm =
        builtins.any
          (
            text:
            builtins.elem (extensionOf text) [
              "env"
              "json"
            ]
          )
          [
            target
            entry.name
          ];
      isRaw =
        place:
        builtins.all (
          filter:
          builtins.elem filter [
            "trim"
            "raw"
          ]
        ) (builtins.tail (own.partsOf place));
      remedies = {
        yml = "set escape = \"yaml\"";
        yaml = "set escape = \"yaml\"";
        toml = "set escape = \"toml\"";
        ini = "quote them as its reader expects";
      };
    in
    optional
      (
        entry ? content
        && entry.escape or null == null
        && remedies ? ${toString extension}
        && !hasForm
        && builtins.any isRaw (own.placesIn entry.content)
      )
      "services.onecred.templates.${entry.name}.content: values are inserted unescaped, and some values would break this file; ${remedies.${extension}}, or if this is meant escape = \"raw\"";

  inEmptySection =
    place: reference:
    optional (own.emptyPartOf reference == "section")
      "${place}: the reference ${reference} has two slashes in a row, which means a section without a title; remove one of them, unless the field is in such a section";

  emptySections =
    entry:
    let
      place = "services.onecred.${kindOf entry}.${entry.name}";
    in
    inEmptySection place (own.referenceOf entry)
    ++ concatMap (part: inEmptySection "${place}.content" (builtins.head (own.partsOf part))) (
      own.placesIn (entry.content or "")
    );

  ofSettings =
    optional (isReadable (cfg.settings.defaults.mode or null))
      "services.onecred.settings.defaults.mode: every user can read the files; let the owner or a group read them, with mode 0400 or 0440"
    ++ concatMap (rule: inEmptySection "services.onecred.settings.rules" (rule.reference or "")) (
      cfg.settings.rules or [ ]
    );

  # sources
  placeOf =
    name:
    if cfg.sources ? ${name} then
      "services.onecred.sources.${name}"
    else if name == "default" && !(cfg.settings.sources or { } ? default) then
      "services.onecred.settings.source"
    else
      "services.onecred.settings.sources.${name}";
  expensive =
    {
      name,
      cost,
      hosts,
      budget,
    }:
    "${placeOf name}: a start of ${
      if hosts == 1 then "this host" else "each of ${toString hosts} hosts"
    } needs about ${toString cost} calls, ${toString (cost * hosts)} together, and the budget is ${toString budget} a day; raise budget if 1Password allows more, use fewer vaults, or use a Connect server, which has no quota";
  insecure =
    name: source:
    optional (
      source.insecure or false == true
      && builtins.match "(https:|unix:).*" (toString (source.url or "")) != null
    ) "${placeOf name}.insecure: it has no effect with this URL; remove it";
  sources =
    cfg.rendered.sources or { }
    // lib.optionalAttrs (cfg.rendered ? source) { default = cfg.rendered.source; };

  ofOpNix = config.services.onepassword-secrets.secrets or { };
  kindOf = entry: if entry ? content then "templates" else "secrets";
in
{
  config.warnings = lib.mkIf cfg.enable (
    map unrequested requests
    ++ concatMap (
      entry: unused entry ++ readable entry ++ tooLong entry ++ raw entry ++ emptySections entry
    ) (builtins.filter (entry: entry ? name) entries)
    ++ ofSettings
    ++ ofOptions "secrets"
    ++ ofOptions "templates"
    ++ map expensive (
      import ./cost.nix {
        inherit lib;
        inherit (cfg) rendered;
      }
    )
    ++ lib.concatLists (lib.mapAttrsToList insecure sources)
    ++ lib.concatLists (
      lib.mapAttrsToList ofNetwork (lib.filterAttrs (name: _: !own.isOwn name) config.systemd.services)
    )
  );
}
