# All scenarios, by theme.
{
  readers = import ./readers.nix;
  unread = import ./unread.nix;
  sockets = import ./sockets.nix;
  opnix = import ./opnix.nix;
  shapes = import ./shapes.nix;
  mistakes = import ./mistakes.nix;
  warnings = import ./warnings.nix;
  switches = import ./switches.nix;
  machine = import ./machine.nix;
}
