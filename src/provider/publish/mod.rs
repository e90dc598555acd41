//! Published files: secrets for programs that read paths, in a ramfs that others may look into.
//!
//! What is there follows the store and the configuration: files come when a handle asks for them, are replaced when their item changes, and go when they
//! are no longer configured or 1Password has them no more.

mod accounts;
mod demand;
mod dirs;
mod handle;
mod links;
mod manifest;
mod plan;
mod swap;
mod write;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::broadcast::error::RecvError;

use super::base::process_id::ProcessId;
use super::store::Kind;
use crate::config::Settings;
use crate::domain::reference::FieldRef;
use crate::domain::secret::{SecretValue, Wanted};
use crate::host::clock::BootTime;
use crate::host::systemd::message_id;
use crate::provider::base::active_config::Active;
use crate::provider::base::events::Event;
use crate::provider::base::item_key::ItemKey;
use crate::provider::base::publish_error::Fault;
use crate::provider::base::refusal::Refusal;
use crate::provider::fetch::assemble::{self, Job};
use crate::provider::fetch::broker::Broker;

use accounts::Accounts;
pub use dirs::objection;
pub use handle::{Awaited, Handle};
use plan::{File, Plan};
use write::{Open, Piece, Writer};

/// Publishes files.
pub struct Publisher {
    broker: Arc<Broker>,
    writer: Mutex<Writer>,
    /// The plan that was made last, and of what.
    plan: Mutex<Option<(Arc<Active>, Arc<Plan>)>>,
}

/// Why a file goes.
const NO_MORE: &str = "1Password has it no more";
/// The same, where an admin's value has stood in for it.
const RELEASED: &str = "what stood in for it was released, and there is nothing else";

/// What all published files are made of.
pub(super) fn parts(settings: &Settings) -> Vec<Arc<Wanted>> {
    Plan::of(settings).files.iter().flat_map(|file| file.content.parts().to_vec()).collect()
}

/// Files whose values are at hand.
type Ready<'a> = Vec<(&'a File, SecretValue)>;

impl Publisher {
    /// A publisher that goes on where the process before this one stopped.
    pub fn new(broker: Arc<Broker>, kind: Kind) -> Self {
        let manifest = broker.store().published().and_then(|list| serde_json::from_slice(&list).ok());
        let writer = Mutex::new(Writer::new(kind, manifest.unwrap_or_default()));
        Self { writer, plan: Mutex::default(), broker }
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What should be there by the configuration in force; none where it can't be used, and everything stays as it is.
    fn plan(&self) -> Option<Arc<Plan>> {
        self.configured().ok()
    }

    /// Removes what is no longer configured, and what was left unfinished.
    pub fn prune(&self) {
        let Some(plan) = self.plan() else { return };
        // what is at hand replaces the file right after this; what is not must not stand there as what it is not
        let others: HashSet<&Path> = {
            let files: Vec<&File> = {
                let writer = self.writer();
                let is_other = |file: &&File| {
                    writer.made_of(&file.target.path).is_some_and(|made_of| made_of != file.print)
                };
                plan.files.iter().filter(is_other).collect()
            };
            let is_away = |file: &&File| self.at_hand(std::iter::once(*file), ProcessId::nobody()).is_empty();
            files.into_iter().filter(is_away).map(|file| file.target.path.as_path()).collect()
        };
        let mut writer = self.writer();
        let files: HashMap<&Path, &File> =
            plan.files.iter().map(|file| (file.target.path.as_path(), file)).collect();
        let links: HashMap<&Path, &Path> = plan
            .files
            .iter()
            .flat_map(|file| {
                file.target.links.iter().map(|link| (link.as_path(), file.target.path.as_path()))
            })
            .collect();
        let gone = |path: &Path, root: &Path| {
            others.contains(path) || files.get(path).is_none_or(|file| file.root != root)
        };
        let old_files: Vec<PathBuf> = {
            let old = writer.manifest.files.iter().filter(|(path, entry)| gone(path, &entry.root));
            old.map(|(path, _)| path.clone()).collect()
        };
        let old_links: Vec<PathBuf> = {
            let old = writer.manifest.links.iter().filter(|(link, _)| !links.contains_key(link.as_path()));
            old.map(|(link, _)| link.clone()).collect()
        };
        let open = &mut Open::default();
        let unlinked = old_links.iter().map(|link| writer.unlink(link)).collect::<Vec<_>>();
        let removed = old_files.iter().map(|path| writer.remove(path, open)).collect::<Vec<_>>();
        for fault in unlinked.into_iter().chain(removed).filter_map(Result::err) {
            tracing::error!("what is no longer configured is still there: {fault}");
        }
        writer.clean(&plan.roots, open);
        if !old_files.is_empty() || !old_links.is_empty() {
            writer.remove_empty_dirs(&plan.roots, open);
            self.save(&writer);
        }
    }

    /// Brings the files into line with configuration and store, without asking 1Password for anything.
    pub async fn sync(&self) {
        self.prune();
        self.refresh(|_| true).await;
        self.withdraw_gone();
    }

    /// Withdraws what 1Password is known to have no more: of more events than can be kept, some are told to nobody.
    fn withdraw_gone(&self) {
        let Some(plan) = self.plan() else { return };
        let is_gone = |wanted: &Arc<Wanted>| {
            let error = self.broker.condition(wanted).error;
            error.is_some_and(|failure| failure.class.is_confirmed_gone())
        };
        let files: Vec<&File> = {
            let writer = self.writer();
            plan.files.iter().filter(|file| writer.has(&file.target.path)).collect()
        };
        let files = files.into_iter().filter(|file| file.content.parts().iter().any(is_gone));
        let gone: Vec<&File> = files
            .filter(|file| self.at_hand(std::iter::once(*file), ProcessId::nobody()).is_empty())
            .collect();
        if !gone.is_empty() {
            self.withdraw(gone.into_iter(), NO_MORE);
        }
    }

    /// Publishes what is in the store, and goes on with each change of it.
    pub async fn follow(self: Arc<Self>) {
        let mut events = self.broker.events.follow();
        self.sync().await;
        loop {
            match events.recv().await {
                Ok(Event::Changed { key, .. }) => {
                    self.refresh(|file| file.parts_of(&key).next().is_some()).await
                }
                Ok(Event::Failed { key, fields, failure }) if failure.class.is_confirmed_gone() => {
                    self.gone(&key, fields.as_deref());
                }
                Ok(Event::Held { name }) => {
                    let of_it = |file: &File| file.content.parts().iter().any(|wanted| wanted.label == name);
                    self.refresh(of_it).await;
                    if self.broker.store().held(&name).is_none() {
                        self.withdraw_what_is_not_there(of_it, RELEASED);
                    }
                }
                Ok(Event::Failed { .. } | Event::Configured) => {} // who reloads syncs
                Err(RecvError::Lagged(_)) => self.sync().await,
                Err(RecvError::Closed) => return,
            }
        }
    }

    /// An item, or these fields of it, are no longer there, or no longer ours to have: nothing of them is left.
    fn gone(&self, key: &ItemKey, fields: Option<&[FieldRef]>) {
        let is_gone = |wanted: &Arc<Wanted>| fields.is_none_or(|gone| gone.contains(&wanted.reference.field));
        self.withdraw_what_is_not_there(|file| file.parts_of(key).any(is_gone), NO_MORE);
    }

    /// Removes those of these files whose values are not there any more. What an admin holds in the place of one is there all the same.
    fn withdraw_what_is_not_there(&self, which: impl Fn(&File) -> bool, why: &str) {
        let Some(plan) = self.plan() else { return };
        let files = plan.files.iter().filter(|file| which(file));
        let gone = files.filter(|file| self.at_hand(std::iter::once(*file), ProcessId::nobody()).is_empty());
        self.withdraw(gone, why);
    }

    fn withdraw<'a>(&self, files: impl Iterator<Item = &'a File>, why: &str) {
        let mut writer = self.writer();
        let open = &mut Open::default();
        for file in files.filter(|file| file.target.path.is_absolute()) {
            let published = writer.has(&file.target.path);
            let links = file.target.links.iter().try_for_each(|link| writer.unlink(link));
            // a link that can't be removed keeps no secret
            match writer.remove(&file.target.path, open).and(links) {
                Ok(()) if published => tracing::error!(
                    message_id = message_id::UNPUBLISHED,
                    onecred_secret = file.name.as_str(),
                    "{} of {} is no longer there: {why}",
                    file.target.path.display(),
                    file.name
                ),
                Ok(()) => {}
                Err(fault) => tracing::error!("{}: {why}, and {fault}", file.name),
            }
        }
        self.save(&writer);
    }

    async fn refresh(&self, which: impl Fn(&File) -> bool) {
        let Some(plan) = self.plan() else { return };
        let accounts =
            Accounts::of(plan.files.iter().filter(|file| which(file)).map(|file| &file.target)).await;
        let Some(plan) = self.plan() else { return }; // what counts is what is configured now
        let groups: Vec<Ready<'_>> = plan
            .groups()
            .map(|group| group.iter().filter(|file| which(file)).collect::<Vec<_>>())
            .map(|files| self.at_hand(files.into_iter(), ProcessId::nobody()))
            .collect();
        for (file, result) in self.put(groups, &accounts) {
            if let Err(fault) = result {
                let remedy = fault.remedy(file.name.as_str());
                tracing::error!(
                    message_id = message_id::UNPUBLISHED,
                    onecred_secret = file.name.as_str(),
                    "{} can't be published: {fault}; {remedy}",
                    file.target.path.display()
                );
            }
        }
        self.flush();
    }

    /// The files whose values are in the store, however old: whether those are still right is found out elsewhere.
    fn at_hand<'a>(&self, files: impl Iterator<Item = &'a File>, process: ProcessId) -> Ready<'a> {
        let value = |file: &File| {
            let job = Job { what: file.of_any_age(), process, arrived: BootTime::now() };
            assemble::at_once(&self.broker, &job)?.ok().map(|assembled| assembled.value)
        };
        files.filter_map(|file| Some((file, value(file)?))).collect()
    }

    /// Writes groups of files, each group of one version.
    fn put<'a>(&self, groups: Vec<Ready<'a>>, accounts: &Accounts) -> Vec<(&'a File, Result<(), Fault>)> {
        let mut writer = self.writer();
        writer.limit = self.broker.active().settings.limits.store_bytes;
        let all = groups.iter().flatten();
        let news = all.fold(false, |news, (file, _)| writer.note(&file.target, &file.root) | news);
        if news {
            self.save(&writer);
        }
        let open = &mut Open::default();
        let (mut results, mut wrote) = (Vec::new(), false);
        for group in groups {
            let (mut files, mut pieces) = (Vec::new(), Vec::new());
            for (file, value) in group {
                match accounts.owner(&file.target) {
                    Ok(owner) => {
                        files.push(file);
                        let made_of = file.print.clone();
                        pieces.push(Piece { target: &file.target, root: &file.root, owner, value, made_of });
                    }
                    Err(fault) => results.push((file, Err(fault))),
                }
            }
            for (file, result) in files.into_iter().zip(writer.put(&pieces, open)) {
                wrote |= matches!(result, Ok(true));
                let linked =
                    |_| file.target.links.iter().try_for_each(|link| writer.link(link, &file.target.path));
                results.push((file, result.and_then(linked)));
            }
        }
        writer.unsaved |= wrote;
        results
    }

    /// Keeps what is new in the list. What a process that died has not kept is written once more by the next, no worse.
    fn flush(&self) {
        let mut writer = self.writer();
        if std::mem::take(&mut writer.unsaved) {
            self.save(&writer);
        }
    }

    fn save(&self, writer: &Writer) {
        let list = serde_json::to_vec(&writer.manifest).map_err(std::io::Error::other);
        if let Err(error) = list.and_then(|list| self.broker.store().set_published(&list)) {
            tracing::error!("the list of published files can't be written to the store: {error}");
        }
    }

    fn configured(&self) -> Result<Arc<Plan>, Refusal> {
        let active = self.broker.active();
        if let Some(error) = &active.error {
            return Err(Refusal::Unconfigured(error.clone()));
        }
        let mut last = self.plan.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((of, plan)) if Arc::ptr_eq(of, &active) => Ok(Arc::clone(plan)),
            _ => {
                let plan = Arc::new(Plan::of(&active.settings));
                *last = Some((active, Arc::clone(&plan)));
                Ok(plan)
            }
        }
    }
}

#[cfg(test)]
mod tests;
