//! What Put, Rollback and Release do to a secret.

use std::path::Path;

use tokio::sync::{broadcast, mpsc};

use super::*;
use crate::config::Paths;
use crate::domain::policy::Deliverable;
use crate::host::clock::BootTime;
use crate::provider::base::process_id::ProcessId;
use crate::provider::base::sealer::Sealer;
use crate::provider::context::Context;
use crate::provider::dbus::callers::Callers;
use crate::provider::fetch::assemble::{self, Job};
use crate::provider::fetch::broker::tests::Rig;
use crate::provider::store::Kind;

struct Bus {
    rig: Rig,
    desk: Desk,
    events: broadcast::Receiver<Event>,
}

impl Bus {
    /// A bus, and a store with these values of `pass`, the last one current.
    async fn with(values: &[&str]) -> Self {
        let rig = Rig::new("session");
        let wanted = rig.config.get().secret("pass").unwrap().wanted.clone();
        for (version, value) in (1..).zip(values) {
            rig.script.fetch_gives(version, &[Ok(value.as_bytes()), Ok(b"bob")]);
            rig.broker.try_once(&wanted, &crate::provider::base::asker::Asker::Onecred).await.unwrap();
        }
        let sealer = Sealer::new(Path::new("/nonexistent"));
        let (config, broker) = (Arc::clone(&rig.config), Arc::clone(&rig.broker));
        let context = Arc::new(Context::new(config, Paths::default(), broker, sealer, Kind::Anything));
        let events = rig.broker.events.follow();
        let desk = Desk {
            context,
            reloads: mpsc::channel(1).0,
            callers: Callers::default(),
            handouts: Default::default(),
            link: Default::default(),
            pace: Default::default(),
        };
        Self { rig, desk, events }
    }

    fn wanted(&self, allow_empty: bool) -> Wanted {
        Wanted { allow_empty, ..self.rig.config.get().secret("pass").unwrap().wanted.clone() }
    }

    /// What a unit is served now.
    fn served(&self, allow_empty: bool) -> Option<String> {
        let what = Deliverable::Secret(Arc::new(self.wanted(allow_empty)));
        let job = Job {
            what,
            process: ProcessId::nobody(),
            arrived: BootTime::now(),
            asker: crate::provider::base::asker::Asker::Onecred,
        };
        let value = assemble::look_up(&self.rig.broker, &job).known()?.ok()?.value;
        Some(String::from_utf8(value.expose().to_vec()).unwrap())
    }

    /// How often it was told that a value came or went.
    fn told(&mut self) -> usize {
        let events = std::iter::from_fn(|| self.events.try_recv().ok());
        events.filter(|event| matches!(event, Event::Held { name } if name == "pass")).count()
    }
}

fn value(text: &str) -> SecretValue {
    SecretValue::new(text.as_bytes().to_vec())
}

#[tokio::test(start_paused = true)]
async fn a_value_that_is_put_is_served_until_it_is_released() {
    for values in [&[][..], &["one"]] {
        let mut bus = Bus::with(values).await;
        let before = bus.served(false);
        assert_eq!(before.as_deref(), values.last().copied());
        for text in ["by an admin", "by another"] {
            bus.desk.put("pass", &bus.wanted(false), value(text)).unwrap();
            assert_eq!((bus.served(false).as_deref(), bus.told()), (Some(text), 1));
        }
        bus.desk.release("pass".to_owned()).unwrap();
        assert_eq!((bus.served(false), bus.told()), (before, 1));
        let again = bus.desk.release("pass".to_owned());
        assert!(matches!(again, Err(BusError::InvalidArgument(_))), "{again:?}");
        assert_eq!(bus.told(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_value_for_which_the_store_has_no_room_changes_nothing() {
    let mut bus = Bus::with(&["one"]).await;
    bus.rig.broker.store().retain(1 << 20, |_| true);
    let large = SecretValue::new(vec![b'x'; 2 << 20]);
    assert!(bus.desk.put("pass", &bus.wanted(false), large).is_err());
    assert_eq!((bus.served(false).as_deref(), bus.told()), (Some("one"), 0));
}

#[tokio::test(start_paused = true)]
async fn a_rollback_serves_the_value_before() {
    for (values, allow_empty, expected) in [
        (&["one", "two"][..], false, Some("one")),
        (&["one", "two", "three"], false, Some("two")),
        (&["", "two"], true, Some("")),
        (&["", "two"], false, None),
        (&["one"], false, None),
        (&[], false, None),
    ] {
        let mut bus = Bus::with(values).await;
        let before = bus.served(allow_empty);
        let result = bus.desk.rollback("pass", &bus.wanted(allow_empty));
        match expected {
            Some(text) => {
                assert_eq!(result.unwrap() as usize, values.len() - 1, "{values:?}");
                assert_eq!((bus.served(allow_empty).as_deref(), bus.told()), (Some(text), 1), "{values:?}");
                bus.desk.release("pass".to_owned()).unwrap();
            }
            None => {
                assert!(result.is_err(), "{values:?}");
                assert_eq!(bus.told(), 0, "{values:?}");
            }
        }
        assert_eq!(bus.served(allow_empty), before, "{values:?}");
    }
}
