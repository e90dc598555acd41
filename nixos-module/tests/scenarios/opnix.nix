# Configurations of OpNix, with the options that people use.
let
  compat = {
    imports = [ ../../opnix-compat.nix ];
    services.onepassword-secrets.enable = true;
    users.users = {
      web = {
        isSystemUser = true;
        group = "web";
      };
    };
    users.groups.web = { };
    users.groups.wheel = { };
  };
  opnix = more: [
    compat
    { services.onepassword-secrets = more; }
  ];
  quiet = [ "outputDir" ];
  key = {
    reference = "op://Servers/api/key";
  };
  secretOf = config: name: config.services.onecred.secrets.${name};
  has = name: list: builtins.elem name list;
in
{
  "a service waits for its secret" = {
    modules =
      opnix {
        acceptedDifferences = quiet;
        secrets.pgPassword = key // {
          services = [ "postgresql" ];
          owner = "web";
          group = "web";
        };
        secrets.other = key;
      }
      ++ [ { systemd.services.postgresql.serviceConfig.ExecStart = "/bin/postgres"; } ];
    holds =
      config: with config.systemd.services.postgresql; {
        "it wants all secrets" = has "opnix-secrets.service" wants;
        "it is ordered after all secrets" = has "opnix-secrets.service" after;
        "it wants its secret" = has "onecred-file@pgPassword.service" wants;
        "it is ordered after its secret" = has "onecred-file@pgPassword.service" after;
        "it does not wait for another one" = !has "onecred-file@other.service" after;
        "it is restarted" = (secretOf config "pgPassword").restartUnits == [ "postgresql.service" ];
        "the old path leads to the file" =
          has "L+ /var/lib/opnix/secrets/pgPassword - - - - /run/secrets/pgPassword" config.systemd.tmpfiles.rules;
        "the group exists" = config.users.groups ? onepassword-secrets;
      };
  };
  "without integration no unit waits" = {
    modules = opnix {
      acceptedDifferences = quiet;
      systemdIntegration.enable = false;
      systemdIntegration.services = [ "app" ];
      secrets.key = key // {
        services = [ "web" ];
      };
    };
    holds = config: {
      "no unit is made" = !(config.systemd.services ? web) && !(config.systemd.services ? app);
      "no unit is restarted" = (secretOf config "key").restartUnits == [ ];
    };
  };
  "a literal path" = {
    modules =
      opnix {
        acceptedDifferences = quiet;
        secrets.key = key;
        secrets.root = key // {
          path = "minio/root";
        };
        secrets.same = key // {
          path = "/var/lib/opnix/secrets/minio/same";
        };
      }
      ++ [
        {
          systemd.services.app.serviceConfig.LoadCredential = "k:/var/lib/opnix/secrets/key";
          systemd.services.minio.serviceConfig.EnvironmentFile = "/var/lib/opnix/secrets/minio/root";
          systemd.services.all.serviceConfig.BindReadOnlyPaths = "/var/lib/opnix/secrets";
        }
      ];
    files.app = [ "key" ];
    files.minio = [ "root" ];
    files.all = [
      "key"
      "root"
      "same"
    ];
    holds = config: {
      "paths" =
        config.services.onepassword-secrets.secretPaths == {
          key = "/run/secrets/key";
          root = "/run/secrets/minio/root";
          same = "/run/secrets/minio/same";
        };
    };
  };
  "paths below /run, and in a service's directory" = {
    modules = opnix {
      acceptedDifferences = quiet ++ [ "users" ];
      users = [ "carol" ];
      secrets.vpn = key // {
        path = "/run/opnix/vpn-key";
      };
      secrets.cert = key // {
        path = "/var/lib/web/ssl/origin.pem";
        owner = "web";
        group = "web";
        mode = "0644";
        services = [ "web" ];
        symlinks = [ "/etc/web/cert.pem" ];
      };
      secrets.wifi = key // {
        path = "/run/secrets/.wifi";
        group = "wheel";
      };
      secrets.host = key // {
        path = "/etc/ssh/id_rsa";
      };
    };
    holds =
      config: with config.systemd.tmpfiles; {
        "the path in /run" = has "L+ /run/opnix/vpn-key - - - - /run/secrets/run/opnix/vpn-key" rules;
        "the path in the service's directory" =
          config.systemd.services.web.serviceConfig.BindReadOnlyPaths
          == [ "/run/secrets/var/lib/web/ssl/origin.pem:/var/lib/web/ssl/origin.pem" ];
        "root makes no link there" = builtins.all (
          rule: builtins.match ".*/web/ssl/origin.pem -.*" rule == null
        ) rules;
        "the symbolic link" =
          has "L+ /etc/web/cert.pem - - - - /run/secrets/var/lib/web/ssl/origin.pem" rules;
        "the path in onecred's directory" = (secretOf config "wifi").target == "/run/secrets/.wifi";
        "it needs no link" = (secretOf config "wifi").otherPaths == [ ];
        "the service waits" = has "onecred-file@cert.service" config.systemd.services.web.after;
        "the members" = config.users.groups.onepassword-secrets.members == [ "carol" ];
      };
  };
  "a path in a directory of a service that is not named" = {
    modules = opnix {
      acceptedDifferences = quiet;
      secrets.cert = key // {
        path = "/var/lib/web/ssl/origin.pem";
        owner = "web";
      };
    };
    warns = [ "cert: the directory of the path may belong to a service" ];
  };
  "no path in the directory" = {
    modules = opnix {
      secrets.vpn = key // {
        path = "/run/opnix/vpn-key";
      };
    };
  };
  "another directory" = {
    modules =
      opnix {
        outputDir = "/run/app-secrets";
        secrets.key = key;
      }
      ++ [ { systemd.services.app.script = "cat /run/app-secrets/key"; } ];
    files.app = [ "key" ];
  };
  "variables, a template, and a relative path" = {
    modules = opnix {
      acceptedDifferences = quiet;
      pathTemplate = "/etc/secrets/{service}/{name}";
      defaults.service = "web";
      secrets.one = key // {
        path = "{service}/{part}.key";
        variables.part = "two";
      };
      secrets.three = key;
    };
    holds = config: {
      "an explicit path has variables" = (secretOf config "one").target == "/run/secrets/web/two.key";
      "the template is another path" =
        (secretOf config "three").otherPaths == [
          "/var/lib/opnix/secrets/three"
          "/etc/secrets/web/three"
        ];
    };
  };
  "signals and restarts" = {
    modules = opnix {
      acceptedDifferences = quiet;
      secrets.key = key // {
        services = {
          caddy.signal = "HUP";
          web.signal = "SIGUSR1";
          old.signal = "SIGPWR";
          app = { };
          idle.restart = false;
          late.after = [ "network.target" ];
        };
      };
    };
    warns = [ "key: onecred does not send this signal" ];
    holds =
      config: with secretOf config "key"; {
        "signals" =
          signalUnits == {
            "caddy.service" = "SIGHUP";
            "web.service" = "SIGUSR1";
          };
        "a reload" = reloadUnits == [ "old.service" ];
        "restarts" =
          restartUnits == [
            "app.service"
            "late.service"
          ];
        "an order of its own" = has "network.target" config.systemd.services.late.after;
      };
  };
  "no restart" = {
    modules = opnix {
      acceptedDifferences = quiet;
      systemdIntegration.restartOnChange = false;
      systemdIntegration.services = [ "app" ];
      secrets.key = key // {
        services = [ "web" ];
      };
    };
    holds = config: {
      "no restart" = (secretOf config "key").restartUnits == [ ];
      "but an order" = has "opnix-secrets.service" config.systemd.services.app.after;
    };
  };
  "polling" = {
    modules = opnix {
      acceptedDifferences = quiet;
      systemdIntegration.polling.enable = true;
      secrets.key = key;
    };
    holds = config: { "six hours" = config.services.onecred.settings.defaults.refresh == "21600s"; };
  };
  "polling at an interval of systemd" = {
    modules = opnix {
      acceptedDifferences = quiet;
      systemdIntegration.polling = {
        enable = true;
        interval = "1h 30min";
      };
      secrets.key = key;
    };
    holds = config: { "90 minutes" = config.services.onecred.settings.defaults.refresh == "5400s"; };
  };
  "a file of OpNix" = {
    modules =
      opnix {
        acceptedDifferences = quiet;
        configFiles = [ ./opnix.json ];
      }
      ++ [
        { systemd.services.app.serviceConfig.ExecStart = "/bin/app /var/lib/opnix/secrets/app/token"; }
      ];
    files.app = [ "app-token" ];
    holds = config: {
      "it is part of the configuration" =
        map (one: one.reference) config.services.onecred.rendered.secrets == [
          "op://Servers/api/token"
          "op://Servers/tls/key"
        ];
      "its services wait" = has "onecred-file@etc-web-tls.key.service" config.systemd.services.web.after;
    };
  };
  "a file that is not part of the configuration" = {
    modules = opnix {
      acceptedDifferences = quiet;
      configFiles = [ "/etc/opnix/secrets.json" ];
    };
    warns = [ "/etc/opnix/secrets.json: these files are not part of the configuration" ];
    holds = config: {
      "it is used" = config.environment.etc ? "onecred/secrets.d/opnix-1.json";
      "its change is a reload" =
        has "/etc/opnix/secrets.json" config.systemd.services.onecred.reloadTriggers;
    };
  };
  "modes" = {
    modules = opnix {
      acceptedDifferences = quiet;
      secrets.a = key // {
        mode = "0660";
      };
      secrets.b = key // {
        mode = "644";
      };
    };
    warns = [ "a: only the owner may write to a file" ];
    holds = config: {
      "without writing" = (secretOf config "a").mode == "0640";
      "four digits" = (secretOf config "b").mode == "0644";
    };
  };
  "every difference has a name" = {
    modules = opnix {
      users = [ "alice" ];
      systemdIntegration.errorHandling.maxRetries = 5;
      systemdIntegration.changeDetection.enable = false;
      secrets.key = key // {
        mode = "0666";
      };
    };
    warns = [
      "add \"outputDir\""
      "add \"mode\""
      "add \"users\""
      "add \"changeDetection\""
      "add \"errorHandling\""
    ];
  };
  "all of them can be accepted" = {
    modules = opnix {
      users = [ "alice" ];
      systemdIntegration.errorHandling.maxRetries = 5;
      systemdIntegration.changeDetection.enable = false;
      acceptedDifferences = [
        "outputDir"
        "mode"
        "users"
        "changeDetection"
        "errorHandling"
      ];
      secrets.key = key // {
        mode = "0666";
      };
    };
  };
  "beside sops-nix, with hooks of the service" = {
    modules = [
      compat
      (
        { lib, ... }:
        {
          options.sops = lib.mkOption {
            type = lib.types.anything;
            default = { };
          };
        }
      )
      (
        { config, lib, ... }:
        let
          paths = config.services.onepassword-secrets.secretPaths;
        in
        {
          services.onepassword-secrets = {
            tokenFile = "/run/secrets/op-token";
            outputDir = "/run/app-onepassword";
            systemdIntegration.enable = false;
            secrets = lib.mapAttrs (_: reference: {
              inherit reference;
              mode = "0400";
            }) { glanceKey = "op://Homelab/glance/add more/secret password"; };
          };
          systemd.services.opnix-secrets = {
            preStart = "test -s /run/secrets/op-token";
            postStart = "test -s ${paths.glanceKey}";
          };
          systemd.services.app = {
            requires = [ "opnix-secrets.service" ];
            after = [ "opnix-secrets.service" ];
            script = "cat ${paths.glanceKey}";
          };
        }
      )
    ];
    files.app = [ "glanceKey" ];
    files.opnix-secrets = [ "glanceKey" ];
    holds = config: {
      "the file is elsewhere" = (secretOf config "glanceKey").target == "/run/onecred/files/glanceKey";
    };
  };
}
