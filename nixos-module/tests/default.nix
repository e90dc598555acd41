# What is wrong with the module, as a list that should be empty; and what secrets.json each configuration makes.
#
# nix-instantiate --eval --strict --json --store dummy:// --arg lib 'import /path/to/nixpkgs/lib' nixos-module/tests
{ lib }:
let
  evaluate = import ./evaluate.nix { inherit lib; };
  own = import ../lib.nix { inherit lib; };
  configurations = lib.mapAttrs (_: evaluate) (import ./configurations.nix);

  fine = lib.concatLists (
    lib.mapAttrsToList (
      name:
      { whole, faults, ... }:
      lib.optional (!whole) "${name}: not whole" ++ map (fault: "${name}: ${fault}") faults
    ) configurations
  );

  refused = lib.concatLists (
    lib.mapAttrsToList (
      name:
      { modules, says }:
      let
        inherit (evaluate modules) faults;
        said = builtins.concatStringsSep " | " faults;
      in
      lib.optional (
        if says == null then faults != [ ] else !(builtins.length faults == 1 && lib.hasInfix says said)
      ) "${name}: should have said ${toString says}, and said ${said}"
      ++ lib.optional (lib.hasInfix "ops_eyJ" said) "${name}: the message holds the token"
    ) (import ./assertions.nix)
  );

  different = lib.concatLists (
    lib.mapAttrsToList (
      name:
      { got, expected }:
      lib.optional (got != expected) "${name}: ${builtins.toJSON got} is not ${builtins.toJSON expected}"
    ) (import ./goldens.nix { inherit configurations evaluate lib; })
  );

  # the core's own verdicts
  vectors = builtins.filter (line: line != "") (
    lib.splitString "\n" (builtins.readFile ../../integration/fixtures/op-reference-vectors.tsv)
  );
  judged = lib.concatMap (
    line:
    let
      parts = builtins.match "'(.*)'\t(ok|err).*" line;
      isFine = builtins.elemAt parts 1 == "ok";
    in
    lib.optional (
      parts != null && own.isReference (builtins.head parts) != isFine
    ) "the reference ${line}"
  ) vectors;
in
{
  wrong = fine ++ refused ++ different ++ judged;
  rendered = lib.mapAttrs (_: { config, ... }: config.services.onecred.rendered) configurations;
}
