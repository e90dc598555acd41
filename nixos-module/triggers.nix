# What a service with a secret or template depends on, as text that changes when the definition changes. It contains no values.
{ lib, entries }:
let
  own = import ./lib.nix { inherit lib; };
  byName = builtins.listToAttrs (
    map (entry: {
      inherit (entry) name;
      value = entry;
    }) entries
  );
  definition =
    entry:
    builtins.intersectAttrs {
      reference = null;
      opItem = null;
      opField = null;
      content = null;
      source = null;
      escape = null;
      trim = null;
      owner = null;
      group = null;
      mode = null;
      target = null;
    } entry;
  # a template also changes with the secrets that it contains
  contained =
    entry:
    map definition (
      builtins.filter (other: other ? name && own.hasPlace other.name entry.content) (
        lib.optionals (entry ? content) entries
      )
    );
in
{
  of =
    name:
    let
      entry = byName.${name};
    in
    "onecred ${name} ${
      builtins.hashString "sha256" (
        builtins.toJSON [
          (definition entry)
          (contained entry)
        ]
      )
    }";
  isKnown = name: byName ? ${name};
  # whether a change is announced to a unit by a reload or a signal
  isReloaded =
    unit: name:
    lib.any (pattern: own.matchesGlob (own.withType pattern) unit) (
      byName.${name}.reloadUnits or [ ] ++ builtins.attrNames (byName.${name}.signalUnits or { })
    );
}
