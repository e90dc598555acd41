# Reports mistakes in the configuration by their options, as `onecred check` would report them when the system is built.
{ config, lib, ... }:
let
  inherit (builtins)
    attrNames
    concatStringsSep
    elem
    filter
    isAttrs
    isString
    match
    ;
  inherit (lib) concatMap mapAttrsToList optional;
  own = import ./lib.nix { inherit lib; };
  seconds = import ./seconds.nix;
  cfg = config.services.onecred;
  schema = builtins.fromJSON (builtins.readFile ../units/schema/secrets.schema.json);
  keysOf = definition: attrNames definition.properties;

  fault = message: {
    assertion = false;
    inherit message;
  };
  unknown =
    place: definition: value:
    map (
      key:
      fault "${place}: unknown key ${key}; valid keys are ${
        concatStringsSep ", " (filter (key: key != "$schema" && key != "//") (keysOf definition))
      }"
    ) (filter (key: !elem key (keysOf definition)) (attrNames value));

  # entries, with the options that declare them
  ofOptions =
    kind:
    mapAttrsToList (name: _: {
      place = "services.onecred.${kind}.${name}";
      # a mode without a file is a mistake too
      entry = rendered.${kind}.${name} // own.said { inherit (cfg.${kind}.${name}) mode; };
    }) cfg.${kind};
  ofSettings =
    kind:
    map (entry: {
      place = "services.onecred.settings.${kind} (${entry.name or "without a name"})";
      inherit entry;
    }) (filter isAttrs (cfg.settings.${kind} or [ ]));
  rendered = lib.genAttrs [ "secrets" "templates" ] (
    kind:
    builtins.listToAttrs (
      map (entry: {
        inherit (entry) name;
        value = entry;
      }) (filter (entry: entry ? name) (cfg.rendered.${kind} or [ ]))
    )
  );
  both = kind: ofOptions kind ++ ofSettings kind;

  duration =
    place: key: least: most: words: entry:
    let
      text = entry.${key} or null;
      value = seconds text;
      range = "a duration from ${least.text} to ${most.text}";
      also = lib.concatMapStrings (word: ", or \"${word}\"") words;
    in
    optional
      (isString text && !elem text words && (value == null || value < least.value || value > most.value))
      (
        fault "${place}.${key}: ${builtins.toJSON text} is not ${range}, such as \"90s\" or \"1h 30m\"${also}"
      );
  limit = text: {
    inherit text;
    value = seconds text;
  };
  durations =
    place: entry:
    duration place "maxAge" (limit "1s") (limit "30d") [ "session" "always" ] entry
    ++ duration place "deadline" (limit "1s") (limit "10m") [ ] entry
    ++ duration place "refresh" (limit "1m") (limit "30d") [ "off" ] entry;

  modes =
    place: entry:
    let
      mode = entry.mode or null;
    in
    optional (isString mode && match "0?[0-7][0145][0145]" mode == null) (
      fault "${place}.mode: ${builtins.toJSON mode} is not a mode in octal in which only the owner may write, such as \"0400\" or \"0440\""
    );

  roots = [
    "/run/secrets"
    "/run/onecred/files"
    cfg.publishRoot
  ]
  ++ cfg.settings.publish.roots or [ ];
  isBelow = path: lib.any (root: lib.hasPrefix "${root}/" path) roots;
  isPlain = path: match "/.*" path != null && match ".*/[.][.]?(/.*)?|.*//.*|.*/" path == null;
  targets =
    place: entry:
    let
      target = entry.target or null;
    in
    optional (isString target && !(isPlain target && isBelow target)) (
      fault "${place}.target: ${target} is not a path below ${concatStringsSep " or " (lib.unique roots)}; for another path, use links"
    )
    ++ map (link: fault "${place}.links: ${link} is not an absolute path") (
      filter (link: !isPlain link) (filter isString (entry.links or [ ]))
    );

  # assertions.nix checks `reference` of options
  reference =
    { place, entry }:
    let
      written = own.referenceOf entry;
      isOption = cfg.secrets ? ${entry.name or ""} && !(entry ? opItem);
    in
    optional ((entry ? opItem || entry ? reference && !isOption) && !own.isReference written) (
      fault (
        if entry ? opItem then
          "${place}: opItem has the form VAULT/ITEM, and opField the form [SECTION/]FIELD, with letters, digits, spaces and _.-"
        else
          "${place}.reference: invalid secret reference; the form is op://VAULT/ITEM/[SECTION/]FIELD, with letters, digits, spaces and _.-"
      )
    )
    ++ canMatch place written;
  canMatch = place: text: map (said: fault "${place}: ${said}") (own.emptyPartSaid text);

  signalled =
    place: entry:
    concatMap (
      unit:
      optional (!elem entry.signalUnits.${unit} own.signals) (
        fault "${place}.signalUnits.${unit}: ${
          toString entry.signalUnits.${unit}
        } is not one of ${concatStringsSep ", " own.signals}"
      )
    ) (attrNames (entry.signalUnits or { }));

  # a placeholder of a template
  placeholder =
    place: text:
    let
      parts = own.partsOf text;
      name = builtins.head parts;
      filters = builtins.tail parts;
    in
    optional (lib.hasPrefix "op:" name && !own.isReference name) (
      fault "${place}.content: {{${name}}} is not a valid secret reference; the form is op://VAULT/ITEM/[SECTION/]FIELD"
    )
    ++ optional (!lib.hasPrefix "op:" name && !(rendered.secrets ? ${name})) (
      fault "${place}.content: {{${name}}} is not in services.onecred.secrets"
    )
    ++
      map
        (one: fault "${place}.content: {{${text}}}: ${one} is not one of trim, env, json, yaml, toml, raw")
        (
          filter (
            one:
            !elem one [
              "trim"
              "env"
              "json"
              "yaml"
              "toml"
              "raw"
            ]
          ) filters
        );
  ofTemplate =
    { place, entry }:
    concatMap (
      text: placeholder place text ++ canMatch "${place}.content" (builtins.head (own.partsOf text))
    ) (own.placesIn (entry.content or ""))
    ++ oneOf schema."$defs".Escape "${place}.escape" (entry.escape or null);

  oneOf =
    definition: place: value:
    let
      words = map (variant: variant.const) definition.oneOf;
    in
    optional (isString value && !elem value words) (
      fault "${place}: ${builtins.toJSON value} is not one of ${concatStringsSep ", " words}"
    );

  ofEntry =
    definition:
    { place, entry }:
    unknown place definition entry
    ++ durations place entry
    ++ modes place entry
    ++ targets place entry
    ++ signalled place entry;

  ofSource =
    place: source:
    unknown place schema."$defs".Source (
      removeAttrs source [
        "tokenFile"
        "tokenCredential"
      ]
    )
    ++ oneOf schema."$defs".Kind "${place}.kind" (source.kind or null);

  settings = "services.onecred.settings";
  ofSettingsThemselves =
    unknown settings schema cfg.settings
    ++ oneOf schema."$defs".Audit "${settings}.audit" (cfg.settings.audit or null)
    ++ lib.concatLists (
      mapAttrsToList
        (
          key: definition:
          lib.optionals (isAttrs (cfg.settings.${key} or null)) (
            unknown "${settings}.${key}" definition cfg.settings.${key}
          )
        )
        {
          defaults = schema."$defs".Defaults;
          limits = schema."$defs".Limits;
          publish = schema."$defs".Publish;
        }
    )
    ++ durations "${settings}.defaults" (cfg.settings.defaults or { })
    ++ modes "${settings}.defaults" (cfg.settings.defaults or { })
    ++ lib.optionals (isAttrs (cfg.settings.source or null)) (
      ofSource "${settings}.source" cfg.settings.source
    )
    ++ lib.concatLists (
      mapAttrsToList (name: ofSource "${settings}.sources.${name}") (cfg.settings.sources or { })
    )
    ++ concatMap (
      rule:
      unknown "${settings}.rules" schema."$defs".Rule rule
      ++ durations "${settings}.rules" rule
      ++ canMatch "${settings}.rules" (rule.reference or "")
    ) (filter isAttrs (cfg.settings.rules or [ ]));
in
{
  config.assertions = lib.mkIf cfg.enable (
    concatMap (ofEntry schema."$defs".Secret) (both "secrets")
    ++ concatMap (ofEntry schema."$defs".Template) (both "templates")
    ++ concatMap reference (both "secrets")
    ++ concatMap ofTemplate (both "templates")
    ++ lib.concatLists (mapAttrsToList (name: ofSource "services.onecred.sources.${name}") cfg.sources)
    ++ ofSettingsThemselves
  );
}
