//! Flights: one fetch of an item, or one check of a source. Their results go to the store and to the
//! followers of events.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Broker, fields, redefined};
use crate::domain::name::SourceName;
use crate::domain::reference::FieldRef;
use crate::host::clock::BootTime;
use crate::host::systemd::message_id;
use crate::ipc::{self, Check, Class, Failure, Fetch, Fetched, FetchedValue, ItemState, Known, version};
use crate::provider::base::active_config::ActiveConfig;
use crate::provider::base::asker::Asker;
use crate::provider::base::events::Event;
use crate::provider::base::item_key::ItemKey;
use crate::provider::fetch::unit_files::UnitFiles;
use crate::provider::store::{NewSnapshot, Slot, Snapshot, StoredField};

use super::limits::EVERYONE;
use super::{AHEAD_PATIENCE, CHECK_PATIENCE, FETCH_PATIENCE};

impl Broker {
    /// Fetches an item: all its configured fields, those with a value in its snapshot, and those that are being
    /// waited for.
    pub(super) async fn fetch(
        self: Arc<Self>,
        key: ItemKey,
        patience: Duration,
        (asker, wire): (Asker, ipc::ShareOwner),
    ) -> Result<(), Failure> {
        let asked_at = BootTime::now();
        let active = self.config();
        let print = active.print(&key.source);
        let slot = self.store.slot(&key).filter(|slot| slot.snapshot.source_print == print);
        let known = slot.as_ref().map(|slot| slot.snapshot.values_by_age()).unwrap_or_default();
        let awaited = self.awaited().remove(&key).unwrap_or_default();
        let fields = fields::to_fetch(active.fields(&key), known, awaited);
        let known = slot.as_ref().map(|slot| slot.snapshot.id.clone());
        let fetch = Fetch {
            source: key.source.clone(),
            print: print.to_owned(),
            definition: active.definition(&key.source),
            item: key.item.clone(),
            known,
            version: slot.as_ref().map(|slot| slot.snapshot.version),
            fields: fields.clone(),
            look_again: self.look_again(&asker, asked_at),
            asker: wire,
            patience,
        };
        let result = self.resolver.fetch(fetch).await;
        if !self.is_current(&key.source, print) {
            return Err(redefined(&key.source));
        }
        if patience == FETCH_PATIENCE || result.is_ok() {
            // an item that is fetched ahead in a crowd may be late without an outage
            self.troubles.note(&key.source, print, result.as_ref().err());
        }
        match result {
            Ok(mut fetched) => {
                if let Some(slot) = &slot {
                    if let Some(failure) = nothing_came(&fetched) {
                        self.note(&key, Some(&failure));
                        return Err(failure);
                    }
                    keep_values(&mut fetched, &fields, &slot.snapshot);
                }
                let by_rule = active.fields(&key).is_empty();
                let source_print = print;
                let new = NewSnapshot {
                    key: &key,
                    asked: &fields,
                    asked_at,
                    source_print,
                    by_rule,
                    stand_in: None,
                };
                let version = fetched.version;
                let stored = self.store.put(new, fetched).map_err(|error| error.failure());
                let stored = stored.inspect_err(|failure| self.note(&key, Some(failure)))?;
                self.note(&key, None);
                if active.calls_cost(&key.source) {
                    self.absent.note(&stored, BootTime::now());
                }
                self.tell_changes(&key, version, slot.as_ref(), &stored);
                self.fetch_ahead(&active);
                Ok(())
            }
            Err(failure) => {
                if failure.class == Class::Limited && !failure.is_of_asker {
                    self.log_spenders(&key.source, &Asker::Onecred, EVERYONE, &failure);
                }
                if failure.class.is_confirmed_gone() {
                    self.store.remove(&key);
                }
                self.note(&key, Some(&failure));
                Err(failure)
            }
        }
    }

    fn tell_changes(&self, key: &ItemKey, version: u64, before: Option<&Slot>, now: &Snapshot) {
        let is_other = |field: &&FieldRef| before.is_none_or(|slot| !slot.snapshot.agrees(now, field));
        let (failed, changed): (Vec<_>, Vec<_>) = now
            .fields()
            .filter(is_other)
            .cloned()
            .partition(|field| matches!(now.entry(field), Some(StoredField::Failed(_))));
        let had_value = |field: &FieldRef| {
            before.is_some_and(|slot| matches!(slot.snapshot.entry(field), Some(StoredField::Value { .. })))
        };
        let (changed, new): (Vec<_>, Vec<_>) = changed.into_iter().partition(had_value);
        for (fields, first) in [(changed, false), (new, true)] {
            if !fields.is_empty() {
                if !first {
                    self.log_changes(key, &fields, version);
                }
                let (key, fields) = (key.clone(), fields.into());
                self.events.tell(Event::Changed { key, fields, version, first });
            }
        }
        for field in failed {
            if let Some(StoredField::Failed(failure)) = now.entry(&field) {
                let (key, failure) = (key.clone(), failure.clone());
                self.events.tell(Event::Failed { key, fields: Some([field].into()), failure });
            }
        }
    }

    fn log_changes(&self, key: &ItemKey, fields: &[FieldRef], version: u64) {
        let version = version::text(version);
        for secret in self.config().secrets_of(key, Some(fields)) {
            tracing::info!(
                message_id = message_id::CHANGED,
                onecred_secret = secret.name.as_str(),
                onecred_reference = %secret.wanted.reference,
                onecred_version = version.as_str(),
                "secret {} has changed in 1Password: version {version}",
                secret.name
            );
        }
    }

    /// Checks a source.
    pub(super) async fn check(
        self: Arc<Self>,
        source: SourceName,
        asker: ipc::ShareOwner,
    ) -> Result<(), Failure> {
        let began = BootTime::now();
        let items = self.store.known(&source);
        let active = self.config();
        let print = active.print(&source).to_owned();
        let check = Check {
            source: source.clone(),
            print: print.clone(),
            definition: active.definition(&source),
            items: items.clone(),
            asker,
            patience: CHECK_PATIENCE,
        };
        let result =
            self.resolver.check(check).await.and_then(|checked| match nothing_told(&checked.items) {
                Some(failure) => Err(failure.clone()),
                None => Ok(checked),
            });
        if !self.is_current(&source, &print) {
            return Err(redefined(&source));
        }
        let states = match result {
            Ok(checked) => {
                self.troubles.note(&source, &print, None);
                checked.items
            }
            Err(failure) => {
                if failure.is_of_asker {
                    return Err(failure);
                }
                // for every class of failure: cached values are served unchecked until the source can be
                // asked again
                self.troubles.begin(&source, &print, &failure);
                return Err(failure);
            }
        };
        self.tell_doubts(&source, items.iter().zip(&states));
        for (key, failure) in self.store.confirm(&source, began, items.into_iter().zip(states).collect()) {
            tracing::warn!(
                "{}: it no longer exists in 1Password, so it is no longer served: {failure}",
                key.item
            );
            self.note(&key, Some(&failure));
        }
        Ok(())
    }

    /// Logs a line for each vault with items that could not be compared, if this is new.
    fn tell_doubts<'a>(&self, source: &SourceName, items: impl Iterator<Item = (&'a Known, &'a ItemState)>) {
        let mut new = BTreeMap::new();
        for (known, state) in items {
            let ItemState::Unknown(failure) = state else { continue };
            let slot = self.store.slot(&ItemKey::new(source, &known.item));
            if slot.is_some_and(|slot| slot.doubt.is_none_or(|doubt| doubt.failure.class != failure.class)) {
                let kind = failure.class.kind();
                new.entry((&known.item.vault, kind)).or_insert((known, failure, 0)).2 += 1;
            }
        }
        for ((_, kind), (first, failure, count)) in new {
            let others = if count > 1 { format!(" and {} more", count - 1) } else { String::new() };
            tracing::warn!(
                message_id = message_id::IN_DOUBT,
                onecred_source = source.as_str(),
                onecred_result = kind,
                "{}{others} can't be compared with 1Password now, so cached values are served unchecked: {failure}",
                first.item
            );
        }
    }

    /// Fetches the other secrets of units on this host, because systemd requests credentials one after another.
    fn fetch_ahead(self: &Arc<Self>, active: &Arc<ActiveConfig>) {
        // one look at each configuration: with thousands of items, a look after each fetch would take longer than the fetches
        if self.looked_ahead.swap(true, Ordering::Relaxed) {
            return;
        }
        let missing: Vec<ItemKey> =
            active.keys().filter(|key| self.store.slot(key).is_none()).cloned().collect();
        if missing.is_empty() {
            return;
        }
        let (broker, active) = (Arc::clone(self), Arc::clone(active));
        tokio::spawn(async move {
            // the disk of a unit file may hang
            let granted = tokio::task::spawn_blocking(move || {
                let units = UnitFiles::read();
                let is_granted = |key: &ItemKey| active.grants(key).any(|pattern| units.any(pattern));
                missing.into_iter().filter(is_granted).collect::<Vec<_>>()
            });
            for key in granted.await.unwrap_or_default() {
                broker.fetch_one_ahead(key);
            }
        });
    }

    fn fetch_one_ahead(self: &Arc<Self>, key: ItemKey) {
        let broker = Arc::clone(self);
        tokio::spawn(async move {
            let _turn = broker.turns_ahead.acquire().await;
            if broker.store.slot(&key).is_some() {
                return; // it was fetched in the meantime for a request
            }
            let work = || {
                let asker = (Asker::Onecred, broker.wire(&Asker::Onecred, None));
                Arc::clone(&broker).fetch(key.clone(), AHEAD_PATIENCE, asker)
            };
            if let Err(failure) = broker.fetches.join(&key, work).await {
                tracing::debug!("{}: could not be fetched ahead: {failure}", key.item);
            }
        });
    }
}

/// Why no field was returned, if every field failed for a temporary reason.
fn nothing_came(fetched: &Fetched) -> Option<Failure> {
    let mut failures = fetched.fields.iter().map(|field| field.as_ref().err());
    let first = failures.next()??;
    let passes = |failure: &Failure| failure.class.is_transient();
    (passes(first) && failures.all(|failure| failure.is_some_and(passes))).then(|| first.clone())
}

/// Keeps the values of a snapshot of the same version for fields that failed for a temporary reason.
fn keep_values(fetched: &mut Fetched, fields: &[FieldRef], before: &Snapshot) {
    if (&fetched.id, fetched.version) != (&before.id, before.version) {
        return; // values of another version may be out of date
    }
    for (field, got) in fields.iter().zip(&mut fetched.fields) {
        if let Err(failure) = got
            && failure.class.is_transient()
            && let Some(&StoredField::Value { offset, len, expires: None, .. }) = before.entry(field)
            && let Ok(value) = before.read(offset, len)
        {
            *got = Ok(FetchedValue { value, expires: None });
        }
    }
}

/// Why no item could be compared, if so: then the whole source has an outage, not only some of its vaults.
fn nothing_told(items: &[ItemState]) -> Option<&Failure> {
    let mut failures = items.iter().map(|state| match state {
        // that several items match concerns only these items
        ItemState::Unknown(failure) if failure.class != Class::Several => Some(failure),
        _ => None,
    });
    let first = failures.next().flatten();
    first.filter(|_| failures.all(|failure| failure.is_some()))
}
