//! Checks the library's file before any of its code runs: owner, format and SHA-256. The file is opened once,
//! so the checked content is the loaded content.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ring::digest;

use crate::host::ownership::{changeable_by_others, replaceable_by_others};

/// The maximum size of a library in bytes. Version 0.4.2 has 20 MB.
const MOST: u64 = 256 << 20;
/// How many bytes of the ELF header are checked.
const HEADER: usize = 20;

/// Why a library is not loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unfit {
    /// The file does not exist.
    #[error("{} does not exist", .0.display())]
    Missing(PathBuf),
    /// It cannot be opened or read.
    #[error("{} can't be read: {error}", path.display())]
    Unreadable { path: PathBuf, error: std::io::Error },
    /// Users other than root could have changed it.
    #[error("{} is not loaded: {why}; root must own it and its parent directories, and only root may be able to write to them", path.display())]
    Unsafe {
        path: PathBuf,
        /// How they could.
        why: String,
    },
    /// It is not a library for this machine.
    #[error("{} is not a library for this machine: {why}", path.display())]
    NoLibrary {
        path: PathBuf,
        /// What it is instead.
        why: String,
    },
    /// Its SHA-256 is not the one in the configuration.
    #[error("{} is not the library in the configuration: its SHA-256 is {got}, not {wanted}", path.display())]
    OtherSum {
        path: PathBuf,
        /// Its SHA-256.
        got: String,
        /// The SHA-256 in the configuration.
        wanted: String,
    },
    /// It is a library, but not the SDK core.
    #[error("{} is not a known version of 1Password's SDK core: {why}", path.display())]
    OtherLibrary {
        path: PathBuf,
        /// The difference.
        why: String,
    },
}

/// A library's file that passed the checks.
pub(crate) struct Fit {
    pub(super) path: PathBuf,
    file: File,
    /// Its SHA-256 in hexadecimal.
    pub(crate) sha256: String,
}

impl Fit {
    /// Opens and checks a library. `owner` may own it besides root; `pin` is the SHA-256 that it must have.
    pub(crate) fn open(path: &Path, owner: Option<u32>, pin: Option<&str>) -> Result<Self, Unfit> {
        let unreadable = |error| Unfit::Unreadable { path: path.into(), error };
        let flags = libc::O_NOCTTY | libc::O_NONBLOCK; // opening a FIFO must not block
        let opened = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path);
        let file = opened.map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Unfit::Missing(path.into()),
            _ => unreadable(error),
        })?;
        let about = file.metadata().map_err(unreadable)?;
        let refuse = |why: String| Err(Unfit::Unsafe { path: path.into(), why });
        if !about.is_file() {
            return Err(Unfit::NoLibrary { path: path.into(), why: "it is not a file".into() });
        }
        if let Some(why) = changeable_by_others(&about, owner) {
            return refuse(why);
        }
        if about.len() > MOST {
            let why = format!("it has {} bytes, and the limit is {MOST}", about.len());
            return Err(Unfit::NoLibrary { path: path.into(), why });
        }
        let mut header = [0; HEADER];
        let read = file.read_at(&mut header, 0).map_err(unreadable)?;
        fits_this_machine(&header[..read]).map_err(|why| Unfit::NoLibrary { path: path.into(), why })?;
        let sha256 = sum(&file).map_err(unreadable)?;
        // a pinned file is known, so its location does not matter
        if pin.is_none()
            && let Some(why) = replaceable_by_others(path, owner).map_err(unreadable)?
        {
            return refuse(format!("{why} (or pin the library by its SHA-256, {sha256})"));
        }
        match pin {
            Some(wanted) if !wanted.eq_ignore_ascii_case(&sha256) => {
                Err(Unfit::OtherSum { path: path.into(), got: sha256, wanted: wanted.into() })
            }
            _ => Ok(Self { path: path.into(), file, sha256 }),
        }
    }

    /// A path of the checked file, even if the original path now leads to another file.
    pub(super) fn for_loader(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
    }
}

fn sum(mut file: &File) -> std::io::Result<String> {
    let mut context = digest::Context::new(&digest::SHA256);
    let mut piece = vec![0; 1 << 16];
    loop {
        match file.read(&mut piece)? {
            0 => break,
            n => context.update(&piece[..n]),
        }
    }
    Ok(hexadecimal(&context.finish()))
}

/// The SHA-256 of some bytes in hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hexadecimal(&digest::digest(&digest::SHA256, bytes))
}

fn hexadecimal(digest: &digest::Digest) -> String {
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Checks that the ELF header is that of a shared object for this machine. The error gives the reason.
pub(crate) fn fits_this_machine(library: &[u8]) -> Result<(), String> {
    const MACHINE: u16 = if cfg!(target_arch = "aarch64") { 183 } else { 62 };
    let header: &[u8; HEADER] = library.first_chunk().ok_or("the file is too short")?;
    if header[..4] != *b"\x7fELF" {
        return Err("it is not an ELF file".into());
    }
    if header[4..6] != [2, 1] {
        return Err("it is not a 64-bit little-endian one".into());
    }
    let (kind, machine) =
        (u16::from_le_bytes([header[16], header[17]]), u16::from_le_bytes([header[18], header[19]]));
    match (kind, machine) {
        (3, MACHINE) => Ok(()),
        (3, other) => Err(format!("it is for another architecture (ELF machine {other})")),
        _ => Err("it is not a shared object".into()),
    }
}
