//! Publishes files: secrets for programs that read paths, in a ramfs that other users may list.
//!
//! The files follow the store and the configuration. A file is created when a handle requests it, replaced
//! when its item changes, and removed when it is no longer configured or was deleted in 1Password.

mod accounts;
mod demand;
mod dirs;
mod handle;
mod handle_units;
mod links;
mod manifest;
mod mounts;
mod on_disk;
mod plan;
mod removal;
mod swap;
mod write;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::Notify;
use tokio::sync::broadcast::error::RecvError;

use super::base::process_id::ProcessId;
use super::store::Kind;
use crate::config::Settings;
use crate::domain::reference::FieldRef;
use crate::domain::secret::{SecretValue, Target, Wanted};
use crate::host::clock::BootTime;
use crate::host::systemd::manager::Link;
use crate::host::systemd::message_id;
use crate::provider::base::active_config::{ActiveConfig, CurrentConfig};
use crate::provider::base::asker::Asker;
use crate::provider::base::events::Event;
use crate::provider::base::item_key::ItemKey;
use crate::provider::base::publish_error::Fault;
use crate::provider::base::refusal::Refusal;
use crate::provider::fetch::assemble::{self, Job};
use crate::provider::fetch::broker::Broker;

use accounts::Accounts;
pub use dirs::objection;
pub use handle::{Awaited, Handle};
use manifest::{Manifest, Update};
pub use mounts::old_mounts;
use plan::{File, Plan, Which};
use removal::Removed;
use write::{Open, Piece, Writer};

/// Publishes files.
pub struct Publisher {
    config: Arc<CurrentConfig>,
    broker: Arc<Broker>,
    /// Only [`Publisher::on_disk`] uses it, in another thread.
    writer: Mutex<Writer>,
    kind: Kind,
    /// The permit to work on files.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// The size of all files after the last work, in bytes.
    bytes: AtomicU64,
    /// The last plan, and its configuration.
    plan: Mutex<Option<(Arc<ActiveConfig>, Arc<Plan>)>>,
    /// A file was created or removed, so the state of its handle may have to change.
    files_changed: Notify,
    link: Link,
    /// Whether a failed unit is in the list for recovery.
    is_to_recover: OnceLock<IsToRecover>,
}

/// Why a file is removed.
const NO_MORE: &str = "1Password no longer has it";
/// The same, after the removal of an override.
const RELEASED: &str = "its override was removed, and it has no other value";

/// Returns whether a unit is in the list for recovery.
type IsToRecover = Box<dyn Fn(&str) -> bool + Send + Sync>;

/// The parts of all published files.
pub(super) fn parts(settings: &Settings) -> Vec<Arc<Wanted>> {
    Plan::of(settings).files.iter().flat_map(|file| file.content.parts().to_vec()).collect()
}

/// Files whose values are available.
type Ready<'a> = Vec<(&'a File, SecretValue)>;

impl Publisher {
    /// A publisher that continues where the previous process stopped.
    pub fn new(config: Arc<CurrentConfig>, broker: Arc<Broker>, kind: Kind) -> Self {
        let manifest = broker.store().published().map(|list| Manifest::read(&list)).unwrap_or_default();
        let bytes = AtomicU64::new(manifest.bytes());
        let writer = Mutex::new(Writer::new(kind, manifest));
        Self {
            config,
            writer,
            kind,
            turn: Arc::default(),
            bytes,
            plan: Mutex::default(),
            files_changed: Notify::new(),
            link: Link::default(),
            is_to_recover: OnceLock::new(),
            broker,
        }
    }

    /// Leaves failed units to recovery if this returns true. Recovery also starts the units that failed with
    /// them.
    pub fn leave_to_recovery(&self, is_to_recover: impl Fn(&str) -> bool + Send + Sync + 'static) {
        let _ = self.is_to_recover.set(Box::new(is_to_recover));
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The files that should exist according to the active configuration. `None` if the configuration cannot
    /// be used; then nothing changes.
    fn plan(&self) -> Option<Arc<Plan>> {
        self.configured().ok()
    }

    /// Removes what is no longer configured, and incomplete files.
    fn prune(&self) {
        let Some(plan) = self.plan() else { return };
        // files with an available value are replaced next; others must be removed, because their content is
        // wrong
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
            let old = writer.manifest.files().iter().filter(|(path, entry)| gone(path, &entry.root));
            old.map(|(path, _)| path.clone()).collect()
        };
        let old_links: Vec<PathBuf> = {
            let old = writer.manifest.links().iter().filter(|(link, _)| !links.contains_key(link.as_path()));
            old.map(|(link, _)| link.clone()).collect()
        };
        let open = &mut Open::default();
        let unlinked = old_links.iter().map(|link| writer.unlink(link)).collect::<Vec<_>>();
        let removed = old_files.iter().map(|path| writer.remove(path, open)).collect::<Vec<_>>();
        for (path, _) in
            old_files.iter().zip(&removed).filter(|(_, it)| matches!(it, Ok(Removed::LeftOfOthers)))
        {
            tracing::warn!("{} is not removed: it is not the file that onecred published", path.display());
        }
        for fault in
            unlinked.into_iter().filter_map(Result::err).chain(removed.into_iter().filter_map(Result::err))
        {
            tracing::error!("a file that is no longer configured could not be removed: {fault}");
        }
        writer.clean(&plan.roots, open);
        if !old_files.is_empty() || !old_links.is_empty() {
            writer.remove_empty_dirs(&plan.roots, open);
            writer.remove_link_dirs(&links.keys().copied().collect::<Vec<_>>());
            self.save(&mut writer);
            self.files_changed.notify_one();
        }
    }

    /// Updates the files according to configuration and store, without asking 1Password.
    pub async fn sync(self: &Arc<Self>) {
        self.on_disk(Self::prune).await;
        self.refresh(Which::All).await;
        self.on_disk(Self::withdraw_gone).await;
        self.files_changed.notify_one(); // also for files that an earlier process has removed
    }

    /// Removes files whose items 1Password no longer has. Needed after too many events: some were dropped.
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

    /// Publishes the values in the store, and follows its changes.
    pub async fn follow(self: Arc<Self>) {
        let mut events = self.broker.events.follow();
        self.sync().await;
        loop {
            match events.recv().await {
                Ok(Event::Changed { key, .. }) => self.refresh(Which::OfItem(key)).await,
                Ok(Event::Failed { key, fields, failure }) if failure.class.is_confirmed_gone() => {
                    self.on_disk(move |publisher| publisher.gone(key, fields.as_deref())).await;
                }
                Ok(Event::Held { name }) => {
                    let which = Which::OfSecret(name.clone());
                    self.refresh(which.clone()).await;
                    if self.broker.store().held(&name).is_none() {
                        let withdraw = move |publisher: &Self| {
                            publisher.withdraw_what_is_not_there(&which, |_| true, RELEASED);
                        };
                        self.on_disk(withdraw).await;
                    }
                }
                Ok(Event::Failed { .. } | Event::Configured) => {} // a reload calls `sync` itself
                Err(RecvError::Lagged(_)) => self.sync().await,
                Err(RecvError::Closed) => return,
            }
        }
    }

    /// An item, or these fields of it, were deleted or became inaccessible: removes their files.
    fn gone(&self, key: ItemKey, fields: Option<&[FieldRef]>) {
        let is_gone = |wanted: &Arc<Wanted>| fields.is_none_or(|gone| gone.contains(&wanted.reference.field));
        let is_concerned = |file: &File| file.parts_of(&key).any(is_gone);
        self.withdraw_what_is_not_there(&Which::OfItem(key.clone()), is_concerned, NO_MORE);
    }

    /// Removes those of these files whose values are no longer available. An overridden value is available.
    fn withdraw_what_is_not_there(&self, which: &Which, is_concerned: impl Fn(&File) -> bool, why: &str) {
        let Some(plan) = self.plan() else { return };
        let files = plan.select(which).into_iter().flatten().filter(|file| is_concerned(file));
        let gone = files.filter(|file| self.at_hand(std::iter::once(*file), ProcessId::nobody()).is_empty());
        self.withdraw(gone, why);
    }

    fn withdraw<'a>(&self, files: impl Iterator<Item = &'a File>, why: &str) {
        let mut writer = self.writer();
        let open = &mut Open::default();
        for file in files.filter(|file| file.target.path.is_absolute()) {
            let published = writer.has(&file.target.path);
            let links = file.target.links.iter().try_for_each(|link| writer.unlink(link));
            // a link that cannot be removed does not contain the secret
            match writer.remove(&file.target.path, open).and_then(|removed| links.map(|()| removed)) {
                Ok(Removed::LeftOfOthers) => tracing::warn!(
                    "{} was kept, although {} is not available ({why}): onecred did not publish this file",
                    file.target.path.display(),
                    file.name
                ),
                Ok(Removed::Ours) if published => tracing::error!(
                    message_id = message_id::UNPUBLISHED,
                    onecred_secret = file.name.as_str(),
                    "{} of {} is no longer there: {why}",
                    file.target.path.display(),
                    file.name
                ),
                Ok(Removed::Ours) => {}
                Err(fault) => tracing::error!("{}: {why}, and {fault}", file.name),
            }
        }
        self.save(&mut writer);
        self.files_changed.notify_one();
    }

    async fn refresh(self: &Arc<Self>, which: Which) {
        let Some(plan) = self.plan() else { return };
        let accounts = Accounts::of(plan.select(&which).into_iter().flatten().map(|file| &file.target)).await;
        self.on_disk(move |publisher| publisher.put_present(&which, &accounts)).await;
    }

    /// Writes those of these files whose values are in the store.
    fn put_present(&self, which: &Which, accounts: &Accounts) {
        let Some(plan) = self.plan() else { return }; // the current configuration counts
        let groups: Vec<Ready<'_>> = plan
            .select(which)
            .into_iter()
            .map(|group| self.at_hand(group.iter(), ProcessId::nobody()))
            .collect();
        for (file, result) in self.put(groups, accounts) {
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

    /// The files whose values are in the store, of any age. Whether the values are current is checked
    /// elsewhere.
    fn at_hand<'a>(&self, files: impl Iterator<Item = &'a File>, process: ProcessId) -> Ready<'a> {
        let value = |file: &File| {
            let (what, arrived, asker) = (file.of_any_age(), BootTime::now(), Asker::Onecred);
            let job = Job { what, process, arrived, asker };
            assemble::look_up(&self.broker, &job).known()?.ok().map(|assembled| assembled.value)
        };
        files.filter_map(|file| Some((file, value(file)?))).collect()
    }

    /// Writes groups of files. All files of a group have the same version.
    fn put<'a>(&self, groups: Vec<Ready<'a>>, accounts: &Accounts) -> Vec<(&'a File, Result<(), Fault>)> {
        let mut writer = self.writer();
        writer.limit = self.config.get().settings.limits.store_bytes;
        for (file, _) in groups.iter().flatten() {
            writer.manifest.note(&file.target, &file.root);
        }
        self.save(&mut writer);
        let open = &mut Open::default();
        let (mut results, mut came) = (Vec::new(), false);
        for group in groups {
            let (mut files, mut pieces) = (Vec::new(), Vec::new());
            for (file, value) in group {
                match accounts.owner(&file.target) {
                    Ok(owner) => {
                        came |= !writer.has(&file.target.path);
                        files.push(file);
                        let made_of = file.print.clone();
                        pieces.push(Piece { target: &file.target, root: &file.root, owner, value, made_of });
                    }
                    Err(fault) => results.push((file, Err(fault))),
                }
            }
            for (file, result) in
                files.into_iter().zip(writer.put(&pieces, open, &|manifest| self.keep(manifest)))
            {
                let Target { path, links, make_directories, .. } = &file.target;
                let linked = |_| links.iter().try_for_each(|link| writer.link(link, path, *make_directories));
                results.push((file, result.and_then(linked)));
            }
        }
        if came {
            self.files_changed.notify_one();
        }
        results
    }

    /// Saves the changes of the manifest. If the process dies before, the next one writes the files again.
    fn flush(&self) {
        self.save(&mut self.writer());
    }

    fn save(&self, writer: &mut Writer) {
        self.keep(&mut writer.manifest);
    }

    fn keep(&self, manifest: &mut Manifest) {
        let stored = match manifest.update() {
            Some(Update::Replace(whole)) => self.broker.store().set_published(&whole),
            Some(Update::Append(more)) => self.broker.store().append_published(&more),
            None => return,
        };
        if let Err(error) = stored {
            manifest.lost();
            tracing::error!("the list of published files can't be written to the store: {error}");
        }
    }

    fn configured(&self) -> Result<Arc<Plan>, Refusal> {
        let active = self.config.get();
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
