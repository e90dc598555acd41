//! Tests of fetches that return only some fields of an item.

use super::tests::{Rig, away, fresh, gone};
use super::*;
use crate::ipc::ItemState;

#[tokio::test(start_paused = true)]
async fn a_field_that_does_not_come_holds_up_no_other_of_a_changed_item() {
    let rig = Rig::new("always");
    rig.script.fetch_gives(1, &[Ok(b"hunter2"), Ok(b"bob")]);
    assert_eq!(rig.get(1, "pass").await, fresh("hunter2"));
    let mut events = rig.broker.events.follow();
    rig.script.check_gives(Ok(ItemState::Changed));
    rig.script.fetch_gives(2, &[Ok(b"hunter3"), Err(away())]);
    assert_eq!(rig.get(2, "pass").await, fresh("hunter3"), "though the user name did not come");
    let (mut changed, mut failed) = (0, 0);
    while let Ok(event) = events.try_recv() {
        match event {
            Event::Changed { fields, .. } => changed += fields.len(),
            Event::Failed { fields: Some(fields), failure, .. } => {
                failed += fields.len();
                assert_eq!(failure, away());
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((changed, failed), (1, 1));
    // the value of another version is not served, and the request waits for more than the maximum number of
    // fetches
    for _ in 0..2 * MOST_FETCHES {
        rig.script.fetch_gives(2, &[Ok(b"hunter3"), Err(away())]);
    }
    rig.script.fetch_gives(2, &[Ok(b"hunter3"), Ok(b"alice")]);
    assert_eq!(rig.get(3, "user").await, fresh("alice"));
}

#[tokio::test(start_paused = true)]
async fn a_fetch_of_the_same_version_takes_no_value_away() {
    let rig = Rig::new("1h");
    rig.script.fetch_gives(1, &[Ok(b"hunter2"), Ok(b"bob")]);
    assert_eq!(rig.get(1, "pass").await, fresh("hunter2"));
    let wanted = rig.config.get().secret("pass").unwrap().wanted.clone();
    rig.script.fetch_gives(1, &[Ok(b"hunter2"), Err(away())]);
    assert_eq!(rig.broker.try_once(&wanted, &Asker::Onecred).await, Ok(()));
    assert_eq!(rig.get(2, "user").await, fresh("bob"));
    // the same for a fetch that returns nothing
    rig.script.fetch_gives(2, &[Err(away()), Err(away())]);
    assert_eq!(rig.broker.try_once(&wanted, &Asker::Onecred).await, Err(away()));
    assert_eq!((rig.get(3, "pass").await, rig.get(3, "user").await), (fresh("hunter2"), fresh("bob")));
    // but a deleted field is gone
    rig.script.fetch_gives(1, &[Ok(b"hunter2"), Err(gone())]);
    assert_eq!(rig.broker.try_once(&wanted, &Asker::Onecred).await, Ok(()));
    assert_eq!(rig.get(4, "user").await.map_err(|failure| failure.class), Err(Class::NotFound));
}

#[tokio::test(start_paused = true)]
async fn fields_that_fail_for_different_causes_are_reported_apart() {
    let rig = Rig::new("1h");
    let mut events = rig.broker.events.follow();
    rig.script.fetch_gives(1, &[Err(gone()), Err(away())]);
    let wanted = rig.config.get().secret("pass").unwrap().wanted.clone();
    assert_eq!(rig.broker.try_once(&wanted, &Asker::Onecred).await, Ok(()));
    let mut failures = Vec::new();
    while let Ok(Event::Failed { fields: Some(fields), failure, .. }) = events.try_recv() {
        failures.push((fields.iter().map(ToString::to_string).collect::<Vec<_>>().join(","), failure.class));
    }
    failures.sort_by_key(|(field, _)| field.clone());
    let expected = [("password", Class::NotFound), ("username", Class::Away)];
    assert_eq!(failures, expected.map(|(field, class)| (field.to_owned(), class)));
}
