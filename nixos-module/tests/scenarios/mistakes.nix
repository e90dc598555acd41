# Mistakes that are reported by their options during evaluation, and warnings.
let
  on = {
    services.onecred.enable = true;
    services.onecred.publishAtBoot = true;
  };
  secret = more: [
    on
    {
      services.onecred.secrets.key = {
        reference = "op://Servers/api/key";
        units = [ "app" ];
      }
      // more;
    }
  ];
  template = content: [
    on
    {
      services.onecred.secrets.key.reference = "op://Servers/api/key";
      services.onecred.templates."app.env" = {
        inherit content;
        units = [ "app" ];
      };
    }
  ];
  settings = more: [
    on
    { services.onecred.settings = more; }
  ];
  refused = part: modules: {
    inherit modules;
    faults = [ part ];
  };
  accepted = modules: { inherit modules; };
  warned = part: modules: {
    inherit modules;
    warns = [ part ];
  };
in
{
  "a mode" = refused "services.onecred.secrets.key.mode: \"rw\" is not a mode" (secret {
    mode = "rw";
  });
  "a mode with writing" = refused "secrets.key.mode" (secret {
    mode = "0660";
  });
  "a mode with a bit" = refused "secrets.key.mode" (secret {
    mode = "4400";
  });
  "a mode of three digits" = accepted (secret {
    mode = "440";
    publish = true;
  });
  "a mode for everybody" = warned "secrets.key.mode: every user can read the file" (secret {
    mode = "0444";
    publish = true;
  });
  "a duration" =
    refused "services.onecred.secrets.key.maxAge: \"soon\" is not a duration from 1s to 30d"
      (secret {
        maxAge = "soon";
      });
  "a duration without a unit" = refused "secrets.key.deadline" (secret {
    deadline = "30";
  });
  "a duration out of range" = refused "secrets.key.refresh" (secret {
    refresh = "10s";
  });
  "words for durations" = accepted (secret {
    maxAge = "session";
    refresh = "off";
    deadline = "1m 30s";
  });
  "a target elsewhere" =
    refused "services.onecred.secrets.key.target: /etc/key is not a path below"
      (secret {
        target = "/etc/key";
      });
  "a target with dots" = refused "secrets.key.target" (secret {
    target = "/run/secrets/../key";
  });
  "a target in a root" = accepted [
    on
    {
      services.onecred.settings.publish.roots = [ "/run/app" ];
      services.onecred.secrets.key = {
        reference = "op://Servers/api/key";
        target = "/run/app/key";
      };
    }
  ];
  "a link" = refused "secrets.key.links: key.pem is not an absolute path" (secret {
    publish = true;
    links = [ "key.pem" ];
  });
  "a signal" = refused "secrets.key.signalUnits.app: HUP is not one of" (secret {
    signalUnits.app = "HUP";
  });
  "an unknown key" = refused "services.onecred.secrets.key: unknown key maxage" (secret {
    maxage = "5m";
  });
  "an unknown key of settings" = refused "services.onecred.settings: unknown key secret" (settings {
    secret = [ ];
  });
  "an unknown key of defaults" =
    refused "services.onecred.settings.defaults: unknown key maxage"
      (settings {
        defaults.maxage = "5m";
      });
  "an unknown key of a secret in settings" =
    refused "services.onecred.settings.secrets (key): unknown key unit"
      (settings {
        secrets = [
          {
            name = "key";
            reference = "op://Servers/api/key";
            unit = "app";
            units = [ "app" ];
          }
        ];
      });
  "an unknown key of a source" = refused "services.onecred.sources.a: unknown key host" [
    on
    { services.onecred.sources.a.host = "x"; }
  ];
  "an unknown kind" =
    refused "services.onecred.settings.source.kind: \"vault\" is not one of"
      (settings {
        source.kind = "vault";
      });
  "comments and a schema" = accepted (settings {
    "$schema" = "secrets.schema.json";
    "//" = "comment";
  });
  "a placeholder" =
    refused "services.onecred.templates.app.env.content: {{kex}} is not in services.onecred.secrets" (
      template "KEY={{ kex }}\n"
    );
  "a placeholder with a reference" = refused "templates.app.env.content: {{op://v}} is not a valid" (
    template "KEY={{op://v}}\n"
  );
  "a filter" = refused "{{key | upper}}: upper is not one of" (template "KEY={{key | upper}}\n");
  "valid placeholders" = accepted (
    template "KEY={{key}}\nA={{ op://Servers/api/key | trim }}\nB={{{{key\n# {{\"op://\"}}a/b/c\n"
  );
  "an escape" = refused "templates.app.env.escape: \"shell\" is not one of" (
    template "KEY={{key}}\n" ++ [ { services.onecred.templates."app.env".escape = "shell"; } ]
  );
  "several mistakes" = {
    modules = secret {
      mode = "rw";
      maxAge = "soon";
    };
    faults = [
      "secrets.key.mode"
      "secrets.key.maxAge"
    ];
  };
  "a service that the network needs" =
    warned "systemd.services.wpa_supplicant: it brings the network up"
      [
        on
        { systemd.services.wpa_supplicant.onecred.credentials.psk = "op://Lab/wifi/psk"; }
      ];
  "a tunnel, which is set up on the network" = accepted [
    on
    {
      systemd.services.wireguard-wg0 = {
        before = [ "network.target" ];
        onecred.credentials.key = "op://Lab/tunnel/key";
      };
    }
  ];
  "a service before the network" = warned "systemd.services.tunnel: it brings the network up" [
    on
    {
      systemd.services.tunnel = {
        before = [ "network-pre.target" ];
        onecred.credentials.key = "op://Lab/tunnel/key";
      };
    }
  ];
  "a file for a service that the network needs" =
    warned "systemd.services.systemd-networkd: it brings the network up"
      [
        on
        {
          services.onecred.secrets.wg = {
            reference = "op://Lab/wg/key";
            publish = true;
            services = [ "systemd-networkd" ];
          };
        }
      ];
  "an unused secret" = warned "services.onecred.secrets.key: no unit may load it" [
    on
    { services.onecred.secrets.key.reference = "op://Servers/api/key"; }
  ];
  "another service for sockets" =
    refused "services.onecred.secrets.key.services: app.socket is not a service"
      (secret {
        publish = true;
        services = [ "app.socket" ];
      });
}
