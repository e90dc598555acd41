//! The library's file, before anything of it runs: whose it is, what it is, and its SHA-256. It is opened once, and what was looked at is what is loaded.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ring::digest;

use crate::host::ownership::{changeable_by_others, replaceable_by_others};

/// The most bytes that a library may have. Version 0.4.2 has 20 MB.
const MOST: u64 = 256 << 20;
/// The bytes at the beginning of an ELF file that are looked at.
const HEADER: usize = 20;

/// Why a library is not loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unfit {
    /// There is no such file.
    #[error("{} does not exist", .0.display())]
    Missing(PathBuf),
    /// It can't be opened or read.
    #[error("{} can't be read: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// Somebody else could have put something into it.
    #[error("{} is not loaded: {why}; root has to own it and the directories above it, and nobody else may write to them", path.display())]
    Unsafe {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// It is no library for this machine.
    #[error("{} is no library for this machine: {why}", path.display())]
    NoLibrary {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        why: String,
    },
    /// It is not the one that the configuration names.
    #[error("{} is another library than the configuration names: its SHA-256 is {got}, not {wanted}", path.display())]
    OtherSum {
        /// The file.
        path: PathBuf,
        /// What it has.
        got: String,
        /// What it should have.
        wanted: String,
    },
    /// It is a library, but not this core.
    #[error("{} is another library than 1Password's SDK core of the versions known here: {why}", path.display())]
    OtherLibrary {
        /// The file.
        path: PathBuf,
        /// How one can tell.
        why: String,
    },
}

/// A library's file that was found fit.
pub(crate) struct Fit {
    pub(super) path: PathBuf,
    file: File,
    /// Its SHA-256, in hexadecimal.
    pub(crate) sha256: String,
}

impl Fit {
    /// Opens a library and looks at it. `owner` may own it besides root; `pin` is the SHA-256 that it must have.
    pub(crate) fn open(path: &Path, owner: Option<u32>, pin: Option<&str>) -> Result<Self, Unfit> {
        let unreadable = |error| Unfit::Unreadable { path: path.into(), error };
        let flags = libc::O_NOCTTY | libc::O_NONBLOCK; // a FIFO must not keep us waiting
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
            let why = format!("it has {} bytes, and {MOST} are the most", about.len());
            return Err(Unfit::NoLibrary { path: path.into(), why });
        }
        let mut header = [0; HEADER];
        let read = file.read_at(&mut header, 0).map_err(unreadable)?;
        fits_this_machine(&header[..read]).map_err(|why| Unfit::NoLibrary { path: path.into(), why })?;
        let sha256 = sum(&file).map_err(unreadable)?;
        // what is pinned is known, wherever it lies
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

    /// Where the loader finds what was looked at, whatever is at the path by now.
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

/// The SHA-256 of some bytes, in hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hexadecimal(&digest::digest(&digest::SHA256, bytes))
}

fn hexadecimal(digest: &digest::Digest) -> String {
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Looks at the ELF header: a shared object for this machine? The error says why not.
pub(crate) fn fits_this_machine(library: &[u8]) -> Result<(), String> {
    const MACHINE: u16 = if cfg!(target_arch = "aarch64") { 183 } else { 62 };
    let header: &[u8; HEADER] = library.first_chunk().ok_or("it is too short for one")?;
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
        (3, other) => Err(format!("it is for another one (ELF machine {other})")),
        _ => Err("it is not a shared object".into()),
    }
}
