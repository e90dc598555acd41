# systemd.services.<name>.onecred: the credentials of a service.
{ config, lib, ... }:
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
  fileOf =
    name:
    let
      written = cfg.templates.${name} or cfg.secrets.${name} or { target = null; };
    in
    if written.target != null then written.target else "${cfg.publishRoot}/${name}";
  handle = name: "onecred-file@${name}.service";

  # Units that must be active before a service uses a socket. A switch that installs onecred starts all of them at the same time.
  ofPlain = [ "onecred.socket" ];
  ofSealed = [
    "onecred-sealed.socket"
    "onecred-host-key.service"
  ];
in
{
  options.systemd.services = mkOption {
    type = types.attrsOf (
      types.submodule (
        { config, ... }:
        let
          wanted = config.onecred;
          load = map (id: "${id}:${if wanted.sealed then own.sealedSocket else own.socket}") (
            builtins.attrNames wanted.credentials
          );
          asksAt = key: where: own.askedAt where (config.serviceConfig.${key} or [ ]) != [ ];
          sockets =
            lib.optionals (asksAt "LoadCredential" own.socket) ofPlain
            ++ lib.optionals (asksAt "LoadCredentialEncrypted" own.sealedSocket) ofSealed;
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
              requires = map handle wanted.environmentFiles;
              after = map handle wanted.environmentFiles;
              serviceConfig.EnvironmentFile = map fileOf wanted.environmentFiles;
            })
          ];
        }
      )
    );
  };
}
