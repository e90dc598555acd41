# Modules, as the NixOS manual describes them: options declared in several places, definitions under conditions and with priorities.
{ lib }:
let
  inherit (builtins)
    attrNames
    concatMap
    filter
    foldl'
    head
    isFunction
    length
    listToAttrs
    mapAttrs
    ;
  inherit (lib) isType showOption unique;
in
rec {
  # Splits definitions of a set into definitions of its entries. A condition of the set applies to each entry.
  pushDownProperties =
    value:
    let
      each = wrap: map (mapAttrs (_: wrap)) (pushDownProperties value.content);
    in
    if isType "merge" value then
      concatMap pushDownProperties value.contents
    else if isType "if" value then
      each (lib.mkIf value.condition)
    else if isType "override" value then
      each (lib.mkOverride value.priority)
    else
      [ value ];

  # The definitions whose conditions are true, each with its priority. The lowest one wins.
  dischargeProperties =
    let
      discharge =
        priority: value:
        if isType "merge" value then
          concatMap (discharge priority) value.contents
        else if isType "if" value then
          (if value.condition then discharge priority value.content else [ ])
        else if isType "override" value then
          discharge value.priority value.content
        else
          [ { inherit priority value; } ];
    in
    discharge 100;

  mergeEqualOption =
    place: values:
    if builtins.all (one: one.value == (head values).value) (builtins.tail values) then
      (head values).value
    else
      throw "${showOption place} is defined in different ways";

  # The value of an option, from its definitions. The default has the lowest precedence.
  evalOption =
    place: type: defined:
    let
      discharged = concatMap dischargeProperties defined;
      least = foldl' (least: one: if one.priority < least then one.priority else least) 9999 discharged;
      values = filter (one: one.priority == least) discharged;
      wrong = filter (one: !type.check one.value) values;
    in
    if values == [ ] then
      { isDefined = false; }
    else
      {
        isDefined = true;
        value =
          if wrong != [ ] then
            throw "a definition of ${showOption place} is not of type ${type.description}"
          else
            type.merge place values;
      };

  evalModules =
    {
      modules,
      specialArgs ? { },
      prefix ? [ ],
    }:
    let
      args = specialArgs // {
        inherit lib;
        inherit (result) config options;
      };
      load =
        module:
        let
          read = if builtins.isPath module || builtins.isString module then import module else module;
          whole = if isFunction read then read args else read;
          isLong = whole ? options || whole ? config;
        in
        [
          {
            key = if builtins.isPath module then toString module else "";
            options = whole.options or { };
            config =
              if isLong then
                whole.config or { }
              else
                removeAttrs whole [
                  "imports"
                  "freeformType"
                  "_file"
                ];
            freeform = whole.freeformType or null;
          }
        ]
        ++ concatMap load (whole.imports or [ ]);
      # a file that is imported twice is one module
      once = foldl' (
        seen: one:
        if one.key != "" && builtins.any (other: other.key == one.key) seen then seen else seen ++ [ one ]
      ) [ ];
      loaded = once (concatMap load modules);
      freeforms = filter (type: type != null) (map (one: one.freeform) loaded);

      # options and definitions below a path
      tree =
        place: declared: defined:
        let
          parts = concatMap pushDownProperties defined;
          names = unique (concatMap attrNames declared);
          at = name: map (set: set.${name}) (filter (set: set ? ${name}) declared);
          definedAt = name: map (set: set.${name}) (filter (set: set ? ${name}) parts);
          one =
            name:
            let
              here = at name;
              where = place ++ [ name ];
            in
            if builtins.any (isType "option") here then
              leaf where here (definedAt name)
            else
              tree where here (definedAt name);
          known = listToAttrs (
            map (name: {
              inherit name;
              value = one name;
            }) names
          );
          rest = map (set: removeAttrs set names) parts;
          unknown = unique (concatMap attrNames rest);
          others =
            if freeforms == [ ] || place != prefix then
              (
                if unknown == [ ] then
                  { }
                else
                  throw "there is no option ${showOption (place ++ [ (head unknown) ])}"
              )
            else
              let
                free = evalOption place (head freeforms) (filter (set: set != { }) rest);
              in
              if free.isDefined then free.value else { };
        in
        {
          options = mapAttrs (_: it: it.options) known;
          config = others // mapAttrs (_: it: it.config) known;
        };

      leaf =
        place: declared: defined:
        let
          types = map (option: option.type) (filter (option: option ? type) declared);
          type = foldl' (one: other: one.unite other) (head types) (builtins.tail types);
          defaults = concatMap (
            option: if option ? default then [ (lib.mkOptionDefault option.default) ] else [ ]
          ) declared;
          isReadOnly = builtins.any (option: option.readOnly or false) declared;
          evaluated = evalOption place type (
            if isReadOnly && length defined > (if defaults == [ ] then 1 else 0) then
              throw "${showOption place} is read-only"
            else
              defaults ++ defined
          );
        in
        {
          options = foldl' (all: option: all // option) { } declared;
          config =
            if evaluated.isDefined then
              evaluated.value
            else
              type.empty or (throw "${showOption place} is used, and not defined");
        };

      result = tree prefix (map (one: one.options) loaded) (map (one: one.config) loaded);
    in
    result;
}
