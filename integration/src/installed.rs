//! onecred as `make install` installs it, in a directory that is overlaid on a machine's root.
use crate::machine::{Layer, Suite};
use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

/// The directory of the tests' own programs in a machine.
pub const LIBEXEC: &str = "/usr/local/libexec/onecred-tests";
/// The socket for LoadCredential=.
pub const SOCKET: &str = "/run/onecred/credential.sock";

/// The socket for LoadCredentialEncrypted=.
pub const SEALED: &str = "/run/onecred/sealed.sock";

/// Copies a unit's credentials to where a case finds them, under the given name.
const TAKE: &str =
    "#!/bin/sh\nset -eu\nmkdir -p \"/srv/out/$1\"\ncp \"$CREDENTIALS_DIRECTORY\"/* \"/srv/out/$1/\"\n";

/// The repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/"))
}

/// Installs into a directory, or uninstalls, as a packager would. The binary is built already.
pub fn make(target: &str, destdir: &Path, suite: Suite) -> io::Result<()> {
    make_for(target, destdir, suite.version()?)
}

/// The same for a machine with this version of systemd.
pub fn make_for(target: &str, destdir: &Path, version: u32) -> io::Result<()> {
    let made = Command::new("make")
        .args(["--silent", "-C"])
        .arg(repository())
        .args([target, "PREFIX=/usr", &format!("SYSTEMD_VERSION={version}")])
        .arg(format!("DESTDIR={}", destdir.display()))
        .arg(format!("BINARY={}", binary()?.display()))
        .output()?;
    if made.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("make {target}: {}{}", made.status, String::from_utf8_lossy(&made.stderr))))
}

/// The binary to install: `ONECRED_BINARY`, or the result of `cargo build --release` in the target directory
/// of this program.
fn binary() -> io::Result<PathBuf> {
    if let Some(binary) = std::env::var_os("ONECRED_BINARY") {
        return Ok(binary.into());
    }
    let this = std::env::current_exe()?;
    let mut binaries = this.ancestors().skip(2).map(|folder| folder.join("release/onecred"));
    let missing = || {
        io::Error::other(
            "no release/onecred here; run cargo build --release first, or name another binary by ONECRED_BINARY",
        )
    };
    binaries.find(|binary| binary.exists()).ok_or_else(missing)
}

/// A layer with onecred and the tests' own programs.
pub struct Installed(Layer);

impl Installed {
    /// Creates the layer for a suite. `probe` is the path of that program.
    pub fn new(suite: Suite, probe: &Path) -> io::Result<Self> {
        let layer = Layer::create(&format!("onecred-for-{suite}"))?;
        make("install", layer.path(), suite)?;
        let libexec = layer.path().join(LIBEXEC.trim_start_matches('/'));
        fs::create_dir_all(&libexec)?;
        fs::copy(probe, libexec.join("probe"))?;
        fs::write(libexec.join("take"), TAKE)?;
        fs::set_permissions(libexec.join("take"), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        Ok(Self(layer))
    }

    /// The directory.
    pub fn path(&self) -> PathBuf {
        self.0.path().into()
    }
}
