# Checks of references, names and units during evaluation. `onecred check` checks the rest when the system is built.
{ lib }:
let
  inherit (lib) hasSuffix hasPrefix any;
  inherit (builtins) concatMap;
  segment = "[A-Za-z0-9_. -]*";
in
rec {
  # the plain and the sealed socket
  socket = "/run/onecred/credential.sock";
  sealedSocket = "/run/onecred/sealed.sock";

  # The signals that onecred can send to units.
  signals = [
    "SIGHUP"
    "SIGUSR1"
    "SIGUSR2"
    "SIGINT"
    "SIGQUIT"
    "SIGTERM"
    "SIGCONT"
    "SIGWINCH"
  ];

  # The credential IDs of ID:SOCKET lines with this socket.
  askedAt =
    where: lines:
    builtins.concatMap (line: if line == null then [ ] else line) (
      map (line: builtins.match "([^:]*):${where}" (toString line)) (lib.toList lines)
    );

  # Paths of the sockets with the name of a secret or template in them. Each is a symbolic link to the plain or the sealed socket, so that
  # modules that derive the credential ID from a path get a different ID for each secret.
  socketOf = name: "/run/onecred/by-name/${name}";
  sealedSocketOf = name: "/run/onecred/sealed-by-name/${name}";

  # The credential lines ID:PATH of a setting, as sets.
  linesOf =
    lines:
    concatMap (
      line:
      let
        parts = if line == null then null else builtins.match "([^:]*):(/[^:]*)" (plainText line);
      in
      if parts == null then
        [ ]
      else
        [
          {
            id = builtins.elemAt parts 0;
            path = builtins.elemAt parts 1;
          }
        ]
    ) (lib.toList lines);

  # The lines with the socket of a name: ID and name.
  namedAt =
    where: lines:
    map ({ id, path }: {
      inherit id;
      name = builtins.baseNameOf path;
    }) (builtins.filter ({ path, ... }: path == where (builtins.baseNameOf path)) (linesOf lines));

  # The names that a service requests by these paths, with their IDs.
  requestedByName =
    serviceConfig:
    namedAt socketOf (serviceConfig.LoadCredential or [ ])
    ++ namedAt sealedSocketOf (serviceConfig.LoadCredentialEncrypted or [ ]);

  # A value as text, without the context of the Nix store. Packages and functions contain no paths of secrets.
  plainText = value: builtins.unsafeDiscardStringContext (toString value);
  textsOf =
    value:
    if builtins.isString value || builtins.isPath value then
      [ (plainText value) ]
    else if builtins.isList value then
      concatMap textsOf value
    else if builtins.isAttrs value && !(value ? outPath) then
      concatMap textsOf (builtins.attrValues value)
    else
      [ ];

  # A text without spaces at both ends.
  trimmed =
    text:
    let
      parts = builtins.match "[[:space:]]*([^[:space:]](.*[^[:space:]])?)?[[:space:]]*" text;
    in
    if parts == null || builtins.head parts == null then "" else builtins.head parts;

  # A path as a line of tmpfiles.d has it.
  ofTmpfiles = builtins.replaceStrings [ "%" " " ] [ "%%" "\\x20" ];

  # Whether a text contains another one. Unlike a regular expression, this takes texts of any length and content.
  contains = part: text: builtins.replaceStrings [ part ] [ "" ] text != text;

  # Whether the content of a template contains a secret.
  hasPlace =
    name: content:
    let
      squeezed = builtins.replaceStrings [ " " ] [ "" ] content;
    in
    contains "{{${name}}}" squeezed || contains "{{${name}|" squeezed;

  # The placeholders of a template, each without its braces. `{{"TEXT"}}` is not one.
  placesIn =
    content:
    builtins.filter (place: !hasPrefix "\"" place) (
      map (found: trimmed (builtins.head found)) (
        builtins.filter builtins.isList (
          builtins.split "[{][{]([^}]*)[}][}]" (builtins.replaceStrings [ "{{{{" ] [ "" ] content)
        )
      )
    );

  # The name or reference of a placeholder, and its filters.
  partsOf = place: map trimmed (lib.splitString "|" place);

  # The absolute paths in a text, each once. `%t` is the directory /run in a unit.
  pathsIn =
    text:
    let
      found = builtins.split "(/[^][:space:]\"'\\$;:,=(){}<>|&`?*#![]+)" (
        builtins.replaceStrings [ "%t/" ] [ "/run/" ] text
      );
      path =
        token:
        let
          parts = builtins.match "/*(/.*[^./])[./]*" token;
        in
        if parts == null then token else builtins.head parts;
    in
    builtins.attrNames (
      builtins.listToAttrs (
        map (one: {
          name = path (builtins.head one);
          value = null;
        }) (builtins.filter builtins.isList found)
      )
    );

  # The parts of a service in which it names paths.
  textOfService =
    service:
    builtins.concatStringsSep "\n" (
      textsOf service.serviceConfig
      ++ textsOf service.environment
      ++ concatMap (part: textsOf (service.${part} or "")) [
        "script"
        "preStart"
        "postStart"
        "reload"
        "preStop"
        "postStop"
      ]
    );

  # Whether a name matches a glob with `*`, `?` and `[…]`.
  matchesGlob =
    glob:
    let
      pattern =
        builtins.replaceStrings
          [
            "."
            "+"
            "("
            ")"
            "{"
            "}"
            "^"
            "$"
            "|"
            "\\"
            "[!"
            "*"
            "?"
          ]
          [
            "[.]"
            "[+]"
            "[(]"
            "[)]"
            "[{]"
            "[}]"
            "\\^"
            "[$]"
            "[|]"
            "\\\\"
            "[^"
            ".*"
            "."
          ]
          glob;
      isValid = builtins.match ".*[*?[].*" glob != null;
    in
    text: if isValid then builtins.match pattern text != null else glob == text;

  # Whether a service is one of onecred's.
  isOwn = service: service == "onecred" || hasPrefix "onecred-" service;

  # the longest name for which systemd accepts onecred-file@NAME.service
  longestFile =
    longest - builtins.stringLength "onecred-file@.service" - builtins.stringLength "file";

  # the limit of unit name and credential ID together, in bytes: systemd puts both into a socket address
  longest = 83;

  isReference =
    text:
    builtins.match "op://${segment}/${segment}/(${segment}/)?${segment}([?](attribute=(otp|totp)|ssh-format=openssh))?" text
    != null;

  # What is wrong with a valid reference: "part" if it lacks a part and so can't match anything, "section" if it has an empty section. Null
  # otherwise.
  emptyPartOf =
    text:
    let
      parts = builtins.match "op://([^/?]*)/([^/?]*)/(([^/?]*)/)?([^/?]*)([?].*)?" text;
      part = builtins.elemAt parts;
    in
    if parts == null then
      null
    else if part 0 == "" || part 1 == "" || part 4 == "" then
      "part"
    else if part 2 != null && part 3 == "" then
      "section"
    else
      null;

  # What is said about a reference that can't match anything.
  emptyPartSaid =
    text:
    lib.optional (emptyPartOf text == "part")
      "the reference ${text} has an empty part, so it can't match anything; the form is op://VAULT/ITEM/[SECTION/]FIELD";

  # The secret reference of an entry, also of one with `opItem`.
  referenceOf =
    {
      reference ? null,
      opItem ? null,
      opField ? null,
      ...
    }:
    let
      field = if opField == null then "password" else opField;
    in
    if opItem != null then
      "op://${toString opItem}/${toString field}"
    else if reference != null then
      toString reference
    else
      "";

  isName = text: builtins.match "[A-Za-z0-9_][A-Za-z0-9._@-]{0,127}" text != null;

  # Whether a credential of a service is meant as a reference, not as the name of a secret.
  looksLikeReference = text: hasPrefix "op:" text || lib.hasInfix "/" text;

  # A unit as written in a grant: for a template unit, all of its instances.
  granted = service: if hasSuffix "@" service then "${service}*.service" else "${service}.service";

  # The name of the secret that a service declares with a reference.
  secretName =
    service: id:
    lib.stringAsChars (
      c: if builtins.match "[A-Za-z0-9._@-]" c != null then c else "-"
    ) "${service}.${id}";

  # A unit with its type.
  withType =
    unit:
    let
      types = [
        "service"
        "socket"
        "mount"
        "swap"
      ];
    in
    if any (type: hasSuffix ".${type}" unit) types then unit else "${unit}.service";

  # Splits `UNIT/ID`. The default ID is the secret's name.
  grant =
    name: entry:
    let
      parts = lib.splitString "/" entry;
    in
    {
      unit = withType (builtins.head parts);
      id = if builtins.length parts > 1 then builtins.elemAt parts 1 else name;
    };

  # A glob may match names that are shorter than the glob.
  isTooLong =
    { unit, id }:
    builtins.match ".*[*?[].*" unit == null
    && builtins.stringLength unit + builtins.stringLength id > longest;

  # Whether a text contains a token of a service account or Connect server. The Nix store is world-readable.
  holdsToken = text: builtins.length (builtins.split "(^|[^A-Za-z0-9])(ops_eyJ|eyJhbGciOi)" text) > 1;

  inStore = path: builtins.isPath path || hasPrefix "${builtins.storeDir}/" (toString path);

  # The keys that have a value.
  said = lib.filterAttrs (_: value: value != null && value != [ ] && value != { });
}
