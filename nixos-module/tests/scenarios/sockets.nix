# Modules with their own LoadCredential= lines, and names that only `settings` has.
let
  on = {
    services.onecred.enable = true;
  };
  secret = {
    services.onecred.secrets.key.reference = "op://Servers/api/key";
  };
  given = {
    services.onecred.settings.secrets = [
      {
        name = "given";
        reference = "op://Servers/given/key";
      }
    ];
    services.onecred.settings.templates = [
      {
        name = "given.env";
        content = "KEY={{given}}\n";
      }
    ];
  };
  line = path: { systemd.services.app.serviceConfig.LoadCredential = [ "api_key:${path}" ]; };
in
{
  "a path for each secret" = {
    modules = [
      on
      secret
      (
        { config, ... }:
        {
          services.onecred.templates."app.env".content = "KEY={{key}}\n";
          systemd.services.app.serviceConfig.LoadCredential = [
            "api_key:${config.services.onecred.secrets.key.socketPath}"
            "env:${config.services.onecred.templates."app.env".socketPath}"
          ];
          systemd.services."worker@".serviceConfig.LoadCredentialEncrypted =
            "key:${config.services.onecred.secrets.key.sealedSocketPath}";
        }
      )
    ];
    grants.key = [
      "app.service/api_key"
      "worker@*.service/key"
    ];
    grants."app.env" = [ "app.service/env" ];
    holds = config: {
      "the link exists" =
        builtins.elem "L+ /run/onecred/by-name/key - - - - /run/onecred/credential.sock" config.systemd.tmpfiles.rules;
      "the sealed link exists" =
        builtins.elem "L+ /run/onecred/sealed-by-name/key - - - - /run/onecred/sealed.sock" config.systemd.tmpfiles.rules;
      "the socket is there first" = builtins.elem "onecred.socket" config.systemd.services.app.after;
      "the sealed socket is there first" =
        builtins.elem "onecred-sealed.socket"
          config.systemd.services."worker@".after;
      "no file is required" = config.systemd.services.app.requires == [ ];
    };
  };
  "a path of no secret" = {
    modules = [
      on
      (line "/run/onecred/by-name/keey")
    ];
    faults = [
      "systemd.services.app.serviceConfig.LoadCredential: keey is not in services.onecred.secrets or templates"
    ];
  };
  "a plain path in a line for encrypted credentials" = {
    modules = [
      on
      secret
      { systemd.services.app.serviceConfig.LoadCredentialEncrypted = "k:/run/onecred/by-name/key"; }
    ];
    faults = [ "use services.onecred.secrets.key.sealedSocketPath" ];
  };
  "a sealed path in a plain line" = {
    modules = [
      on
      secret
      (line "/run/onecred/sealed-by-name/key")
    ];
    faults = [ "use services.onecred.secrets.key.socketPath" ];
  };
  "an ID that nothing grants" = {
    modules = [
      on
      secret
      (line "/run/onecred/credential.sock")
    ];
    warns = [
      "services.onecred.secrets.key: no unit may load it"
      "systemd.services.app: no secret grants the credential ID api_key"
    ];
  };
  "an ID that a glob grants" = {
    modules = [
      on
      secret
      (line "/run/onecred/credential.sock")
      { services.onecred.secrets.key.units = [ "a[o-q]?/api_key" ]; }
    ];
  };
  "an ID that a rule grants" = {
    modules = [
      on
      (line "/run/onecred/credential.sock")
      {
        services.onecred.settings.rules = [
          {
            units = [ "app" ];
            credentials = [ "api_*" ];
            reference = "op://Servers/{unit}/{credential}";
          }
        ];
      }
    ];
  };
  "an ID that an instance may have" = {
    modules = [
      on
      secret
      {
        services.onecred.secrets.key.units = [ "app@one" ];
        systemd.services."app@".serviceConfig.LoadCredential = "key:/run/onecred/credential.sock";
      }
    ];
  };
  "a service uses a secret of settings" = {
    modules = [
      on
      given
      {
        systemd.services.app.onecred.credentials.key = "given";
        systemd.services.app.onecred.environmentFiles = [ "given.env" ];
      }
    ];
    grants.given = [ "app.service/key" ];
    files.app = [ "given.env" ];
    holds = config: {
      "its file is published" =
        (builtins.head config.services.onecred.rendered.templates).target == "/run/secrets/given.env";
      "the service reads it" =
        config.systemd.services.app.serviceConfig.EnvironmentFile == [ "/run/secrets/given.env" ];
    };
  };
  "a secret of settings has a path too" = {
    modules = [
      on
      given
      (line "/run/onecred/by-name/given")
      { services.onecred.settings.templates = [ ]; }
    ];
    grants.given = [ "app.service/api_key" ];
    warns = [ "given.env: no unit may load it" ];
  };
  "a name twice" = {
    modules = [
      on
      given
      {
        services.onecred.secrets.given.reference = "op://Servers/other/key";
        systemd.services.app.onecred.credentials.key = "given";
        systemd.services.app.onecred.environmentFiles = [ "given.env" ];
      }
    ];
    faults = [ "the name given is in services.onecred.secrets and services.onecred.settings.secrets" ];
  };
  "a name of a secret and of a template" = {
    modules = [
      on
      secret
      {
        services.onecred.templates.key.content = "{{key}}";
        systemd.services.app.onecred.credentials.key = "key";
      }
    ];
    faults = [ "the name key is in services.onecred.secrets and services.onecred.templates" ];
  };
  "keycloak" = {
    modules = [
      on
      (
        { config, ... }:
        {
          services.onecred.secrets.keycloak-db.reference = "op://Servers/keycloak/password";
          services.keycloak = {
            enable = true;
            initialAdminPassword = "x";
            settings.hostname = "id.example";
            database.type = "postgresql";
            database.passwordFile = config.services.onecred.secrets.keycloak-db.socketPath;
          };
        }
      )
    ];
    real = true;
    grants.keycloak-db = [
      "keycloak.service/keycloak-db"
      "keycloakPostgreSQLInit.service/db_password"
    ];
  };
  "forgejo" = {
    modules = [
      on
      (
        { config, ... }:
        {
          services.onecred.secrets.forgejo-mail.reference = "op://Servers/forgejo/mail";
          services.forgejo = {
            enable = true;
            secrets.mailer.PASSWD = config.services.onecred.secrets.forgejo-mail.socketPath;
          };
        }
      )
    ];
    real = true;
    holds = config: {
      "the service may load it" = builtins.any (
        one: builtins.match "forgejo.service/.*PASSWD.*" one != null
      ) (builtins.head config.services.onecred.rendered.secrets).units;
    };
  };
  "forgejo with the socket alone" = {
    modules = [
      on
      (
        { config, ... }:
        {
          services.forgejo = {
            enable = true;
            secrets.mailer.PASSWD = config.services.onecred.socket;
          };
        }
      )
    ];
    real = true;
    warns = [ "PASSWD__FILE" ];
  };
}
