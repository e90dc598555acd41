# Configurations that must be rejected, each with a part of its only error.
let
  on = {
    services.onecred.enable = true;
  };
  secret = key: value: [
    on
    {
      services.onecred.secrets.key = {
        reference = "op://v/i/f";
        units = [ "app" ];
      }
      // {
        ${key} = value;
      };
    }
  ];
  service = name: credentials: [
    on
    { systemd.services.${name}.onecred.credentials = credentials; }
  ];
  # the longest valid ID; app.service has 11 bytes
  id =
    length:
    builtins.substring 0 length
      "a12345678901234567890123456789012345678901234567890123456789012345678901234567890";
  kept =
    modules:
    [
      on
      (import ./impermanence.nix)
    ]
    ++ modules;
  temporary = modules: kept ([ { fileSystems."/".fsType = "tmpfs"; } ] ++ modules);
  token = "ops_eyJzaWduSW5BZGRyZXNzIjoi";
in
{
  longID = {
    modules = service "app" { ${id 73} = "op://v/i/f"; };
    says = "more than 83 bytes together";
  };
  longIDByGrant = {
    modules = secret "units" [ "app/${id 73}" ];
    says = "more than 83 bytes together";
  };
  longIDHardCoded = {
    modules = [
      on
      { systemd.services.app.serviceConfig.LoadCredential = [ "${id 73}:/run/onecred/credential.sock" ]; }
    ];
    says = "more than 83 bytes together";
  };
  longIDHardCodedSealed = {
    modules = [
      on
      {
        systemd.services.app.serviceConfig.LoadCredentialEncrypted = [
          "${id 73}:/run/onecred/sealed.sock"
        ];
      }
    ];
    says = "more than 83 bytes together";
  };
  plainAtSealed = {
    modules = [
      on
      { systemd.services.app.serviceConfig.LoadCredential = [ "key:/run/onecred/sealed.sock" ]; }
    ];
    says = "use config.services.onecred.socket";
  };
  sealedAtPlain = {
    modules = [
      on
      {
        systemd.services.app.serviceConfig.LoadCredentialEncrypted = [
          "key:/run/onecred/credential.sock"
        ];
      }
    ];
    says = "use config.services.onecred.sealedSocket";
  };
  asLongAsCanBe = {
    modules = service "app" { ${id 72} = "op://v/i/f"; };
    says = null;
  };
  asLongAsCanBeByGrant = {
    modules = secret "units" [
      "app/${id 72}"
      "a*/${id 80}"
    ];
    says = null;
  };

  reference = {
    modules = secret "reference" "op://v/i";
    says = "secrets.key.reference: invalid secret reference";
  };
  referenceOfService = {
    modules = service "app" { key = "op://v/ü/f"; };
    says = "credentials.key: invalid secret reference";
  };
  noReference = {
    modules = [
      on
      { services.onecred.secrets.key.units = [ "app" ]; }
    ];
    says = "set one of reference and opItem";
  };
  twoSpellings = {
    modules = secret "opItem" "v/i";
    says = "set one of reference and opItem";
  };
  unknownName = {
    modules = service "app" { key = "keey"; };
    says = "neither a secret reference";
  };
  unknownFile = {
    modules = [
      on
      { systemd.services.app.onecred.environmentFiles = [ "app.env" ]; }
    ];
    says = "app.env is not in";
  };
  badName = {
    modules = [
      on
      {
        services.onecred.secrets."a key" = {
          reference = "op://v/i/f";
          units = [ "app/key" ];
        };
      }
    ];
    says = "a name has up to 128 letters";
  };
  disabled = {
    modules = [ { systemd.services.app.onecred.credentials.key = "op://v/i/f"; } ];
    says = "set services.onecred.enable = true";
  };

  owner = {
    modules = secret "owner" "nobody-here";
    says = "user nobody-here does not exist";
  };
  group = {
    modules = secret "owner" "root:wheels";
    says = "group wheels does not exist";
  };
  ownerByNumber = {
    modules = secret "owner" "1000:100";
    says = null;
  };

  tokenInStore = {
    modules = [
      on
      { services.onecred.tokenFile = ./stubs.nix; }
    ];
    says = "tokenFile: the Nix store is world-readable";
  };
  tokenInStoreByText = {
    modules = [
      on
      { services.onecred.tokenFile = "/nix/store/00000000000000000000000000000000-token"; }
    ];
    says = "tokenFile: the Nix store is world-readable";
  };
  tokenOfSourceInStore = {
    modules = [
      on
      { services.onecred.sources.staging.tokenFile = ./stubs.nix; }
    ];
    says = "sources.staging.tokenFile: the Nix store is world-readable";
  };
  tokenAsPath = {
    modules = [
      on
      { services.onecred.tokenFile = token; }
    ];
    says = "this is a token, not the path";
  };
  tokenInSettings = {
    modules = [
      on
      { services.onecred.settings.source."//" = token; }
    ];
    says = "the configuration contains a token";
  };
  tokenInTemplate = {
    modules = [
      on
      {
        services.onecred.templates."app.env" = {
          content = "TOKEN=${token}\n";
          units = [ "app" ];
        };
      }
    ];
    says = "the configuration contains a token";
  };
  tokenAsCredential = {
    modules = service "app" { key = token; };
    says = "neither a secret reference";
  };
  nameLikeToken = {
    modules = [
      on
      {
        services.onecred.secrets.devops_eyJ = {
          reference = "op://v/i/f";
          units = [ "app" ];
        };
      }
    ];
    says = null;
  };
  twoTokens = {
    modules = [
      on
      {
        services.onecred.tokenFile = "/a";
        services.onecred.tokenCredential = "/b";
      }
    ];
    says = "set one of tokenFile and tokenCredential";
  };

  hostKey = {
    modules = temporary [ { services.onecred.tokenCredential = "/persist/token.cred"; } ];
    says = "loses /etc/machine-id, /var/lib/systemd, /persist/token.cred at reboot";
  };
  hostKeyByImpermanence = {
    modules = kept [
      {
        environment.persistence."/persist".directories = [ "/var/lib/onecred" ];
        services.onecred.sources.a.tokenCredential = "/persist/token.cred";
      }
    ];
    says = "loses /var/lib/systemd at reboot";
  };
  hostKeyOnMount = {
    modules = temporary [
      {
        services.onecred.tokenCredential = "/persist/token.cred";
        environment.persistence."/persist".files = [ "/etc/machine-id" ];
        fileSystems."/var".fsType = "ext4";
      }
    ];
    says = null;
  };
  noHostKey = {
    modules = temporary [
      {
        services.onecred.tokenCredential = "/persist/token.cred";
        services.onecred.tokenNeedsHostKey = false;
        environment.persistence."/persist" = { };
      }
    ];
    says = null;
  };
  nothingKept = {
    modules = temporary [ ];
    says = "loses /etc/machine-id, /var/lib/systemd, /etc/onecred/token at reboot";
  };
  tokenLost = {
    modules = temporary [
      {
        services.onecred.tokenFile = "/root/.config/op/token";
        environment.persistence."/persist" = {
          files = [ "/etc/machine-id" ];
          directories = [ { directory = "/var/lib/systemd"; } ];
        };
      }
    ];
    says = "loses /root/.config/op/token at reboot";
  };
  everythingKept = {
    modules = temporary [
      {
        services.onecred.tokenFile = "/root/.config/op/token";
        environment.persistence."/persist" = {
          files = [ { file = "/etc/machine-id"; } ];
          directories = [
            "/var/lib/systemd"
            "/root/.config/op"
          ];
        };
      }
    ];
    says = null;
  };
  keptOtherwise = {
    modules = temporary [ { services.onecred.checkPersistence = false; } ];
    says = null;
  };
  tokenOfSops = {
    modules = temporary [
      {
        services.onecred.tokenFile = "/run/secrets/op-token";
        fileSystems."/var".fsType = "ext4";
        environment.etc."machine-id".source = "/etc/static-id";
      }
    ];
    says = null;
  };
}
