# The option types of secrets, templates and sources. They also accept the other keys of `onecred schema`.
{
  lib,
  json,
  root,
  action,
}:
let
  inherit (lib) mkOption types;
  own = import ./lib.nix { inherit lib; };
  text =
    description: example:
    mkOption {
      type = types.nullOr types.str;
      default = null;
      inherit description example;
    };
  file =
    description: example:
    text description example // { type = types.nullOr (types.either types.str types.path); };
  units =
    description: example:
    mkOption {
      type = types.listOf types.str;
      default = [ ];
      inherit description example;
    };
  # Actions after a change of a secret or template.
  rotation = {
    refresh = text "How often onecred compares it with 1Password even if no unit requests it." "15m";
    restartUnits = units "Units to restart when it changes." [ "opencode" ];
    reloadUnits = units "Units to reload when it changes." [ "nginx" ];
    signalUnits = mkOption {
      type = types.attrsOf types.str;
      default = { };
      description = "Units that receive a signal when it changes, each with the signal.";
      example = {
        app = "SIGHUP";
      };
    };
    wave = mkOption {
      type = types.nullOr json.type;
      default = null;
      description = "Units that get a new value first (`units`), and how long they must be active before the others follow (`after`).";
      example = {
        units = [ "app@1" ];
        after = "10m";
      };
    };
  };
  published = kind: name: config: {
    publish = mkOption {
      type = types.bool;
      default = false;
      description = "Whether it is also published as a file in `publishRoot`, for programs that read a fixed path.";
    };
    target = mkOption {
      type = types.nullOr types.str;
      default = if config.publish then "${root}/${name}" else null;
      defaultText = lib.literalMD "with `publish`, `publishRoot` and the name";
      description = "The file to which it is published.";
      example = "/run/secrets/openai-api-key";
    };
    path = mkOption {
      type = types.str;
      readOnly = true;
      default =
        if config.target != null then
          config.target
        else
          throw "services.onecred.${kind}.${name}.path: it is not published as a file; set services.onecred.${kind}.${name}.publish = true, or load it as a credential";
      defaultText = lib.literalMD "its `target`";
      description = "The file to which it is published, for use in other options.";
    };
    owner = text "The file's owner, as `USER` or `USER:GROUP`; root by default." "opencode:opencode";
    group = text "The file's group, if `owner` does not set it." "opencode";
    mode = text "The file's permissions; `0400` by default." "0440";
    links = units ''
      Symbolic links to the file, for programs that require another path. Their directories must exist. The module gives onecred write access to them.
    '' [ "/etc/app/key.pem" ];
    makeDirectories = mkOption {
      type = types.nullOr types.bool;
      default = null;
      description = "Whether missing directories of `links` are created. Their parent directory must exist. The module gives onecred write access to it.";
    };
    services = units ''
      Units that read the file and are started after it, by name. This is only needed where the module cannot see the path, for example in a
      generated configuration file. It finds paths in the settings, the environment and the scripts of services by itself.
    '' [ "grafana" ];
    socketPath = mkOption {
      type = types.str;
      readOnly = true;
      default = own.socketOf name;
      defaultText = lib.literalMD "`/run/onecred/by-name/` and the name";
      description = ''
        A path for options of modules that load a credential from a path with their own `LoadCredential=` line. The units with such a line
        need no entry in `units`, whatever credential ID they use.
      '';
    };
    sealedSocketPath = mkOption {
      type = types.str;
      readOnly = true;
      default = own.sealedSocketOf name;
      defaultText = lib.literalMD "`/run/onecred/sealed-by-name/` and the name";
      description = "The same for modules with a `LoadCredentialEncrypted=` line.";
    };
    otherPaths = mkOption {
      type = types.listOf types.str;
      default = [ ];
      internal = true;
      description = "Other paths of the file, which onecred does not create.";
    };
    switchAction = mkOption {
      type = types.enum [
        "restart"
        "reload"
        "none"
      ];
      default = action;
      defaultText = lib.literalExpression "config.services.onecred.switchAction";
      description = ''
        What `nixos-rebuild switch` does with the services that use it, if its definition has changed. Services in `reloadUnits` and `signalUnits` are
        reloaded instead of restarted.
      '';
    };
    units =
      units
        ''
          Units that may load it, by name or glob. `UNIT/ID` sets the credential ID if it is not the name.
          Units with `onecred.credentials` need no entry.
        ''
        [
          "opencode"
          "web@*.service"
          "postgresql/password"
        ];
  };
in
{
  secret = types.submodule (
    { name, config, ... }:
    {
      freeformType = json.type;
      options =
        published "secrets" name config
        // rotation
        // {
          reference = text "The secret reference, as the 1Password apps copy it." "op://Servers/postgres/password";
          opItem = text "Instead of `reference`: vault and item, as `VAULT/ITEM`." "Infrastructure Secrets/openai-api-key";
          opField = text "With `opItem`: the field; `password` by default." "password";
          source = text "The source, by its name. Required if there are several." "staging";
          maxAge = text "How long the cached value is served before it is compared with 1Password again." "5m";
          deadline = text "How long a unit waits while 1Password is unreachable." "30s";
          allowEmpty = mkOption {
            type = types.nullOr types.bool;
            default = null;
            description = "Whether an empty field is a valid value. If false, units are refused an empty value.";
          };
          trim = mkOption {
            type = types.nullOr types.bool;
            default = null;
            description = "Whether line ends at the end of the value are removed.";
          };
        };
    }
  );

  template = types.submodule (
    { name, config, ... }:
    {
      freeformType = json.type;
      options =
        published "templates" name config
        // rotation
        // {
          content = mkOption {
            type = types.str;
            description = "The text of the file. `{{NAME}}` is replaced by a secret, `{{op://VAULT/ITEM/FIELD}}` by the value of a reference.";
            example = "OPENAI_API_KEY={{openai-api-key}}\n";
          };
          source = text "The source of references in the content, by its name. Required if there are several." "staging";
          escape = text "`env`, `container`, `json`, `yaml`, `toml` or `raw`; by default determined by the extension of its name." "env";
        };
    }
  );

  source = types.submodule {
    freeformType = json.type;
    options = {
      tokenFile = file "The file with its token." "/persist/onecred/staging";
      tokenCredential = file "Its token, encrypted by `systemd-creds encrypt --name=NAME.token`." "/var/lib/onecred/staging.cred";
    };
  };
}
