# The options of services.onecred.
{
  config,
  lib,
  options,
  pkgs,
  ...
}:
let
  inherit (lib) mkEnableOption mkOption types;
  own = import ./lib.nix { inherit lib; };
  cfg = config.services.onecred;
  json = pkgs.formats.json { };
  kinds = import ./types.nix {
    inherit lib json;
    root = cfg.publishRoot;
  };
  named =
    type: description:
    mkOption {
      type = types.attrsOf type;
      default = { };
      inherit description;
    };
in
{
  options.services.onecred = {
    enable = mkEnableOption "onecred, which gives systemd units their secrets from 1Password";

    package = mkOption {
      type = types.package;
      default = pkgs.callPackage ./package.nix { };
      defaultText = lib.literalExpression "pkgs.callPackage ./package.nix { }";
      description = "The package of onecred. Its unit files are those that run.";
    };

    tokenFile = mkOption {
      type = types.nullOr (types.either types.str types.path);
      default = null;
      example = "/persist/root/.config/op/token";
      description = ''
        The file with the token of the service account or Connect server, on the machine itself and root's alone.
        Without it and `tokenCredential`: /etc/onecred/token, where `onecred token set --file` puts it. It may be missing:
        then units that ask are refused, and say so, until it is there.
      '';
    };

    tokenCredential = mkOption {
      type = types.nullOr (types.either types.str types.path);
      default = null;
      example = "/var/lib/onecred/token.cred";
      description = "The token, encrypted by `systemd-creds encrypt --name=token`.";
    };

    tokenNeedsHostKey = mkOption {
      type = types.bool;
      default = true;
      description = ''
        Whether encrypted tokens need the key in /var/lib/systemd, as they do unless they were made with `--with-key=tpm2`.
      '';
    };

    settings = mkOption {
      type = types.submodule { freeformType = json.type; };
      default = { };
      example = {
        defaults.maxAge = "5m";
        source.kind = "connect";
        source.url = "https://connect.example:8443";
      };
      description = "The configuration as onecred reads it, secrets.json; what the other options say is added to it.";
    };

    secrets = named kinds.secret "Secrets, by name.";
    templates = named kinds.template "Files put together from secrets, by name.";
    sources = named kinds.source "Places that secrets come from, by name, where there are several.";

    publishRoot = mkOption {
      type = types.str;
      default = if options ? sops then "/run/onecred/files" else "/run/secrets";
      defaultText = lib.literalMD "`/run/secrets`, or `/run/onecred/files` where sops-nix has that";
      description = "The directory that files are published to which name no `target`.";
    };

    publishAtBoot = mkOption {
      type = types.bool;
      default = false;
      description = "Whether all files are published at boot, whoever asks; otherwise when a unit needs one of them.";
    };

    development.vault = mkOption {
      type = types.nullOr (types.either types.path (types.listOf json.type));
      default = null;
      example = lib.literalExpression "./vault.json";
      description = ''
        A development vault, which stands in for all sources: a file in Connect's shapes, or what would be in it. It gets into the store,
        where everybody can read it. Meant for `virtualisation.vmVariant.services.onecred.development.vault`.
      '';
    };

    metrics.directory = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "/var/lib/node-exporter";
      description = "The directory where node_exporter reads text files: onecred's figures get there each minute.";
    };

    sealed = mkOption {
      type = types.bool;
      default = true;
      description = ''
        Whether services get their credentials sealed with this host's key, by `LoadCredentialEncrypted=`: then none of them starts with an empty or cut
        value, whatever dies when. The key is made where there is none; it need not outlive a reboot. A value may have about 860 KiB, and 1 MiB if this is off.
        Each service can say otherwise: `systemd.services.<name>.onecred.sealed`.
      '';
    };

    socket = mkOption {
      type = types.str;
      readOnly = true;
      default = own.socket;
      description = "The socket, for modules that load a credential from a path: `services.x.passwordFile = config.services.onecred.socket`.";
    };

    sealedSocket = mkOption {
      type = types.str;
      readOnly = true;
      default = own.sealedSocket;
      description = "The same for `LoadCredentialEncrypted=`.";
    };

    checkConfig = mkOption {
      type = types.bool;
      default = true;
      description = "Whether `onecred check` looks at the configuration when the system is built; it runs on the machine that builds.";
    };

    rendered = mkOption {
      type = types.attrsOf types.anything;
      readOnly = true;
      internal = true;
      default = import ./render.nix { inherit config lib; };
      description = "What is in secrets.json.";
    };
  };
}
