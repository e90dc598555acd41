# 1Password's SDK core, which service accounts need: the library of a release of onepassword-sdk, unchanged. For callPackage.
#
# `coreSource` can be any source with the library of the release `coreVersion`, such as pkgs.python3Packages.onepassword-sdk.src.
{
  lib,
  stdenvNoCC,
  fetchPypi,
  unzip,
  gcc-unwrapped,
  python3,
  coreVersion ? "0.4.2",
  coreSource ? null,
}:
let
  version = coreVersion;
  platform = stdenvNoCC.hostPlatform;
  architecture = platform.parsed.cpu.name;
  # version, architecture, SHA-256 of the wheel and of the library, Python of the wheel
  releases = map (lib.splitString "\t") (
    lib.splitString "\n" (builtins.readFile ../src/resolver/service_account/releases.tsv)
  );
  python = "cp312";
  known = builtins.filter (
    line:
    builtins.length line == 5
    && builtins.head line == version
    && builtins.elemAt line 1 == architecture
    && builtins.elemAt line 4 == python
  ) releases;
  release =
    if known == [ ] then
      throw "onecred: no known release ${version} of 1Password's SDK core for ${architecture}"
    else
      builtins.head known;
  librarySha256 = builtins.elemAt release 3;
in
stdenvNoCC.mkDerivation {
  pname = "onepassword-sdk-core";
  inherit version;

  src =
    if coreSource != null then
      coreSource
    else
      fetchPypi {
        pname = "onepassword_sdk";
        inherit version python;
        format = "wheel";
        dist = python;
        abi = python;
        platform = "manylinux_2_32_${architecture}";
        sha256 = builtins.elemAt release 2;
      };

  nativeBuildInputs = [ unzip ];
  unpackPhase = ''
    runHook preUnpack
    case $src in
      *.whl) unzip -q "$src" -d source ;;
      *) cp -r --no-preserve=mode "$src" source ;;
    esac
    runHook postUnpack
  '';
  installPhase = ''
    runHook preInstall
    install -Dm755 "$(find source -path '*/${architecture}/libop_uniffi_core.so' | head -n 1)" \
      "$out/lib/onecred/libop_uniffi_core.so"
    runHook postInstall
  '';
  # the resolver compares the checksum
  dontStrip = true;
  dontPatchELF = true;
  dontConfigure = true;
  dontBuild = true;

  doInstallCheck = true;
  nativeInstallCheckInputs = [ python3 ];
  # the checksum, and where the build machine can load it, the functions that onecred calls
  installCheckPhase = ''
    runHook preInstallCheck
    library=$out/lib/onecred/libop_uniffi_core.so
    echo "${librarySha256}  $library" | sha256sum --check -
  ''
  + lib.optionalString (stdenvNoCC.buildPlatform.canExecute platform) ''
    LD_LIBRARY_PATH=${lib.makeLibraryPath [ gcc-unwrapped ]} \
      python3 ${./core-abi.py} ${../src/resolver/service_account/sdk/abi.rs} "$library"
  ''
  + ''
    runHook postInstallCheck
  '';

  passthru = {
    inherit librarySha256;
  };
  meta = {
    description = "1Password's SDK core, for onecred";
    homepage = "https://github.com/1Password/onepassword-sdk-python";
    license = lib.licenses.mit;
    sourceProvenance = [ lib.sourceTypes.binaryNativeCode ];
    platforms = [
      "x86_64-linux"
      "aarch64-linux"
    ];
  };
}
