//! Checks the file of a host key in the same way as systemd does before it uses the key. Pure: the caller reads the file.
//!
//! systemd 252 to 262 refuse a file that is a symbolic link, has a second hard link, a mode other than 0400, or a wrong size. They delete a key that
//! was made for another machine ID, and report that they have no key. A value that was sealed with such a key starts no unit.

use ring::hmac;

use super::{FILE_MAX, MACHINE_ID};

/// The application ID from which systemd derives the machine ID in the file: see sd_id128_get_machine_app_specific(3).
const APPLICATION: u128 = 0xd3ac_ecba_0dad_4cdf_b8c9_3815_2893_6c58;

/// The result of stat() for the file.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    /// The file type.
    pub file_type: FileType,
    /// Its hard links.
    pub links: u64,
    /// Its permissions, without the file type.
    pub mode: u32,
    /// The user ID of its owner.
    pub owner: u32,
    /// Its size in bytes.
    pub size: u64,
}

/// The type of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileType {
    /// A regular file.
    Regular,
    /// A symbolic link.
    Link,
    /// Anything else.
    Other,
}

/// Why systemd does not use the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It is a symbolic link.
    #[error("it is a symbolic link, which systemd does not follow")]
    Link,
    /// It is a directory, a FIFO, or the like.
    #[error("it is not a regular file")]
    NotAFile,
    /// It has other hard links.
    #[error("it has {0} hard links, and systemd accepts only one")]
    Links(u64),
    /// Its permissions differ.
    #[error("its mode is {0:04o}, and systemd accepts only 0400")]
    Mode(u32),
    /// It belongs to another user. systemd would use it, but onecred lacks the capability to read it, and its owner could.
    #[error("it belongs to user {0}, not to root")]
    Owner(u32),
    /// It has no key, or one that is too large.
    #[error("it has {0} bytes, and a host key has 17 to {FILE_MAX}")]
    Size(u64),
}

impl Fault {
    /// What to do about it.
    pub fn remedy(&self, file: &str) -> String {
        match self {
            Self::Link => format!("replace {file} by the file itself, or by a bind mount of it"),
            Self::NotAFile | Self::Size(_) => format!("move {file} away, then: systemd-creds setup"),
            Self::Links(_) => format!("remove its other names: find / -xdev -samefile {file}"),
            Self::Mode(_) => format!("chmod 0400 {file}"),
            Self::Owner(_) => format!("chown root:root {file}"),
        }
    }
}

/// Checks a file by the result of stat(), in systemd's order. `reader` is the user who must own the file.
pub fn judge(facts: &Facts, reader: u32) -> Result<(), Fault> {
    let Facts { file_type, links, mode, owner, size } = *facts;
    match file_type {
        FileType::Link => return Err(Fault::Link),
        FileType::Other => return Err(Fault::NotAFile),
        FileType::Regular => {}
    }
    if links > 1 {
        return Err(Fault::Links(links));
    }
    if mode != 0o400 {
        return Err(Fault::Mode(mode));
    }
    if owner != reader {
        return Err(Fault::Owner(owner));
    }
    if size <= MACHINE_ID as u64 || size > FILE_MAX as u64 {
        return Err(Fault::Size(size));
    }
    Ok(())
}

/// Reads a machine ID as it is in /etc/machine-id: 32 hexadecimal digits and a newline. `None` if it is not set yet.
pub fn machine_id(text: &str) -> Option<u128> {
    let digits = text.strip_suffix('\n').unwrap_or(text);
    let is_id = digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_id.then(|| u128::from_str_radix(digits, 16).ok()).flatten().filter(|&id| id != 0)
}

/// Whether the file was made for this machine.
pub fn is_of_machine(file: &[u8], machine_id: u128) -> bool {
    file.get(..MACHINE_ID) == Some(&app_specific(machine_id)[..])
}

/// The ID that systemd derives from a machine ID for its host key: an HMAC in the form of a random UUID.
pub(crate) fn app_specific(machine_id: u128) -> [u8; MACHINE_ID] {
    let key = hmac::Key::new(hmac::HMAC_SHA256, &machine_id.to_be_bytes());
    let tag = hmac::sign(&key, &APPLICATION.to_be_bytes());
    let mut id = [0; MACHINE_ID];
    id.copy_from_slice(&tag.as_ref()[..MACHINE_ID]);
    id[6] = id[6] & 0x0f | 0x40;
    id[8] = id[8] & 0x3f | 0x80;
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Facts = Facts { file_type: FileType::Regular, links: 1, mode: 0o400, owner: 0, size: 4112 };

    #[test]
    fn a_file_is_judged_as_systemd_does() {
        let cases = [
            (GOOD, Ok(())),
            (Facts { size: 17, ..GOOD }, Ok(())),
            (Facts { file_type: FileType::Link, mode: 0o777, ..GOOD }, Err(Fault::Link)),
            (Facts { file_type: FileType::Other, links: 2, ..GOOD }, Err(Fault::NotAFile)),
            (Facts { links: 2, mode: 0o644, ..GOOD }, Err(Fault::Links(2))),
            (Facts { mode: 0o644, ..GOOD }, Err(Fault::Mode(0o644))),
            (Facts { mode: 0o600, ..GOOD }, Err(Fault::Mode(0o600))),
            (Facts { mode: 0o4400, ..GOOD }, Err(Fault::Mode(0o4400))),
            (Facts { owner: 1000, ..GOOD }, Err(Fault::Owner(1000))),
            (Facts { size: 16, ..GOOD }, Err(Fault::Size(16))),
            (Facts { size: 4113, ..GOOD }, Err(Fault::Size(4113))),
        ];
        for (facts, expected) in cases {
            assert_eq!(judge(&facts, 0), expected, "{facts:?}");
        }
        assert_eq!(judge(&Facts { owner: 1000, ..GOOD }, 1000), Ok(()), "a user's own, for development");
        assert_eq!(Fault::Mode(0o644).to_string(), "its mode is 0644, and systemd accepts only 0400");
        assert_eq!(Fault::Mode(0o644).remedy("/key"), "chmod 0400 /key");
    }

    #[test]
    fn a_machine_id_is_read_as_systemd_writes_it() {
        let text = "0123456789abcdef0123456789abcdef";
        let id = Some(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);
        assert_eq!([machine_id(text), machine_id(&format!("{text}\n"))], [id, id]);
        let zeros = "0".repeat(32);
        for other in ["", "uninitialized\n", &text[1..], &zeros, "0123456789abcdef 123456789abcdef"] {
            assert_eq!(machine_id(other), None, "{other:?}");
        }
    }

    /// `systemd-id128 machine-id --app-specific=d3acecba0dad4cdfb8c9381528936c58` on a machine with this ID.
    #[test]
    fn the_id_in_the_file_is_derived_as_systemd_derives_it() {
        let machine = 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef;
        assert_eq!(u128::from_be_bytes(app_specific(machine)), 0xf65a_25a6_c02a_4488_8e0e_49b6_adb6_b1f9);
        let file = [&app_specific(machine)[..], b"key"].concat();
        assert!(is_of_machine(&file, machine) && !is_of_machine(&file, machine + 1));
        assert!(!is_of_machine(&file[..15], machine) && !is_of_machine(b"", machine));
    }
}
