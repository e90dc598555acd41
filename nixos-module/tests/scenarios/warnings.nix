# What `onecred check` would report when the system is built is reported by option during evaluation.
let
  on = {
    services.onecred.enable = true;
    services.onecred.publishAtBoot = true;
  };
  key = {
    reference = "op://Servers/api/key";
    units = [ "app" ];
  };
  secret = more: [
    on
    { services.onecred.secrets.key = key // more; }
  ];
  template = name: more: [
    on
    {
      services.onecred.secrets.key.reference = "op://Servers/api/key";
      services.onecred.templates.${name} = {
        units = [ "app" ];
      }
      // more;
    }
  ];
  # a source, and secrets of as many items in vaults
  account = source: items: vaults: [
    on
    {
      services.onecred.settings = {
        source = {
          kind = "service-account";
        }
        // source;
        secrets = builtins.genList (n: {
          name = "s${toString n}";
          reference = "op://v${toString (n - n / vaults * vaults)}/i${toString n}/f";
          units = [ "app" ];
        }) items;
      };
    }
  ];
  accepted = modules: { inherit modules; };
  warned = part: modules: {
    inherit modules;
    warns = [ part ];
  };
  refused = part: modules: {
    inherit modules;
    faults = [ part ];
  };
in
{
  "a budget that is enough" = accepted (
    account {
      budget = 800;
      hosts = 100;
    } 1 1
  );
  "a budget that is not enough for all hosts" =
    warned
      "services.onecred.settings.source: a start of each of 101 hosts needs about 8 calls, 808 together, and the budget is 800 a day"
      (
        account {
          budget = 800;
          hosts = 101;
        } 1 1
      );
  "a batch of items" = accepted (account { budget = 8; } 50 1);
  "a second batch" = warned "a start of this host needs about 9 calls" (account { budget = 8; } 51 1);
  "many vaults" = warned "needs about 26 calls" (account { budget = 25; } 10 10);
  "the default budget" = warned "the budget is 800 a day" (account { } 398 398);
  "Connect has no budget" = accepted (
    account {
      kind = "connect";
      url = "https://connect.example:8443";
    } 398 398
  );
  "a budget of one of several sources" =
    warned "services.onecred.sources.a: a start of each of 3 hosts needs about 10 calls, 30 together"
      [
        on
        {
          services.onecred.sources.a = {
            budget = 29;
            hosts = 3;
          };
          services.onecred.sources.b.budget = 8;
          services.onecred.settings.defaults.source = "b";
          services.onecred.secrets.one = key // {
            source = "a";
          };
          # the same vault and item
          services.onecred.secrets.two = {
            opItem = "servers/API";
            source = "a";
            units = [ "app" ];
          };
          services.onecred.secrets.three = key // {
            units = [ "app/three" ];
          };
          services.onecred.templates."app.env" = {
            content = "A={{op://Other/api/key | trim}}\nB={{one}}\nC={{\"op://\"}}Third/api/key\n";
            source = "a";
            units = [ "app" ];
          };
        }
      ];

  "a raw value in YAML" =
    warned
      "services.onecred.templates.app.yml.content: values are inserted unescaped, and some values would break this file; set escape = \"yaml\""
      (template "app.yml" { content = "key: {{key}}\n"; });
  "a raw value by the target" = warned "set escape = \"toml\"" (
    template "app" {
      content = "key = {{key | trim}}\n";
      target = "/run/secrets/app.toml";
    }
  );
  "a raw value in INI" = warned "quote them as its reader expects" (
    template "app.ini" { content = "key = {{key}}\n"; }
  );
  "an escape" = accepted (
    template "app.yaml" {
      content = "key: {{key}}\n";
      escape = "yaml";
    }
  );
  "raw on purpose" = accepted (
    template "app.yaml" {
      content = "key: {{key}}\n";
      escape = "raw";
    }
  );
  "a filter" = accepted (template "app.toml" { content = "key = \"{{key | trim | toml}}\"\n"; });
  "no value" = {
    modules = template "app.toml" { content = "key = 1\n"; };
    warns = [ "secrets.key: no unit may load it" ];
  };
  "another target" = accepted (
    template "app.toml" {
      content = "{{key}}";
      target = "/run/secrets/app.conf";
    }
  );
  "a name of JSON" = accepted (
    template "app.json" {
      content = "{ \"key\": {{key}} }";
      target = "/run/secrets/app.yaml";
    }
  );

  "an owner without a file" =
    warned
      "services.onecred.secrets.key: group, mode, owner: without effect, because no file is published"
      (secret {
        owner = "root";
        group = "root";
        mode = "0440";
      });
  "a link without a file" = warned "services.onecred.secrets.key: links: without effect" (secret {
    links = [ "/etc/app.key" ];
  });
  "a mode of settings without a file" =
    warned "services.onecred.settings.secrets (given): mode: without effect"
      [
        on
        {
          services.onecred.settings.secrets = [
            {
              name = "given";
              reference = "op://Servers/api/key";
              mode = "0440";
              units = [ "app" ];
            }
          ];
        }
      ];
  "an owner of an environment file" = accepted [
    on
    {
      services.onecred.secrets."app.env" = key // {
        mode = "0440";
        units = [ ];
      };
      systemd.services.app.onecred.environmentFiles = [ "app.env" ];
    }
  ];

  "a name that is too long for a unit" =
    warned
      "systemd does not accept onecred-file@a123456789012345678901234567890123456789012345678901234567.env.service, so no unit can be ordered after the file; use a name of at most 58 bytes"
      [
        on
        {
          services.onecred.templates."a123456789012345678901234567890123456789012345678901234567.env" = {
            content = "A={{op://Servers/api/key}}\n";
            publish = true;
          };
        }
      ];
  "the longest name" = accepted [
    on
    {
      services.onecred.templates."a12345678901234567890123456789012345678901234567890123.env" = {
        content = "A={{op://Servers/api/key}}\n";
        publish = true;
      };
    }
  ];

  "a section without a title" =
    warned "services.onecred.secrets.key: the reference op://Servers/api//key has two slashes in a row"
      (secret {
        reference = "op://Servers/api//key";
      });
  "a rule with a section without a title" =
    warned "services.onecred.settings.rules: the reference op://Servers/{unit}//key has two slashes"
      [
        on
        {
          services.onecred.settings.rules = [
            {
              units = [ "app" ];
              reference = "op://Servers/{unit}//key";
            }
          ];
        }
      ];
  "a placeholder with a section without a title" =
    warned "services.onecred.templates.app.env.content: the reference op://Servers/api//key has"
      (template "app.env" { content = "A={{op://Servers/api//key}} {{key}}\n"; });
  "a default mode for everybody" = warned "services.onecred.settings.defaults.mode: every user" (
    secret { } ++ [ { services.onecred.settings.defaults.mode = "0444"; } ]
  );
  "a reference without a field" =
    refused "services.onecred.secrets.key: the reference op://Servers/api/ has an empty part"
      (secret {
        reference = "op://Servers/api/";
      });
  "an item without a name" = refused "op://Servers//password has an empty part" [
    on
    {
      services.onecred.secrets.key = {
        opItem = "Servers/";
        units = [ "app" ];
      };
    }
  ];
  "a rule without a field" = refused "services.onecred.settings.rules: the reference op://a/{unit}/" [
    on
    {
      services.onecred.settings.rules = [
        {
          units = [ "app" ];
          reference = "op://a/{unit}/";
        }
      ];
    }
  ];
  "an item without a vault" = refused "services.onecred.secrets.key: opItem has the form VAULT/ITEM" [
    on
    {
      services.onecred.secrets.key = {
        opItem = "api";
        units = [ "app" ];
      };
    }
  ];
  "an invalid reference in settings" =
    refused "services.onecred.settings.secrets (given).reference: invalid secret reference"
      [
        on
        {
          services.onecred.settings.secrets = [
            {
              name = "given";
              reference = "op://Servers/ä/key";
              units = [ "app" ];
            }
          ];
        }
      ];
  "a credential without a field" =
    refused "systemd.services.app.onecred.credentials.key: the reference op://Servers/api/ has"
      [
        on
        { systemd.services.app.onecred.credentials.key = "op://Servers/api/"; }
      ];
  "a placeholder without a field" = refused "templates.app.env.content: the reference op://a//b" (
    template "app.env" { content = "A={{op://a//b}} {{key}}\n"; }
  );

  "insecure without effect" = warned "services.onecred.settings.source.insecure: it has no effect" [
    on
    {
      services.onecred.settings.source = {
        kind = "connect";
        url = "https://connect.example:8443";
        insecure = true;
      };
    }
  ];
  "insecure with an effect" = accepted [
    on
    {
      services.onecred.settings.source = {
        kind = "connect";
        url = "http://connect.example:8080";
        insecure = true;
      };
    }
  ];

  "two entries with one file" =
    refused "services.onecred: key and other have the same file /run/secrets/key"
      (
        secret { publish = true; }
        ++ [
          {
            services.onecred.secrets.other = {
              reference = "op://Servers/api/other";
              target = "/run/secrets/key";
            };
          }
        ]
      );
  "two entries with one link" = refused "app.env and key have the same file /etc/app.key" (
    secret {
      publish = true;
      links = [ "/etc/app.key" ];
    }
    ++ [
      {
        services.onecred.templates."app.env" = {
          content = "A={{key}}\n";
          publish = true;
          links = [ "/etc/app.key" ];
        };
      }
    ]
  );
  "two entries with one credential" =
    refused
      "services.onecred: app.service would get the credential ID key from app.key and key; give one of them another ID"
      (secret { } ++ [ { systemd.services.app.onecred.credentials.key = "op://Servers/other/key"; } ]);
  "a unit twice" =
    warned "services.onecred.secrets.key.units: app.service/key is in the list twice"
      (secret {
        units = [
          "app"
          "app.service/key"
        ];
      });
  "a unit twice in settings" =
    warned "services.onecred.settings.secrets (given).units: app.service/given is in the list twice"
      [
        on
        {
          services.onecred.settings.secrets = [
            {
              name = "given";
              reference = "op://Servers/api/key";
              units = [
                "app"
                "app"
              ];
            }
          ];
        }
      ];
  "a unit in the list and with a credential" = {
    modules = secret { } ++ [
      {
        systemd.services.app.onecred.credentials.key = "key";
        systemd.services.web.onecred.credentials.other = "key";
      }
    ];
    grants.key = [
      "app"
      "web.service/other"
    ];
  };
}
