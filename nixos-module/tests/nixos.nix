# The configurations, evaluated with all of NixOS: units as text, assertions by NixOS itself. Nothing is built.
{ nixpkgs }:
let
  lib = import (nixpkgs + "/lib");
  configurations = removeAttrs (import ./configurations.nix) [ "besideSops" ];
  evaluate =
    modules:
    (import (nixpkgs + "/nixos/lib/eval-config.nix") {
      system = null;
      modules = [
        ../default.nix
        {
          nixpkgs.hostPlatform = "x86_64-linux";
          boot.loader.grub.enable = false;
          fileSystems."/" = {
            device = lib.mkDefault "none";
            fsType = lib.mkDefault "ext4";
          };
          system.stateVersion = lib.trivial.release;
          users.users.opencode = {
            isSystemUser = true;
            group = "opencode";
          };
        }
      ]
      ++ modules;
    }).config;
in
lib.mapAttrs (
  name: modules:
  let
    config = evaluate modules;
    faults = map (one: one.message) (builtins.filter (one: !one.assertion) config.assertions);
  in
  if faults != [ ] then
    throw "${name}: ${builtins.concatStringsSep "; " faults}"
  else
    map (unit: config.systemd.units.${unit}.text) (
      builtins.filter (unit: config.systemd.units ? ${unit}) [
        "onecred.socket"
        "onecred.service"
        "onecred-resolver.service"
        "opencode.service"
      ]
    )
) configurations
