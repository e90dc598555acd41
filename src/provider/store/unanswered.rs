//! The requests that were open when a provider was killed. Its keeper refuses and lists them, and the next
//! provider starts their units again.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Store;
use super::folder::UNANSWERED;
use crate::host::systemd::invocation::Invocation;

/// The maximum number of requests in a list.
pub const MOST: usize = 4096;

/// A request that was open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unanswered {
    /// The unit.
    pub unit: String,
    /// The ID under which it asked.
    pub credential: String,
    /// Its invocation at that time.
    pub invocation: Invocation,
}

/// Writes a list to the directory of the store. Each keeper writes one file, named by its own number.
pub fn write(folder: &Path, keeper: i32, requests: &[Unanswered]) -> io::Result<()> {
    let list = serde_json::to_vec(requests)?;
    let options = OpenOptions::new().write(true).create_new(true).mode(0o600).clone();
    options.open(folder.join(format!("{UNANSWERED}{keeper}")))?.write_all(&list)
}

impl Store {
    /// Takes all lists out of the store. Leaves incomplete lists, which are still being written.
    pub fn take_unanswered(&self) -> Vec<Unanswered> {
        let mut all = Vec::new();
        for name in self.folder.names(UNANSWERED) {
            let list = self
                .folder
                .read(&name)
                .and_then(|list| serde_json::from_slice::<Vec<Unanswered>>(&list).ok());
            if let Some(list) = list {
                all.extend(list);
                self.folder.remove(&name);
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::{Kind, testing};
    use super::*;

    fn request(unit: &str) -> Unanswered {
        Unanswered { unit: unit.into(), credential: "db".into(), invocation: "1".into() }
    }

    #[test]
    fn the_next_provider_takes_what_keepers_have_written() {
        let folder = testing::folder();
        write(folder.path(), 7, &[request("a.service")]).unwrap();
        write(folder.path(), 8, &[request("b.service"), request("c.service")]).unwrap();
        fs::write(folder.path().join("unanswered.9"), "[{\"unit\":\"d.ser").unwrap();
        let store = Store::open(folder.path(), Kind::Anything, 1 << 20).unwrap();
        let mut taken = store.take_unanswered();
        taken.sort_by(|one, other| one.unit.cmp(&other.unit));
        assert_eq!(taken, ["a.service", "b.service", "c.service"].map(request));
        assert_eq!(store.take_unanswered(), []);
        let whole = serde_json::to_vec(&[request("d.service")]).unwrap();
        fs::write(folder.path().join("unanswered.9"), whole).unwrap();
        assert_eq!(store.take_unanswered(), [request("d.service")], "it was still being written");
        assert_eq!(Store::none().take_unanswered(), []);
    }
}
