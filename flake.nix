{
  description = "A systemd credential provider for 1Password";

  # Only packages, checks and shells of this flake use it. The modules and the overlay use the nixpkgs of the system.
  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    inputs:
    let
      packagesOf = pkgs: rec {
        onecred = pkgs.callPackage ./nixos-module/package.nix { };
        onecred-core = pkgs.callPackage ./nixos-module/core.nix { };
        default = onecred;
      };
      each =
        output:
        builtins.listToAttrs (
          map
            (system: {
              name = system;
              value = output inputs.nixpkgs.legacyPackages.${system};
            })
            [
              "x86_64-linux"
              "aarch64-linux"
            ]
        );
      program = pkgs: name: script: {
        type = "app";
        program = toString (
          pkgs.writeShellScript name ''
            PATH=${(packagesOf pkgs).onecred}/bin:$PATH
            ${script}
          ''
        );
        meta.description = "onecred, secrets from 1Password for systemd units";
      };
    in
    {
      nixosModules = {
        # sets, because older versions of `nix flake check` reject paths
        default.imports = [ ./nixos-module ];
        opnix-compat.imports = [ ./nixos-module/opnix-compat.nix ];
      };

      overlays.default = final: _: {
        onecred = final.callPackage ./nixos-module/package.nix { };
        onecred-core = final.callPackage ./nixos-module/core.nix { };
      };

      # the packages of a nixpkgs: packagesFor pkgs
      lib.packagesFor = packagesOf;

      packages = each packagesOf;

      apps = each (pkgs: {
        default = program pkgs "onecred" ''exec onecred "$@"'';
        demo = program pkgs "onecred-demo" ''exec onecred demo "$@"'';
      });

      checks = each (
        pkgs:
        let
          inherit (packagesOf pkgs) onecred;
        in
        {
          inherit onecred;
          module =
            pkgs.runCommand "onecred-module"
              {
                nativeBuildInputs = [
                  pkgs.nix
                  pkgs.python3
                ];
              }
              ''
                cp -r --no-preserve=mode ${./.} source
                cd source
                BINARY=${onecred}/bin/onecred NIXPKGS_LIB=${pkgs.path}/lib bash integration/nix
                touch $out
              '';
        }
        // onecred.tests
      );

      formatter = each (pkgs: pkgs.nixfmt-tree or pkgs.nixfmt);

      devShells = each (pkgs: {
        default = pkgs.mkShell {
          inputsFrom = [ (packagesOf pkgs).onecred ];
          packages = [
            pkgs.clippy
            pkgs.rustfmt
            pkgs.nix
            pkgs.deadnix
            pkgs.nixfmt
            pkgs.python3
          ];
        };
      });
    };
}
