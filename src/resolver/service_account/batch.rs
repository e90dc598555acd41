//! Batches: items of a vault that are requested at about the same time are fetched in one call. If a batch
//! fails as a whole, its items are fetched separately.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout_at};

use super::verdict;
use crate::ipc::{Failure, ItemId, ShareOwner};
use crate::resolver::items::model::FullItem;
use crate::resolver::payer::{self, Payer};

/// The maximum number of items in one call.
const MOST: usize = 50;
/// How long the first item waits for others. Units that start together ask within a short time of each other.
const WINDOW: Duration = Duration::from_millis(20);

/// The calls that a batch makes.
pub(super) trait Get: Send + Sync + 'static {
    /// Fetches several items of one vault. The caller must fetch items that are missing in the answer one by
    /// one.
    fn several(
        &self,
        vault: &str,
        items: &[String],
        by: Instant,
    ) -> impl Future<Output = Result<BTreeMap<String, FullItem>, Failure>> + Send;

    /// One item.
    fn one(&self, id: &ItemId, by: Instant) -> impl Future<Output = Result<FullItem, Failure>> + Send;

    /// The host of the account, for messages.
    fn host(&self) -> &str;
}

/// The batches of one source.
pub(super) struct Batches<G> {
    get: Arc<G>,
    queues: Arc<Mutex<HashMap<String, Vec<Waiting>>>>,
}

struct Waiting {
    item: String,
    by: Instant,
    /// On whose behalf the item is fetched.
    asker: ShareOwner,
    answer: oneshot::Sender<Result<FullItem, Failure>>,
}

type Queues = Mutex<HashMap<String, Vec<Waiting>>>;

impl<G: Get> Batches<G> {
    pub(super) fn new(get: Arc<G>) -> Self {
        Self { get, queues: Arc::default() }
    }

    /// Fetches an item, in a batch with others.
    pub(super) async fn item(&self, id: &ItemId, by: Instant) -> Result<FullItem, Failure> {
        let (answer, receiver) = oneshot::channel();
        let waiting = Waiting { item: id.item.clone(), by, asker: payer::asker(), answer };
        let first = {
            let mut queues = lock(&self.queues);
            let first = !queues.contains_key(&id.vault);
            queues.entry(id.vault.clone()).or_default().push(waiting);
            first
        };
        if first {
            // a separate task: it continues for the others if the first asker gives up
            tokio::spawn(pump(Arc::clone(&self.get), Arc::clone(&self.queues), id.vault.clone()));
        }
        let late = || verdict::too_late(self.get.host());
        match timeout_at(by, receiver).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(late()),
        }
    }
}

/// Processes the queue of a vault until it is empty. Items that arrive during a call form the next batch.
async fn pump<G: Get>(get: Arc<G>, queues: Arc<Queues>, vault: String) {
    sleep(WINDOW).await;
    loop {
        let batch = {
            let mut queues = lock(&queues);
            let Some(queue) = queues.get_mut(&vault) else { return };
            queue.retain(|waiting| !waiting.answer.is_closed());
            let batch = take(queue);
            if batch.is_empty() {
                queues.remove(&vault);
                return;
            }
            batch
        };
        run(&*get, &vault, batch).await;
    }
}

/// Takes the first entries of a queue, but each item only once, because answers cannot be copied.
fn take(queue: &mut Vec<Waiting>) -> BTreeMap<String, Waiting> {
    let mut batch = BTreeMap::new();
    let mut rest = Vec::new();
    for waiting in queue.drain(..) {
        if batch.len() < MOST && !batch.contains_key(&waiting.item) {
            batch.insert(waiting.item.clone(), waiting);
        } else {
            rest.push(waiting);
        }
    }
    *queue = rest;
    batch
}

/// Fetches a batch. If it fails as a whole, splits it in half, down to single items, so that one bad item
/// costs few calls.
fn run<'a, G: Get>(
    get: &'a G,
    vault: &'a str,
    mut batch: BTreeMap<String, Waiting>,
) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
    Box::pin(async move {
        let Some(by) = batch.values().map(|waiting| waiting.by).max() else { return };
        if batch.len() > 1 {
            let items: Vec<String> = batch.keys().cloned().collect();
            // one asker pays for all: the one with the highest priority
            let Some(asker) = batch.values().map(|waiting| waiting.asker).min_by_key(|it| it.class) else {
                return;
            };
            match Payer::of_fetch(asker).scope(get.several(vault, &items, by)).await {
                Ok(mut got) => {
                    for item in items {
                        if let Some(full) = got.remove(&item)
                            && let Some(waiting) = batch.remove(&item)
                        {
                            let _ = waiting.answer.send(Ok(full));
                        }
                    }
                }
                Err(failure) if failure.is_of_asker => {
                    let own = batch.extract_if(.., |_, waiting| waiting.asker == asker);
                    own.for_each(|(_, waiting)| drop(waiting.answer.send(Err(failure.clone()))));
                    return run(get, vault, batch).await; // charged to another asker
                }
                Err(failure) if failure.class.is_transient() => {
                    for waiting in batch.into_values() {
                        let _ = waiting.answer.send(Err(failure.clone()));
                    }
                    return;
                }
                Err(_as_a_whole) => {
                    let other = batch.split_off(&items[items.len() / 2]);
                    run(get, vault, batch).await;
                    run(get, vault, other).await;
                    return;
                }
            }
        }
        for (item, waiting) in batch {
            let id = ItemId { vault: vault.to_owned(), item };
            let got = Payer::of_fetch(waiting.asker).scope(get.one(&id, by)).await;
            let _ = waiting.answer.send(got);
        }
    })
}

fn lock(queues: &Queues) -> MutexGuard<'_, HashMap<String, Vec<Waiting>>> {
    queues.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
