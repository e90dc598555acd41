# Options of other modules that the documentation sets.
{ lib, ... }:
let
  any = lib.mkOption {
    type = lib.types.anything;
    default = { };
  };
in
{
  options.services.keycloak.database.passwordFile = any;
  options.services.grafana.settings = any;
  options.nixpkgs.overlays = any;
  options.virtualisation.vmVariant = any;
}
