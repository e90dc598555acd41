# The paths that a service gets from options of other modules, where its unit names only a generated file.
{
  config,
  lib,
  options,
}:
let
  own = import ./lib.nix { inherit lib; };
  inherit (lib) hasPrefix removePrefix;

  # NixOS containers
  ofContainer =
    name:
    let
      container = config.containers.${name} or { };
    in
    lib.mapAttrsToList (path: mount: if mount.hostPath == null then path else mount.hostPath) (
      container.bindMounts or { }
    )
    ++ container.extraFlags or [ ];

  # containers of podman and docker; older versions of NixOS derive the name of the service
  oci = config.virtualisation.oci-containers;
  ofOci =
    service:
    lib.concatLists (
      lib.mapAttrsToList (
        name: container:
        lib.optionals (service == container.serviceName or "${oci.backend or "podman"}-${name}") [
          (container.login.passwordFile or null)
          (container.environmentFiles or [ ])
          (container.environment or { })
          (container.volumes or [ ])
          (container.extraOptions or [ ])
          (container.cmd or [ ])
        ]
      ) (oci.containers or { })
    );

  # tunnels of wg-quick
  ofTunnel =
    name:
    let
      tunnel = config.networking.wg-quick.interfaces.${name} or { };
    in
    [ (tunnel.privateKeyFile or null) ]
    ++ map (peer: peer.presharedKeyFile or null) (tunnel.peers or [ ]);
in
service:
own.textsOf (
  if hasPrefix "container@" service && options ? containers then
    ofContainer (removePrefix "container@" service)
  else if hasPrefix "wg-quick-" service && options.networking or { } ? wg-quick then
    ofTunnel (removePrefix "wg-quick-" service)
  else if options.virtualisation or { } ? oci-containers then
    ofOci service
  else
    [ ]
)
