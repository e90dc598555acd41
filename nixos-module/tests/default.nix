# The list of errors of the module, which should be empty, and the secrets.json and warnings of each configuration.
#
# nix-instantiate --eval --strict --json --store dummy:// nixos-module/tests, with --arg lib 'import /path/to/nixpkgs/lib' for another lib
{
  lib ? import ./lib,
  # modules in the documentation, by their positions
  documented ? { },
}:
let
  evaluate = import ./evaluate.nix { inherit lib; };
  own = import ../lib.nix { inherit lib; };
  configurations = lib.mapAttrs (_: evaluate) (
    import ./configurations.nix
    // lib.mapAttrs (_: module: [
      { services.onecred.enable = true; }
      (import ./impermanence.nix)
      ./others.nix
      ./elsewhere.nix
      module
    ]) documented
  );

  played = lib.concatLists (
    lib.mapAttrsToList (
      theme: scenarios:
      lib.mapAttrsToList (
        name: one:
        import ./scenarios/run.nix { inherit lib evaluate; } "${theme}: ${name}" one
        // {
          name = "${theme} ${name}";
        }
      ) (lib.filterAttrs (_: one: !(one.real or false)) scenarios)
    ) (import ./scenarios)
  );

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
      ) "${name}: expected ${toString says}, got ${said}"
      ++ lib.optional (lib.hasInfix "ops_eyJ" said) "${name}: the message contains the token"
    ) (import ./assertions.nix)
  );

  # what NixOS itself rejects
  misused = map (name: "${name}: should not have been evaluated") (
    builtins.attrNames (
      lib.filterAttrs (_: modules: (builtins.tryEval (evaluate modules).whole).success) {
        "an option that is none" = [ { services.onecred.secret = { }; } ];
        "an option of a service that is none" = [
          { systemd.services.app.onecred.credential.key = "op://v/i/f"; }
        ];
        "another type" = [ { services.onecred.enable = "yes"; } ];
        "another type in a secret" = [
          {
            services.onecred.enable = true;
            services.onecred.secrets.key.units = "app";
          }
        ];
        "two definitions" = [
          { services.onecred.tokenFile = "/a"; }
          {
            services.onecred.enable = true;
            services.onecred.tokenFile = "/b";
          }
        ];
        "what can be read alone" = [
          {
            services.onecred.enable = true;
            services.onecred.socket = "/run/other.sock";
          }
        ];
      }
    )
  );

  different = lib.concatLists (
    lib.mapAttrsToList (
      name:
      { got, expected }:
      lib.optional (got != expected) "${name}: ${builtins.toJSON got} is not ${builtins.toJSON expected}"
    ) (import ./goldens.nix { inherit configurations evaluate lib; })
  );

  # every key of the schema has an option
  ownLib = import ./lib;
  kinds = import ../types.nix {
    lib = ownLib;
    json.type = ownLib.types.anything;
    root = "/run/secrets";
    action = "restart";
  };
  schema = builtins.fromJSON (builtins.readFile ../../units/schema/secrets.schema.json);
  withoutOption =
    definition: kind:
    let
      inherit
        (ownLib.evalModules {
          inherit (kind) modules;
          specialArgs.name = "name";
        })
        options
        ;
    in
    map (key: "the key ${key} of ${definition} has no option") (
      builtins.filter (
        key:
        !(options ? ${key})
        && !builtins.elem key [
          "$schema"
          "//"
          "name"
        ]
      ) (builtins.attrNames schema."$defs".${definition}.properties)
    );
  optionless = withoutOption "Secret" kinds.secret ++ withoutOption "Template" kinds.template;

  # results of 1Password's SDK core
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
  wrong =
    map (what: "core: ${what}") (import ./core.nix)
    ++ optionless
    ++ lib.concatMap (one: one.wrong) played
    ++ fine
    ++ refused
    ++ misused
    ++ different
    ++ judged;
  rendered =
    lib.mapAttrs (_: { config, ... }: {
      inherit (config.services.onecred) rendered;
      inherit (config) warnings;
    }) configurations
    // builtins.listToAttrs (
      map (one: lib.nameValuePair one.name { inherit (one) rendered warnings; }) (
        builtins.filter (one: one.rendered != null) played
      )
    );
}
