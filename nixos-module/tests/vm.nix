# A test on a NixOS machine, for people with nixpkgs: pkgs.testers.runNixOSTest ./vm.nix. It has not been run by the authors.
{
  name = "onecred";

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
        templates."app.env".content = "PASSWORD={{db-password}}\n";
      };

      users.users.app = {
        isSystemUser = true;
        group = "app";
      };
      users.groups.app = { };

      systemd.services = {
        credential = {
          onecred.credentials.password = "op://My Vault/db/password";
          serviceConfig.Type = "oneshot";
          serviceConfig.DynamicUser = true;
          script = ''test "$(cat "$CREDENTIALS_DIRECTORY/password")" = hunter2'';
        };
        environment = {
          onecred.environmentFiles = [ "app.env" ];
          serviceConfig.Type = "oneshot";
          script = ''test "$PASSWORD" = hunter2'';
        };
        file = {
          requires = [ "onecred-file@db-password.service" ];
          after = [ "onecred-file@db-password.service" ];
          serviceConfig.Type = "oneshot";
          serviceConfig.User = "app";
          script = ''test "$(cat ${config.services.onecred.secrets.db-password.path})" = hunter2'';
        };
        stranger = {
          serviceConfig.Type = "oneshot";
          serviceConfig.LoadCredential = [ "db-password:${config.services.onecred.socket}" ];
          script = "true";
        };
      };

      specialisation.changed.configuration.services.onecred.secrets.more = {
        reference = "op://My Vault/db/username";
        units = [ "more" ];
      };
    };

  testScript = ''
    machine.wait_for_unit("onecred.socket")
    for unit in ["credential", "environment", "file"]:
        machine.succeed(f"systemctl start {unit}.service")

    machine.fail("systemctl start stranger.service")
    machine.succeed("journalctl --sync; journalctl -u stranger.service | grep -F 'not allowed'")

    # a switch reloads the provider without a restart
    before = machine.succeed("systemctl show --value -p MainPID onecred.service")
    machine.succeed("/run/current-system/specialisation/changed/bin/switch-to-configuration test")
    assert machine.succeed("systemctl show --value -p MainPID onecred.service") == before
    machine.succeed("onecred list | grep -F more")
  '';
}
