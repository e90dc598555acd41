# Readers of published files that no unit can be ordered after, and paths of files that do not exist.
{
  config,
  lib,
  options,
  ...
}:
let
  inherit (lib) concatMap mapAttrsToList optional;
  own = import ./lib.nix { inherit lib; };
  cfg = config.services.onecred;
  namesIn = value: cfg.published.mentioned (builtins.concatStringsSep "\n" (own.textsOf value));

  tooEarly =
    place: value:
    optional (namesIn value != [ ]) {
      assertion = false;
      message = "${place}: this file is read before 1Password can be reached; use sops-nix or agenix for it, or for a password of a user a credential of systemd-sysusers.service (LoadCredential=passwd.hashed-password.USER:FILE)";
    };
  users = concatMap (
    name:
    concatMap (key: tooEarly "users.users.${name}.${key}" (config.users.users.${name}.${key} or null)) [
      "hashedPasswordFile"
      "passwordFile"
    ]
  ) (builtins.attrNames config.users.users);
  initial = mapAttrsToList (path: value: {
    place = "boot.initrd.secrets.${builtins.toJSON path}";
    value = if value == null then path else value;
  }) config.boot.initrd.secrets;
  luks = mapAttrsToList (name: device: {
    place = "boot.initrd.luks.devices.${name}.keyFile";
    value = device.keyFile or null;
  }) config.boot.initrd.luks.devices;
  activation = mapAttrsToList (name: script: {
    place = "system.activationScripts.${name}";
    value = if builtins.isString script then script else script.text or "";
  }) (removeAttrs config.system.activationScripts [ "script" ]);

  # services of the initial RAM disk
  early = mapAttrsToList (name: service: {
    place = "boot.initrd.systemd.services.${name}";
    value = own.textOfService service;
  }) (config.boot.initrd.systemd.services or { });

  # systemd-networkd must not wait for 1Password
  ofNetwork =
    concatMap
      (
        kind:
        mapAttrsToList (name: device: {
          place = "systemd.network.${kind}.${name}";
          names = namesIn device;
        }) (config.systemd.network.${kind} or { })
      )
      [
        "netdevs"
        "networks"
      ];
  ofDevice =
    { place, names }:
    map (
      name:
      "${place}: systemd-networkd reads ${cfg.published.targets.${name}} when it brings the network up, before onecred can publish it; keep this secret in a file of the machine, or with sops-nix or agenix"
    ) names;

  ofFileSystem =
    path: fileSystem:
    let
      all = fileSystem.options or [ ];
    in
    concatMap (
      name:
      let
        ordered = "x-systemd.requires=onecred-file@${name}.service";
      in
      optional (!builtins.elem ordered all)
        "fileSystems.${path}.options: add \"${ordered}\", so that the file system is mounted after onecred has published the file"
    ) (namesIn (builtins.filter (one: !lib.hasPrefix "x-systemd." one) all));

  # Units of users cannot request anything of the system.
  ofUser =
    name: service:
    let
      place = "systemd.user.services.${name}";
      asks =
        own.requestedByName service.serviceConfig != [ ]
        || own.askedAt own.socket (service.serviceConfig.LoadCredential or [ ]) != [ ]
        || own.askedAt own.sealedSocket (service.serviceConfig.LoadCredentialEncrypted or [ ]) != [ ];
    in
    optional asks {
      assertion = false;
      message = "${place}: onecred gives no credentials to services of users; use a service of the system with User=, or publish the secret as a file";
    };
  userServices = config.systemd.user.services or { };
  namedByUsers = lib.unique (
    concatMap (service: cfg.published.mentioned (own.textOfService service)) (
      builtins.attrValues userServices
    )
  );

  # Files are published when a unit requests them.
  units = map (kind: builtins.attrValues config.systemd.${kind}) [
    "services"
    "sockets"
    "targets"
    "paths"
    "timers"
  ];
  requested =
    concatMap (unit: unit.requires ++ unit.wants ++ unit.requisite or [ ] ++ unit.bindsTo or [ ]) (
      lib.concatLists units ++ config.systemd.mounts or [ ] ++ config.systemd.automounts or [ ]
    )
    ++ concatMap (
      fileSystem:
      map (lib.removePrefix "x-systemd.requires=") (
        builtins.filter (lib.hasPrefix "x-systemd.requires=") (fileSystem.options or [ ])
      )
    ) (builtins.attrValues config.fileSystems);
  # %i stands for each instance
  handles = builtins.filter (lib.hasPrefix "onecred-file@") (lib.unique requested);
  exact = lib.genAttrs handles (_: null);
  globs = map (builtins.replaceStrings [ "%i" "%I" ] [ "*" "*" ]) (
    builtins.filter (lib.hasInfix "%") handles
  );
  isRequested =
    name:
    exact ? "onecred-file@${name}.service"
    || lib.any (glob: own.matchesGlob glob "onecred-file@${name}.service") globs;
  # those of which another warning says who reads them
  reported =
    concatMap (one: one.names) ofNetwork
    ++ concatMap (fileSystem: namesIn (fileSystem.options or [ ])) (
      builtins.attrValues config.fileSystems
    );
  publishesAll =
    cfg.publishAtBoot
    || builtins.elem "onecred-publish.service" requested
    || builtins.elem "onecred-publish.target" requested;
  placeOf =
    name:
    if cfg.secrets ? ${name} then
      "services.onecred.secrets.${name}"
    else if cfg.templates ? ${name} then
      "services.onecred.templates.${name}"
    else
      null;
  unread =
    name:
    let
      place = placeOf name;
      path = cfg.published.targets.${name};
    in
    if builtins.elem name namedByUsers then
      "services.onecred: services of users name ${path}, but cannot request it; set services.onecred.publishAtBoot = true"
    else if place == null then
      "services.onecred.settings: no unit is known to read ${path}, so nothing publishes it at boot; add onecred-file@${name}.service to requires and after of its readers, or set services.onecred.publishAtBoot = true"
    else
      "${place}: no unit is known to read ${path}, so nothing publishes it at boot; name its readers in ${place}.services, or set services.onecred.publishAtBoot = true";
  ofService =
    name: service:
    map (
      missing:
      "systemd.services.${name}: it names ${cfg.publishRoot}/${missing}, but the secret is not published; set services.onecred.secrets.${missing}.publish = true"
    ) (cfg.published.missing (own.textOfService service));
in
{
  config = lib.mkIf cfg.enable {
    assertions =
      users
      ++ lib.concatLists (mapAttrsToList ofUser userServices)
      ++ concatMap ({ place, value }: tooEarly place value) (
        lib.optionals (options.boot ? initrd) (initial ++ luks ++ early) ++ activation
      );
    warnings =
      lib.optionals (!publishesAll) (
        map unread (
          builtins.filter (name: !isRequested name && !builtins.elem name reported) cfg.published.names
        )
      )
      ++ concatMap ofDevice ofNetwork
      ++ lib.concatLists (mapAttrsToList ofFileSystem config.fileSystems)
      ++ lib.concatLists (
        mapAttrsToList ofService (lib.filterAttrs (name: _: !own.isOwn name) config.systemd.services)
      );
  };
}
