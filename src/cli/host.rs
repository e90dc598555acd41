//! What verbs say of this host beside what they were asked: that hardened units cannot decrypt sealed credentials, or may fail to.

use std::io::Write;

use super::bus;
use crate::name::UnitName;
use crate::systemd::creds_socket::{Finding, Level};

/// Writes what is wrong with the socket through which a unit decrypts. Gives 1 if the unit cannot start, otherwise 0.
pub(super) fn warn_for(unit: &str, err: &mut dyn Write) -> u8 {
    let Ok(unit) = UnitName::parse_lenient(unit) else { return 0 };
    let finding = bus::talk(async |bus| Ok(bus.creds_socket_for(&unit).await)).ok().flatten();
    finding.map_or(0, |finding| show(&finding, err))
}

fn show(Finding { level, message }: &Finding, err: &mut dyn Write) -> u8 {
    let (severity, code) = match level {
        Level::Warning => ("warning", 0),
        Level::Error => ("error", 1),
    };
    let _ = writeln!(err, "{severity}: {message}");
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_in_the_exit_code_too() {
        for (level, expected, code) in
            [(Level::Warning, "warning: x; do y\n", 0), (Level::Error, "error: x; do y\n", 1)]
        {
            let mut out = Vec::new();
            assert_eq!(show(&Finding { level, message: "x; do y".into() }, &mut out), code);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }
}
