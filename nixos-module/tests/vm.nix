# A test on a machine with NixOS, in the form of nixpkgs: pkgs.testers.runNixOSTest ./vm.nix. integration/vm runs its script on a booted Debian
# with the units of this machine; nobody has run it on NixOS yet.
{ lib, ... }:
{
  name = "onecred";
  meta.maintainers = [ ];

  nodes.machine =
    { config, ... }:
    {
      imports = [ ../default.nix ];

      services.onecred = {
        enable = true;
        development.vault = ../../integration/fixtures/vault.json;
        secrets.db-password = {
          reference = "op://My Vault/db/password";
          publish = true;
          owner = "app";
        };
        secrets.db-user.reference = "op://My Vault/db/username";
        templates."app.env".content = "PASSWORD={{db-password}}\n";
      };

      users.users.app = {
        isSystemUser = true;
        group = "app";
      };
      users.groups.app = { };

      systemd.services =
        let
          oneshot = script: {
            serviceConfig.Type = "oneshot";
            inherit script;
          };
        in
        {
          credential =
            lib.recursiveUpdate (oneshot ''test "$(cat "$CREDENTIALS_DIRECTORY/password")" = hunter2'')
              {
                onecred.credentials.password = "op://My Vault/db/password";
                serviceConfig.DynamicUser = true;
              };
          # at boot, so that nothing but their order makes them wait for the files
          environment = lib.recursiveUpdate (oneshot ''test "$PASSWORD" = hunter2'') {
            onecred.environmentFiles = [ "app.env" ];
            wantedBy = [ "multi-user.target" ];
            serviceConfig.RemainAfterExit = true;
          };
          # its script alone says that it reads the file
          file =
            lib.recursiveUpdate
              (oneshot ''test "$(cat ${config.services.onecred.secrets.db-password.path})" = hunter2'')
              {
                wantedBy = [ "multi-user.target" ];
                serviceConfig = {
                  User = "app";
                  RemainAfterExit = true;
                };
              };
          # a module with LoadCredential= lines of its own
          by-socket =
            lib.recursiveUpdate
              (oneshot ''
                test "$(cat "$CREDENTIALS_DIRECTORY/secret")" = hunter2
                test "$(cat "$CREDENTIALS_DIRECTORY/name")" = bob
              '')
              {
                serviceConfig.LoadCredential = [
                  "secret:${config.services.onecred.secrets.db-password.socketPath}"
                  "name:${config.services.onecred.secrets.db-user.socketPath}"
                ];
              };
          stranger = lib.recursiveUpdate (oneshot "true") {
            serviceConfig.LoadCredential = [ "db-password:${config.services.onecred.socket}" ];
          };
          # runs until a switch restarts it
          daemon = {
            onecred.credentials.user = "db-user";
            wantedBy = [ "multi-user.target" ];
            script = ''
              cat "$CREDENTIALS_DIRECTORY/user" >/run/daemon
              exec sleep infinity
            '';
          };
        };

      specialisation.changed.configuration.services.onecred = {
        secrets.more = {
          reference = "op://My Vault/db/username";
          units = [ "more" ];
        };
        secrets.db-user.reference = lib.mkForce "op://My Vault/db/password";
      };
    };

  testScript = ''
    def main_pid(unit):
        return machine.succeed(f"systemctl show --value -p MainPID {unit}.service")

    machine.start()
    machine.wait_for_unit("onecred.socket")
    machine.wait_for_unit("multi-user.target")

    with subtest("services get their secrets"):
        for unit in ["environment", "file", "daemon"]:
            machine.wait_for_unit(f"{unit}.service")
        for unit in ["credential", "by-socket"]:
            machine.succeed(f"systemctl start {unit}.service")
        machine.wait_until_succeeds("grep -qx bob /run/daemon")

    with subtest("a service without a grant does not start, and its journal names the option"):
        machine.fail("systemctl start stranger.service")
        machine.succeed("journalctl --sync; journalctl -u stranger.service | grep -F 'services.onecred.secrets.db-password.units'")

    with subtest("a switch reloads the provider without a restart, and restarts what has another secret"):
        provider, daemon = main_pid("onecred"), main_pid("daemon")
        machine.succeed("/run/current-system/specialisation/changed/bin/switch-to-configuration test")
        assert main_pid("onecred") == provider
        assert main_pid("daemon") != daemon
        machine.wait_until_succeeds("grep -qx hunter2 /run/daemon")
        machine.succeed("onecred list | grep -F more")
  '';
}
