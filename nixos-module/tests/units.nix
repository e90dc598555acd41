# Units of configurations as text, for another distribution: drop-ins for the package's units, and new units.
#
# nix-instantiate --eval --strict --json --store dummy:// nixos-module/tests/units.nix, and --arg lib as for all tests
{
  lib ? import ./lib,
}:
let
  evaluate = import ./evaluate.nix { inherit lib; };
  on = {
    systemd.package = lib.mkForce {
      version = "257";
      outPath = "/usr";
    };
    services.onecred.enable = true;
    services.onecred.settings.source = {
      kind = "connect";
      url = "http://127.0.0.1:8080";
    };
  };
  machine =
    { config, ... }:
    {
      imports = [ on ];
      services.onecred = {
        tokenFile = "/persist/root/.config/op/token";
        secrets.db-password = {
          reference = "op://My Vault/db/password";
          units = [ "hard-coded/password" ];
          publish = true;
        };
        secrets.db-user.reference = "op://My Vault/db/username";
        templates."app.env" = {
          content = "USER=nobody\nPASSWORD={{op://My Vault/db/password}}\n";
          mode = "0400";
        };
      };
      systemd.services = {
        one-line = {
          onecred.credentials.password = "op://My Vault/db/password";
          serviceConfig = {
            Type = "oneshot";
            DynamicUser = true;
            ExecStart = "/usr/bin/grep -qx hunter2 %d/password";
          };
        };
        plain = {
          onecred = {
            credentials.password = "op://My Vault/db/password";
            sealed = false;
          };
          serviceConfig = {
            Type = "oneshot";
            ExecStart = "/usr/bin/grep -qx hunter2 %d/password";
          };
        };
        environment = {
          onecred.environmentFiles = [ "app.env" ];
          serviceConfig = {
            Type = "oneshot";
            ExecStart = "/usr/bin/test \${PASSWORD} = hunter2";
          };
        };
        # a module with a LoadCredential= line of its own
        by-socket.serviceConfig = {
          Type = "oneshot";
          LoadCredential = [
            "secret:${config.services.onecred.secrets.db-password.socketPath}"
            "name:${config.services.onecred.secrets.db-user.socketPath}"
          ];
          LoadCredentialEncrypted = [
            "sealed:${config.services.onecred.secrets.db-password.sealedSocketPath}"
          ];
          ExecStart = [
            "/usr/bin/grep -qx hunter2 %d/secret"
            "/usr/bin/grep -qx bob %d/name"
            "/usr/bin/grep -qx hunter2 %d/sealed"
          ];
        };
        # nothing but the path says that it reads the file
        reader.serviceConfig = {
          Type = "oneshot";
          LoadCredential = [ "copy:/run/secrets/db-password" ];
          ExecStart = "/usr/bin/grep -qx hunter2 %d/copy";
        };
        hard-coded.serviceConfig = {
          Type = "oneshot";
          LoadCredential = [ "password:${config.services.onecred.socket}" ];
          ExecStart = "/usr/bin/grep -qx hunter2 %d/password";
        };
      };
    };

  # configurations of OpNix. Each service can start only if its file is there.
  reference = "op://My Vault/db/password";
  reads = path: {
    Type = "oneshot";
    ExecStart = "/usr/bin/grep -qx hunter2 ${path}";
  };
  opnix = {
    imports = [
      ../opnix-compat.nix
      on
    ];
    services.onepassword-secrets.enable = true;
    # /nix does not exist on the machine
    systemd.services.opnix-secrets.serviceConfig.ExecStart = lib.mkForce "/usr/bin/true";
  };
  opnix-services =
    { config, ... }:
    let
      inherit (config.services.onepassword-secrets) secretPaths;
    in
    {
      imports = [ opnix ];
      users.users.www-data = { };
      users.groups.www-data = { };
      services.onepassword-secrets.secrets = {
        pgPassword = {
          inherit reference;
          services = [ "opnix-postgresql" ];
          mode = "0640";
          group = "www-data";
        };
        dnsEnv = {
          inherit reference;
          services = [ "acme-turn.lab.example" ];
        };
        agentKeyFile = {
          inherit reference;
        };
        vpnKey = {
          inherit reference;
          path = "/run/opnix/vpn-key";
        };
        cert = {
          inherit reference;
          path = "/var/lib/opnix-web/ssl/origin.pem";
          owner = "www-data";
          group = "www-data";
          services.opnix-web.restart = true;
        };
        storeRoot = {
          inherit reference;
          path = "/var/lib/opnix/secrets/store/root-credentials";
        };
        hostKey = {
          inherit reference;
          path = "/etc/ssh/opnix_key";
          services = [ "opnix-host" ];
        };
      };
      systemd.services = {
        # only the name of the service says that it reads the file
        opnix-postgresql.serviceConfig = {
          Type = "oneshot";
          ExecStart = "/usr/bin/sh -c 'd=/var/lib; grep -qx hunter2 $$d/opnix/secrets/pgPassword'";
        };
        "acme-turn.lab.example".serviceConfig = reads secretPaths.dnsEnv;
        opnix-agent = {
          environment.KEY_FILE = secretPaths.agentKeyFile;
          serviceConfig = reads secretPaths.agentKeyFile;
        };
        opnix-vpn.serviceConfig = reads "/run/opnix/vpn-key";
        opnix-web.serviceConfig = reads "/var/lib/opnix-web/ssl/origin.pem" // {
          User = "www-data";
        };
        opnix-store.serviceConfig = reads "/var/lib/opnix/secrets/store/root-credentials";
        opnix-host.serviceConfig = reads "/etc/ssh/opnix_key";
      };
    };
  opnix-app =
    { config, ... }:
    let
      inherit (config.services.onepassword-secrets) secretPaths;
    in
    {
      imports = [ opnix ];
      services.onepassword-secrets = {
        outputDir = "/run/app-onepassword";
        systemdIntegration.enable = false;
        secrets.glanceKey = {
          inherit reference;
          mode = "0400";
        };
      };
      systemd.services.opnix-secrets.serviceConfig.ExecStartPost =
        "/usr/bin/test -s ${secretPaths.glanceKey}";
      systemd.services.opnix-app = rec {
        requires = [ "opnix-secrets.service" ];
        after = requires;
        serviceConfig = reads "/run/app-onepassword/glanceKey";
      };
    };

  render = module: import ./text.nix { inherit lib; } (evaluate [ module ]).config;
in
builtins.mapAttrs (_: render) { inherit machine opnix-services opnix-app; }
