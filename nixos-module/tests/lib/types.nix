# The types of options, as the NixOS manual describes them.
{ lib }:
let
  inherit (builtins)
    all
    attrNames
    concatMap
    elem
    filter
    head
    isAttrs
    isFunction
    isList
    isString
    listToAttrs
    ;
  inherit (lib) evalOption mergeEqualOption unique;

  simple =
    description: check:
    plain
    // {
      inherit description check;
    };
  # for types that contain one other type
  holding =
    kind: inner: type:
    plain
    // {
      inherit kind inner;
      unite =
        other:
        if other.kind or "" == kind then
          holdings.${kind} (inner.unite other.inner)
        else
          throw "two types of an option";
    }
    // type;
  holdings = { inherit attrsOf listOf nullOr; };

  plain = {
    description = "a value";
    check = _: true;
    merge = mergeEqualOption;
    unite = _: throw "two types of an option";
  };

  # one element, from its remaining definitions
  element =
    place: type: values:
    evalOption place type values;

  listOf =
    inner:
    holding "listOf" inner {
      description = "list of ${inner.description}";
      check = isList;
      empty = [ ];
      merge =
        place:
        concatMap (
          one:
          concatMap (
            value:
            let
              it = element place inner [ value ];
            in
            if it.isDefined then [ it.value ] else [ ]
          ) one.value
        );
    };

  attrsOf =
    inner:
    holding "attrsOf" inner {
      description = "set of ${inner.description}";
      check = isAttrs;
      empty = { };
      merge =
        place: values:
        let
          parts = concatMap (one: lib.pushDownProperties one.value) values;
          evaluated = map (name: {
            inherit name;
            it = element (place ++ [ name ]) inner (map (set: set.${name}) (filter (set: set ? ${name}) parts));
          }) (unique (concatMap attrNames parts));
        in
        listToAttrs (
          map (
            { name, it }:
            {
              inherit name;
              inherit (it) value;
            }
          ) (filter (one: one.it.isDefined) evaluated)
        );
    };

  nullOr =
    inner:
    holding "nullOr" inner {
      description = "${inner.description} or null";
      check = value: value == null || inner.check value;
      empty = null;
      merge =
        place: values: if all (one: one.value == null) values then null else inner.merge place values;
    };

  oneOf =
    several:
    plain
    // {
      description = "${builtins.concatStringsSep " or " (map (type: type.description) several)}";
      check = value: builtins.any (type: type.check value) several;
      merge =
        place: values:
        let
          fitting = filter (type: all (one: type.check one.value) values) several;
        in
        (if fitting == [ ] then plain else head fitting).merge place values;
    };

  submodule =
    given:
    let
      modules = lib.toList given;
    in
    plain
    // {
      kind = "submodule";
      inherit modules;
      description = "options";
      check = value: isAttrs value || isFunction value || builtins.isPath value;
      empty =
        (lib.evalModules {
          inherit modules;
          specialArgs.name = "";
        }).config;
      merge =
        place: values:
        (lib.evalModules {
          modules =
            modules ++ map (one: if isAttrs one.value then { config = one.value; } else one.value) values;
          prefix = place;
          specialArgs.name = lib.last place;
        }).config;
      unite = other: submodule (modules ++ other.modules);
    };

  anything = plain // {
    description = "anything";
    merge =
      place: values:
      if all (one: isAttrs one.value && !(one.value ? outPath)) values then
        (attrsOf anything).merge place values
      else
        mergeEqualOption place values;
  };
in
{
  inherit
    anything
    attrsOf
    listOf
    nullOr
    oneOf
    plain
    submodule
    ;
  raw = plain;
  bool = simple "boolean" builtins.isBool;
  int = simple "integer" builtins.isInt;
  float = simple "number" builtins.isFloat;
  str = simple "string" isString;
  lines = simple "text" isString // {
    merge = _: values: builtins.concatStringsSep "\n" (map (one: one.value) values);
  };
  path = simple "path" (value: builtins.isPath value || (isString value && lib.hasPrefix "/" value));
  package = simple "package" (value: isAttrs value && value ? outPath);
  enum = values: simple "one of ${builtins.toJSON values}" (value: elem value values);
  either =
    one: other:
    oneOf [
      one
      other
    ];
}
