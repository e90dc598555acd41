//! Tests of refreshes on demand, of overrides, and of the events about changes.

use super::tests::{Rig, away, fresh, gone, settings};
use super::*;
use crate::config::from_text;
use crate::domain::secret::SecretValue;
use crate::ipc::ItemState;
use crate::provider::observe::secret_status::SecretState;
use crate::provider::store::{Kind, Origin};

#[tokio::test(start_paused = true)]
async fn a_refresh_compares_versions_first_and_tells_what_changed() {
    let rig = Rig::new("1h");
    let wanted = rig.config.get().secret("pass").unwrap().wanted.clone();
    let refresh = |how| rig.broker.refresh(&wanted, how, rig.broker.ask(&wanted), &Asker::Admin);
    let mut events = rig.broker.events.follow();
    let mut told = move || match events.try_recv() {
        Ok(Event::Changed { fields, version, first, .. }) => Some((fields.len(), version, first)),
        Ok(other) => panic!("{other:?}"),
        Err(_) => None,
    };
    rig.script.fetch_gives(1, &[Ok(b"hunter2"), Ok(b"bob")]);
    assert_eq!(refresh(Thoroughness::Versions).await, Ok(Refreshed::Changed(1)), "never fetched before");
    assert_eq!(told(), Some((2, 1, true)));
    rig.script.checks.lock().unwrap().push_back(Ok(ItemState::Unchanged { vault_version: Some(8) }));
    assert_eq!(refresh(Thoroughness::Versions).await, Ok(Refreshed::Unchanged(1)));
    assert_eq!(rig.script.asked(), ["fetch i password,username", "check 1"]);
    rig.script.checks.lock().unwrap().push_back(Ok(ItemState::Changed));
    rig.script.fetch_gives(2, &[Ok(b"hunter2"), Ok(b"carol")]);
    assert_eq!(refresh(Thoroughness::Versions).await, Ok(Refreshed::Unchanged(2)), "another field changed");
    assert_eq!(told(), Some((1, 2, false)));
    rig.script.fetch_gives(2, &[Ok(b"hunter3"), Ok(b"carol")]);
    assert_eq!(refresh(Thoroughness::Values).await, Ok(Refreshed::Changed(2)));
    assert_eq!(refresh(Thoroughness::Versions).await, Err(away()));
    assert_eq!(rig.get(1, "pass").await.unwrap().0, b"hunter3");
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_refreshes_is_one_flight() {
    let rig = Rig::new("1h");
    let wanted = rig.config.get().secret("pass").unwrap().wanted.clone();
    for _ in 0..3 {
        rig.script.fetch_gives(1, &[Ok(b"hunter2"), Ok(b"bob")]);
    }
    let storm: Vec<_> = (0..1000)
        .map(|_| {
            let (broker, wanted) = (Arc::clone(&rig.broker), wanted.clone());
            let asked = broker.ask(&wanted);
            tokio::spawn(
                async move { broker.refresh(&wanted, Thoroughness::Values, asked, &Asker::Admin).await },
            )
        })
        .collect();
    for refresh in storm {
        assert!(refresh.await.unwrap().is_ok());
    }
    assert!(rig.script.asked().len() <= 2, "one, and one more for those that came while it was under way");
}

#[tokio::test(start_paused = true)]
async fn a_held_value_stands_in_until_it_is_released() {
    let rig = Rig::new("1h");
    rig.script.fetch_gives(1, &[Ok(b"hunter2"), Ok(b"bob")]);
    assert_eq!(rig.get(1, "pass").await, fresh("hunter2"));
    let active = rig.config.get();
    let wanted = &active.secret("pass").unwrap().wanted;
    let key = ItemKey::new(&wanted.source, &wanted.reference.item);
    let value = SecretValue::new(b"break glass".to_vec());
    rig.broker.store().hold("pass", Origin::Put, (&key, &wanted.reference.field), 0, value).unwrap();
    assert_eq!(rig.get(2, "pass").await, fresh("break glass"));
    assert_eq!(rig.get(2, "user").await, fresh("bob"));
    assert_eq!(rig.broker.condition(wanted).state, SecretState::Held);
    rig.broker.activate(ActiveConfig::new(settings("1h", "one")));
    assert_eq!(rig.get(3, "pass").await, fresh("break glass"), "it outlives a reload");
    let store = Store::open(rig._folder.path(), Kind::Anything, 1 << 20).unwrap();
    assert_eq!(
        store.held("pass").map(|held| (held.origin, held.len)),
        Some((Origin::Put, 11)),
        "and a restart"
    );
    assert!(rig.broker.store().release("pass") && !rig.broker.store().release("pass"));
    assert_eq!(rig.get(4, "pass").await, fresh("hunter2"));
}

#[tokio::test(start_paused = true)]
async fn a_held_value_goes_when_the_secret_becomes_another() {
    let rig = Rig::new("1h");
    let active = rig.config.get();
    let (wanted, other) = (&active.secret("pass").unwrap().wanted, &active.secret("user").unwrap().wanted);
    let key = ItemKey::new(&wanted.source, &wanted.reference.item);
    let hold = |field| {
        let value = SecretValue::new(b"of another".to_vec());
        rig.broker.store().hold("pass", Origin::Rollback, (&key, field), 1, value).unwrap();
    };
    // set while the configuration was reloaded: it belongs to the earlier definition of the secret
    hold(&other.reference.field);
    rig.script.fetch_gives(1, &[Ok(b"hunter2"), Ok(b"bob")]);
    assert_eq!(rig.get(1, "pass").await, fresh("hunter2"));
    assert_ne!(rig.broker.condition(wanted).state, SecretState::Held);
    hold(&wanted.reference.field);
    assert_eq!(rig.get(2, "pass").await, fresh("of another"));
    let text = r#"{ "source": { "kind": "connect", "url": "https://one" },
        "secrets": [ { "name": "pass", "reference": "op://v/j/password", "units": ["app"] } ] }"#;
    rig.broker.activate(ActiveConfig::new(from_text(std::path::Path::new("x"), text).unwrap().settings));
    assert!(rig.broker.store().held("pass").is_none(), "nothing is left of it");
    rig.script.fetch_gives(1, &[Ok(b"new")]);
    assert_eq!(rig.get(3, "pass").await, fresh("new"));
}

#[tokio::test(start_paused = true)]
async fn a_field_that_is_there_for_the_first_time_is_news_to_nobody() {
    let rig = Rig::new("always");
    let mut events = rig.broker.events.follow();
    rig.script.fetch_gives(1, &[Ok(b"hunter2"), Err(gone())]);
    assert_eq!(rig.get(1, "pass").await, fresh("hunter2"));
    rig.script.fetch_gives(2, &[Ok(b"hunter3"), Ok(b"bob")]);
    let wanted = rig.config.get().secret("user").unwrap().wanted.clone();
    rig.broker.refresh(&wanted, Thoroughness::Values, rig.broker.ask(&wanted), &Asker::Admin).await.unwrap();
    let mut told = Vec::new();
    while let Ok(event) = events.try_recv() {
        if let Event::Changed { fields, first, version, .. } = event {
            told.push((version, fields.iter().map(ToString::to_string).collect::<Vec<_>>().join(","), first));
        }
    }
    told.sort();
    let expected = [(1, "password", true), (2, "password", false), (2, "username", true)];
    assert_eq!(told, expected.map(|(version, fields, first)| (version, fields.to_owned(), first)));
}
