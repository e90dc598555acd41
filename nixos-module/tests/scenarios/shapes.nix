# Whole configurations of OpNix, in the forms in which people publish them. Each service of a secret waits for its file.
let
  account = name: {
    users.users.${name} = {
      isSystemUser = true;
      group = name;
    };
    users.groups.${name} = { };
  };
  opnix =
    more:
    { lib, ... }:
    {
      imports = [ ../../opnix-compat.nix ];
      services.onepassword-secrets = lib.mkMerge [
        {
          enable = true;
          acceptedDifferences = [
            "outputDir"
            "users"
          ];
        }
        more
      ];
    };
  has = builtins.elem;
  reference = "op://Lab/Item/field";

  # the services that OpNix names wait for the files of their secrets, and for all of them together
  waiting =
    config:
    let
      cfg = config.services.onepassword-secrets;
      namesOf = services: if builtins.isAttrs services then builtins.attrNames services else services;
      of =
        name:
        map (service: {
          name = "${service} waits for ${name}";
          value =
            builtins.all
              (
                unit:
                has unit config.systemd.services.${service}.after
                && has unit config.systemd.services.${service}.wants
              )
              [
                "onecred-file@${name}.service"
                "opnix-secrets.service"
              ];
        }) (namesOf cfg.secrets.${name}.services);
    in
    builtins.listToAttrs (builtins.concatLists (map of (builtins.attrNames cfg.secrets)))
    // {
      "all files are published at boot" =
        has "multi-user.target" config.systemd.targets.onecred-publish.wantedBy;
      "the service of all secrets waits for them" =
        has "onecred-publish.service" config.systemd.services.opnix-secrets.after;
    };
  rules = config: config.systemd.tmpfiles.rules;
  restarts = config: name: config.services.onecred.secrets.${name}.restartUnits;
in
{
  "a certificate and a runner" = {
    modules = [
      (account "acme")
      (account "forgejo")
      (opnix {
        users = [
          "bob"
          "acme"
        ];
        secrets.dnsToken = {
          inherit reference;
          services = [ "acme" ];
          mode = "0640";
          group = "acme";
        };
        secrets.runnerToken = {
          inherit reference;
          services = [
            "forgejo"
            "gitea-runner-default"
          ];
          mode = "0640";
          group = "forgejo";
        };
      })
    ];
    holds = waiting;
  };
  "services of many modules, one named like a host" = {
    modules = [
      (account "postgres")
      (opnix {
        secrets.vpnKey = {
          inherit reference;
          services = [ "tailscaled" ];
        };
        secrets.dnsEnv = {
          inherit reference;
          services = [ "acme-turn.lab.example" ];
        };
        secrets.pgPassword = {
          inherit reference;
          services = [ "postgresql" ];
          owner = "postgres";
          group = "postgres";
        };
        secrets.gameEnv = {
          inherit reference;
        };
      })
    ];
    holds =
      config:
      waiting config
      // {
        "the unit of the host is a service" =
          restarts config "dnsEnv" == [ "acme-turn.lab.example.service" ];
        "a secret of no service has a file" =
          config.services.onepassword-secrets.secretPaths.gameEnv == "/run/secrets/gameEnv";
      };
  };
  "a path of the environment, with the name of the host" = {
    modules = [
      (account "agent")
      (
        { config, ... }:
        {
          imports = [
            (opnix {
              secrets.agentKeyFile = {
                reference = "op://Lab/host/Agent Key File";
                services = [ "agent" ];
                owner = "agent";
              };
            })
          ];
          systemd.services.agent.environment.KEY_FILE =
            config.services.onepassword-secrets.secretPaths.agentKeyFile;
        }
      )
    ];
    files.agent = [ "agentKeyFile" ];
  };
  "files in /run" = {
    modules = [
      (opnix {
        users = [ "carol" ];
        secrets.vpnKey = {
          inherit reference;
          path = "/run/opnix/vpn-key";
        };
        secrets.dnsToken = {
          inherit reference;
          path = "/run/opnix/dns-token";
        };
      })
      {
        systemd.services.vpn.serviceConfig.ExecStart = "/bin/vpn --key-file /run/opnix/vpn-key";
        systemd.services.dns.serviceConfig.EnvironmentFile = [ "/run/opnix/dns-token" ];
        systemd.services.both.serviceConfig.BindReadOnlyPaths = [ "/run/opnix" ];
      }
    ];
    files.vpn = [ "vpnKey" ];
    files.dns = [ "dnsToken" ];
    files.both = [
      "dnsToken"
      "vpnKey"
    ];
    holds = config: {
      "the path leads to the file" = has "L+ /run/opnix/vpn-key - - - - /run/secrets/run/opnix/vpn-key" (
        rules config
      );
    };
  };
  "a directory of the service, and a literal path" = {
    modules = [
      (account "caddy")
      (opnix {
        secrets.cert = {
          inherit reference;
          path = "/var/lib/caddy/ssl/origin.pem";
          owner = "caddy";
          group = "caddy";
          mode = "0644";
          services = [ "caddy" ];
        };
        secrets.key = {
          inherit reference;
          path = "/var/lib/caddy/ssl/origin.key";
          owner = "caddy";
          group = "caddy";
          services = [ "caddy" ];
        };
        secrets.storeRoot = {
          inherit reference;
          path = "/var/lib/opnix/secrets/store/root-credentials";
        };
        systemdIntegration = {
          services = [ "caddy" ];
          restartOnChange = true;
        };
      })
      {
        systemd.services.store.serviceConfig.EnvironmentFile =
          "/var/lib/opnix/secrets/store/root-credentials";
      }
    ];
    files.store = [ "storeRoot" ];
    holds =
      config:
      waiting config
      // {
        "the service has its files" =
          config.systemd.services.caddy.serviceConfig.BindReadOnlyPaths == [
            "/run/secrets/var/lib/caddy/ssl/origin.pem:/var/lib/caddy/ssl/origin.pem"
            "/run/secrets/var/lib/caddy/ssl/origin.key:/var/lib/caddy/ssl/origin.key"
          ];
        "it is restarted for every secret" =
          builtins.all (name: restarts config name == [ "caddy.service" ])
            [
              "cert"
              "key"
              "storeRoot"
            ];
      };
  };
  "keys of a host" = {
    modules = [
      { users.groups.wheel = { }; }
      (opnix {
        secrets.sshPrivateKey = {
          reference = "op://Service/Host Key/private key?ssh-format=openssh";
          path = "/etc/ssh/id_rsa";
          mode = "0644";
        };
        secrets.wifiPassword = {
          inherit reference;
          path = "/run/secrets/.wifiPassword";
          group = "wheel";
        };
      })
      { systemd.services.wifi.script = "connect /run/secrets/.wifiPassword"; }
    ];
    files.wifi = [ "wifiPassword" ];
    holds = config: {
      "the path leads to the file" = has "L+ /etc/ssh/id_rsa - - - - /run/secrets/etc/ssh/id_rsa" (
        rules config
      );
    };
  };
  "polling without integration" = {
    modules = [
      (opnix {
        secrets.key = {
          inherit reference;
        };
        systemdIntegration.enable = false;
        systemdIntegration.polling.enable = true;
      })
    ];
    holds = config: { "no polling" = !(config.services.onecred.settings ? defaults); };
  };
  "polling every month" = {
    modules = [
      (opnix {
        secrets.key = {
          inherit reference;
        };
        systemdIntegration.polling = {
          enable = true;
          interval = "1month";
        };
      })
    ];
    holds = config: {
      "30 days at most" = config.services.onecred.settings.defaults.refresh == "2592000s";
    };
  };
  "a template with a variable that has no value" = {
    modules = [
      (opnix {
        pathTemplate = "/etc/secrets/{service}/{name}";
        secrets.key = {
          inherit reference;
        };
        secrets.web = {
          inherit reference;
          variables.service = "web";
        };
      })
    ];
    holds = config: {
      "the path of OpNix alone" =
        config.services.onecred.secrets.key.otherPaths == [ "/var/lib/opnix/secrets/key" ];
      "and that of the template" =
        has "/etc/secrets/web/web" config.services.onecred.secrets.web.otherPaths;
    };
  };
  "a path with a variable that has no value" = {
    modules = [
      (opnix {
        secrets.key = {
          inherit reference;
          path = "{service}/key";
        };
      })
    ];
    faults = [
      "services.onepassword-secrets.secrets.key: its path contains {service}, which is in neither"
    ];
  };
  "services of a file of OpNix" = {
    modules = [ (opnix { configFiles = [ ./opnix-services.json ]; }) ];
    holds = config: {
      "they are restarted" =
        restarts config "app-token" == [
          "web.service"
          "worker.service"
        ];
    };
  };
}
