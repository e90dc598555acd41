# Evaluates modules together with onecred's and with all of NixOS. Nothing is built.
{ nixpkgs }:
let
  lib = import (nixpkgs + "/lib");
in
modules:
let
  evaluated = import (nixpkgs + "/nixos/lib/eval-config.nix") {
    inherit lib;
    system = null;
    specialArgs.onecred = (import ../../flake.nix).outputs { };
    modules = [
      ../default.nix
      {
        nixpkgs.hostPlatform = lib.mkDefault "x86_64-linux";
        boot.loader.grub.enable = lib.mkDefault false;
        fileSystems."/" = {
          device = lib.mkOverride 1200 "none"; # a tmpfs sets it
          fsType = lib.mkDefault "ext4";
        };
        documentation.enable = false;
        system.stateVersion = lib.mkDefault lib.trivial.release;
      }
    ]
    ++ modules;
  };
  inherit (evaluated) config;
in
{
  inherit (evaluated) config options;
  faults = map (one: one.message) (builtins.filter (one: !one.assertion) config.assertions);
  # the text of each unit, which needs all of its settings
  whole =
    builtins.deepSeq (lib.mapAttrsToList (_: unit: unit.text) (
      lib.filterAttrs (_: unit: unit.enable) config.systemd.units
    )) true
    && builtins.deepSeq config.services.onecred.rendered true;
}
