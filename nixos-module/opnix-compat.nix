# The options of OpNix's NixOS module, services.onepassword-secrets, implemented with onecred. Import it together with onecred's module,
# instead of OpNix's.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) optional;
  own = import ./lib.nix { inherit lib; };
  cfg = config.services.onepassword-secrets;
  inherit (config.services.onecred) publishRoot;
  integration = cfg.systemdIntegration;
  converted = import ./opnix/convert.nix { inherit lib cfg publishRoot; };
  said = builtins.concatStringsSep ", ";

  # a warning can be turned off by its name
  warn =
    name: condition: message:
    optional (condition && !builtins.elem name cfg.acceptedDifferences)
      "services.onepassword-secrets: ${message} (to turn this warning off, add \"${name}\" to services.onepassword-secrets.acceptedDifferences)";

  links = map (
    { path, target }: "L+ ${own.ofTmpfiles path} - - - - ${own.ofTmpfiles target}"
  ) converted.links;

  files = lib.imap1 (
    number: path: lib.nameValuePair "onecred/secrets.d/opnix-${toString number}.json" { source = path; }
  ) converted.unread;
in
{
  _file = ./opnix-compat.nix;
  imports = [ ./opnix/options.nix ];

  config = lib.mkIf cfg.enable {
    services.onecred = {
      enable = true;
      tokenFile = cfg.tokenFile;
      # units written for OpNix wait for all files
      publishAtBoot = true;
      secrets = converted.secrets;
      settings = lib.mkIf (integration.enable && integration.polling.enable) {
        defaults.refresh = import ./opnix/interval.nix { inherit lib; } integration.polling.interval;
      };
    };
    environment.etc = lib.listToAttrs files;

    assertions = map (
      { name, variable }:
      {
        assertion = false;
        message = "services.onepassword-secrets.secrets.${name}: its path contains {${variable}}, which is in neither its variables nor services.onepassword-secrets.defaults";
      }
    ) converted.unknown;

    # The paths of OpNix lead to the files. This also replaces the plain files that OpNix has left there.
    systemd.tmpfiles.rules = [ "d ${own.ofTmpfiles cfg.outputDir} 0751 root root -" ] ++ links;

    # its members may not read the token, but other modules use its name
    users.groups.onepassword-secrets = {
      members = cfg.users;
    };

    systemd.services = {
      # units written for OpNix are ordered after this service
      opnix-secrets = {
        description = "Secrets of OpNix, published by onecred";
        wantedBy = [ "multi-user.target" ];
        wants = [ "onecred-publish.service" ];
        after = [ "onecred-publish.service" ];
        serviceConfig = {
          Type = "oneshot";
          RemainAfterExit = true;
          ExecStart = "${pkgs.coreutils}/bin/true";
        };
      };
    }
    // lib.listToAttrs (
      map (
        unit:
        let
          handles = map (name: "onecred-file@${name}.service") (converted.unitsOf unit);
        in
        lib.nameValuePair (lib.removeSuffix ".service" unit) {
          wants = [ "opnix-secrets.service" ] ++ handles;
          after = lib.unique ([ "opnix-secrets.service" ] ++ handles ++ converted.afterOf unit);
          serviceConfig = lib.optionalAttrs (converted.boundOf unit != [ ]) {
            BindReadOnlyPaths = converted.boundOf unit;
          };
        }
      ) converted.units
    );

    warnings =
      warn "outputDir"
        (
          !lib.hasPrefix "/run/" cfg.outputDir
          && lib.any (link: lib.hasPrefix "${cfg.outputDir}/" link.path) converted.links
        )
        "the files are in memory now, and paths in ${cfg.outputDir} are symbolic links to them; other files that OpNix left there are still on the disk in plain text, so remove them"
      ++
        warn "configFiles" (converted.unread != [ ])
          "${said converted.unread}: these files are not part of the configuration, so no unit is ordered after their secrets; use paths without quotes"
      ++
        warn "directory" (converted.unreachable != [ ])
          "${said converted.unreachable}: the directory of the path may belong to a service, so only units in `services` have the file there; use the paths in services.onepassword-secrets.secretPaths"
      ++
        warn "mode" (converted.changedModes != [ ])
          "${said converted.changedModes}: only the owner may write to a file, so the mode has no write permission for others"
      ++ warn "signal" (
        converted.changedSignals != [ ]
      ) "${said converted.changedSignals}: onecred does not send this signal, so the units are reloaded"
      ++
        warn "users" (cfg.users != [ ])
          "users: only root reads the token; give services their secrets with systemd.services.<name>.onecred.credentials"
      ++
        warn "changeDetection"
          (
            !integration.changeDetection.enable
            || integration.changeDetection.hashFile != "/var/lib/opnix/secret-hashes.json"
          )
          "systemdIntegration.changeDetection: this has no effect, because onecred compares versions and stores no hashes"
      ++
        warn "errorHandling"
          (
            integration.errorHandling != {
              rollbackOnFailure = false;
              continueOnError = true;
              maxRetries = 3;
            }
          )
          "systemdIntegration.errorHandling: this has no effect; a secret that is not available affects only the units that need it, and onecred tries again";
  };
}
