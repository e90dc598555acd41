//! The persistent record of what each source has spent. It is in a memfd that the service manager keeps while
//! the resolver restarts.
//!
//! The resolver may not write files. It does not need to: a descriptor in systemd's store outlives the
//! process and ends with the boot, as the counts do.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, PoisonError};

use nix::sys::memfd::{MFdFlags, memfd_create};

use super::ledger::Ledger;
use crate::host::clock::BootTime;

/// The maximum size of the ledgers in bytes.
const MOST: usize = 1 << 18;
/// The distance between the two slots in the file, in bytes.
const PLACE: u64 = 1 << 19;
/// The size of the header before the ledgers: a sequence number, their length, and the first bytes of a
/// digest of both and the ledgers.
const HEAD: usize = 8 + 4 + DIGEST;
const DIGEST: usize = 16;

/// What all sources have spent.
#[derive(Default)]
pub struct Book(Mutex<Pages>);

#[derive(Default)]
struct Pages {
    ledgers: BTreeMap<String, Ledger>,
    file: Option<File>,
    /// How often the file was written.
    turn: u64,
}

impl Book {
    /// Creates an empty memfd, to be stored with the service manager.
    pub fn file() -> io::Result<OwnedFd> {
        Ok(memfd_create("onecred-book", MFdFlags::MFD_CLOEXEC)?)
    }

    /// Reads the record from a memfd. If it cannot be read, starts with an empty record, and logs this unless
    /// the file is new.
    pub fn in_file(file: OwnedFd) -> Self {
        let file = File::from(file);
        let (turn, mut ledgers) = read(&file).unwrap_or_else(|error| {
            tracing::warn!("the record of calls can't be read, so counting starts from zero: {error}");
            Default::default()
        });
        let now = BootTime::now();
        ledgers.retain(|_, ledger| ledger.matters(now));
        Self(Mutex::new(Pages { ledgers, file: Some(file), turn }))
    }

    /// Reads or changes the ledger of a source.
    pub(super) fn page<T>(&self, name: &str, turn: impl FnOnce(&mut Ledger) -> T) -> T {
        let mut pages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let done = turn(pages.ledgers.entry(name.to_owned()).or_default());
        pages.turn += 1;
        if let Some(file) = &pages.file
            && let Err(error) = write(file, pages.turn, &pages.ledgers)
        {
            tracing::warn!("the record of calls can't be stored for the next start: {error}");
            pages.file = None;
        }
        done
    }
}

/// Writes to the two slots alternately, with a digest. If the resolver is killed during a write, the previous
/// record remains.
fn write(file: &File, turn: u64, ledgers: &BTreeMap<String, Ledger>) -> io::Result<()> {
    let json = serde_json::to_vec(ledgers)?;
    let len =
        u32::try_from(json.len()).ok().filter(|_| json.len() <= MOST).ok_or(io::ErrorKind::FileTooLarge)?;
    let head = [turn.to_be_bytes().as_slice(), &len.to_be_bytes()].concat();
    let whole = [head.as_slice(), &digest(&head, &json), &json].concat();
    file.write_all_at(&whole, turn % 2 * PLACE)
}

/// Reads the newer valid slot.
fn read(file: &File) -> io::Result<(u64, BTreeMap<String, Ledger>)> {
    if file.metadata()?.len() == 0 {
        return Ok(Default::default());
    }
    match (read_at(file, 0), read_at(file, PLACE)) {
        (Ok(a), Ok(b)) => Ok(if a.0 > b.0 { a } else { b }),
        (Ok(one), Err(_)) | (Err(_), Ok(one)) => Ok(one),
        (Err(error), Err(_)) => Err(error),
    }
}

fn read_at(file: &File, place: u64) -> io::Result<(u64, BTreeMap<String, Ledger>)> {
    let mut head = [0; HEAD];
    file.read_exact_at(&mut head, place)?;
    let (told, sum) = head.split_at(HEAD - DIGEST);
    let (turn, len) = told.split_at(8);
    let number = |bytes: &[u8]| bytes.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    let len = usize::try_from(number(len)).unwrap_or(usize::MAX);
    if len > MOST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut json = vec![0; len];
    file.read_exact_at(&mut json, place + HEAD as u64)?;
    if digest(told, &json) != sum {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is not complete"));
    }
    Ok((number(turn), serde_json::from_slice(&json)?))
}

fn digest(head: &[u8], json: &[u8]) -> [u8; DIGEST] {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    context.update(head);
    context.update(json);
    let mut sum = [0; DIGEST];
    sum.copy_from_slice(&context.finish().as_ref()[..DIGEST]);
    sum
}

#[cfg(any(test, fuzzing))]
#[path = "../../../fuzz/rules/book.rs"]
pub(crate) mod fuzz;

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
        assert_eq!(read(&File::from(again())).unwrap().1.len(), 2);
    }

    #[test]
    fn a_book_that_was_torn_has_what_was_written_before() {
        let file = Book::file().unwrap();
        let again = || file.try_clone().unwrap();
        let now = BootTime::now();
        let spent = || Book::in_file(again()).page("a", |ledger| ledger.spent(now, Duration::from_secs(60)));
        let book = Book::in_file(again());
        for _ in 0..2 {
            book.page("a", |ledger| ledger.spend(1, now));
        }
        // a partial write: the kernel writes page by page, and the process may be killed in between
        let cut = |turn: u64| File::from(again()).write_all_at(&[0; 60], turn % 2 * PLACE).unwrap();
        cut(3);
        assert_eq!(spent(), 2, "the third turn did not happen"); // and this read was the third
        cut(4);
        assert_eq!(spent(), 2);
        cut(0);
        cut(1);
        assert!(read(&File::from(again())).is_err(), "nothing is whole, which is told");
        assert_eq!(spent(), 0);
    }
}
