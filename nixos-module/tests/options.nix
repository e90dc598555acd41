# The module's options, as rows for docs/nixos-options.md.
#
# nix-instantiate --eval --strict --json --store dummy:// nixos-module/tests/options.nix
let
  lib = import ./lib;
  inherit (import ./evaluate.nix { inherit lib; } [ ]) options;
  inherit (builtins) concatLists toJSON;

  submoduleOf =
    type:
    if type.kind or "" == "submodule" then
      type
    else if type ? inner then
      submoduleOf type.inner
    else
      null;
  below = path: type: if type.kind or "" == "attrsOf" then "${path}.<name>" else path;

  # how a value is written
  written = value: value.text or (if value ? outPath then throw "no text" else toJSON value);

  row =
    path: option:
    let
      inner = submoduleOf option.type;
    in
    lib.optional (!(option.internal or false)) {
      inherit path;
      type = option.type.description;
      default =
        if option ? defaultText then
          written option.defaultText
        else if option ? default && option.default != null && inner == null then
          written option.default
        else
          "";
      example = if option ? example then written option.example else "";
      description = option.description or (throw "${path}: no description");
    }
    ++ lib.optionals (inner != null) (
      rows (below path option.type)
        (lib.evalModules {
          inherit (inner) modules;
          specialArgs.name = "<name>";
        }).options
    );
  rows =
    path: set:
    concatLists (
      lib.mapAttrsToList (
        name: option:
        if lib.isType "option" option then row "${path}.${name}" option else rows "${path}.${name}" option
      ) set
    );

  service =
    (lib.evalModules {
      inherit (submoduleOf options.systemd.services.type) modules;
      specialArgs.name = "<name>";
    }).options;
in
rows "services.onecred" options.services.onecred
++ rows "systemd.services.<name>.onecred" service.onecred
