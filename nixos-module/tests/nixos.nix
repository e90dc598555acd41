# The scenarios of a theme, and the configurations of other tests, with all of NixOS.
{
  nixpkgs,
  theme,
  # modules in the documentation, by their positions
  documented ? { },
  # the part of them to play
  only ? _: true,
}:
let
  lib = import (nixpkgs + "/lib");
  evaluate = import ./real.nix { inherit nixpkgs; };
  play = import ./scenarios/run.nix { inherit lib evaluate; };
  on = {
    services.onecred.enable = true;
  };
  user = {
    users.users.opencode = {
      isSystemUser = true;
      group = "opencode";
    };
    users.groups.opencode = { };
    users.users.nginx = {
      isSystemUser = true;
      group = "nginx";
    };
    users.groups.nginx = { };
  };
  themes = import ./scenarios // {
    configurations = lib.mapAttrs (_: modules: {
      modules = modules ++ [ user ];
      warns = null;
    }) (import ./configurations.nix);
    assertions = lib.mapAttrs (
      _:
      { modules, says }:
      {
        inherit modules;
        warns = null;
        faults = lib.optional (says != null) says;
      }
    ) (import ./assertions.nix);
    documentation = lib.mapAttrs (_: module: {
      modules = [
        on
        (import ./impermanence.nix)
        ./elsewhere.nix
        user
        module
      ];
      warns = null;
      # those that the documentation explains
      holds =
        config:
        let
          unexpected = builtins.filter (
            text:
            lib.hasInfix "onecred" text
            && !lib.any (part: lib.hasInfix part text) [
              "every user can read the file"
              # of a service that is not enabled
              "no unit may load it"
              "development vault"
              "acceptedDifferences"
            ]
          ) config.warnings;
        in
        {
          "no warnings: ${builtins.concatStringsSep "; " unexpected}" = unexpected == [ ];
        };
    }) documented;
  };
in
if theme == null then
  lib.mapAttrs (_: builtins.attrNames) themes
else
  lib.concatLists (
    lib.mapAttrsToList (name: one: (play "${theme}: ${name}" one).wrong) (
      lib.filterAttrs (name: _: only name) themes.${theme}
    )
  )
