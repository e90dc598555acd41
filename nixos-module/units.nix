# systemd.services.<name>.onecred: the credentials of a service.
{
  config,
  lib,
  options,
  ...
}:
let
  inherit (lib)
    mkDefault
    mkIf
    mkOption
    types
    ;
  own = import ./lib.nix { inherit lib; };
  cfg = config.services.onecred;
  version = config.systemd.package.version or "0";

  # the file of a secret or template that a service needs; assertions report one that is not declared
  fileOf = name: cfg.published.targets.${name} or "${cfg.publishRoot}/${name}";
  handle = name: "onecred-file@${name}.service";

  # Units that must be active before a service uses a socket. A switch that installs onecred starts all of them at the same time.
  ofPlain = [ "onecred.socket" ];
  ofSealed = [
    "onecred-sealed.socket"
    "onecred-host-key.service"
  ];

  # the names of secrets and templates, by the services that say that they read them
  declared =
    lib.concatMap
      (
        kind:
        lib.concatLists (
          lib.mapAttrsToList (
            name: entry:
            map (service: {
              inherit name;
              service = lib.removeSuffix ".service" service;
            }) entry.services
          ) cfg.${kind}
        )
      )
      [
        "secrets"
        "templates"
      ];
  textsOfOptions = import ./consumers.nix { inherit config lib options; };
  actionOf =
    name:
    (cfg.secrets.${name} or cfg.templates.${name} or { inherit (cfg) switchAction; }).switchAction;
in
{
  # a service of another package gets an extension of its unit
  config.systemd.services = mkIf cfg.enable (
    lib.listToAttrs (map ({ service, ... }: lib.nameValuePair service { }) declared)
  );

  options.systemd.services = mkOption {
    type = types.attrsOf (
      types.submodule (
        { config, name, ... }:
        let
          # the files that the service reads
          read = lib.unique (
            wanted.environmentFiles
            ++ map (one: one.name) (builtins.filter ({ service, ... }: service == name) declared)
            ++ lib.optionals (cfg.enable && !own.isOwn name) (
              cfg.published.mentioned (
                builtins.concatStringsSep "\n" ([ (own.textOfService config) ] ++ textsOfOptions name)
              )
            )
          );
          used = lib.optionals (!own.isOwn name) (
            builtins.filter cfg.triggers.isKnown (
              lib.unique (
                read
                ++ lib.mapAttrsToList (
                  id: what: if own.isReference what then own.secretName name id else what
                ) wanted.credentials
                ++ map (one: one.name) (own.requestedByName config.serviceConfig)
              )
            )
          );
          trigger =
            action:
            map cfg.triggers.of (
              builtins.filter (
                one:
                let
                  wants = actionOf one;
                in
                action
                == (if wants == "restart" && cfg.triggers.isReloaded "${name}.service" one then "reload" else wants)
              ) used
            );
          wanted = config.onecred;
          load = map (id: "${id}:${if wanted.sealed then own.sealedSocket else own.socket}") (
            builtins.attrNames wanted.credentials
          );
          asksAt =
            key: where: named:
            let
              lines = config.serviceConfig.${key} or [ ];
            in
            own.askedAt where lines != [ ] || own.namedAt named lines != [ ];
          sockets =
            lib.optionals (asksAt "LoadCredential" own.socket own.socketOf) ofPlain
            ++ lib.optionals (asksAt "LoadCredentialEncrypted" own.sealedSocket own.sealedSocketOf) ofSealed;
        in
        {
          options.onecred = {
            credentials = mkOption {
              type = types.attrsOf types.str;
              default = { };
              example = {
                openai-key = "op://Infrastructure Secrets/openai-api-key/password";
              };
              description = ''
                Credentials that the service gets from onecred, by ID: secret references, or names of secrets or templates.
                The program reads `$CREDENTIALS_DIRECTORY/ID`.
              '';
            };
            sealed = mkOption {
              type = types.bool;
              default = cfg.sealed;
              defaultText = lib.literalExpression "config.services.onecred.sealed";
              description = "Whether `credentials` are loaded encrypted, by `LoadCredentialEncrypted=`.";
            };
            environmentFiles = mkOption {
              type = types.listOf types.str;
              default = [ ];
              example = [ "opencode.env" ];
              description = "Secrets or templates that are published and used as `EnvironmentFile=` of the service.";
            };
          };
          config = lib.mkMerge [
            (mkIf (wanted.credentials != { }) {
              serviceConfig = {
                ${if wanted.sealed then "LoadCredentialEncrypted" else "LoadCredential"} = load;
              }
              // lib.optionalAttrs (lib.versionAtLeast version "260") {
                # a reload loads changed values
                RefreshOnReload = mkDefault "credentials";
              };
            })
            # also for modules with their own LoadCredential= lines
            (mkIf cfg.enable {
              wants = sockets;
              after = sockets;
            })
            (mkIf (wanted.environmentFiles != [ ]) {
              serviceConfig.EnvironmentFile = map fileOf wanted.environmentFiles;
            })
            (mkIf cfg.enable {
              requires = map handle read;
              after = map handle read;
              restartTriggers = trigger "restart";
              reloadTriggers = trigger "reload";
            })
          ];
        }
      )
    );
  };
}
