# The parts of nixpkgs' lib that the module and its tests use, so that the tests run without nixpkgs.
let
  inherit (builtins)
    attrNames
    elem
    elemAt
    filter
    genList
    isAttrs
    isList
    isString
    length
    listToAttrs
    match
    replaceStrings
    stringLength
    substring
    ;
  upper = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
  lower = "abcdefghijklmnopqrstuvwxyz";
  characters = text: genList (n: substring n 1 text) (stringLength text);
  lib = builtins // rec {
    types = import ./types.nix { inherit lib; };
    inherit (import ./modules.nix { inherit lib; })
      dischargeProperties
      evalModules
      evalOption
      mergeEqualOption
      pushDownProperties
      ;

    # strings
    hasPrefix = start: text: substring 0 (stringLength start) text == start;
    hasSuffix =
      end: text:
      let
        from = stringLength text - stringLength end;
      in
      from >= 0 && substring from (-1) text == end;
    hasInfix = part: text: length (splitString part text) > 1;
    removePrefix =
      start: text: if hasPrefix start text then substring (stringLength start) (-1) text else text;
    removeSuffix =
      end: text:
      if hasSuffix end text then substring 0 (stringLength text - stringLength end) text else text;
    concatMapStrings = change: list: concatStrings (map change list);
    concatStrings = builtins.concatStringsSep "";
    stringAsChars =
      change: text: concatStrings (map change (genList (n: substring n 1 text) (stringLength text)));
    toLower = replaceStrings (characters upper) (characters lower);
    escapeRegex = stringAsChars (c: if match "[[{()*+?.^$|\\]" c != null then "\\${c}" else c);
    splitString = at: text: filter isString (builtins.split (escapeRegex at) text);
    versionAtLeast = version: least: builtins.compareVersions version least >= 0;

    # lists
    optional = condition: value: if condition then [ value ] else [ ];
    optionals = condition: values: if condition then values else [ ];
    toList = value: if isList value then value else [ value ];
    unique = builtins.foldl' (seen: one: if elem one seen then seen else seen ++ [ one ]) [ ];
    subtractLists = without: filter (one: !elem one without);
    imap1 = change: list: genList (n: change (n + 1) (elemAt list n)) (length list);
    last = list: elemAt list (length list - 1);

    # sets
    genAttrs = names: value: listToAttrs (map (name: nameValuePair name (value name)) names);
    zipAttrs = builtins.zipAttrsWith (_: values: values);
    nameValuePair = name: value: { inherit name value; };
    optionalAttrs = condition: set: if condition then set else { };
    mapAttrsToList = change: set: map (name: change name set.${name}) (attrNames set);
    recursiveUpdate =
      one: other:
      one
      // builtins.mapAttrs (
        key: value:
        if isAttrs value && isAttrs (one.${key} or null) then recursiveUpdate one.${key} value else value
      ) other;
    mapAttrs' = change: set: listToAttrs (mapAttrsToList change set);
    filterAttrs = keep: set: removeAttrs set (filter (name: !keep name set.${name}) (attrNames set));

    # options and definitions
    isType = type: value: isAttrs value && value._type or "" == type;
    mkOption = option: option // { _type = "option"; };
    mkEnableOption =
      what:
      mkOption {
        type = types.bool;
        default = false;
        description = "Whether to enable ${what}.";
      };
    mkOptionType = type: types.plain // type;
    mkIf = condition: content: {
      _type = "if";
      inherit condition content;
    };
    mkMerge = contents: {
      _type = "merge";
      inherit contents;
    };
    mkOverride = priority: content: {
      _type = "override";
      inherit priority content;
    };
    mkOptionDefault = mkOverride 1500;
    mkDefault = mkOverride 1000;
    mkForce = mkOverride 50;
    literalExpression = text: {
      _type = "literalExpression";
      inherit text;
    };
    literalMD = text: {
      _type = "literalMD";
      inherit text;
    };
    importJSON = path: builtins.fromJSON (builtins.readFile path);
    showOption = builtins.concatStringsSep ".";
  };
in
lib
