//! Tests of requests with short deadlines.

use std::sync::atomic::Ordering;

use super::tests::{Rig, away, fresh, gone};
use super::*;
use crate::domain::secret::MaxAge;
use crate::ipc::ItemState;

fn order(rig: &Rig, secret: &str, deadline: u64, max_age: MaxAge) -> Order {
    let wanted = rig.config.get().secret(secret).unwrap().wanted.clone();
    let wanted = Arc::new(Wanted { deadline: Duration::from_secs(deadline), max_age, ..wanted });
    Order { wanted, process: ProcessId::testing(deadline), arrived: BootTime::now(), asker: Asker::Onecred }
}

#[tokio::test(start_paused = true)]
async fn a_request_with_little_time_gets_the_older_value_and_the_source_stays_out_of_trouble() {
    let rig = Rig::new("1h");
    rig.script.fetch_gives(1, &[Ok(b"hunter2"), Ok(b"bob")]);
    assert_eq!(rig.get(9, "pass").await, fresh("hunter2"));
    rig.script.hang.store(true, Ordering::Relaxed);
    let began = Instant::now();
    let ready = rig.broker.get(&order(&rig, "pass", 1, MaxAge::Always)).await.unwrap();
    assert_eq!((ready.read().unwrap().expose(), ready.stale.is_some()), (b"hunter2".as_slice(), true));
    assert_eq!(began.elapsed(), Duration::from_secs(1));
    assert_eq!(
        rig.broker.last_failure(&SourceName::default_source()),
        None,
        "it was given no time to answer"
    );
    // the next credential of this process has the same version
    rig.script.fetch_gives(2, &[Ok(b"hunter3"), Ok(b"alice")]);
    let wanted = rig.config.get().secret("pass").unwrap().wanted.clone();
    assert_eq!(rig.broker.try_once(&wanted, &Asker::Onecred).await, Ok(()));
    assert_eq!(rig.get(2, "user").await, fresh("alice"));
    let user = rig.broker.get(&order(&rig, "user", 1, MaxAge::Always)).await.unwrap();
    assert_eq!(user.read().unwrap().expose(), b"bob");
}

#[tokio::test(start_paused = true)]
async fn without_an_older_value_the_deadline_refuses() {
    let rig = Rig::new("1h");
    let past = Instant::now();
    let failure = rig.broker.get_by(&order(&rig, "pass", 1, MaxAge::Always), past).await.unwrap_err();
    assert_eq!(failure.class, Class::Away);
    assert_eq!(rig.script.asked(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_failure_of_one_item_leaves_its_source_out_of_trouble() {
    let rig = Rig::new("1h");
    let behind = || away().of_item();
    rig.script.then(Err(behind()));
    let wanted = rig.config.get().secret("pass").unwrap().wanted.clone();
    assert_eq!(rig.broker.try_once(&wanted, &Asker::Onecred).await, Err(behind()));
    assert_eq!(rig.broker.last_failure(&wanted.source), None);
    assert_eq!(rig.broker.condition(&wanted).error, Some(behind()));
    // a unit waits for it nevertheless
    rig.script.then(Err(behind()));
    rig.script.fetch_gives(1, &[Ok(b"hunter2"), Ok(b"bob")]);
    assert_eq!(rig.get(1, "pass").await, fresh("hunter2"));
    // the answer ends the outage of its source
    rig.script.then(Err(away()));
    rig.script.then(Err(gone().of_item()));
    assert!(
        rig.broker.try_once(&wanted, &Asker::Onecred).await.is_err()
            && rig.broker.last_failure(&wanted.source).is_some()
    );
    assert!(rig.broker.try_once(&wanted, &Asker::Onecred).await.is_err());
    assert_eq!(rig.broker.last_failure(&wanted.source), None);
}

/// The only vault of a source is out of date: the source answers, but none of its items can be compared.
#[tokio::test(start_paused = true)]
async fn a_source_of_which_nothing_can_be_compared_stays_in_trouble_until_something_can() {
    let rig = Rig::new("1h");
    rig.script.fetch_gives(1, &[Ok(b"hunter2"), Ok(b"bob")]);
    assert_eq!(rig.get(1, "pass").await, fresh("hunter2"));
    let source = SourceName::default_source();
    let check = || rig.broker.checked(&source, Instant::now() + CHECK_PATIENCE, &Asker::Onecred);
    let mut over = std::pin::pin!(rig.broker.source_is_back());
    for _ in 0..2 {
        rig.script.check_gives(Ok(ItemState::Unknown(away().of_item())));
        tokio::select! {
            biased;
            () = &mut over => panic!("it is not back"),
            result = check() => assert_eq!(result, Err(away().of_item())),
        }
        assert_eq!(rig.broker.last_failure(&source), Some(away().of_item()));
    }
    rig.script.check_gives(Ok(ItemState::Unchanged { vault_version: Some(1) }));
    assert_eq!(check().await, Ok(()));
    timeout_at(Instant::now() + CHECK_PATIENCE, over).await.expect("it is back");
    assert_eq!(rig.broker.last_failure(&source), None);
}
