# The NixOS module of onecred: services.onecred, and systemd.services.<name>.onecred.
{
  _file = ./default.nix;
  imports = [
    ./options.nix
    ./clashes.nix
    ./metrics.nix
    ./mistakes.nix
    ./persistence.nix
    ./readers.nix
    ./units.nix
    ./warnings.nix
    ./system.nix
    ./assertions.nix
  ];
}
