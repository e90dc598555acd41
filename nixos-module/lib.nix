# What can be told of references, names and units while Nix evaluates. `onecred check` has the last word when the system is built.
{ lib }:
let
  inherit (lib) hasSuffix hasPrefix any;
  segment = "[A-Za-z0-9_. -]*";
in
rec {
  # where systemd asks for credentials: as they are, and sealed
  socket = "/run/onecred/credential.sock";
  sealedSocket = "/run/onecred/sealed.sock";

  # The IDs that lines such as ID:SOCKET ask for at a socket.
  askedAt =
    where: lines:
    builtins.concatMap (line: if line == null then [ ] else line) (
      map (line: builtins.match "([^:]*):${where}" (toString line)) (lib.toList lines)
    );

  # unit and credential ID together: what the name of systemd's socket has room for
  longest = 83;

  isReference =
    text:
    builtins.match "op://${segment}/${segment}/(${segment}/)?${segment}([?](attribute=(otp|totp)|ssh-format=openssh))?" text
    != null;

  isName = text: builtins.match "[A-Za-z0-9_][A-Za-z0-9._@-]{0,127}" text != null;

  # Whether a credential of a service is meant as a reference, rather than as the name of a secret.
  looksLikeReference = text: hasPrefix "op:" text || lib.hasInfix "/" text;

  # A unit as a grant names it: all instances of a template, and never the template itself.
  granted = service: if hasSuffix "@" service then "${service}*.service" else "${service}.service";

  # The name of the secret that a service declares by a reference alone.
  secretName =
    service: id:
    lib.stringAsChars (
      c: if builtins.match "[A-Za-z0-9._@-]" c != null then c else "-"
    ) "${service}.${id}";

  # `UNIT/ID`, taken apart. Without an ID it is the secret's name.
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

  # A glob may match shorter names than itself.
  isTooLong =
    { unit, id }:
    builtins.match ".*[*?[].*" unit == null
    && builtins.stringLength unit + builtins.stringLength id > longest;

  # A token as 1Password makes them, for service accounts and for Connect: in the store everybody reads it.
  holdsToken = text: builtins.length (builtins.split "(^|[^A-Za-z0-9])(ops_eyJ|eyJhbGciOi)" text) > 1;

  inStore = path: builtins.isPath path || hasPrefix "${builtins.storeDir}/" (toString path);

  # What is written and not left out.
  said = lib.filterAttrs (_: value: value != null && value != [ ] && value != { });
}
