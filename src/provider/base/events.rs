//! Broadcasts changes of secrets and of the configuration to their followers: D-Bus, published files,
//! restarts and recovery.

use std::sync::Arc;

use tokio::sync::broadcast;

use crate::domain::reference::FieldRef;
use crate::ipc::Failure;
use crate::provider::base::item_key::ItemKey;

/// How many events are kept for a busy follower. A follower that falls behind gets an error and must check
/// everything again.
const KEPT: usize = 1024;

/// A change.
#[derive(Debug, Clone)]
pub enum Event {
    /// An item was fetched, and the values of these fields differ from the previous ones, or are new.
    Changed {
        /// The item.
        key: ItemKey,
        /// The fields that changed.
        fields: Arc<[FieldRef]>,
        /// The version of the item.
        version: u64,
        /// Whether these fields had no value before in this boot, so that no unit has an old one.
        first: bool,
    },
    /// A look-up of an item failed, or some of its fields are missing.
    Failed {
        /// The item.
        key: ItemKey,
        /// The fields that failed; all of them if `None`.
        fields: Option<Arc<[FieldRef]>>,
        /// The cause.
        failure: Failure,
    },
    /// An override of a secret was set or removed.
    Held {
        /// The name of the secret.
        name: String,
    },
    /// Another configuration is active.
    Configured,
}

/// Distributes events to followers.
#[derive(Debug)]
pub struct Events(broadcast::Sender<Event>);

impl Default for Events {
    fn default() -> Self {
        Self(broadcast::Sender::new(KEPT))
    }
}

impl Events {
    /// Sends an event to all followers, if there are any. Never waits.
    pub fn tell(&self, event: Event) {
        let _ = self.0.send(event);
    }

    /// Follows the events from now on.
    pub fn follow(&self) -> broadcast::Receiver<Event> {
        self.0.subscribe()
    }
}
