//! What happened to secrets, told to whoever follows: the bus, the published files, the units that are restarted.

use std::sync::Arc;

use tokio::sync::broadcast;

use crate::domain::reference::FieldRef;
use crate::ipc::Failure;
use crate::provider::base::item_key::ItemKey;

/// How many events are kept for a follower that is busy. One that falls behind is told so, and looks at everything anew.
const KEPT: usize = 1024;

/// Something that happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// An item was fetched, and these of its fields have another value than before.
    Changed {
        /// The item.
        key: ItemKey,
        /// The fields that changed.
        fields: Arc<[FieldRef]>,
        /// The item's version.
        version: u64,
        /// Whether there was no value of them before this boot, so that nobody has had another.
        first: bool,
    },
    /// An item can't be had, or not any more.
    Failed {
        /// The item.
        key: ItemKey,
        /// Which of its fields; all, where none is said.
        fields: Option<Arc<[FieldRef]>>,
        /// Why.
        failure: Failure,
    },
    /// The values that an admin had put in the place of a secret's came or went.
    Held {
        /// The secret's name.
        name: String,
    },
    /// Another configuration is in force.
    Configured,
}

/// Where events are told.
#[derive(Debug)]
pub struct Events(broadcast::Sender<Event>);

impl Default for Events {
    fn default() -> Self {
        Self(broadcast::Sender::new(KEPT))
    }
}

impl Events {
    /// Tells all that follow. Nobody may, and nobody is waited for.
    pub fn tell(&self, event: Event) {
        let _ = self.0.send(event);
    }

    /// Follows from here on.
    pub fn follow(&self) -> broadcast::Receiver<Event> {
        self.0.subscribe()
    }
}
