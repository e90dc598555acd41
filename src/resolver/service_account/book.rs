//! The book: what each source has spent, kept in a memory file that the service manager holds while the resolver is restarted.
//!
//! The resolver may write no file, and needs none: a descriptor in systemd's store outlives it, and ends with the boot as the counts do.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, PoisonError};

use nix::sys::memfd::{MFdFlags, memfd_create};

use super::quota::Ledger;
use crate::clock::BootTime;

/// The most bytes that the file may have.
const MOST: usize = 1 << 18;

/// What all sources have spent.
#[derive(Default)]
pub struct Book(Mutex<Pages>);

#[derive(Default)]
struct Pages {
    ledgers: BTreeMap<String, Ledger>,
    file: Option<File>,
}

impl Book {
    /// An empty memory file for a book, to be given to the service manager.
    pub fn file() -> io::Result<OwnedFd> {
        Ok(memfd_create("onecred-book", MFdFlags::MFD_CLOEXEC)?)
    }

    /// The book in a memory file; an empty one where nothing can be read there.
    pub fn in_file(file: OwnedFd) -> Self {
        let file = File::from(file);
        let mut ledgers = read(&file).unwrap_or_default();
        let now = BootTime::now();
        ledgers.retain(|_, ledger| ledger.matters(now));
        Self(Mutex::new(Pages { ledgers, file: Some(file) }))
    }

    /// Looks at a source's page, or writes on it.
    pub(super) fn page<T>(&self, name: &str, turn: impl FnOnce(&mut Ledger) -> T) -> T {
        let mut pages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let done = turn(pages.ledgers.entry(name.to_owned()).or_default());
        if let Some(file) = &pages.file
            && let Err(error) = write(file, &pages.ledgers)
        {
            tracing::warn!("what was spent can't be kept for the time after a restart: {error}");
            pages.file = None;
        }
        done
    }
}

/// In one piece, with its length before it: a resolver that is killed leaves what was there before, or what was meant.
fn write(file: &File, ledgers: &BTreeMap<String, Ledger>) -> io::Result<()> {
    let json = serde_json::to_vec(ledgers)?;
    let len =
        u32::try_from(json.len()).ok().filter(|_| json.len() <= MOST).ok_or(io::ErrorKind::FileTooLarge)?;
    file.write_all_at(&[&len.to_be_bytes(), json.as_slice()].concat(), 0)
}

fn read(file: &File) -> io::Result<BTreeMap<String, Ledger>> {
    let mut len = [0; 4];
    file.read_exact_at(&mut len, 0)?;
    let len = usize::try_from(u32::from_be_bytes(len)).unwrap_or(usize::MAX);
    if len > MOST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut json = vec![0; len];
    file.read_exact_at(&mut json, 4)?;
    Ok(serde_json::from_slice(&json)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_book_outlives_its_reader() {
        let file = Book::file().unwrap();
        let again = || file.try_clone().unwrap();
        let now = BootTime::now();
        Book::in_file(again()).page("a", |ledger| ledger.spend(3, now));
        let book = Book::in_file(again());
        assert_eq!(book.page("a", |ledger| ledger.spent(now, Duration::from_secs(60))), 3);
        assert_eq!(book.page("b", |ledger| ledger.spent(now, Duration::from_secs(60))), 0);
        drop(book);
        assert_eq!(read(&File::from(again())).unwrap().len(), 2);
        File::from(again()).write_all_at(&[0xff; 40], 0).unwrap();
        Book::in_file(again()).page("a", |ledger| assert_eq!(ledger.spent(now, Duration::from_secs(60)), 0));
    }
}
