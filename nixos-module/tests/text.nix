# An evaluated configuration as the files of another distribution: drop-ins for the package's units, and new units.
{ lib }:
config:
let
  inherit (builtins)
    hashString
    isBool
    isInt
    substring
    toJSON
    ;
  inherit (lib)
    concatLists
    mapAttrs'
    mapAttrsToList
    nameValuePair
    optionalAttrs
    ;
  # where the scripts of services are
  scripts = "/srv/scripts";
  scriptOf = name: text: "${scripts}/${substring 0 16 (hashString "sha256" (name + text))}-${name}";

  value =
    one:
    if isBool one then
      if one then "true" else "false"
    else if isInt one then
      toString one
    else
      one;
  section =
    name: values:
    "[${name}]\n"
    + lib.concatStrings (
      concatLists (
        mapAttrsToList (key: given: map (one: "${key}=${value one}\n") (lib.toList given)) values
      )
    );
  # as NixOS, a text that changes with what the unit depends on
  triggers =
    key: values:
    optionalAttrs (values != [ ]) { ${key} = hashString "sha256" (toJSON (map toString values)); };
  text =
    unit: type: settings:
    section "Unit" (
      unit.unitConfig
      // {
        Requires = unit.requires;
        Wants = unit.wants;
        After = unit.after;
        Before = unit.before;
      }
      // triggers "X-Restart-Triggers" (unit.restartTriggers or [ ])
      // triggers "X-Reload-Triggers" (unit.reloadTriggers or [ ])
    )
    + section type settings;
  ofService =
    name: unit:
    unit.serviceConfig
    // optionalAttrs (unit.script != "") { ExecStart = scriptOf name unit.script; }
    // optionalAttrs (unit.environment != { }) {
      Environment = mapAttrsToList (key: one: "\"${key}=${toString one}\"") unit.environment;
    }
    // optionalAttrs (!unit.restartIfChanged) { X-RestartIfChanged = false; }
    // optionalAttrs (!unit.stopIfChanged) { X-StopIfChanged = false; };
  place =
    type: name: unit:
    if unit.overrideStrategy == "asDropin" then "${name}.${type}.d/nixos.conf" else "${name}.${type}";
  files =
    type: kind: settings: units:
    mapAttrs' (
      name: unit: nameValuePair (place type name unit) (text unit kind (settings name unit))
    ) units;
  inherit (config) systemd;
  of =
    type:
    mapAttrsToList (
      name: unit: {
        inherit unit;
        name = "${name}.${type}";
      }
    );
in
{
  units =
    files "service" "Service" ofService systemd.services
    // files "socket" "Socket" (_: unit: unit.socketConfig) systemd.sockets
    // files "path" "Path" (_: unit: unit.pathConfig) systemd.paths;
  # the units that a unit starts: path of a link, unit
  wanted = builtins.listToAttrs (
    lib.concatMap ({ name, unit }: map (by: nameValuePair "${by}.wants/${name}" name) unit.wantedBy) (
      of "service" systemd.services
      ++ of "socket" systemd.sockets
      ++ of "path" systemd.paths
      ++ of "target" systemd.targets
      ++ of "timer" systemd.timers
    )
  );
  scripts = mapAttrs' (
    name: unit: nameValuePair (scriptOf name unit.script) "#!/bin/bash\nset -e\n\n${unit.script}"
  ) (lib.filterAttrs (_: unit: unit.script != "") systemd.services);
  tmpfiles = lib.concatMapStrings (rule: rule + "\n") systemd.tmpfiles.rules;
  sysusers =
    lib.concatStrings (mapAttrsToList (name: _: "g ${name} -\n") config.users.groups)
    + lib.concatStrings (
      mapAttrsToList (name: user: "u ${name} -:${user.group or name}\n") (
        removeAttrs config.users.users [ "root" ]
      )
    );
  secrets = config.services.onecred.rendered;
  vault =
    let
      given = config.services.onecred.development.vault;
    in
    if builtins.isPath given then builtins.readFile given else toJSON given;
}
