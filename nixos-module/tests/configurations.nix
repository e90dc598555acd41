# Valid configurations: those of the documentation, and one of a whole machine.
let
  on = {
    services.onecred.enable = true;
  };
in
{
  smallest = [ on ];

  # one line for a service
  oneLine = [
    on
    {
      systemd.services.opencode = {
        serviceConfig.ExecStart = "/bin/opencode";
        serviceConfig.LoadCredential = [ "other:/etc/other" ];
        onecred.credentials.openai-key = "op://Infrastructure Secrets/openai-api-key/password";
      };
    }
  ];

  byName = [
    on
    {
      services.onecred.secrets.openai-api-key.reference =
        "op://Infrastructure Secrets/openai-api-key/password";
      systemd.services.opencode.onecred.credentials.openai-key = "openai-api-key";
      systemd.services."worker@".onecred.credentials.openai-key = "openai-api-key";
    }
  ];

  plainOfOne = [
    on
    {
      systemd.services.opencode.onecred = {
        credentials.key = "op://Servers/api/key";
        sealed = false;
      };
    }
  ];

  plain = [
    on
    {
      services.onecred.sealed = false;
      systemd.services.opencode.onecred.credentials.key = "op://Servers/api/key";
      systemd.services.careful.onecred = {
        credentials.key = "op://Servers/api/key";
        sealed = true;
      };
    }
  ];

  # modules with a fixed credential ID
  hardCoded =
    let
      postgresql = { config, ... }: {
        systemd.services.postgresql.serviceConfig.LoadCredential = [
          "password:${config.services.onecred.socket}"
        ];
      };
      redis = { config, ... }: {
        systemd.services.redis.serviceConfig.LoadCredentialEncrypted = [
          "password:${config.services.onecred.sealedSocket}"
        ];
      };
    in
    [
      on
      postgresql
      redis
      { systemd.services.unconcerned.serviceConfig.LoadCredential = [ "password:/etc/password" ]; }
      {
        services.onecred.secrets.postgres-password = {
          reference = "op://Servers/postgres/password";
          units = [ "postgresql/password" ];
        };
        services.onecred.secrets.redis-password = {
          reference = "op://Servers/redis/password";
          units = [ "redis/password" ];
        };
      }
    ];

  # a whole machine: a token that impermanence keeps, published files, an environment file
  origin = [
    on
    (import ./impermanence.nix)
    (
      { config, ... }:
      {
        fileSystems."/".fsType = "tmpfs";
        environment.persistence."/persist" = {
          files = [ "/etc/machine-id" ];
          directories = [
            "/root/.config/op"
            "/var/lib/systemd"
          ];
        };
        users.users.opencode = { };
        users.groups.opencode = { };
        services.onecred = {
          tokenFile = "/persist/root/.config/op/token";
          secrets.openai-api-key = {
            opItem = "Infrastructure Secrets/openai-api-key";
            opField = "password";
            publish = true;
            owner = "opencode:opencode";
            mode = "0400";
            restartUnits = [ "opencode" ];
          };
          templates."opencode.env" = {
            content = "OPENAI_API_KEY={{openai-api-key}}\n";
            owner = "opencode";
          };
        };
        systemd.services.opencode = {
          environment.KEY_FILE = config.services.onecred.secrets.openai-api-key.path;
          onecred.environmentFiles = [ "opencode.env" ];
        };
      }
    )
  ];

  # the same with an encrypted token
  encrypted = [
    on
    (import ./impermanence.nix)
    {
      fileSystems."/".fsType = "tmpfs";
      environment.persistence."/persist".files = [ "/etc/machine-id" ];
      environment.persistence."/persist".directories = [
        { directory = "/var/lib/systemd"; }
        "/var/lib/onecred"
      ];
      services.onecred.tokenCredential = "/var/lib/onecred/token.cred";
    }
  ];

  sources = [
    on
    {
      services.onecred = {
        tokenFile = "/etc/onecred/token";
        settings = {
          source.kind = "service-account";
          defaults.maxAge = "5m";
          rules = [
            {
              units = [ "app@*" ];
              reference = "op://Servers/{instance}/{credential}";
            }
          ];
        };
        sources.connect = {
          kind = "connect";
          url = "https://connect.example:8443";
          tokenFile = "/etc/onecred/connect.token";
        };
        secrets.key = {
          reference = "op://Servers/api/key";
          source = "connect";
          units = [ "app" ];
          links = [ "/etc/app/key" ];
          publish = true;
        };
      };
    }
  ];

  development = [
    on
    {
      services.onecred = {
        development.vault = [ ];
        metrics.directory = "/var/lib/node-exporter";
        sources.connect = {
          kind = "connect";
          url = "https://connect.example:8443";
        };
        secrets.key = {
          reference = "op://Servers/api/key";
          source = "connect";
          units = [ "app" ];
        };
      };
    }
  ];

  besideSops = [
    on
    ({ lib, ... }: { options.sops = lib.mkOption { default = { }; }; })
    {
      services.onecred.secrets.key = {
        reference = "op://Servers/api/key";
        publish = true;
      };
    }
  ];

  opnix = [
    ../opnix-compat.nix
    {
      users.users.opencode = { };
      users.groups.opencode = { };
      services.onepassword-secrets = {
        enable = true;
        users = [ "alice" ];
        systemdIntegration = {
          enable = true;
          services = [ "caddy" ];
          errorHandling.maxRetries = 3;
          changeDetection.enable = true;
        };
        secrets = {
          apiKey = {
            reference = "op://Infrastructure Secrets/openai-api-key/password";
            owner = "opencode";
            group = "opencode";
            services.nginx.signal = "SIGHUP";
            services.caddy.signal = "SIGUSR1";
            services.caddy.after = [ "network.target" ];
          };
          sslKey = {
            reference = "op://Servers/tls/key";
            path = "/etc/ssl/private/key.pem";
            mode = "0400";
            services = [ "caddy" ];
          };
        };
      };
    }
  ];
}
