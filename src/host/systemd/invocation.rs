//! The invocation of a unit. systemd assigns a new ID at each start. It writes the ID to `/run/systemd/units`
//! before the unit's first process runs and removes it after the unit has stopped.

use std::fs;
use std::path::Path;

/// An invocation ID as 32 hexadecimal digits.
pub type Invocation = String;

/// The current invocation of a unit, or `None` if the unit does not run.
pub fn current(unit: &str) -> Option<Invocation> {
    in_folder(Path::new("/run/systemd/units"), unit)
}

fn in_folder(folder: &Path, unit: &str) -> Option<Invocation> {
    let target = fs::read_link(folder.join(format!("invocation:{unit}"))).ok()?;
    let id = target.into_os_string().into_string().ok()?;
    (id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(id)
}

/// Converts an ID from its form on D-Bus.
pub fn of_bytes(bytes: &[u8]) -> Invocation {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_invocation_is_read_as_systemd_writes_it() {
        let folder = tempfile::tempdir().unwrap();
        let id = "0123456789abcdef0123456789abcdef";
        for (unit, target) in
            [("app.service", id), ("short.service", "0123"), ("bad.service", &"x".repeat(32))]
        {
            std::os::unix::fs::symlink(target, folder.path().join(format!("invocation:{unit}"))).unwrap();
        }
        let read = |unit| in_folder(folder.path(), unit);
        assert_eq!(read("app.service").as_deref(), Some(id));
        assert_eq!([read("short.service"), read("bad.service"), read("none.service")], [None, None, None]);
        assert_eq!(of_bytes(&[0x01, 0xab]), "01ab");
    }
}
