//! Ordering handles: `onecred-file@NAME.service` and `onecred-publish.service` request a credential like any
//! unit, and receive it when their files are published. So units that read files can be ordered after them,
//! and a refusal appears in the journal of the handle.

use std::path::PathBuf;
use std::sync::Arc;

use super::Publisher;
use super::accounts::Accounts;
use super::on_disk::PATIENCE;
use super::plan::{File, Plan, unpublished};
use crate::domain::name::{Claim, UnitName, unescape};
use crate::domain::policy::Deliverable;
use crate::provider::base::publish_error::Fault;
use crate::provider::base::refusal::Refusal;

/// The credential ID of handles.
const CREDENTIAL: &str = "file";
/// The handle of all files.
pub(super) const ALL: &str = "onecred-publish.service";

/// What must be published before a unit continues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Handle {
    /// The file of one secret or template.
    One(String),
    /// All files.
    All,
}

impl Handle {
    /// The handle of a claim, if it belongs to one.
    pub fn of(claim: &Claim) -> Option<Self> {
        Self::of_unit(&claim.unit).filter(|_| claim.credential.as_str() == CREDENTIAL)
    }

    /// The handle of a unit, if it is one.
    pub fn of_unit(unit: &UnitName) -> Option<Self> {
        match unit.as_str() {
            ALL => Some(Self::All),
            _ => Self::name_of(unit).map(Self::One),
        }
    }

    /// The secret or template of a unit `onecred-file@NAME.service`.
    fn name_of(unit: &UnitName) -> Option<String> {
        let instance = unit.instance().filter(|_| unit.prefix() == "onecred-file")?;
        unit.as_str().ends_with(".service").then_some(())?;
        // names do not contain slashes, so an unescaped dash is a dash
        let name = unescape(&instance.replace('-', r"\x2d"));
        Some(name.unwrap_or_else(|| instance.to_owned()))
    }
}

/// A file that a handle waits for.
#[derive(Debug)]
pub struct Awaited {
    /// The name of the secret or template.
    pub name: String,
    /// Its content.
    pub content: Deliverable,
    /// Its path.
    pub path: PathBuf,
    /// Why it could not be written, whatever its value.
    pub unwritable: Option<Refusal>,
}

/// The files of a handle.
pub(super) fn files<'a>(plan: &'a Plan, handle: &Handle) -> Vec<&'a File> {
    match handle {
        Handle::One(name) => plan.named(name).collect(),
        Handle::All => plan.files.iter().collect(),
    }
}

impl Publisher {
    /// The files that a handle waits for. Fails if none of the handle's files are configured.
    pub async fn awaited(self: &Arc<Self>, handle: &Handle) -> Result<Vec<Awaited>, Refusal> {
        let plan = self.configured()?;
        let files = files(&plan, handle);
        if let (Handle::One(name), []) = (handle, files.as_slice()) {
            return Err(Refusal::NoFile(name.clone()));
        }
        let accounts = Accounts::of(files.iter().map(|file| &file.target)).await;
        let roots: Vec<PathBuf> = files.iter().map(|file| file.root.clone()).collect();
        let opens = move |publisher: &Self| {
            let writer = publisher.writer();
            roots.iter().map(|root| writer.opens(root).err()).collect::<Vec<_>>()
        };
        let opens = self.on_disk_soon(opens).await;
        let opens = opens
            .unwrap_or_else(|_no_answer| files.iter().map(|_| Some(Fault::NoAnswer(PATIENCE))).collect());
        let awaited = |(file, fault): (&File, Option<Fault>)| Awaited {
            name: file.name.to_string(),
            content: file.content.clone(),
            path: file.target.path.clone(),
            unwritable: accounts.owner(&file.target).err().or(fault).map(unpublished(file)),
        };
        Ok(files.into_iter().zip(opens).map(awaited).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(address: &str) -> Option<Handle> {
        Handle::of(&Claim::parse(address.as_bytes()).unwrap())
    }

    #[test]
    fn units_that_are_handles() {
        let one = |name: &str| Some(Handle::One(name.to_owned()));
        assert_eq!(of("0f/unit/onecred-file@db-password.service/file"), one("db-password"));
        assert_eq!(of(r"0f/unit/onecred-file@db\x2dpassword.service/file"), one("db-password"));
        assert_eq!(of("0f/unit/onecred-file@a@b.service/file"), one("a@b"));
        assert_eq!(of("0f/unit/onecred-publish.service/file"), Some(Handle::All));
        assert_eq!(of("0f/unit/onecred-file@a.service/other"), None);
        assert_eq!(of("0f/unit/onecred-file.service/file"), None);
        assert_eq!(of("0f/unit/onecred-file@a.socket/file"), None);
        assert_eq!(of("0f/unit/app.service/file"), None);
    }
}
