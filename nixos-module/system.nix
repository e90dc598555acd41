# The system: the package's units, and drop-ins for what NixOS has to say about them.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib)
    mapAttrs'
    mapAttrsToList
    mkIf
    mkMerge
    optional
    optionalAttrs
    ;
  cfg = config.services.onecred;
  json = pkgs.formats.json { };

  written = json.generate "onecred-secrets.json" cfg.rendered;
  checked = pkgs.runCommand "onecred-secrets-checked.json" { } ''
    ${cfg.package}/bin/onecred check ${written}
    cp ${written} $out
  '';
  file = if cfg.checkConfig then checked else written;

  vault =
    if builtins.isList cfg.development.vault then
      json.generate "onecred-vault.json" cfg.development.vault
    else
      cfg.development.vault;

  # credential ID of each token → the options that say where it is
  tokens = {
    token = { inherit (cfg) tokenFile tokenCredential; };
  }
  // mapAttrs' (name: source: lib.nameValuePair "${name}.token" source) cfg.sources;
  some = key: lib.filterAttrs (_: token: token.${key} != null) tokens;
  files =
    mapAttrsToList (_: token: token.tokenFile) (some "tokenFile")
    ++ mapAttrsToList (_: token: token.tokenCredential) (some "tokenCredential");
  load = key: mapAttrsToList (id: token: "${id}:${toString token.${key}}") (some key);
  local = map toString (
    builtins.filter (path: !lib.hasPrefix builtins.storeDir (toString path)) files
  );

  entries = cfg.rendered.secrets ++ cfg.rendered.templates or [ ];
  # the directories that onecred makes links in, and those that it makes directories in
  linked = lib.concatMap (
    entry:
    let
      dirs = map dirOf (entry.links or [ ]);
    in
    dirs ++ lib.optionals (entry.makeDirectories or false) (map dirOf dirs)
  ) entries;
  ofRoot = builtins.filter (lib.hasPrefix "/root/") linked;
  others = builtins.filter (dir: !lib.hasPrefix "/root/" dir) linked;
  roots = cfg.rendered.publish.roots or [ ];

  version = config.systemd.package.version or "0";
  catalog = "${cfg.package}/lib/systemd/catalog/onecred.catalog";

  # The package's unit stays what it is; what it says of its program's environment is enough.
  dropIn = {
    overrideStrategy = "asDropin";
    enableDefaultPath = false;
    # A switch restarts it in one step, or not at all: between a stop and a start units would have nobody to ask.
    stopIfChanged = false;
  };
in
{
  config = mkIf cfg.enable {
    environment.systemPackages = [ cfg.package ];
    environment.etc = {
      "onecred/secrets.json".source = file;
      "systemd/catalog/onecred.catalog".source = catalog;
    }
    // optionalAttrs (cfg.development.vault != null) { "onecred/vault.json".source = vault; };

    services.dbus.packages = [ cfg.package ];

    users.users.onecred = {
      isSystemUser = true;
      group = "onecred";
      description = "onecred resolver";
    };
    users.groups.onecred = { };

    systemd.packages = [ cfg.package ];
    # NixOS does not read [Install]
    systemd.sockets.onecred = {
      overrideStrategy = "asDropin";
      wantedBy = [ "sockets.target" ];
      unitConfig.X-StopIfChanged = false;
    };
    systemd.sockets.onecred-sealed = {
      overrideStrategy = "asDropin";
      wantedBy = [ "sockets.target" ];
      unitConfig.X-StopIfChanged = false;
    };
    systemd.sockets.onecred-resolver = {
      overrideStrategy = "asDropin";
      wantedBy = [ "sockets.target" ];
      unitConfig.X-StopIfChanged = false;
    };
    # Since 258 hardened units decrypt through this socket. The limits are those of units/systemd/systemd-creds.socket.d, which says more.
    systemd.sockets.systemd-creds = mkIf (lib.versionAtLeast version "258") {
      overrideStrategy = "asDropin";
      unitConfig.X-StopIfChanged = false;
      socketConfig = lib.mapAttrs (_: lib.mkDefault) {
        MaxConnectionsPerSource = 256;
        MaxConnections = 4096;
        TriggerLimitIntervalSec = 0;
      };
    };
    systemd.targets.onecred-publish = {
      overrideStrategy = "asDropin";
      wantedBy = optional cfg.publishAtBoot "multi-user.target";
    };

    systemd.services = {
      onecred = mkMerge [
        dropIn
        {
          reloadTriggers = [ file ];
          serviceConfig = {
            ReadWritePaths = lib.unique (map (dir: "-${dir}") others ++ map (root: "-${root}") roots);
          }
          # by itself the unit sees nothing of /root
          // optionalAttrs (ofRoot != [ ]) {
            ProtectHome = false;
            InaccessiblePaths = [
              "-/home"
              "-/run/user"
            ];
            TemporaryFileSystem = "/root:ro,mode=0755";
            BindPaths = lib.unique (map (dir: "-${dir}") ofRoot);
          };
        }
      ];
      onecred-resolver = mkMerge [
        dropIn
        {
          # the provider hands its reload on
          unitConfig = optionalAttrs (local != [ ]) { RequiresMountsFor = local; };
          serviceConfig = lib.filterAttrs (_: lines: lines != [ ]) {
            LoadCredential = load "tokenFile";
            LoadCredentialEncrypted = load "tokenCredential";
            # no token yet is a state; the unit says so of its own alone
            SetCredential = map (name: "${name}.token:\\n") (builtins.attrNames cfg.sources);
          };
        }
      ];
      # What requires a file would be restarted with its handle. The provider publishes anew by itself.
      "onecred-file@" = dropIn // {
        restartIfChanged = false;
      };
      onecred-publish = dropIn // {
        restartIfChanged = false;
      };
    }
    // {
      # journalctl -x; the data base of all catalogs is a file of the machine's
      onecred-catalog = {
        description = "Explanations of what onecred says in the journal";
        wantedBy = [ "multi-user.target" ];
        restartTriggers = [ catalog ];
        unitConfig.ConditionPathIsReadWrite = "/var/lib";
        serviceConfig = {
          Type = "oneshot";
          RemainAfterExit = true;
          ExecStart = "${config.systemd.package}/bin/journalctl --update-catalog";
        };
      };
    }
    // optionalAttrs (cfg.metrics.directory != null) {
      # an empty one takes the package's away
      onecred-metrics = dropIn // {
        unitConfig.ConditionPathIsDirectory = [
          ""
          cfg.metrics.directory
        ];
        serviceConfig = {
          ExecStart = [
            ""
            "${cfg.package}/bin/onecred metrics --output ${cfg.metrics.directory}/onecred.prom"
          ];
          ReadWritePaths = [
            ""
            "-${cfg.metrics.directory}"
          ];
        };
      };
    }
    // optionalAttrs (local != [ ]) {
      onecred-token = {
        description = "Has onecred take its token, which has changed";
        serviceConfig = {
          Type = "oneshot";
          ExecStart = "${config.systemd.package}/bin/systemctl try-restart onecred-resolver.service";
        };
      };
    };
    systemd.timers = optionalAttrs (cfg.metrics.directory != null) {
      onecred-metrics = {
        overrideStrategy = "asDropin";
        wantedBy = [ "timers.target" ];
      };
    };
    systemd.paths = optionalAttrs (local != [ ]) {
      onecred-token = {
        description = "Token of onecred";
        wantedBy = [ "multi-user.target" ];
        pathConfig.PathChanged = local;
      };
    };

    warnings =
      optional (cfg.development.vault != null)
        "services.onecred.development.vault: all secrets come from a development vault, which everybody on this machine can read";
  };
}
