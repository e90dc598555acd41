# The package of 1Password's SDK core on each architecture, with a fetcher that tells what it would fetch.
let
  lib = import ./lib // {
    makeLibraryPath = _: "/lib";
    optionalString = condition: text: if condition then text else "";
    licenses.mit = "mit";
    sourceTypes.binaryNativeCode = "binary";
  };
  of =
    architecture: more:
    import ../core.nix (
      {
        inherit lib;
        stdenvNoCC = {
          hostPlatform.parsed.cpu.name = architecture;
          buildPlatform.canExecute = platform: platform.parsed.cpu.name == "x86_64";
          mkDerivation = package: package;
        };
        fetchPypi = wheel: wheel;
        unzip = null;
        gcc-unwrapped = null;
        python3 = null;
      }
      // more
    );
  intel = of "x86_64" { };
  arm = of "aarch64" { };
  older = of "x86_64" {
    coreVersion = "0.4.0";
    coreSource = "/src";
  };
  expected = {
    "the wheel of x86_64" =
      intel.src.sha256 == "d74c71d6f87f4c6ad1b0fa904ed7e4e8af5a8dc81ac25ad84054c69e0ab024b1"
      && intel.src.platform == "manylinux_2_32_x86_64";
    "the library of x86_64" =
      intel.passthru.librarySha256 == "d030d05c5dca54f82c6cf8a4c00e82b19734d1ce6f5dfa2e5702c3cd2cd060d7";
    "the wheel of aarch64" =
      arm.src.sha256 == "d871b50d31e389e27e6ca8d62c8d8ddc24b9386af4dd520c76dd5f1b7616a5f6"
      && arm.src.platform == "manylinux_2_32_aarch64";
    "the library of aarch64" =
      arm.passthru.librarySha256 == "e5238beee526bfc6cc8a59d136a95ad062a433969c5b4c5af4d74924b533eae3";
    "the checksum is compared" = lib.hasInfix arm.passthru.librarySha256 arm.installCheckPhase;
    "functions are tried where it can be loaded" = lib.hasInfix "core-abi.py" intel.installCheckPhase;
    "and not where it cannot" = !lib.hasInfix "core-abi.py" arm.installCheckPhase;
    "another source of another release" =
      older.src == "/src" && older.passthru.librarySha256 != intel.passthru.librarySha256;
    "no other release" = !(builtins.tryEval (of "x86_64" { coreVersion = "9.9"; }).src.sha256).success;
    "no other architecture" = !(builtins.tryEval (of "riscv64" { }).src.sha256).success;
  };
in
builtins.filter (what: !expected.${what}) (builtins.attrNames expected)
