{
  description = "A systemd credential provider for 1Password";

  # No inputs: the package is made of the nixpkgs of the system that it is for.
  outputs = _: {
    nixosModules.default = ./nixos-module;
    nixosModules.opnix-compat = ./nixos-module/opnix-compat.nix;

    overlays.default = final: _: {
      onecred = final.callPackage ./nixos-module/package.nix { };
    };

    # the packages of a nixpkgs: packagesFor pkgs
    lib.packagesFor = pkgs: rec {
      onecred = pkgs.callPackage ./nixos-module/package.nix { };
      default = onecred;
    };
  };
}
