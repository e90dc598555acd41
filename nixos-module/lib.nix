# Checks of references, names and units during evaluation. `onecred check` checks the rest when the system is built.
{ lib }:
let
  inherit (lib) hasSuffix hasPrefix any;
  segment = "[A-Za-z0-9_. -]*";
in
rec {
  # the plain and the sealed socket
  socket = "/run/onecred/credential.sock";
  sealedSocket = "/run/onecred/sealed.sock";

  # The credential IDs of ID:SOCKET lines with this socket.
  askedAt =
    where: lines:
    builtins.concatMap (line: if line == null then [ ] else line) (
      map (line: builtins.match "([^:]*):${where}" (toString line)) (lib.toList lines)
    );

  # the limit of unit name and credential ID together, in bytes: systemd puts both into a socket address
  longest = 83;

  isReference =
    text:
    builtins.match "op://${segment}/${segment}/(${segment}/)?${segment}([?](attribute=(otp|totp)|ssh-format=openssh))?" text
    != null;

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

  # Splits `UNIT/ID`. The default ID is the secret's name.
  grant =
    name: entry:
    let
      parts = lib.splitString "/" entry;
      unit = builtins.head parts;
      types = [
        "service"
        "socket"
        "mount"
        "swap"
      ];
    in
    {
      unit = if any (type: hasSuffix ".${type}" unit) types then unit else "${unit}.service";
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
