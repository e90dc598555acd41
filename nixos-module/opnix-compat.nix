# The options of OpNix's NixOS module, services.onepassword-secrets, implemented with onecred. Import it together with onecred's module,
# instead of OpNix's.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib)
    mkEnableOption
    mkOption
    optional
    optionals
    types
    ;
  cfg = config.services.onepassword-secrets;
  own = config.services.onecred;
  integration = cfg.systemdIntegration;

  option =
    type: default: description:
    mkOption { inherit type default description; };
  ignored =
    type: default:
    mkOption {
      inherit type default;
      description = "This option has no effect.";
    };

  consumer = types.submodule {
    options = {
      restart = option types.bool true "Whether the unit is restarted when the secret changes.";
      signal =
        option (types.nullOr types.str) null
          "If set, the unit is reloaded when the secret changes.";
      after = ignored (types.listOf types.str) [ ];
    };
  };
  secret = types.submodule {
    options = {
      reference = mkOption {
        type = types.str;
        description = "The secret reference.";
      };
      kind = ignored (types.enum [
        "field"
        "file"
      ]) "field";
      path =
        option (types.nullOr types.str) null
          "The path of the file. Default: its name, in onecred's directory.";
      symlinks = option (types.listOf types.str) [ ] "Symbolic links to the file.";
      variables = option (types.attrsOf types.str) { } "Variables for `pathTemplate`.";
      owner = option types.str "root" "The file's owner.";
      group = option types.str "root" "The file's group.";
      mode = option types.str "0600" "The file's permissions.";
      services = option (types.either (types.listOf types.str) (
        types.attrsOf consumer
      )) [ ] "Units to restart or reload when the secret changes.";
    };
  };

  expand =
    name: secret:
    let
      variables = cfg.defaults // secret.variables // { inherit name; };
      keys = builtins.attrNames variables;
    in
    builtins.replaceStrings (map (key: "{${key}}") keys) (map (
      key: toString variables.${key}
    ) keys) cfg.pathTemplate;

  pathOf =
    name: secret:
    if secret.path != null then
      secret.path
    else if cfg.pathTemplate != null then
      expand name secret
    else
      name;

  isAbsolute = lib.hasPrefix "/";
  below = path: lib.removePrefix "${cfg.outputDir}/" path;
  # where it is published, and its path with OpNix, which becomes a link
  place =
    name: secret:
    let
      path = pathOf name secret;
      rest = below path;
    in
    if lib.hasPrefix "${own.publishRoot}/" path then
      {
        target = path;
        link = null;
      }
    else if !isAbsolute rest then
      {
        target = "${own.publishRoot}/${rest}";
        link = null;
      }
    else
      {
        target = "${own.publishRoot}${path}";
        link = path;
      };

  listed = secret: optionals (builtins.isList secret.services) secret.services;
  reloads =
    secret:
    optionals (builtins.isAttrs secret.services) (
      builtins.attrNames (lib.filterAttrs (_: unit: unit.signal != null) secret.services)
    );
  restarts =
    secret:
    listed secret
    ++ optionals (builtins.isAttrs secret.services) (
      builtins.attrNames (lib.filterAttrs (_: unit: unit.signal == null && unit.restart) secret.services)
    )
    ++ optionals (integration.enable && integration.restartOnChange) integration.services;

  convert =
    name: secret:
    let
      placed = place name secret;
      reloadUnits = reloads secret;
    in
    {
      inherit (secret)
        reference
        owner
        group
        mode
        ;
      inherit reloadUnits;
      inherit (placed) target;
      links = optional (placed.link != null) placed.link ++ secret.symlinks;
      restartUnits = lib.subtractLists reloadUnits (lib.unique (restarts secret));
    };

  files = lib.imap1 (
    number: path: lib.nameValuePair "onecred/secrets.d/opnix-${toString number}.json" { source = path; }
  ) cfg.configFiles;
  moved = lib.filterAttrs (name: secret: (place name secret).link != null) cfg.secrets;
  signalled = lib.filterAttrs (_: secret: reloads secret != [ ]) cfg.secrets;
  ordered = lib.filterAttrs (
    _: secret:
    builtins.isAttrs secret.services
    && builtins.any (unit: unit.after != [ ]) (builtins.attrValues secret.services)
  ) cfg.secrets;
  said = builtins.concatStringsSep ", ";
in
{
  _file = ./opnix-compat.nix;

  options.services.onepassword-secrets = {
    enable = mkEnableOption "secrets with the options of OpNix, provided by onecred";
    tokenFile = option types.str "/etc/opnix-token" "The file with the token of the service account.";
    configFiles =
      option (types.listOf types.path) [ ]
        "OpNix's secrets.json files. onecred reads them unchanged.";
    outputDir =
      option types.str "/var/lib/opnix/secrets"
        "The directory of OpNix's files. Files with paths in it are published in onecred's directory.";
    users = ignored (types.listOf types.str) [ ];
    pathTemplate = option (types.nullOr types.str) null "The path of secrets that do not set `path`.";
    defaults = option (types.attrsOf types.str) { } "Variables of `pathTemplate`.";
    secrets = option (types.attrsOf secret) { } "Secrets, by name.";
    secretPaths = mkOption {
      type = types.attrsOf types.str;
      readOnly = true;
      default = lib.mapAttrs (name: secret: (place name secret).target) cfg.secrets;
      defaultText = lib.literalMD "the paths of all secrets";
      description = "The paths of all secrets, by name.";
    };
    systemdIntegration = {
      enable = option types.bool false "Whether `services` are restarted when secrets change.";
      services = option (types.listOf types.str) [ ] "Units to restart when any secret changes.";
      restartOnChange = option types.bool true "Whether to restart them.";
      changeDetection = ignored (types.attrsOf types.anything) { };
      polling = {
        enable = option types.bool false "Whether secrets are regularly compared with 1Password.";
        interval = option types.str "15m" "How often to compare secrets.";
      };
      errorHandling = ignored (types.attrsOf types.anything) { };
    };
  };

  config = lib.mkIf cfg.enable {
    services.onecred = {
      enable = true;
      tokenFile = cfg.tokenFile;
      # units written for OpNix wait for all files
      publishAtBoot = true;
      secrets = lib.mapAttrs convert cfg.secrets;
      settings = lib.mkIf integration.polling.enable { defaults.refresh = integration.polling.interval; };
    };
    environment.etc = lib.listToAttrs files;

    # units written for OpNix are ordered after this service
    systemd.services.opnix-secrets = {
      description = "Secrets of OpNix, published by onecred";
      wantedBy = [ "multi-user.target" ];
      wants = [ "onecred-publish.service" ];
      after = [ "onecred-publish.service" ];
      serviceConfig = {
        Type = "oneshot";
        RemainAfterExit = true;
        ExecStart = "${pkgs.coreutils}/bin/true";
      };
    };

    warnings = [
      "services.onepassword-secrets: onecred serves the secrets from memory; the files that OpNix left in ${cfg.outputDir} are still on the disk in plain text: remove them"
    ]
    ++
      optional (cfg.configFiles != [ ] || cfg.secrets != { })
        "services.onepassword-secrets: files are published below ${own.publishRoot}, not ${cfg.outputDir}; use the paths in services.onepassword-secrets.secretPaths"
    ++
      optional (moved != { })
        "services.onepassword-secrets: ${said (builtins.attrNames moved)}: secrets are published only in memory, so the path becomes a symbolic link; its directory must exist, belong to root, and be below /etc, /run, /var/lib or /opt"
    ++
      optional (signalled != { })
        "services.onepassword-secrets: units of ${said (builtins.attrNames signalled)} are reloaded when the secret changes, instead of being sent a signal"
    ++
      optional (ordered != { })
        "services.onepassword-secrets: ${said (builtins.attrNames ordered)}: `after` of a consumer has no effect; use systemd.services.<name>.after"
    ++
      optional (cfg.users != [ ])
        "services.onepassword-secrets.users: only root and onecred read the token; give services their secrets with systemd.services.<name>.onecred.credentials"
    ++
      optional (integration.changeDetection != { })
        "services.onepassword-secrets.systemdIntegration.changeDetection: has no effect; onecred compares versions and does not store hashes"
    ++
      optional (integration.errorHandling != { })
        "services.onepassword-secrets.systemdIntegration.errorHandling: has no effect; a secret that is not available affects only the units that need it, and onecred tries again";
  };
}
