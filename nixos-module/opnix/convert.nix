# Converts secrets of OpNix, of its options and of its secrets.json, to those of onecred.
{
  lib,
  # services.onepassword-secrets
  cfg,
  publishRoot,
}:
let
  inherit (builtins)
    attrNames
    elem
    filter
    isAttrs
    isList
    match
    ;
  own = import ../lib.nix { inherit lib; };
  integration = cfg.systemdIntegration;

  # Replaces {NAME}.
  expand =
    {
      name,
      variables,
      defaults,
    }:
    let
      all = defaults // { inherit name; } // variables;
      keys = attrNames all;
    in
    builtins.replaceStrings (map (key: "{${key}}") keys) (map (key: all.${key}) keys);

  # The variables of an expanded path that have no value.
  unknownIn = path: map builtins.head (filter isList (builtins.split "[{]([^{}]*)[}]" path));

  # The file, and the paths that OpNix would have used for it.
  place =
    paths:
    let
      absolute = map (path: if lib.hasPrefix "/" path then path else "${cfg.outputDir}/${path}") paths;
      first = builtins.head absolute;
      target =
        if lib.hasPrefix "${publishRoot}/" first then
          first
        else if lib.hasPrefix "${cfg.outputDir}/" first then
          "${publishRoot}/${lib.removePrefix "${cfg.outputDir}/" first}"
        else
          publishRoot + first;
    in
    {
      inherit target;
      others = filter (path: path != target) (lib.unique absolute);
    };

  # Whether a path is in a directory that may belong to the owner of the file, such as /var/lib/caddy. Root makes no links there.
  isOwned =
    owner: path:
    owner != "root"
    && !lib.any (directory: lib.hasPrefix "${directory}/" path) [
      "/run"
      "/etc"
      "/opt"
      cfg.outputDir
    ];

  signalOf = signal: if lib.hasPrefix "SIG" signal then signal else "SIG${signal}";
  isSignal = signal: elem (signalOf signal) own.signals;

  # Only the owner may write to a file of onecred.
  withoutWriting =
    mode:
    let
      parts = match "[0-7]?([0-7])([0-7])([0-7])" mode;
      masked = digit: toString (builtins.bitAnd (builtins.fromJSON digit) 5);
    in
    if parts == null then
      mode
    else
      "0${builtins.elemAt parts 0}${masked (builtins.elemAt parts 1)}${masked (builtins.elemAt parts 2)}";

  # a name such as acme-www.example is one of a service
  withService =
    unit:
    if
      match ".*[.](service|socket|target|timer|path|mount|automount|swap|slice|scope)" unit == null
    then
      "${unit}.service"
    else
      unit;

  secret =
    {
      paths,
      symlinks ? [ ],
      services ? [ ],
      owner ? "root",
      group ? "root",
      mode ? "0600",
      reference,
      # units of OpNix's file that are restarted for each of its secrets
      common ? [ ],
      ...
    }:
    let
      placed = place paths;
      each = if isAttrs services then services else { };
      listed = if isList services then services else [ ];
      signalled = lib.filterAttrs (_: unit: (unit.signal or null) != null) each;
      restarted = lib.filterAttrs (_: unit: (unit.signal or null) == null && unit.restart or true) each;
    in
    {
      inherit reference owner group;
      mode = withoutWriting mode;
      inherit (placed) target;
      otherPaths = placed.others ++ symlinks;
    }
    // lib.optionalAttrs integration.enable {
      signalUnits = lib.mapAttrs' (unit: of: lib.nameValuePair (withService unit) (signalOf of.signal)) (
        lib.filterAttrs (_: unit: isSignal unit.signal) signalled
      );
      reloadUnits = map withService (
        attrNames (lib.filterAttrs (_: unit: !isSignal unit.signal) signalled)
      );
      restartUnits = lib.subtractLists (map withService (attrNames signalled)) (
        lib.unique (
          map withService (
            lib.optionals integration.restartOnChange (listed ++ integration.services)
            ++ attrNames restarted
            ++ common
          )
        )
      );
    };

  othersOf = one: (place one.paths).others ++ one.symlinks or [ ];
  # the units that OpNix orders after all secrets
  ordered = services: if isAttrs services then attrNames services else services;

  # secrets of a file have no names
  nameOf =
    path:
    builtins.replaceStrings [ "/" " " "{" "}" ] [ "-" "-" "" "" ] (builtins.head (match "/*(.*)" path));
  ofFile =
    file:
    let
      read = builtins.fromJSON (builtins.readFile file);
    in
    map (
      one:
      let
        variables = {
          name = nameOf (one.path or "secret");
          variables = one.variables or { };
          defaults = read.defaults or { };
        };
      in
      {
        inherit (variables) name;
        value = one // {
          inherit (variables) name;
          common =
            let
              given = read.systemdIntegration or { };
            in
            lib.optionals (given.enable or false && given.restartOnChange or false) (given.services or [ ]);
          paths = [
            (expand variables (if one.path or "" != "" then one.path else read.pathTemplate or variables.name))
          ];
        };
      }
    ) (read.secrets or [ ]);
  ofOption =
    name: one:
    let
      variables = {
        inherit name;
        inherit (one) variables;
        inherit (cfg) defaults;
      };
    in
    lib.nameValuePair name (
      one
      // {
        inherit name;
        # OpNix's module uses the name even with a template
        paths =
          if one.path != null then
            [ (expand variables one.path) ]
          else
            [ name ]
            ++ filter (path: unknownIn path == [ ]) (
              lib.optional (cfg.pathTemplate != null) (expand variables cfg.pathTemplate)
            );
      }
    );

  # what is part of the configuration can be read during evaluation
  isReadable = file: builtins.isPath file || lib.hasPrefix builtins.storeDir (toString file);
  all = builtins.listToAttrs (
    lib.concatMap ofFile (filter isReadable cfg.configFiles) ++ lib.mapAttrsToList ofOption cfg.secrets
  );
in
{
  secrets = lib.mapAttrs (_: secret) all;
  unread = filter (file: !isReadable file) cfg.configFiles;
  units = lib.unique (
    lib.optionals integration.enable (
      integration.services ++ lib.concatMap (one: ordered (one.services or [ ])) (builtins.attrValues all)
    )
  );
  # unit, names of secrets
  unitsOf = unit: filter (name: elem unit (ordered (all.${name}.services or [ ]))) (attrNames all);
  # secret, path with variables that have no value
  unknown = lib.concatLists (
    lib.mapAttrsToList (
      name: one: map (variable: { inherit name variable; }) (unknownIn (builtins.head one.paths))
    ) all
  );
  # links that are made at boot
  links = lib.concatLists (
    lib.mapAttrsToList (
      _: one:
      map (path: {
        inherit path;
        inherit (place one.paths) target;
      }) (filter (path: !isOwned (one.owner or "root") path) (othersOf one))
    ) all
  );
  # what a unit has in place of a link
  boundOf =
    unit:
    lib.concatMap (
      one:
      map (path: "${(place one.paths).target}:${path}") (
        lib.optionals (elem unit (ordered (one.services or [ ]))) (
          filter (isOwned (one.owner or "root")) (othersOf one)
        )
      )
    ) (builtins.attrValues all);
  # those that no unit can read at their path
  unreachable = attrNames (
    lib.filterAttrs (
      _: one:
      (!integration.enable || ordered (one.services or [ ]) == [ ])
      && lib.any (isOwned (one.owner or "root")) (othersOf one)
    ) all
  );
  afterOf =
    unit:
    lib.concatMap (
      one: if isAttrs (one.services or [ ]) then one.services.${unit}.after or [ ] else [ ]
    ) (builtins.attrValues all);
  changedModes = attrNames (
    lib.filterAttrs (_: one: match "[0-7]?[0-7][0145][0145]" (one.mode or "0600") == null) all
  );
  changedSignals = attrNames (
    lib.filterAttrs (
      _: one:
      isAttrs (one.services or [ ])
      && lib.any (unit: (unit.signal or null) != null && !isSignal unit.signal) (
        builtins.attrValues one.services
      )
    ) all
  );
}
