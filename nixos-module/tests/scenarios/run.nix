# Plays scenarios: configurations with what must be true of the result. They are the same with stubs and with all of NixOS.
#
# A scenario has `modules`, and any of:
# - faults: a part of each message of a failed assertion, in any order
# - warns: a part of each warning about onecred, in any order; null accepts all
# - files: the names of the files that services require and are ordered after, by service
# - grants: the units that may have a secret, by name
# - holds: conditions on the configuration, by what they say
# - compared: conditions that compare it with other configurations
# - real: whether it needs all of NixOS
{ lib, evaluate }:
let
  inherit (builtins) filter length toJSON;

  # one message for each part, and no others
  differences =
    what: parts: messages:
    let
      unsaid = filter (part: !lib.any (lib.hasInfix part) messages) parts;
      unexpected = filter (message: !lib.any (part: lib.hasInfix part message) parts) messages;
    in
    map (part: "no ${what} with: ${part}") unsaid
    ++ map (message: "unexpected ${what}: ${message}") unexpected
    ++ lib.optional (
      unsaid == [ ] && unexpected == [ ] && length messages != length parts
    ) "${toString (length messages)} ${what}s, not ${toString (length parts)}";

  filesOf =
    config: service:
    let
      unit = config.systemd.services.${service};
      of =
        kind:
        lib.concatMap (
          one:
          let
            found = builtins.match "onecred-file@(.*)[.]service" one;
          in
          if found == null then [ ] else found
        ) unit.${kind};
      sorted = kind: builtins.sort builtins.lessThan (lib.unique (of kind));
    in
    if sorted "requires" == sorted "after" then sorted "requires" else [ "not ordered" ];

  grantsOf =
    config: name:
    lib.concatMap (entry: entry.units or [ ]) (
      filter (entry: entry.name == name) (
        config.services.onecred.rendered.secrets ++ config.services.onecred.rendered.templates or [ ]
      )
    );
in
name:
{
  modules,
  faults ? [ ],
  warns ? [ ],
  files ? { },
  grants ? { },
  holds ? _: { },
  compared ? _: _: { },
  ...
}:
let
  evaluated = evaluate modules;
  inherit (evaluated) config;
  compare =
    what: expected: got:
    lib.optional (got != expected) "${what}: ${toJSON got}, not ${toJSON expected}";
  warnings = filter (
    text: lib.hasInfix "onecred" text || lib.hasInfix "onepassword" text
  ) config.warnings;
in
{
  inherit warnings;
  # null if it has faults
  rendered = if faults == [ ] then config.services.onecred.rendered else null;
  wrong = map (wrong: "${name}: ${wrong}") (
    differences "fault" faults evaluated.faults
    ++ lib.optionals (faults == [ ]) (
      lib.optionals (warns != null) (differences "warning" warns warnings)
      ++ lib.optional (!evaluated.whole) "not whole"
      ++ lib.concatLists (
        lib.mapAttrsToList (
          service: expected: compare "files of ${service}" expected (filesOf config service)
        ) files
        ++ lib.mapAttrsToList (
          secret: expected: compare "grants of ${secret}" expected (grantsOf config secret)
        ) grants
        ++ lib.mapAttrsToList (what: is: lib.optional (!is) "not true: ${what}") (
          holds config // compared evaluate config
        )
      )
    )
  );
}
