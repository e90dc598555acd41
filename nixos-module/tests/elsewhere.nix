# Options of modules that are not part of nixpkgs.
{ lib, ... }:
let
  any = lib.mkOption {
    type = lib.types.anything;
    default = { };
  };
in
{
  options.deployment = any;
  options.microvm = any;
}
