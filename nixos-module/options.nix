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
    action = cfg.switchAction;
  };
  # without any source, the source is a service account
  usesCore =
    cfg.development.vault == null
    && lib.any (source: source.kind or "service-account" == "service-account" && !(source ? library)) (
      lib.optional (cfg.settings ? source || cfg.sources == { } && cfg.settings.sources or { } == { }) (
        cfg.settings.source or { }
      )
      ++ builtins.attrValues (cfg.settings.sources or { })
      ++ builtins.attrValues cfg.sources
    );
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
      default = pkgs.onecred or (pkgs.callPackage ./package.nix { });
      defaultText = lib.literalExpression "pkgs.onecred, or the package of this repository";
      description = "The package of onecred. It also provides the unit files.";
    };

    core.package = mkOption {
      type = types.nullOr types.package;
      default = if usesCore then pkgs.onecred-core or (pkgs.callPackage ./core.nix { }) else null;
      defaultText = lib.literalMD "the release of onepassword-sdk that onecred was tested with, if a source is a service account";
      description = ''
        1Password's SDK core, which service accounts need. The package has the library as `lib/onecred/libop_uniffi_core.so` and its SHA-256 as the
        attribute `librarySha256`. With null, onecred searches the directories of `onecred core install`.
      '';
    };

    tokenFile = mkOption {
      type = types.nullOr (types.either types.str types.path);
      default = null;
      example = "/persist/root/.config/op/token";
      description = ''
        The file with the token of the service account or Connect server. It must be on the machine itself and readable only by root.
        If neither this nor `tokenCredential` is set, it is /etc/onecred/token, the file of `onecred token set --file`. The file may be
        missing: units are then refused, and their journal gives the reason, until it exists.
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
        Whether encrypted tokens need the key in /var/lib/systemd. This is the case unless they were encrypted with `--with-key=tpm2`.
      '';
    };

    checkPersistence = mkOption {
      type = types.bool;
      default = true;
      description = ''
        Whether evaluation fails if the root file system is a tmpfs, and the token, /etc/machine-id or /var/lib/systemd are not persisted.
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
      description = "The content of secrets.json. The module adds the values of the other options.";
    };

    secrets = named kinds.secret "Secrets, by name.";
    templates = named kinds.template "Files that contain secrets, by name.";
    sources = named kinds.source "Sources of secrets, by name, if there are several.";

    publishRoot = mkOption {
      type = types.str;
      default = if options ? sops then "/run/onecred/files" else "/run/secrets";
      defaultText = lib.literalMD "`/run/secrets`, or `/run/onecred/files` if sops-nix uses that";
      description = "The directory of published files without a `target`.";
    };

    publishAtBoot = mkOption {
      type = types.bool;
      default = false;
      description = "Whether all files are published at boot. Otherwise they are published when a unit needs one of them.";
    };

    development.vault = mkOption {
      type = types.nullOr (types.either types.path (types.listOf json.type));
      default = null;
      example = lib.literalExpression "./vault.json";
      description = ''
        A development vault that replaces all sources: a file in the format of Connect, or its content. It is copied to the Nix store, which
        is world-readable. Use it in `virtualisation.vmVariant.services.onecred.development.vault`.
      '';
    };

    metrics.directory = mkOption {
      type = types.nullOr types.str;
      default = if cfg.metrics.nodeExporter then "/run/onecred-metrics" else null;
      defaultText = lib.literalMD "`/run/onecred-metrics` with `metrics.nodeExporter`";
      example = "/var/lib/node-exporter";
      description = "The directory from which node_exporter reads text files. onecred's metrics are written there every minute.";
    };

    metrics.nodeExporter = mkOption {
      type = types.bool;
      default = false;
      description = "Whether `services.prometheus.exporters.node` reads onecred's metrics. It creates `metrics.directory`.";
    };

    sealed = mkOption {
      type = types.bool;
      default = true;
      description = ''
        Whether services get their credentials encrypted with this host's key, by `LoadCredentialEncrypted=`. A service then never starts with an empty or
        incomplete value, even if a process of onecred is killed. The key is created if it does not exist, and need not survive a reboot. A value can have up to 860 KiB, or 1 MiB without encryption. `systemd.services.<name>.onecred.sealed` overrides this for one service.
      '';
    };

    socket = mkOption {
      type = types.str;
      readOnly = true;
      default = own.socket;
      description = "The plain socket, for modules that load a credential from a path: `services.x.passwordFile = config.services.onecred.socket`.";
    };

    sealedSocket = mkOption {
      type = types.str;
      readOnly = true;
      default = own.sealedSocket;
      description = "The sealed socket, for modules that use `LoadCredentialEncrypted=`.";
    };

    switchAction = mkOption {
      type = types.enum [
        "restart"
        "reload"
        "none"
      ];
      default = "restart";
      description = ''
        What `nixos-rebuild switch` does with services that use a secret or template whose definition has changed. `switchAction` of the secret or
        template overrides it.
      '';
    };

    checkConfig = mkOption {
      type = types.bool;
      default = true;
      description = "Whether the build of the system runs `onecred check` on the configuration. It runs on the build machine.";
    };

    rendered = mkOption {
      type = types.attrsOf types.anything;
      readOnly = true;
      internal = true;
      default = import ./render.nix { inherit config lib; };
      description = "The content of secrets.json.";
    };

    triggers = mkOption {
      type = types.raw;
      readOnly = true;
      internal = true;
      default = import ./triggers.nix {
        inherit lib;
        entries = cfg.rendered.secrets ++ cfg.rendered.templates or [ ];
      };
      description = "Strings that change when a definition changes.";
    };

    published = mkOption {
      type = types.raw;
      readOnly = true;
      internal = true;
      default = import ./published.nix {
        inherit lib;
        entries = cfg.rendered.secrets ++ cfg.rendered.templates or [ ];
        root = cfg.publishRoot;
        others =
          lib.concatMap
            (
              kind:
              lib.concatLists (
                lib.mapAttrsToList (name: entry: map (path: { inherit path name; }) entry.otherPaths) cfg.${kind}
              )
            )
            [
              "secrets"
              "templates"
            ];
      };
      description = "The published files, and the units that read them.";
    };
  };
}
