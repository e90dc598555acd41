# Stands for nixpkgs in `nix flake check`: a flake whose packages build nothing.
{
  outputs =
    _:
    let
      packagesFor =
        system:
        let
          package =
            name:
            derivation {
              inherit name system;
              builder = "/bin/sh";
            };
        in
        {
          path = "/nixpkgs";
          callPackage =
            path: _:
            if builtins.isFunction (import path) then
              package (baseNameOf path) // { tests.nixos = package "test"; }
            else
              throw "${toString path} is not a function";
          writeShellScript = name: text: builtins.seq text (package name);
          runCommand =
            name: environment: text:
            builtins.deepSeq [ environment text ] (package name);
          mkShell =
            { inputsFrom, packages }:
            builtins.seq (map (one: one.drvPath) (inputsFrom ++ packages)) (package "shell");
        }
        // builtins.listToAttrs (
          map
            (name: {
              inherit name;
              value = package name;
            })
            [
              "clippy"
              "deadnix"
              "nix"
              "nixfmt"
              "python3"
              "rustfmt"
            ]
        );
    in
    {
      legacyPackages = builtins.listToAttrs (
        map
          (name: {
            inherit name;
            value = packagesFor name;
          })
          [
            "x86_64-linux"
            "aarch64-linux"
          ]
      );
    };
}
