# The system configuration: the package's units, with drop-ins for NixOS.
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
    ${cfg.package.generator or cfg.package}/bin/onecred check ${written}
    cp ${written} $out
  '';
  file = if cfg.checkConfig then checked else written;

  vault =
    if builtins.isList cfg.development.vault then
      json.generate "onecred-vault.json" cfg.development.vault
    else
      cfg.development.vault;

  # the credential ID of each token, with the options for its location
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

  own = import ./lib.nix { inherit lib; };
  # entries that are declared by name; others belong to one service
  named = lib.unique (
    builtins.attrNames cfg.secrets
    ++ builtins.attrNames cfg.templates
    ++ map (entry: entry.name or null) (cfg.settings.secrets or [ ] ++ cfg.settings.templates or [ ])
  );
  entries = cfg.rendered.secrets ++ cfg.rendered.templates or [ ];
  # the directories in which onecred creates links and directories
  linked = lib.concatMap (
    entry:
    let
      dirs = map dirOf (entry.links or [ ]);
    in
    dirs ++ lib.optionals (entry.makeDirectories or false) (map dirOf dirs)
  ) entries;
  ofRoot = builtins.filter (lib.hasPrefix "/root/") linked;
  others = builtins.filter (dir: !lib.hasPrefix "/root/" dir) linked;
  # further files of the configuration
  parts = mapAttrsToList (_: part: part.source) (
    lib.filterAttrs (name: _: lib.hasPrefix "onecred/secrets.d/" name) config.environment.etc
  );
  roots = cfg.rendered.publish.roots or [ ];

  version = config.systemd.package.version or "0";
  catalog = "${cfg.package}/lib/systemd/catalog/onecred.catalog";

  # Extend the package's unit. It needs no PATH.
  dropIn = {
    overrideStrategy = "asDropin";
    # A switch must not stop it first and start it later: units that start in between would fail.
    stopIfChanged = false;
  }
  # an older NixOS does not have this option
  // optionalAttrs (lib.versionAtLeast (lib.trivial.release or "25.11") "25.11") {
    enableDefaultPath = false;
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
    # a directory of symbolic links, so that modules that derive the credential ID from a path have a path for each secret
    systemd.tmpfiles.rules = lib.concatMap (
      name:
      lib.optionals (name != null) [
        "L+ ${own.socketOf name} - - - - ${own.socket}"
        "L+ ${own.sealedSocketOf name} - - - - ${own.sealedSocket}"
      ]
    ) named;
    # NixOS ignores [Install]
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
    # On systemd 258 and later, hardened units decrypt through this socket. units/systemd/systemd-creds.socket.d explains the limits.
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
          reloadTriggers = [ file ] ++ parts;
          serviceConfig = {
            ReadWritePaths = lib.unique (map (dir: "-${dir}") others ++ map (root: "-${root}") roots);
          }
          # the package's unit has no access to /root
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
          # the provider's reload also reloads this service
          unitConfig = optionalAttrs (local != [ ]) { RequiresMountsFor = local; };
          serviceConfig = lib.filterAttrs (_: lines: lines != [ ]) {
            LoadCredential = load "tokenFile";
            LoadCredentialEncrypted = load "tokenCredential";
            # start without a token too; the package's unit does this only for the default source
            SetCredential = map (name: "${name}.token:\\n") (builtins.attrNames cfg.sources);
          };
        }
      ];
      # A restart would also restart the units that require the file. The provider updates files itself.
      "onecred-file@" = dropIn // {
        restartIfChanged = false;
      };
      onecred-publish = dropIn // {
        restartIfChanged = false;
      };
    }
    // {
      # for journalctl -x; the catalog database is a file of the machine
      onecred-catalog = {
        description = "Message catalog of onecred";
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
    // optionalAttrs (local != [ ]) {
      onecred-token = {
        description = "Restart onecred's resolver after a change of the token";
        serviceConfig = {
          Type = "oneshot";
          ExecStart = "${config.systemd.package}/bin/systemctl try-restart onecred-resolver.service";
        };
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
        "services.onecred.development.vault: all secrets come from a development vault, which every user of this machine can read";
  };
}
