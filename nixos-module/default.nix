# The NixOS module of onecred: services.onecred, and systemd.services.<name>.onecred.
{
  _file = ./default.nix;
  imports = [
    ./options.nix
    ./units.nix
    ./system.nix
    ./assertions.nix
  ];
}
