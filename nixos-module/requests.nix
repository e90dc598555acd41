# The credential IDs that services request at onecred's sockets, and the configuration that grants them.
{ config, lib }:
let
  own = import ./lib.nix { inherit lib; };
  inherit (builtins) filter map;
  cfg = config.services.onecred;
  services = lib.filterAttrs (name: _: !own.isOwn name) config.systemd.services;

  asked = lib.concatLists (
    lib.mapAttrsToList (
      service: unit:
      map (id: { inherit service id; }) (
        own.askedAt own.socket (unit.serviceConfig.LoadCredential or [ ])
        ++ own.askedAt own.sealedSocket (unit.serviceConfig.LoadCredentialEncrypted or [ ])
      )
    ) services
  );

  # unit and ID of each grant; a rule grants by globs of both
  grants =
    lib.concatMap (entry: map (own.grant entry.name) (entry.units or [ ])) (
      filter (entry: entry ? name) (cfg.rendered.secrets ++ cfg.rendered.templates or [ ])
    )
    ++ lib.concatMap (
      rule:
      lib.concatMap (
        unit:
        map (id: {
          unit = own.withType unit;
          inherit id;
        }) (rule.credentials or [ "*" ])
      ) (rule.units or [ ])
    ) (cfg.settings.rules or [ ]);

  # an instance stands for all of them, and one that is granted is enough
  isGranted =
    { service, id }:
    lib.any (
      grant:
      own.matchesGlob grant.id id
      && (
        if lib.hasSuffix "@" service then
          lib.hasPrefix service grant.unit || own.matchesGlob grant.unit "${service}instance.service"
        else
          own.matchesGlob grant.unit "${service}.service"
      )
    ) grants;

  # other files may grant more
  isComplete =
    !lib.any (lib.hasPrefix "onecred/secrets.d/") (builtins.attrNames config.environment.etc);
in
lib.optionals isComplete (filter (one: !isGranted one) asked)
