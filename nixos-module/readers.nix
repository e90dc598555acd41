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
      ++ concatMap ({ place, value }: tooEarly place value) (
        lib.optionals (options.boot ? initrd) (initial ++ luks) ++ activation
      );
    warnings =
      lib.concatLists (mapAttrsToList ofFileSystem config.fileSystems)
      ++ lib.concatLists (
        mapAttrsToList ofService (lib.filterAttrs (name: _: !own.isOwn name) config.systemd.services)
      );
  };
}
