# Secrets, templates and sources, as they are written in Nix. Keys that have no option here are onecred's own: `onecred schema`.
{
  lib,
  json,
  root,
}:
let
  inherit (lib) mkOption types;
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
  # What happens when a secret or template has changed.
  rotation = {
    refresh = text "How often it is compared with 1Password by itself." "15m";
    restartUnits = units "Units to restart when it has changed." [ "opencode" ];
    reloadUnits = units "Units to reload when it has changed." [ "nginx" ];
    signalUnits = mkOption {
      type = types.attrsOf types.str;
      default = { };
      description = "Units to send a signal when it has changed, each with the signal.";
      example = {
        app = "SIGHUP";
      };
    };
    wave = mkOption {
      type = types.nullOr json.type;
      default = null;
      description = "Units that come first when it has changed: `units`, and in `after` how long they have to be active before the others follow.";
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
      description = "Whether it is published as a file too, to `publishRoot`, for programs that read paths.";
    };
    target = mkOption {
      type = types.nullOr types.str;
      default = if config.publish then "${root}/${name}" else null;
      defaultText = lib.literalMD "`publishRoot`, and its name, with `publish`";
      description = "The file that it is published to.";
      example = "/run/secrets/openai-api-key";
    };
    path = mkOption {
      type = types.str;
      readOnly = true;
      default =
        if config.target != null then
          config.target
        else
          throw "services.onecred.${kind}.${name}.path: it has no file; set services.onecred.${kind}.${name}.publish = true, or have the unit load it as a credential";
      defaultText = lib.literalMD "its `target`";
      description = "The file that it is published to, for other options to refer to.";
    };
    owner = text "The file's owner, as `USER` or `USER:GROUP`; root by default." "opencode:opencode";
    group = text "The file's group, where `owner` names none." "opencode";
    mode = text "The file's permissions; `0400` by default." "0440";
    links = units ''
      Symbolic links to the file, for programs that insist on a path of theirs. Their directories have to be there; onecred is let write to them.
    '' [ "/etc/app/key.pem" ];
    makeDirectories = mkOption {
      type = types.nullOr types.bool;
      default = null;
      description = "Whether missing directories of `links` are created. The directory above them must exist; onecred is let write to it.";
    };
    units =
      units
        ''
          Units that may have it, by name or glob; `UNIT/ID` where the unit asks by an ID that is not its name.
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
          source = text "The source, by its name, where there are several." "staging";
          maxAge = text "How old it may be before it is compared with 1Password again." "5m";
          deadline = text "How long a unit waits while 1Password can't be reached." "30s";
          allowEmpty = mkOption {
            type = types.nullOr types.bool;
            default = null;
            description = "Whether an empty field is a value; else a unit that asks is refused.";
          };
          trim = mkOption {
            type = types.nullOr types.bool;
            default = null;
            description = "Whether line ends at the end of the value are left out.";
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
            description = "Its text; `{{NAME}}` is a secret, `{{op://VAULT/ITEM/FIELD}}` what a reference gives.";
            example = "OPENAI_API_KEY={{openai-api-key}}\n";
          };
          escape = text "`env`, `container`, `json`, `yaml`, `toml` or `raw`; by default what its name ends in." "env";
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
