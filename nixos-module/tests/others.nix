# Options of other modules that the documentation sets.
{ lib, ... }:
let
  any = lib.mkOption {
    type = lib.types.anything;
    default = { };
  };
in
{
  options = {
    boot.kernelParams = any;
    containers = any;
    networking.hostName = any // {
      default = "host";
    };
    nixpkgs.overlays = any;
    security.polkit = any;
    services.forgejo = any;
    services.grafana.settings = any;
    services.keycloak.database.passwordFile = any;
    services.openssh.authorizedKeysFiles = any;
    services.openssh.enable = any;
    services.prometheus.exporters.node = any;
    services.restic.backups = any;
    virtualisation.oci-containers = any;
    virtualisation.vmVariant = any;
  };
}
