# Files that no known unit reads, and readers that only options of other modules name.
let
  on = {
    services.onecred.enable = true;
    services.onecred.secrets.key = {
      reference = "op://Servers/api/key";
      publish = true;
    };
  };
  # a file that is not published at boot
  published = modules: [ on ] ++ modules;
in
{
  "a file that nothing reads" = {
    modules = published [ ];
    warns = [
      "services.onecred.secrets.key: no unit is known to read /run/secrets/key, so nothing publishes it at boot; name its readers in services.onecred.secrets.key.services"
    ];
  };
  "a file of settings that nothing reads" = {
    modules = [
      {
        services.onecred.enable = true;
        services.onecred.settings.secrets = [
          {
            name = "given";
            reference = "op://Servers/api/key";
            target = "/run/secrets/given";
          }
        ];
      }
    ];
    warns = [ "add onecred-file@given.service to requires and after of its readers" ];
  };
  "a file of a service of a user" = {
    modules = published [ { systemd.user.services.sync.script = "sync /run/secrets/key"; } ];
    warns = [
      "services.onecred: services of users name /run/secrets/key, but cannot request it; set services.onecred.publishAtBoot = true"
    ];
  };
  "a file of a service of a user, at boot" = {
    modules = published [
      {
        systemd.user.services.sync.script = "sync /run/secrets/key";
        services.onecred.publishAtBoot = true;
      }
    ];
  };
  "a credential of a service of a user" = {
    modules = [
      on
      { systemd.user.services.sync.serviceConfig.LoadCredential = "k:/run/onecred/by-name/key"; }
    ];
    faults = [
      "systemd.user.services.sync: onecred gives no credentials to services of users; use a service of the system with User="
    ];
  };
  "a file that another kind of unit requests" = {
    modules = published [ { systemd.sockets.app.requires = [ "onecred-file@key.service" ]; } ];
  };
  "a unit that requests all files" = {
    modules = published [ { systemd.services.app.after = [ "onecred-publish.service" ]; } ] ++ [
      { systemd.targets.app.wants = [ "onecred-publish.service" ]; }
    ];
  };
  "files of instances" = {
    modules = [
      {
        services.onecred.enable = true;
        services.onecred.secrets = builtins.listToAttrs (
          map
            (name: {
              inherit name;
              value = {
                reference = "op://Servers/${name}/key";
                publish = true;
              };
            })
            [
              "one.key"
              "two.key"
              "three"
            ]
        );
        systemd.services."app@".serviceConfig.LoadCredential = "key:/run/secrets/%i.key";
      }
    ];
    warns = [ "services.onecred.secrets.three: no unit is known to read" ];
  };
  "the key of a tunnel" = {
    modules = published [ { networking.wg-quick.interfaces.wg0.privateKeyFile = "/run/secrets/key"; } ];
    real = true;
    files.wg-quick-wg0 = [ "key" ];
  };
  "a tunnel that other units wait for" = {
    modules = published [
      {
        networking.wireguard.interfaces.wg0 = {
          ips = [ "10.0.0.1/24" ];
          privateKeyFile = "/run/secrets/key";
        };
      }
    ];
    real = true;
    files.wireguard-wg0 = [ "key" ];
  };
  "a credential of a container of NixOS" = {
    modules = published [
      {
        containers.web = {
          extraFlags = [ "--load-credential=key:/run/secrets/key" ];
          config = {
            system.stateVersion = "25.05";
          };
        };
      }
    ];
    real = true;
    files."container@web" = [ "key" ];
  };
  "the password of a registry" = {
    modules = published [
      {
        virtualisation.oci-containers.backend = "podman";
        virtualisation.oci-containers.containers.web = {
          image = "registry.example/web:latest";
          login = {
            registry = "https://registry.example";
            username = "web";
            passwordFile = "/run/secrets/key";
          };
        };
      }
    ];
    real = true;
    files.podman-web = [ "key" ];
  };
  "a file system, of which another warning says that it reads the file" = {
    modules = published [
      {
        fileSystems."/mnt" = {
          device = "//nas/share";
          fsType = "cifs";
          options = [
            "x-systemd.automount"
            "noauto"
            "credentials=/run/secrets/key"
          ];
        };
      }
    ];
    warns = [ "fileSystems./mnt.options: add \"x-systemd.requires=onecred-file@key.service\"" ];
  };
  "a device of the network" = {
    modules = published [
      {
        systemd.network.netdevs."50-wg0" = {
          netdevConfig = {
            Name = "wg0";
            Kind = "wireguard";
          };
          wireguardConfig.PrivateKeyFile = "/run/secrets/key";
        };
      }
    ];
    warns = [
      "systemd.network.netdevs.50-wg0: systemd-networkd reads /run/secrets/key when it brings the network up"
    ];
  };
  "a service of the initial RAM disk" = {
    modules = published [ { boot.initrd.systemd.services.unlock.script = "unlock /run/secrets/key"; } ];
    faults = [
      "boot.initrd.systemd.services.unlock: this file is read before 1Password can be reached"
    ];
  };
}
