//! Unit types with execution settings (systemd.exec(5)), and which of them request credentials.

use std::fmt;

/// A unit type whose unit file has a section for execution settings such as `LoadCredential=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExecType {
    /// A service.
    Service,
    /// A socket.
    Socket,
    /// A mount.
    Mount,
    /// A swap.
    Swap,
}

/// Whether units of a type request their credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asks {
    /// On every supported version of systemd.
    Always,
    /// On this version of systemd and later.
    Since(u32),
    /// Never: systemd accepts their `LoadCredential=` and ignores it.
    Never,
}

impl ExecType {
    /// The first version of systemd that sets up credentials for mounts (systemd #34732).
    pub const MOUNTS_SINCE: u32 = 258;

    /// The unit type with this suffix, such as `service`, if it has execution settings.
    pub fn of(suffix: &str) -> Option<Self> {
        match suffix {
            "service" => Some(Self::Service),
            "socket" => Some(Self::Socket),
            "mount" => Some(Self::Mount),
            "swap" => Some(Self::Swap),
            _ => None,
        }
    }

    /// The section of the unit file, which is also the last part of the D-Bus interface's name.
    pub fn section(self) -> &'static str {
        match self {
            Self::Service => "Service",
            Self::Socket => "Socket",
            Self::Mount => "Mount",
            Self::Swap => "Swap",
        }
    }

    /// Whether units of this type request credentials. Observed on systemd 252, 257 and 262; for swaps, read
    /// from the source (swap.c never sets up credentials).
    pub fn asks(self) -> Asks {
        match self {
            Self::Service => Asks::Always,
            Self::Mount => Asks::Since(Self::MOUNTS_SINCE),
            Self::Socket | Self::Swap => Asks::Never,
        }
    }
}

impl fmt::Display for ExecType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.section().to_ascii_lowercase())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_of_units() {
        for (suffix, expected) in [
            ("service", Some(ExecType::Service)),
            ("socket", Some(ExecType::Socket)),
            ("mount", Some(ExecType::Mount)),
            ("swap", Some(ExecType::Swap)),
            ("timer", None),
            ("", None),
        ] {
            assert_eq!(ExecType::of(suffix), expected, "{suffix}");
        }
    }
}
