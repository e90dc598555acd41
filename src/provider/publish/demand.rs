//! Publishes on demand: the files of a handle, or all configured files, as fresh as a unit would receive
//! them.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::task::JoinSet;

use super::super::base::process_id::ProcessId;
use super::accounts::Accounts;
use super::handle::Handle;
use super::on_disk::PATIENCE;
use super::plan::{File, Plan, unpublished};
use super::{NO_MORE, Publisher, Ready};
use crate::domain::name::{SecretName, UnitName};
use crate::domain::secret::SecretValue;
use crate::host::clock::BootTime;
use crate::host::systemd::message_id;
use crate::provider::base::asker::Asker;
use crate::provider::base::publish_error::Fault;
use crate::provider::base::refusal::Refusal;
use crate::provider::fetch::assemble::{self, Job, LookUp, PendingPart};

impl Publisher {
    /// Publishes configured files that do not exist yet, for programs that do not wait for a handle.
    pub async fn complete(self: &Arc<Self>) {
        let Some(plan) = self.plan() else { return };
        let missing = move |publisher: &Self| {
            let writer = publisher.writer();
            plan.files.iter().filter(|file| !writer.has(&file.target.path)).cloned().collect()
        };
        let missing = self.on_disk(missing).await;
        for (file, refusal) in self.publish_each(missing).await.1 {
            let reason = refusal.outright(file.name.as_str());
            tracing::warn!(
                message_id = message_id::UNPUBLISHED,
                onecred_secret = file.name.as_str(),
                onecred_result = refusal.kind(),
                "{} is not published: {reason}",
                file.name
            );
        }
    }

    /// What the files of a handle are waiting for.
    pub(in crate::provider) fn waits_for(&self, handle: &Handle) -> Vec<PendingPart> {
        let (Handle::One(name), Some(plan)) = (handle, self.plan()) else { return Vec::new() };
        let missing = |file: &File| {
            let (process, arrived) = (ProcessId::nobody(), BootTime::now());
            let job = Job { what: file.content.clone(), process, arrived, asker: asker(file) };
            match assemble::look_up(&self.broker, &job) {
                LookUp::Pending(missing) => Some(missing),
                LookUp::Known(_) => None,
            }
        };
        plan.named(name).filter_map(missing).collect()
    }

    /// Publishes the files of a secret or template, as fresh as a unit would receive it. Returns their paths.
    pub async fn publish(self: &Arc<Self>, name: &str) -> Result<Vec<PathBuf>, Refusal> {
        let plan = self.configured()?;
        let groups = plan.named(name).filter_map(|file| plan.group_of(file)).flat_map(|(_, group)| group);
        let accounts = Arc::new(Accounts::of(groups.map(|file| &file.target)).await);
        let mut paths = Vec::new();
        for file in plan.named(name) {
            self.publish_one(file, &accounts).await?;
            paths.push(file.target.path.clone());
        }
        self.on_disk_soon(Self::flush).await.map_err(no_answer(&plan, name))?;
        if paths.is_empty() { Err(Refusal::NoFile(name.to_owned())) } else { Ok(paths) }
    }

    /// Publishes everything. Returns the number of published files, and the names of the others with the
    /// reason.
    pub(in crate::provider) async fn publish_all(
        self: &Arc<Self>,
    ) -> Result<(usize, Vec<(SecretName, Refusal)>), Refusal> {
        let (count, refusals) = self.publish_each(self.configured()?.files.clone()).await;
        Ok((count, refusals.into_iter().map(|(file, refusal)| (file.name, refusal)).collect()))
    }

    async fn publish_each(self: &Arc<Self>, files: Vec<File>) -> (usize, Vec<(File, Refusal)>) {
        let accounts = Arc::new(Accounts::of(files.iter().map(|file| &file.target)).await);
        let (owners, all) = (Arc::clone(&accounts), files.clone());
        let put = self.on_disk_soon(move |publisher| publisher.put_fresh(&all, &owners)).await;
        let (mut count, mut refusals, rest) = match put {
            Ok(put) => put,
            Err(_no_answer) => {
                let refusal = |file: &File| unpublished(file)(Fault::NoAnswer(PATIENCE));
                return (0, files.iter().map(|file| (file.clone(), refusal(file))).collect());
            }
        };
        let mut running = JoinSet::new();
        for file in rest {
            let (publisher, accounts) = (Arc::clone(self), Arc::clone(&accounts));
            running.spawn(async move {
                let result = publisher.publish_one(&file, &accounts).await;
                (file, result)
            });
        }
        for (file, result) in running.join_all().await {
            match result {
                Ok(()) => count += 1,
                Err(refusal) => refusals.push((file, refusal)),
            }
        }
        refusals.sort_by(|one, other| one.0.name.cmp(&other.0.name));
        let _ = self.on_disk_soon(Self::flush).await; // the next work on files saves it too
        (count, refusals)
    }

    /// Writes the files that need no wait, in one round. Returns how many, those that could not be written, and the others.
    fn put_fresh(&self, files: &[File], accounts: &Accounts) -> (usize, Vec<(File, Refusal)>, Vec<File>) {
        {
            let mut writer = self.writer();
            files.iter().for_each(|file| writer.manifest.note(&file.target, &file.root));
            self.save(&mut writer); // once for all files
        }
        let together = |one: &File, other: &File| one.item.is_some() && one.item == other.item;
        let (mut fresh, mut rest) = (Vec::new(), Vec::new());
        for group in files.chunk_by(together) {
            match self.fresh(group) {
                Some(ready) => fresh.push(ready),
                None => rest.extend_from_slice(group),
            }
        }
        let (mut count, mut refusals) = (0, Vec::new());
        for (file, result) in self.put(fresh, accounts) {
            match result {
                Ok(()) => count += 1,
                Err(fault) => refusals.push((file.clone(), unpublished(file)(fault))),
            }
        }
        (count, refusals, rest)
    }

    /// The values of a group, if all of them are available without waiting.
    fn fresh<'a>(&self, group: &'a [File]) -> Option<Ready<'a>> {
        let (process, arrived) = (ProcessId::nobody(), BootTime::now());
        let value = |file: &'a File| {
            let job = Job { what: file.content.clone(), process, arrived, asker: asker(file) };
            Some((file, assemble::look_up(&self.broker, &job).known()?.ok()?.value))
        };
        group.iter().map(value).collect()
    }

    async fn publish_one(self: &Arc<Self>, file: &File, accounts: &Arc<Accounts>) -> Result<(), Refusal> {
        // before asking 1Password
        accounts.owner(&file.target).map_err(unpublished(file))?;
        let root = file.root.clone();
        let opens = self.on_disk_soon(move |publisher| publisher.writer().opens(&root)).await;
        opens.and_then(|opens| opens).map_err(unpublished(file))?;
        let arrived = BootTime::now();
        let job =
            Job { what: file.content.clone(), process: ProcessId::nobody(), arrived, asker: asker(file) };
        let result = assemble::get(&self.broker, &job).await;
        let (own, accounts) = (file.clone(), Arc::clone(accounts));
        let work = move |publisher: &Self| match result {
            Ok(assembled) => publisher.put_with_group(&own, assembled.value, &accounts),
            Err(refusal) => {
                if is_gone(&refusal) {
                    publisher.withdraw(std::iter::once(&own), NO_MORE);
                }
                Err(refusal)
            }
        };
        self.on_disk_soon(work).await.map_err(unpublished(file))?
    }

    /// Writes a file. Already published files of the item are rewritten too, so that all have the same version.
    fn put_with_group(&self, file: &File, value: SecretValue, accounts: &Accounts) -> Result<(), Refusal> {
        let plan = self.configured()?;
        let Some((file, group)) = plan.group_of(file) else {
            // its configuration has changed in the meantime
            return Err(Refusal::NoFile(file.name.to_string()));
        };
        let others = group.iter().filter(|other| *other != file && accounts.owner(&other.target).is_ok());
        let others: Vec<_> = others.filter(|other| self.writer().has(&other.target.path)).collect();
        let mut group = self.at_hand(others.into_iter(), ProcessId::nobody());
        group.insert(0, (file, value));
        let results = self.put(vec![group], accounts);
        let own = results.into_iter().find(|(of, _)| *of == file);
        own.map_or(Ok(()), |(_, result)| result).map_err(unpublished(file))
    }
}

/// The refusal for a file of this name, whose disk does not answer.
fn no_answer(plan: &Plan, name: &str) -> impl FnOnce(Fault) -> Refusal {
    let path = plan.named(name).next().map(|file| file.target.path.clone()).unwrap_or_default();
    move |fault| Refusal::Unpublished { path, fault }
}

/// A file is looked up on behalf of the unit that starts after it is published.
fn asker(file: &File) -> Asker {
    UnitName::parse(&format!("onecred-file@{}.service", file.name)).map_or(Asker::Onecred, Asker::Start)
}

/// Whether 1Password reports that the item does not exist or is inaccessible.
fn is_gone(refusal: &Refusal) -> bool {
    match refusal {
        Refusal::Failed { failure, .. } => failure.class.is_confirmed_gone(),
        Refusal::Part { refusal, .. } => is_gone(refusal),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::reference::Reference;
    use crate::ipc::{Class, Failure};

    #[test]
    fn a_file_is_withdrawn_only_if_1password_has_confirmed_it() {
        for (class, is_confirmed) in [
            (Class::NotFound, true),
            (Class::Several, true),
            (Class::Away, false),
            (Class::Limited, false),
            (Class::Denied, false),
        ] {
            let reference = Reference::parse("op://v/i/f").unwrap();
            let failed = || Refusal::Failed {
                reference: reference.clone(),
                failure: Failure::new(class, "cause", "remedy"),
            };
            assert_eq!(is_gone(&failed()), is_confirmed, "{class:?}");
            let template = SecretName::parse("app.env").unwrap();
            let part = Refusal::Part { template, refusal: Box::new(failed()) };
            assert_eq!(is_gone(&part), is_confirmed, "{class:?}, in a template");
        }
        assert!(!is_gone(&Refusal::Stopping));
    }
}
