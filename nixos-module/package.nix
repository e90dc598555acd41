# The package, for callPackage.
{
  lib,
  rustPlatform,
  coreutils,
  systemd,
}:
let
  inherit (lib) fileset;
  manifest = (lib.importTOML ../Cargo.toml).package;
in
rustPlatform.buildRustPackage {
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
      ../integration # a member of the workspace; and fixtures of unit tests
      ../src
      ../units
    ];
  };
  cargoLock.lockFile = ../Cargo.lock;
  # the binary tells what it is made of
  auditable = true;
  cargoBuildFlags = [ "--package=onecred" ];
  cargoTestFlags = [ "--package=onecred" ];
  # some of its tests want what a build's sandbox has not: other users, a mount of their own
  doCheck = false;

  installPhase = ''
    runHook preInstall
    # with a DESTDIR the catalog of the machine that builds is left alone
    make install DESTDIR=/ PREFIX=$out SYSCONFDIR=$TMPDIR/etc TRUE=${coreutils}/bin/true \
      SYSTEMD_CREDS=${systemd}/bin/systemd-creds SYSTEMCTL=${systemd}/bin/systemctl \
      SYSTEMD_VERSION=${lib.versions.major systemd.version} \
      BINARY="$(find target -path '*release/onecred' -type f | head -n 1)"
    # the module sets these limits, by the version of the system's own systemd
    rm -rf $out/lib/systemd/system/systemd-creds.socket.d
    runHook postInstall
  '';

  meta = {
    inherit (manifest) description;
    license = [
      lib.licenses.mit
      lib.licenses.asl20
    ];
    mainProgram = "onecred";
    platforms = lib.platforms.linux;
  };
}
