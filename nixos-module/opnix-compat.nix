# services.onepassword-secrets, with the options of OpNix's NixOS module, served by onecred. To be imported beside the module of onecred,
# and instead of OpNix's.
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
      description = "Taken, and without effect.";
    };

  consumer = types.submodule {
    options = {
      restart = option types.bool true "Whether it is restarted on a change.";
      signal = option (types.nullOr types.str) null "With a signal it is reloaded on a change.";
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
          "Where it is; by default in onecred's directory, by its name.";
      symlinks = option (types.listOf types.str) [ ] "Symbolic links to it.";
      variables = option (types.attrsOf types.str) { } "For `pathTemplate`.";
      owner = option types.str "root" "Its owner.";
      group = option types.str "root" "Its group.";
      mode = option types.str "0600" "Its permissions.";
      services = option (types.either (types.listOf types.str) (
        types.attrsOf consumer
      )) [ ] "Units to restart or reload on a change.";
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
  # where it is published; and the path that it had, which is kept as a link
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
    enable = mkEnableOption "secrets as OpNix's module has them, from onecred";
    tokenFile = option types.str "/etc/opnix-token" "The file with the token of the service account.";
    configFiles =
      option (types.listOf types.path) [ ]
        "OpNix's secrets.json files, which onecred reads as they are.";
    outputDir =
      option types.str "/var/lib/opnix/secrets"
        "Where OpNix has files; what is said to be there is in onecred's directory.";
    users = ignored (types.listOf types.str) [ ];
    pathTemplate = option (types.nullOr types.str) null "The path of secrets that name none.";
    defaults = option (types.attrsOf types.str) { } "Variables of `pathTemplate`.";
    secrets = option (types.attrsOf secret) { } "Secrets, by name.";
    secretPaths = mkOption {
      type = types.attrsOf types.str;
      readOnly = true;
      default = lib.mapAttrs (name: secret: (place name secret).target) cfg.secrets;
      defaultText = lib.literalMD "the paths of all secrets";
      description = "The files of all secrets.";
    };
    systemdIntegration = {
      enable = option types.bool false "Whether `services` are restarted on changes.";
      services = option (types.listOf types.str) [ ] "Units to restart on a change of any secret.";
      restartOnChange = option types.bool true "Whether they are.";
      changeDetection = ignored (types.attrsOf types.anything) { };
      polling = {
        enable = option types.bool false "Whether secrets are compared with 1Password by themselves.";
        interval = option types.str "15m" "How often.";
      };
      errorHandling = ignored (types.attrsOf types.anything) { };
    };
  };

  config = lib.mkIf cfg.enable {
    services.onecred = {
      enable = true;
      tokenFile = cfg.tokenFile;
      # units of OpNix's users wait for all files
      publishAtBoot = true;
      secrets = lib.mapAttrs convert cfg.secrets;
      settings = lib.mkIf integration.polling.enable { defaults.refresh = integration.polling.interval; };
    };
    environment.etc = lib.listToAttrs files;

    # what OpNix's users are ordered after
    systemd.services.opnix-secrets = {
      description = "Secrets as OpNix has them, published by onecred";
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
      "services.onepassword-secrets: served by onecred, in memory: what OpNix has left in ${cfg.outputDir} is still on the disk in plain text; remove it"
    ]
    ++
      optional (cfg.configFiles != [ ] || cfg.secrets != { })
        "services.onepassword-secrets: files are below ${own.publishRoot} and not below ${cfg.outputDir}; take their paths from services.onepassword-secrets.secretPaths"
    ++
      optional (moved != { })
        "services.onepassword-secrets: ${said (builtins.attrNames moved)}: secrets are published in memory only, so that a symbolic link takes the place of the file; its directory has to be there, root's, and below /etc, /run, /var/lib or /opt"
    ++
      optional (signalled != { })
        "services.onepassword-secrets: units of ${said (builtins.attrNames signalled)} are reloaded on a change, instead of being sent a signal"
    ++
      optional (ordered != { })
        "services.onepassword-secrets: ${said (builtins.attrNames ordered)}: `after` of a consumer has no effect; order it in systemd.services.<name>.after"
    ++
      optional (cfg.users != [ ])
        "services.onepassword-secrets.users: nobody but root and onecred reads the token; others ask by systemd.services.<name>.onecred.credentials"
    ++
      optional (integration.changeDetection != { })
        "services.onepassword-secrets.systemdIntegration.changeDetection: onecred compares versions, and keeps no file of hashes"
    ++
      optional (integration.errorHandling != { })
        "services.onepassword-secrets.systemdIntegration.errorHandling: a secret that can't be had refuses its own units alone, and is tried again";
  };
}
