//! The systemd that a machine runs: the host's own, or that of a root that `integration/run` builds.
use std::{env, fmt, io, path::PathBuf, process::Command, str::FromStr};

/// A systemd to test with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Suite {
    /// The host's own root file system under an overlay.
    Host,
    /// Debian 13.
    Trixie,
    /// Debian unstable.
    Sid,
}

impl Suite {
    /// The suites in `ONECRED_SUITES` (comma-separated), or only the host's.
    pub fn chosen() -> Result<Vec<Self>, String> {
        let named = env::var("ONECRED_SUITES").unwrap_or_else(|_| "host".into());
        named.split(',').map(str::parse).collect()
    }

    /// The version of its systemd.
    pub fn version(self) -> io::Result<u32> {
        let root = self.root().map_err(io::Error::other)?;
        let said = Command::new("chroot").arg(root).args(["systemctl", "--version"]).output()?.stdout;
        let said = String::from_utf8_lossy(&said);
        let version = said.split_whitespace().nth(1).and_then(|version| version.parse().ok());
        version
            .ok_or_else(|| io::Error::other(format!("suite {self}: systemctl says {said:?} for a version")))
    }

    /// The directory below the overlay.
    pub fn root(self) -> Result<PathBuf, String> {
        if self == Self::Host {
            return Ok("/".into());
        }
        let variable = format!("ONECRED_ROOT_{}", self.to_string().to_uppercase());
        let root = env::var_os(&variable).map(PathBuf::from).ok_or_else(|| {
            format!("no root for suite {self}: {variable} is not set; run integration/run --suite {self}")
        })?;
        if root.join("usr/lib/systemd/systemd").exists() {
            Ok(root)
        } else {
            Err(format!(
                "the root {} of suite {self} holds no systemd; remove it and run integration/run again",
                root.display()
            ))
        }
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Host => "host",
            Self::Trixie => "trixie",
            Self::Sid => "sid",
        })
    }
}

impl FromStr for Suite {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        [Self::Host, Self::Trixie, Self::Sid]
            .into_iter()
            .find(|suite| suite.to_string() == name)
            .ok_or_else(|| format!("no suite {name:?}; there are host, trixie and sid"))
    }
}
