# The options of OpNix's NixOS module, with its defaults.
{
  config,
  lib,
  ...
}:
let
  inherit (lib) mkEnableOption mkOption types;
  cfg = config.services.onepassword-secrets;
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
          "If set, the unit gets this signal instead when the secret changes.";
      after = option (types.listOf types.str) [
        "opnix-secrets.service"
      ] "Units after which the unit is started.";
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
          "The path at which the file can be read; relative to `outputDir`. Default: its name.";
      symlinks = option (types.listOf types.str) [ ] "Symbolic links to the file.";
      variables =
        option (types.attrsOf types.str) { }
          "Values for `{NAME}` in `path` and `pathTemplate`.";
      owner = option types.str "root" "The file's owner.";
      group = option types.str "root" "The file's group.";
      mode = option types.str "0600" "The file's permissions.";
      services = option (types.either (types.listOf types.str) (
        types.attrsOf consumer
      )) [ ] "Units that are started after the file exists, and restarted when the secret changes.";
    };
  };
in
{
  options.services.onepassword-secrets = {
    enable = mkEnableOption "secrets with the options of OpNix, provided by onecred";
    tokenFile =
      option (types.either types.str types.path) "/etc/opnix-token"
        "The file with the token of the service account.";
    configFiles =
      option (types.listOf types.path) [ ]
        "OpNix's secrets.json files. Files of the configuration are read during evaluation.";
    outputDir =
      option types.str "/var/lib/opnix/secrets"
        "The directory with the paths of secrets. It has symbolic links to the files, which are in memory.";
    users = option (types.listOf types.str) [ ] "Members of the group `onepassword-secrets`.";
    pathTemplate =
      option (types.nullOr types.str) null
        "The path of secrets without `path`. It is used if all its variables have values.";
    defaults = option (types.attrsOf types.str) { } "Values for `{NAME}` in `path` and `pathTemplate`.";
    secrets = option (types.attrsOf secret) { } "Secrets, by name.";
    secretPaths = mkOption {
      type = types.attrsOf types.str;
      readOnly = true;
      default = lib.mapAttrs (name: _: config.services.onecred.secrets.${name}.path) (
        lib.optionalAttrs cfg.enable cfg.secrets
      );
      defaultText = lib.literalMD "the paths of all secrets";
      description = "The paths of all secrets, by name.";
    };
    acceptedDifferences = mkOption {
      type = types.listOf (
        types.enum [
          "changeDetection"
          "configFiles"
          "directory"
          "errorHandling"
          "mode"
          "outputDir"
          "signal"
          "users"
        ]
      );
      default = [ ];
      example = [ "outputDir" ];
      description = "Differences to OpNix about which the module does not warn, each by the name in the warning.";
    };
    systemdIntegration = {
      enable =
        option types.bool true
          "Whether units are ordered after their secrets, and restarted when secrets change.";
      services =
        option (types.listOf types.str) [ ]
          "Units that are started after all files exist, and restarted when any secret changes.";
      restartOnChange = option types.bool true "Whether units are restarted when secrets change.";
      changeDetection = {
        enable = ignored types.bool true;
        hashFile = ignored types.str "/var/lib/opnix/secret-hashes.json";
      };
      polling = {
        enable =
          option types.bool false
            "Whether secrets are regularly compared with 1Password. Requires `systemdIntegration.enable`.";
        interval = option types.str "6h" "How often, as a time span of systemd.";
      };
      errorHandling = {
        rollbackOnFailure = ignored types.bool false;
        continueOnError = ignored types.bool true;
        maxRetries = ignored types.int 3;
      };
    };
  };
}
