# Evaluates modules together with onecred's, with stubs of NixOS options and only nixpkgs' lib.
{ lib }:
let
  store = name: "/nix/store/00000000000000000000000000000000-${name}";
  # of a file, whose path changes with its content
  storeOf =
    name: content:
    "/nix/store/${builtins.substring 0 32 (builtins.hashString "sha256" content)}-${name}";
  derivation = name: {
    type = "derivation";
    inherit name;
    outPath = store name;
  };
  value =
    with lib.types;
    nullOr (oneOf [
      bool
      int
      float
      str
      path
      (attrsOf value)
      (listOf value)
    ])
    // {
      description = "JSON value";
    };
  pkgs = {
    formats.json = _: {
      type = value;
      generate = name: content: storeOf name (builtins.toJSON content);
    };
    runCommand = name: _: storeOf name;
    callPackage = _: _: derivation "onecred";
    coreutils = derivation "coreutils";
    onecred = derivation "onecred";
    onecred-core = derivation "onecred-core" // {
      librarySha256 = lib.concatStrings (lib.genList (_: "0") 64);
      override = _: derivation "another-core";
    };
    python3Packages.onepassword-sdk.src = store "source";
  };
  system = {
    fileSystems."/".fsType = lib.mkDefault "ext4";
    users.users.root = { };
    users.groups.root = { };
    systemd.package = derivation "systemd" // {
      version = "258.2";
    };
  };
in
modules:
let
  evaluated = lib.evalModules {
    modules = [
      ./stubs.nix
      ../.
      system
    ]
    ++ modules;
    specialArgs = {
      inherit pkgs;
      onecred = (import ../../flake.nix).outputs { };
    };
  };
in
{
  inherit (evaluated) config options;
  # the messages of failed assertions
  faults = map (one: one.message) (builtins.filter (one: !one.assertion) evaluated.config.assertions);
  # whether all definitions can be evaluated
  whole = builtins.deepSeq {
    inherit (evaluated.config) environment systemd warnings;
    users = { inherit (evaluated.config.users) users groups; };
    dbus = evaluated.config.services.dbus;
    inherit (evaluated.config.services.onecred) rendered socket sealedSocket;
  } true;
}
