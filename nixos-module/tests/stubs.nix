# The options of NixOS that the module sets or reads, as its manual describes them: enough to evaluate it with only nixpkgs' lib.
{ lib, ... }:
let
  inherit (lib) mkOption types;
  any =
    default:
    mkOption {
      type = types.anything;
      inherit default;
    };
  text = mkOption {
    type = types.lines;
    default = "";
  };
  list = mkOption {
    type = types.listOf types.anything;
    default = [ ];
  };
  # a setting of a unit: lists are merged, other values may be set only once
  setting = lib.mkOptionType {
    name = "setting of a unit";
    merge =
      place: definitions:
      if builtins.any (one: builtins.isList one.value) definitions then
        lib.concatMap (one: lib.toList one.value) definitions
      else
        lib.mergeEqualOption place definitions;
  };
  section = mkOption {
    type = types.attrsOf setting;
    default = { };
  };
  unit =
    extra:
    mkOption {
      type = types.attrsOf (
        types.submodule {
          options = {
            description = any "";
            overrideStrategy = any "asDropinIfExists";
            wantedBy = list;
            wants = list;
            requires = list;
            after = list;
            before = list;
            unitConfig = section;
          }
          // extra;
        }
      );
      default = { };
    };
in
{
  options = {
    assertions = list;
    warnings = list;
    environment.systemPackages = list;
    environment.etc = mkOption {
      type = types.attrsOf (types.submodule { options.source = any null; });
      default = { };
    };
    fileSystems = mkOption {
      type = types.attrsOf (
        types.submodule {
          options = {
            fsType = any "auto";
            device = any null;
            options = list;
          };
        }
      );
      default = { };
    };
    boot.initrd.secrets = any { };
    boot.initrd.luks.devices = any { };
    boot.initrd.systemd.services = unit {
      script = text;
      serviceConfig = section;
      environment = section;
    };
    systemd.network.netdevs = any { };
    systemd.network.networks = any { };
    system.activationScripts = any { };
    services.dbus.packages = list;
    users.users = any { };
    users.groups = any { };
    systemd.package = any { };
    systemd.packages = list;
    systemd.tmpfiles.rules = list;
    systemd.services = unit {
      path = list;
      script = text;
      preStart = text;
      postStart = text;
      reload = text;
      preStop = text;
      postStop = text;
      serviceConfig = section;
      environment = section;
      enableDefaultPath = any true;
      stopIfChanged = any true;
      restartIfChanged = any true;
      reloadTriggers = list;
      restartTriggers = list;
    };
    systemd.user.services = unit {
      script = text;
      serviceConfig = section;
      environment = section;
    };
    systemd.sockets = unit { socketConfig = section; };
    systemd.targets = unit { };
    systemd.timers = unit { };
    systemd.paths = unit { pathConfig = section; };
  };
}
