# Units that read published files are started after them.
let
  on = {
    services.onecred.enable = true;
    services.onecred.publishAtBoot = true;
    services.onecred.secrets = {
      key = {
        reference = "op://Servers/api/key";
        publish = true;
      };
      other = {
        reference = "op://Servers/other/key";
        publish = true;
      };
    };
    services.onecred.templates."app.env" = {
      content = "KEY={{key}}\n";
      publish = true;
    };
  };
  reader = name: service: expected: {
    modules = [
      on
      { systemd.services.${name} = service; }
    ];
    files.${name} = expected;
  };
in
{
  "a path in the environment" = {
    modules = [
      on
      ({ config, ... }: {
        systemd.services.app.environment.KEY_FILE = config.services.onecred.secrets.key.path;
      })
    ];
    files.app = [ "key" ];
  };
  "a path of LoadCredential=" = reader "app" {
    serviceConfig.LoadCredential = [ "k:/run/secrets/key" ];
  } [ "key" ];
  "a path of LoadCredential= as one text" = reader "app" {
    serviceConfig.LoadCredential = "k:/run/secrets/key";
  } [ "key" ];
  "an environment file, which may be missing" = reader "app" {
    serviceConfig.EnvironmentFile = "-/run/secrets/app.env";
  } [ "app.env" ];
  "a path in a command" = reader "app" {
    serviceConfig.ExecStart = "/bin/app --key=/run/secrets/key --to /run/secrets-of-another/other";
  } [ "key" ];
  "a path in the second of several commands" = reader "app" {
    serviceConfig.ExecStartPre = [
      "/bin/true"
      "+/bin/install -m 400 '/run/secrets/key' /var/lib/app"
    ];
  } [ "key" ];
  "a path in a script" = reader "app" {
    script = ''
      export KEY="$(cat /run/secrets/key)"
      app
    '';
  } [ "key" ];
  "a path before a start" = reader "app" {
    preStart = "test -s /run/secrets/other";
    script = "app";
  } [ "other" ];
  "a path in a setting of the unit" = reader "app" {
    serviceConfig.BindReadOnlyPaths = [ "/run/secrets/key:/etc/app/key" ];
  } [ "key" ];
  "a path with a specifier" = reader "app" {
    serviceConfig.ExecStart = "/bin/app %t/secrets/key";
  } [ "key" ];
  "a URL" = reader "app" { environment.KEY = "file:///run/secrets/key"; } [ "key" ];
  "the directory of the files" =
    reader "app"
      {
        serviceConfig.ExecStart = "/bin/app --secrets /run/secrets/";
      }
      [
        "app.env"
        "key"
        "other"
      ];
  "another name with the same beginning" = reader "app" {
    serviceConfig.ExecStart = "/bin/app /run/secrets/key2 /run/secrets/key.pem /srv/run/secrets/key";
  } [ ];
  "several files" =
    reader "app"
      {
        serviceConfig.LoadCredential = [ "k:/run/secrets/key" ];
        serviceConfig.EnvironmentFile = [ "/run/secrets/app.env" ];
      }
      [
        "app.env"
        "key"
      ];
  "a long script" = reader "app" {
    script = builtins.concatStringsSep "\n" (
      builtins.genList (n: "echo ${toString n} some words that say little") 2000
      ++ [ "cat /run/secrets/key" ]
    );
  } [ "key" ];
  "a file of each instance" = reader "app@" {
    serviceConfig.EnvironmentFile = "/run/secrets/%i.env";
  } [ "%i.env" ];
  "a path below a target of its own" = {
    modules = [
      on
      {
        services.onecred.secrets.deep = {
          reference = "op://Servers/deep/key";
          target = "/run/secrets/app/deep";
          links = [ "/etc/app/deep.key" ];
        };
        systemd.services.app.serviceConfig.ExecStart = "/bin/app /run/secrets/app/deep";
        systemd.services.linked.serviceConfig.ExecStart = "/bin/app /etc/app/deep.key";
      }
    ];
    files.app = [ "deep" ];
    files.linked = [ "deep" ];
  };
  "a file of settings" = {
    modules = [
      {
        services.onecred.enable = true;
        services.onecred.settings = builtins.fromJSON ''
          { "secrets": [ { "name": "openai-api-key", "opItem": "Infrastructure Secrets/openai-api-key", "opField": "password",
            "target": "/run/secrets/openai-api-key", "owner": "root:root", "mode": "0400" } ],
            "templates": [ { "name": "opencode.env", "content": "KEY={{openai-api-key}}", "target": "/run/secrets/opencode.env" } ] }
        '';
        systemd.services.my-service.serviceConfig = {
          LoadCredential = [ "openai-key:/run/secrets/openai-api-key" ];
          EnvironmentFile = "/run/secrets/opencode.env";
        };
      }
    ];
    files.my-service = [
      "openai-api-key"
      "opencode.env"
    ];
  };
  "a service that says what it reads" = {
    modules = [
      on
      {
        services.onecred.secrets.key.services = [
          "grafana"
          "web.service"
        ];
        systemd.services.grafana.serviceConfig.ExecStart = "/bin/grafana";
      }
    ];
    files.grafana = [ "key" ];
    files.web = [ "key" ];
  };
  "a path that no file has" = {
    modules = [
      {
        services.onecred.enable = true;
        services.onecred.secrets.key = {
          reference = "op://Servers/api/key";
          units = [ "app" ];
        };
        systemd.services.app.serviceConfig.ExecStart = "/bin/app /run/secrets/key";
      }
    ];
    warns = [
      "systemd.services.app: it names /run/secrets/key, but the secret is not published; set services.onecred.secrets.key.publish = true"
    ];
    files.app = [ ];
  };
  "a password of a user" = {
    modules = [
      on
      {
        users.users.alice = {
          isNormalUser = true;
          hashedPasswordFile = "/run/secrets/key";
        };
      }
    ];
    faults = [
      "users.users.alice.hashedPasswordFile: this file is read before 1Password can be reached"
    ];
  };
  "a key of the initial RAM disk" = {
    modules = [
      on
      {
        boot.initrd.luks.devices.data = {
          device = "/dev/sdb";
          keyFile = "/run/secrets/key";
        };
      }
    ];
    faults = [ "boot.initrd.luks.devices.data.keyFile" ];
  };
  "a script at activation" = {
    modules = [
      on
      { system.activationScripts.app = "install /run/secrets/key /var/lib/app"; }
    ];
    faults = [ "system.activationScripts.app: " ];
  };
  "a file system" = {
    modules = [
      on
      {
        fileSystems."/mnt" = {
          device = "//nas/share";
          fsType = "cifs";
          options = [
            "_netdev"
            "credentials=/run/secrets/key"
          ];
        };
      }
    ];
    warns = [ "fileSystems./mnt.options: add \"x-systemd.requires=onecred-file@key.service\"" ];
  };
  "a file system that is ordered" = {
    modules = [
      on
      {
        fileSystems."/mnt" = {
          device = "//nas/share";
          fsType = "cifs";
          options = [
            "credentials=/run/secrets/key"
            "x-systemd.requires=onecred-file@key.service"
          ];
        };
      }
    ];
  };
  "a container of NixOS" = {
    modules = [
      on
      {
        containers.web = {
          autoStart = true;
          bindMounts."/secrets".hostPath = "/run/secrets";
          config = {
            system.stateVersion = "25.05";
          };
        };
      }
    ];
    real = true;
    files."container@web" = [
      "app.env"
      "key"
      "other"
    ];
  };
  "a container of podman" = {
    modules = [
      on
      {
        virtualisation.oci-containers.backend = "podman";
        virtualisation.oci-containers.containers.web = {
          image = "web:latest";
          environmentFiles = [ "/run/secrets/app.env" ];
          volumes = [ "/run/secrets/key:/key:ro" ];
        };
      }
    ];
    real = true;
    files.podman-web = [
      "app.env"
      "key"
    ];
  };
  "a module's option" = {
    modules = [
      on
      (
        { config, ... }:
        {
          services.restic.backups.home = {
            repository = "/backup";
            paths = [ "/home" ];
            passwordFile = config.services.onecred.secrets.key.path;
            environmentFile = config.services.onecred.templates."app.env".path;
          };
        }
      )
    ];
    real = true;
    files.restic-backups-home = [
      "app.env"
      "key"
    ];
  };
}
