# The package, for callPackage.
{
  lib,
  stdenv,
  rustPlatform,
  rustc,
  coreutils,
  systemd,
  buildPackages,
  testers,
}:
let
  inherit (lib) fileset;
  manifest = (lib.importTOML ../Cargo.toml).package;
  # a onecred that runs on the build machine, for man pages, completions and checks of configurations
  isNative = stdenv.buildPlatform.canExecute stdenv.hostPlatform;
  ofBuildMachine = buildPackages.onecred or (buildPackages.callPackage ./package.nix { });
in
rustPlatform.buildRustPackage (finalAttrs: {
  pname = manifest.name;
  inherit (manifest) version;

  src = fileset.toSource {
    root = ../.;
    fileset = fileset.unions [
      ../Cargo.toml
      ../Cargo.lock
      ../Makefile
      ../README.md
      ../CHANGELOG.md
      ../LICENSE-MIT
      ../LICENSE-APACHE
      ../docs
      ../integration # a member of the workspace, and fixtures for unit tests
      ../src
      ../units
    ];
  };
  cargoLock.lockFile = ../Cargo.lock;
  # store the list of dependencies in the binary
  auditable = true;
  cargoBuildFlags = [ "--package=onecred" ];
  cargoTestFlags = [ "--package=onecred" ];
  # some tests need other users and mounts, which the build sandbox does not have
  doCheck = false;

  installPhase = ''
    runHook preInstall
    # DESTDIR prevents an update of the build machine's message catalog
    make install DESTDIR=/ PREFIX=$out SYSCONFDIR=$TMPDIR/etc TRUE=${coreutils}/bin/true \
      SYSTEMD_CREDS=${systemd}/bin/systemd-creds SYSTEMCTL=${systemd}/bin/systemctl \
      SYSTEMD_VERSION=${lib.versions.major systemd.version} \
      BINARY="$(find target -path '*release/onecred' -type f | head -n 1)" \
      ${lib.optionalString (!isNative) "GENERATOR=${lib.getExe ofBuildMachine}"}
    # the module sets these limits for the systemd version of the system
    rm -rf $out/lib/systemd/system/systemd-creds.socket.d
    runHook postInstall
  '';

  passthru = {
    generator = if isNative then finalAttrs.finalPackage else ofBuildMachine;
    # the compiler, and the oldest one that can build it
    rustVersion = rustc.version;
    oldestRust = manifest.rust-version;
    tests.nixos = testers.runNixOSTest ./tests/vm.nix;
  };

  meta = {
    inherit (manifest) description;
    license = [
      lib.licenses.mit
      lib.licenses.asl20
    ];
    mainProgram = "onecred";
    platforms = lib.platforms.linux;
  };
})
