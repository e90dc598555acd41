# The test of ./vm.nix for a booted Debian: its script, and the files of its systems.
#
# nix-instantiate --eval --strict --json --store dummy:// nixos-module/tests/debian.nix, and --arg lib as for all tests
{
  lib ? import ./lib,
}:
let
  evaluate = import ./evaluate.nix { inherit lib; };
  test = import ./vm.nix { inherit lib; };
  debian = {
    options.specialisation = lib.mkOption {
      type = lib.types.attrsOf (
        lib.types.submodule { options.configuration = lib.mkOption { type = lib.types.raw; }; }
      );
      default = { };
    };
    config.systemd.package = lib.mkForce {
      version = "262";
      outPath = "/usr";
    };
    config.services.onecred.package = {
      type = "derivation";
      name = "onecred";
      outPath = "/usr";
    };
  };
  of =
    more:
    evaluate (
      [
        debian
        test.nodes.machine
      ]
      ++ more
    );
  files =
    evaluated:
    if evaluated.faults == [ ] then
      import ./text.nix { inherit lib; } evaluated.config
    else
      throw (builtins.concatStringsSep "; " evaluated.faults);
  base = of [ ];
in
{
  inherit (test) testScript;
  systems = {
    base = files base;
  }
  // builtins.mapAttrs (
    _: { configuration, ... }: files (of [ configuration ])
  ) base.config.specialisation;
}
