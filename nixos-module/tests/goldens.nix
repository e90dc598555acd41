# The units that the configurations produce.
{
  configurations,
  evaluate,
  lib,
}:
let
  of = name: configurations.${name}.config;
  service = name: unit: (of name).systemd.services.${unit};
  resolver = name: (service name "onecred-resolver").serviceConfig;
  socket = "/run/onecred/credential.sock";
  sealed = "/run/onecred/sealed.sock";
  on = {
    services.onecred.enable = true;
  };
  # a configuration with this version of systemd
  since =
    version: more:
    (evaluate [
      on
      {
        systemd.package = lib.mkForce {
          inherit version;
          outPath = "/systemd";
        };
      }
      more
    ]).config;
  refreshed =
    version:
    (since version {
      systemd.services.app.onecred.credentials.key = "op://v/i/f";
    }).systemd.services.app.serviceConfig;
  # the settings of the drop-in for other distributions
  packagedLimits =
    let
      text = builtins.readFile ../../units/systemd/systemd-creds.socket.d/10-onecred.conf;
      setting = line: builtins.match "([A-Za-z]+)=([0-9]+)" line;
      lines = builtins.filter builtins.isString (builtins.split "\n" text);
    in
    builtins.listToAttrs (
      map (found: lib.nameValuePair (builtins.elemAt found 0) (builtins.elemAt found 1)) (
        builtins.filter (found: found != null) (map setting lines)
      )
    );
in
{
  "one line loads the credential, sealed, beside others" = {
    got = with service "oneLine" "opencode"; {
      inherit (serviceConfig) LoadCredential LoadCredentialEncrypted;
      inherit wants after;
    };
    expected = {
      LoadCredential = [ "other:/etc/other" ];
      LoadCredentialEncrypted = [ "openai-key:${sealed}" ];
      wants = [
        "onecred-sealed.socket"
        "onecred-host-key.service"
      ];
      after = [
        "onecred-sealed.socket"
        "onecred-host-key.service"
      ];
    };
  };
  "a service can choose the plain socket" = {
    got = with service "plainOfOne" "opencode"; {
      inherit (serviceConfig) LoadCredential;
      inherit wants after;
    };
    expected = {
      LoadCredential = [ "key:${socket}" ];
      wants = [ "onecred.socket" ];
      after = [ "onecred.socket" ];
    };
  };
  "all can, but for those that choose the sealed one" = {
    got = map (name: builtins.attrNames (service "plain" name).serviceConfig) [
      "opencode"
      "careful"
    ];
    expected = [
      [ "LoadCredential" ]
      [ "LoadCredentialEncrypted" ]
    ];
  };
  "a module with its own LoadCredential= line waits for the socket, other units do not" = {
    got = map (name: (service "hardCoded" name).after) [
      "postgresql"
      "redis"
      "unconcerned"
    ];
    expected = [
      [ "onecred.socket" ]
      [
        "onecred-sealed.socket"
        "onecred-host-key.service"
      ]
      [ ]
    ];
  };
  "one line declares the secret and lets the unit have it" = {
    got = (of "oneLine").services.onecred.rendered.secrets;
    expected = [
      {
        name = "opencode.openai-key";
        reference = "op://Infrastructure Secrets/openai-api-key/password";
        units = [ "opencode.service/openai-key" ];
      }
    ];
  };
  "a secret's name lets units have it, a template unit by its instances" = {
    got = (builtins.head (of "byName").services.onecred.rendered.secrets).units;
    expected = [
      "opencode.service/openai-key"
      "worker@*.service/openai-key"
    ];
  };
  "systemd before 260 has no RefreshOnReload=" = {
    got = refreshed "259.3";
    expected = {
      LoadCredentialEncrypted = [ "key:${sealed}" ];
    };
  };
  "systemd since 260 has" = {
    got = (refreshed "260").RefreshOnReload;
    expected = "credentials";
  };
  "systemd before 258 keeps the limits of its socket for credentials" = {
    got = (since "257.9" { }).systemd.sockets ? systemd-creds;
    expected = false;
  };
  "systemd since 258 gets those of the drop-in, as a drop-in" = {
    got =
      with (since "258" { }).systemd.sockets.systemd-creds;
      { inherit overrideStrategy; } // lib.mapAttrs (_: toString) socketConfig;
    expected = packagedLimits // {
      overrideStrategy = "asDropin";
    };
  };
  "the administrator's limits win" = {
    got =
      (since "262" {
        systemd.sockets.systemd-creds.socketConfig.MaxConnections = 2048;
      }).systemd.sockets.systemd-creds.socketConfig;
    expected = {
      MaxConnectionsPerSource = 256;
      MaxConnections = 2048;
      TriggerLimitIntervalSec = 0;
    };
  };
  "environment files are required, ordered and named" = {
    got = with service "origin" "opencode"; {
      inherit requires after;
      files = serviceConfig.EnvironmentFile;
    };
    expected = {
      requires = [
        "onecred-file@opencode.env.service"
        "onecred-file@openai-api-key.service"
      ];
      after = [
        "onecred-file@opencode.env.service"
        "onecred-file@openai-api-key.service"
      ];
      files = [ "/run/secrets/opencode.env" ];
    };
  };
  "a published secret has its path" = {
    got = (service "origin" "opencode").environment;
    expected = {
      KEY_FILE = "/run/secrets/openai-api-key";
    };
  };
  "a secret without a file has none" = {
    got = (builtins.tryEval (of "byName").services.onecred.secrets.openai-api-key.path).success;
    expected = false;
  };
  "a file that an environment needs is published" = {
    got = (builtins.head (of "origin").services.onecred.rendered.templates).target;
    expected = "/run/secrets/opencode.env";
  };
  "sops-nix keeps /run/secrets" = {
    got = (of "besideSops").services.onecred.secrets.key.path;
    expected = "/run/onecred/files/key";
  };
  "a token by its path, and its disk" = {
    got = {
      inherit (resolver "origin") LoadCredential;
      inherit (service "origin" "onecred-resolver") unitConfig;
    };
    expected = {
      LoadCredential = [ "token:/persist/root/.config/op/token" ];
      unitConfig.RequiresMountsFor = [ "/persist/root/.config/op/token" ];
    };
  };
  "a token that comes later is taken" = {
    got = (of "origin").systemd.paths.onecred-token.pathConfig;
    expected = {
      PathChanged = [ "/persist/root/.config/op/token" ];
    };
  };
  "an encrypted token" = {
    got = resolver "encrypted";
    expected = {
      LoadCredentialEncrypted = [ "token:/var/lib/onecred/token.cred" ];
    };
  };
  "tokens of several sources, each of which may be missing" = {
    got = resolver "sources";
    expected = {
      LoadCredential = [
        "connect.token:/etc/onecred/connect.token"
        "token:/etc/onecred/token"
      ];
      SetCredential = [ "connect.token:\\n" ];
    };
  };
  "no token adds nothing to the package's unit" = {
    got = resolver "smallest";
    expected = { };
  };
  "links may be written, where their directory is there" = {
    got = (service "sources" "onecred").serviceConfig.ReadWritePaths;
    expected = [ "-/etc/app" ];
  };
  "a development vault replaces all sources" = {
    got = with (of "development").services.onecred.rendered.sources.connect; [
      kind
      path
    ];
    expected = [
      "file"
      "/etc/onecred/vault.json"
    ];
  };
  "metrics are written only to the given directory" = {
    got = with service "development" "onecred-metrics"; [
      unitConfig.ConditionPathIsDirectory
      serviceConfig.ReadWritePaths
      (builtins.attrNames (of "development").systemd.timers)
    ];
    expected = [
      [
        ""
        "/var/lib/node-exporter"
      ]
      [
        ""
        "-/var/lib/node-exporter"
      ]
      [ "onecred-metrics" ]
    ];
  };
  "a switch never stops the provider, and reloads it for its configuration" = {
    got = with service "smallest" "onecred"; [
      stopIfChanged
      overrideStrategy
      (builtins.length reloadTriggers)
    ];
    expected = [
      false
      "asDropin"
      1
    ];
  };
  "handles of files are left alone by a switch" = {
    got = (service "smallest" "onecred-file@").restartIfChanged;
    expected = false;
  };
  "the sockets are there early" = {
    got = lib.mapAttrs (_: socket: socket.wantedBy) (of "smallest").systemd.sockets;
    expected = {
      onecred = [ "sockets.target" ];
      onecred-resolver = [ "sockets.target" ];
      onecred-sealed = [ "sockets.target" ];
      systemd-creds = [ ]; # systemd's package enables it
    };
  };
  "a switch stops no socket" = {
    got = lib.mapAttrsToList (_: socket: socket.unitConfig) (of "smallest").systemd.sockets;
    expected = lib.genList (_: { X-StopIfChanged = false; }) 4;
  };
  "the journal can explain" = {
    got =
      lib.hasSuffix "/lib/systemd/catalog/onecred.catalog"
        (of "smallest").environment.etc."systemd/catalog/onecred.catalog".source;
    expected = true;
  };
  "without onecred nothing is there" = {
    got = with (evaluate [ ]).config; [
      systemd.services
      systemd.packages
      (builtins.attrNames environment.etc)
      users.users
    ];
    expected = [
      { }
      [ ]
      [ ]
      { root = { }; }
    ];
  };
  "OpNix: where files are now" = {
    got = (of "opnix").services.onepassword-secrets.secretPaths;
    expected = {
      apiKey = "/run/secrets/apiKey";
      sslKey = "/run/secrets/etc/ssl/private/key.pem";
    };
  };
}
