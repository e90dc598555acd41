# Units of a configuration as text, for another distribution: drop-ins for the package's units, and new units.
#
# nix-instantiate --eval --strict --json --store dummy:// nixos-module/tests/units.nix, and --arg lib as for all tests
{
  lib ? import ./lib,
}:
let
  evaluate = import ./evaluate.nix { inherit lib; };
  inherit
    (evaluate [
      (
        { config, ... }:
        {
          systemd.package = lib.mkForce {
            version = "257";
            outPath = "/usr";
          };
          services.onecred = {
            enable = true;
            tokenFile = "/persist/root/.config/op/token";
            settings.source = {
              kind = "connect";
              url = "http://127.0.0.1:8080";
            };
            secrets.db-password = {
              reference = "op://My Vault/db/password";
              units = [ "hard-coded/password" ];
              publish = true;
            };
            secrets.db-user.reference = "op://My Vault/db/username";
            templates."app.env" = {
              content = "USER=nobody\nPASSWORD={{op://My Vault/db/password}}\n";
              mode = "0400";
            };
          };
          systemd.services = {
            one-line = {
              onecred.credentials.password = "op://My Vault/db/password";
              serviceConfig = {
                Type = "oneshot";
                DynamicUser = true;
                ExecStart = "/usr/bin/grep -qx hunter2 %d/password";
              };
            };
            plain = {
              onecred = {
                credentials.password = "op://My Vault/db/password";
                sealed = false;
              };
              serviceConfig = {
                Type = "oneshot";
                ExecStart = "/usr/bin/grep -qx hunter2 %d/password";
              };
            };
            environment = {
              onecred.environmentFiles = [ "app.env" ];
              serviceConfig = {
                Type = "oneshot";
                ExecStart = "/usr/bin/test \${PASSWORD} = hunter2";
              };
            };
            # a module with a LoadCredential= line of its own
            by-socket.serviceConfig = {
              Type = "oneshot";
              LoadCredential = [
                "secret:${config.services.onecred.secrets.db-password.socketPath}"
                "name:${config.services.onecred.secrets.db-user.socketPath}"
              ];
              LoadCredentialEncrypted = [
                "sealed:${config.services.onecred.secrets.db-password.sealedSocketPath}"
              ];
              ExecStart = [
                "/usr/bin/grep -qx hunter2 %d/secret"
                "/usr/bin/grep -qx bob %d/name"
                "/usr/bin/grep -qx hunter2 %d/sealed"
              ];
            };
            # nothing but the path says that it reads the file
            reader.serviceConfig = {
              Type = "oneshot";
              LoadCredential = [ "copy:/run/secrets/db-password" ];
              ExecStart = "/usr/bin/grep -qx hunter2 %d/copy";
            };
            hard-coded.serviceConfig = {
              Type = "oneshot";
              LoadCredential = [ "password:${config.services.onecred.socket}" ];
              ExecStart = "/usr/bin/grep -qx hunter2 %d/password";
            };
          };
        }
      )
    ])
    config
    ;

  section =
    name: values:
    "[${name}]\n"
    + lib.concatStrings (
      lib.concatLists (
        lib.mapAttrsToList (key: value: map (one: "${key}=${toString one}\n") (lib.toList value)) values
      )
    );
  text =
    unit: type: settings:
    section "Unit" (
      unit.unitConfig
      // {
        Requires = unit.requires;
        Wants = unit.wants;
        After = unit.after;
      }
    )
    + section type settings;
  place =
    type: name: unit:
    if unit.overrideStrategy == "asDropin" then "${name}.${type}.d/nixos.conf" else "${name}.${type}";
  files =
    type: name: settings:
    lib.mapAttrs' (
      key: unit: lib.nameValuePair (place type key unit) (text unit name unit.${settings})
    );
in
{
  units =
    files "service" "Service" "serviceConfig" config.systemd.services
    // files "path" "Path" "pathConfig" config.systemd.paths;
  tmpfiles = lib.concatMapStrings (rule: rule + "\n") config.systemd.tmpfiles.rules;
  secrets = config.services.onecred.rendered;
}
