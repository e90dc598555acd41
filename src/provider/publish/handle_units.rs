//! Keeps `onecred-file@NAME.service` and `onecred-publish.service` active only while their files exist, so
//! that the next start of a unit that requires them waits or fails.
//!
//! A handle whose files are gone is restarted without its dependencies. It asks again, and waits or is
//! refused with the reason in its journal. Stopping it in any other way would also stop the units that
//! require it.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::Publisher;
use super::handle::{self, Handle};
use super::write::Open;
use crate::domain::name::UnitName;
use crate::domain::secret::Target;
use crate::host::pause::Growing;
use crate::host::systemd::manager::{Link, Listed};
use crate::host::systemd::message_id;
use crate::provider::base::refusal::Refusal;
use crate::provider::store::Kind;

/// The names of these units as patterns.
const UNITS: [&str; 2] = ["onecred-file@*.service", handle::ALL];
/// The states of handles to consider. Other states mean that nothing has started the handle.
const STATES: [&str; 4] = ["active", "activating", "deactivating", "failed"];
/// When to check handles again that were starting or stopping.
const SOON: Duration = Duration::from_secs(1);
/// How often to try to reach D-Bus: the first pause, and the longest.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];
/// The maximum number of consumers of one handle whose journals receive the reason of its refusal.
const MOST_CONSUMERS: usize = 64;

/// Whether the files of a handle exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Files {
    /// All of them exist, and their values have no errors.
    Good,
    /// One of them does not exist, or none is configured.
    Gone,
    /// Unknown.
    Unclear,
}

/// What to do with a handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HandleStep {
    Nothing,
    /// It is active without its files: restart it, so that it requests them again.
    AskAgain,
    /// It failed, and its files exist.
    Start,
    /// It is about to become active or to fail.
    LookAgain,
}

/// Decides by the state of the handle and whether it has a job.
fn step(state: &str, has_job: bool, files: Files) -> HandleStep {
    match (files, state) {
        (Files::Gone, "active") if !has_job => HandleStep::AskAgain,
        (Files::Gone, "active" | "activating") => HandleStep::LookAgain,
        (Files::Good, "failed") if !has_job => HandleStep::Start,
        _ => HandleStep::Nothing,
    }
}

impl Publisher {
    /// Follows the files until it is dropped.
    pub async fn follow_handles(self: Arc<Self>) {
        let mut pauses = Growing::doubling(PAUSES[0], PAUSES[1]);
        loop {
            self.files_changed.notified().await;
            loop {
                match self.settle_handles().await {
                    Ok(true) => {
                        pauses.reset();
                        break;
                    }
                    Ok(false) => sleep(SOON).await,
                    Err(error) => {
                        tracing::debug!("the state of handles can't be compared with the files now: {error}");
                        let _ = timeout(pauses.pause(), self.files_changed.notified()).await;
                    }
                }
            }
        }
    }

    /// Compares the handles with the files once. Returns whether all are in the right state.
    async fn settle_handles(self: &Arc<Self>) -> zbus::Result<bool> {
        let manager = self.link.manager().await?;
        let units = manager.list_units_by_patterns(&STATES, &UNITS).await?;
        let mut settled = true;
        for (unit, step) in self.on_disk(move |publisher| publisher.steps(units)).await {
            let job = match step {
                HandleStep::AskAgain => manager.restart_unit(&unit, "ignore-dependencies").await,
                HandleStep::Start => manager.start_unit(&unit, "replace").await,
                HandleStep::LookAgain => {
                    settled = false;
                    continue;
                }
                HandleStep::Nothing => continue,
            };
            match job {
                Ok(_) if step == HandleStep::AskAgain => tracing::info!(
                    object_systemd_unit = unit.as_str(),
                    onecred_unit = unit.as_str(),
                    "{unit} is restarted because its file is gone; units that require it are not stopped"
                ),
                Ok(_) => {}
                // the service manager refuses; it did answer
                Err(zbus::Error::MethodError(name, why, _)) => {
                    tracing::warn!(
                        "{unit} can't be started again after its file was removed or restored: {name}: {}",
                        why.unwrap_or_default()
                    );
                }
                Err(error) => return Err(error),
            }
        }
        Ok(settled)
    }

    pub(super) fn steps(&self, units: Vec<Listed>) -> Vec<(String, HandleStep)> {
        let step_of = |(unit, _, _, state, _, _, _, job, ..): Listed| {
            let handle = Handle::of_unit(&UnitName::parse(&unit).ok()?)?;
            let step = step(&state, job != 0, self.files_of(&handle));
            let recovers = || self.is_to_recover.get().is_some_and(|is_to_recover| is_to_recover(&unit));
            let step = if step == HandleStep::Start && recovers() { HandleStep::Nothing } else { step };
            (step != HandleStep::Nothing).then_some((unit, step))
        };
        units.into_iter().filter_map(step_of).collect()
    }

    fn files_of(&self, handle: &Handle) -> Files {
        let Some(plan) = self.plan() else { return Files::Unclear };
        let (writer, open) = (self.writer(), &mut Open::default());
        let files = handle::files(&plan, handle);
        if files.is_empty() && *handle != Handle::All {
            return Files::Gone;
        }
        let mut all = Files::Good;
        for file in files {
            let mut parts = file.content.parts().iter();
            match writer.exists(&file.target.path, &file.root, open) {
                Some(false) => return Files::Gone,
                Some(true)
                    if has_links(&file.target)
                        && parts.all(|wanted| self.broker.condition(wanted).error.is_none()) => {}
                _ => all = Files::Unclear,
            }
        }
        all
    }

    /// Logs why a handle is refused in the journals of the units that require it, which would otherwise show
    /// only that a dependency failed.
    pub(in crate::provider) async fn tell_consumers(&self, unit: &UnitName, refusal: &Refusal) {
        let Some(handle) = Handle::of_unit(unit).filter(|_| self.kind == Kind::Memory) else {
            return;
        };
        let consumers = match consumers(&self.link, unit.as_str()).await {
            Ok(consumers) => consumers,
            Err(error) => return tracing::debug!("units that require {unit} can't be listed now: {error}"),
        };
        let reason = reason(unit, &handle, refusal);
        let name = match &handle {
            Handle::One(name) => Some(name.as_str()),
            Handle::All => None,
        };
        for consumer in consumers.into_iter().take(MOST_CONSUMERS) {
            tracing::error!(
                message_id = message_id::UNPUBLISHED,
                object_systemd_unit = consumer.as_str(),
                onecred_unit = consumer.as_str(),
                onecred_secret = name,
                onecred_result = refusal.kind(),
                "{consumer} requires {unit}, which is refused, so it can't start: {reason}"
            );
        }
    }
}

/// Why a handle is refused, for the journals of other units.
fn reason(unit: &UnitName, handle: &Handle, refusal: &Refusal) -> String {
    match (handle, refusal) {
        (_, Refusal::SomeUnpublished { names, .. }) => {
            format!("not everything is published: {}; see: journalctl -u {unit}", names.join(", "))
        }
        (Handle::One(name), _) => refusal.outright(name),
        (Handle::All, _) => refusal.outright_for(unit),
    }
}

/// Whether all links to a file exist: a handle fails if its links cannot be created.
fn has_links(target: &Target) -> bool {
    target.links.iter().all(|link| fs::read_link(link).is_ok_and(|to| to == target.path))
}

/// The units that cannot start without another.
async fn consumers(link: &Link, unit: &str) -> zbus::Result<Vec<String>> {
    let unit = link.unit(unit).await?;
    let mut all = unit.required_by().await?;
    all.extend(unit.requisite_of().await?);
    all.extend(unit.bound_by().await?);
    all.sort();
    all.dedup();
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consumers_are_told_why_their_handle_is_refused() {
        let unit = |name| UnitName::parse(name).unwrap();
        let some = Refusal::SomeUnpublished { names: vec!["db".into(), "key".into()], ends: None };
        let said = reason(&unit(handle::ALL), &Handle::All, &some);
        assert_eq!(said, "not everything is published: db, key; see: journalctl -u onecred-publish.service");
        let said = reason(&unit(handle::ALL), &Handle::All, &Refusal::Stopping);
        assert!(said.ends_with("systemctl start onecred-publish.service"), "{said}");
        let (one, none) = (Handle::One("db".into()), Refusal::NoFile("db".into()));
        let said = reason(&unit("onecred-file@db.service"), &one, &none);
        assert!(said.starts_with("there is no secret or template \"db\" with a \"target\""), "{said}");
    }

    #[test]
    fn links_are_those_to_the_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, link) = (folder.path().join("file"), folder.path().join("link"));
        let target = |links: &[&std::path::Path]| Target {
            path: path.clone(),
            user: "root".into(),
            group: None,
            mode: 0o400,
            links: links.iter().map(|link| link.to_path_buf()).collect(),
            make_directories: false,
        };
        assert!(has_links(&target(&[])));
        assert!(!has_links(&target(&[&link])));
        std::os::unix::fs::symlink("elsewhere", &link).expect("a link");
        assert!(!has_links(&target(&[&link])));
        let right = folder.path().join("right");
        std::os::unix::fs::symlink(&path, &right).expect("a link");
        assert!(has_links(&target(&[&right])));
        assert!(!has_links(&target(&[&right, &link])));
    }

    #[test]
    fn a_unit_asks_again_only_where_its_files_are_gone() {
        for (state, has_job, files, expected) in [
            ("active", false, Files::Gone, HandleStep::AskAgain),
            ("active", true, Files::Gone, HandleStep::LookAgain),
            ("activating", true, Files::Gone, HandleStep::LookAgain),
            ("activating", false, Files::Gone, HandleStep::LookAgain),
            ("deactivating", true, Files::Gone, HandleStep::Nothing),
            ("failed", false, Files::Gone, HandleStep::Nothing),
            ("active", false, Files::Good, HandleStep::Nothing),
            ("active", false, Files::Unclear, HandleStep::Nothing),
            ("failed", false, Files::Good, HandleStep::Start),
            ("failed", true, Files::Good, HandleStep::Nothing),
            ("failed", false, Files::Unclear, HandleStep::Nothing),
            ("activating", true, Files::Good, HandleStep::Nothing),
        ] {
            assert_eq!(step(state, has_job, files), expected, "{state}, job {has_job}, {files:?}");
        }
    }
}
