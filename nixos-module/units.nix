# systemd.services.<name>.onecred: what a service gets, in one line.
{ config, lib, ... }:
let
  inherit (lib)
    mkDefault
    mkIf
    mkOption
    types
    ;
  cfg = config.services.onecred;
  version = config.systemd.package.version or "0";

  # the file of a secret or template that a service needs; assertions tell of one that is not there
  fileOf =
    name:
    let
      written = cfg.templates.${name} or cfg.secrets.${name} or { target = null; };
    in
    if written.target != null then written.target else "${cfg.publishRoot}/${name}";
  handle = name: "onecred-file@${name}.service";
in
{
  options.systemd.services = mkOption {
    type = types.attrsOf (
      types.submodule (
        { config, ... }:
        let
          wanted = config.onecred;
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
            environmentFiles = mkOption {
              type = types.listOf types.str;
              default = [ ];
              example = [ "opencode.env" ];
              description = "Secrets or templates that are published, and are the service's environment.";
            };
          };
          config = lib.mkMerge [
            (mkIf (wanted.credentials != { }) {
              serviceConfig = {
                LoadCredential = map (id: "${id}:${cfg.socket}") (builtins.attrNames wanted.credentials);
              }
              // lib.optionalAttrs (lib.versionAtLeast version "260") {
                # a reload brings what has changed meanwhile
                RefreshOnReload = mkDefault "credentials";
              };
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
