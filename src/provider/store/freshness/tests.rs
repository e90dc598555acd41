use std::time::Duration;

use super::*;
use crate::provider::store::testing::{self, field};

const AGE: MaxAge = MaxAge::Age(Duration::from_secs(30));

fn at(seconds: u64) -> BootTime {
    BootTime::default().after(Duration::from_secs(seconds))
}

/// A slot that was confirmed at 100 s, with a value of "password" and a failure of "nope".
fn slot() -> Slot {
    Slot {
        confirmed: at(100),
        ..testing::slot(&[("password", Ok(b"hunter2")), ("nope", Err(testing::failure()))])
    }
}

fn step(slot: Option<&Slot>, name: &str, max_age: MaxAge, now: u64, troubled: bool) -> ServeDecision {
    judge(slot, &field(name), max_age, Moment { now: at(now), arrived: at(now), troubled, absence: None })
}

fn served(step: &ServeDecision) -> Option<bool> {
    match step {
        ServeDecision::Serve { stale, .. } => Some(*stale),
        _ => None,
    }
}

#[test]
fn a_value_is_served_while_it_is_fresh_and_then_checked() {
    let slot = slot();
    assert_eq!(served(&step(Some(&slot), "password", AGE, 130, false)), Some(false));
    assert_eq!(step(Some(&slot), "password", AGE, 131, false), ServeDecision::Check);
    assert_eq!(served(&step(Some(&slot), "password", MaxAge::Session, 9999, false)), Some(false));
    assert_eq!(step(Some(&slot), "password", MaxAge::Always, 101, false), ServeDecision::Check);
}

#[test]
fn what_was_confirmed_since_the_request_came_is_fresh_by_any_rule() {
    let moment = Moment { now: at(150), arrived: at(99), troubled: false, absence: None };
    for max_age in [AGE, MaxAge::Always, MaxAge::Session] {
        assert_eq!(served(&judge(Some(&slot()), &field("password"), max_age, moment)), Some(false));
    }
}

#[test]
fn in_trouble_a_value_is_served_as_it_is() {
    let slot = slot();
    assert_eq!(served(&step(Some(&slot), "password", AGE, 500, true)), Some(true));
    assert_eq!(served(&step(Some(&slot), "password", MaxAge::Always, 500, true)), Some(true));
}

#[test]
fn what_is_not_there_or_known_to_have_changed_is_fetched() {
    let slot = slot();
    assert_eq!(step(None, "password", AGE, 100, true), ServeDecision::Fetch);
    assert_eq!(step(Some(&slot), "username", AGE, 100, false), ServeDecision::Fetch);
    assert_eq!(
        step(Some(&slot), "username", AGE, 131, false),
        ServeDecision::Check,
        "the IDs may mean something else by now"
    );
    assert_eq!(step(Some(&slot), "username", AGE, 131, true), ServeDecision::Fetch);
    let changed = Slot { changed: true, ..slot };
    for troubled in [false, true] {
        assert_eq!(
            step(Some(&changed), "password", MaxAge::Session, 100, troubled),
            ServeDecision::Fetch,
            "never known-old"
        );
    }
}

#[test]
fn a_missing_field_is_refused_until_its_pause_ends_or_its_item_changes() {
    let failure = testing::failure();
    let absence = Absence {
        failure: &failure,
        ago: Duration::from_secs(2),
        left: Duration::from_secs(38),
        at_once: "onecred refresh db",
    };
    let step = |slot: &Slot, name: &str, arrived: u64, troubled| {
        let moment = Moment { now: at(500), arrived: at(arrived), troubled, absence: Some(absence) };
        judge(Some(slot), &field(name), AGE, moment)
    };
    // a failed field that is configured, and one that the snapshot does not keep
    for (name, troubled) in [("nope", false), ("nope", true), ("invented", false), ("invented", true)] {
        let ServeDecision::Refuse(failure) = step(&slot(), name, 500, troubled) else {
            panic!("not refused")
        };
        assert_eq!((failure.class, failure.retry_after), (testing::failure().class, Some(absence.left)));
        let words = "make one (seen 2 s ago; next look-up in 39 s; to look it up now: onecred refresh db)";
        assert_eq!(failure.remedy, words);
    }
    assert_eq!(
        step(&slot(), "nope", 99, false),
        ServeDecision::Refuse(testing::failure()),
        "it was just fetched"
    );
    assert_eq!(step(&Slot { changed: true, ..slot() }, "nope", 500, false), ServeDecision::Fetch);
    assert_eq!(step(&slot(), "password", 500, false), ServeDecision::Check, "other fields are as they were");
}

#[test]
fn a_missing_field_without_a_pause_is_looked_up_again_by_each_request() {
    assert_eq!(step(Some(&slot()), "nope", MaxAge::Session, 101, false), ServeDecision::Fetch);
    assert_eq!(step(Some(&slot()), "nope", AGE, 101, true), ServeDecision::Fetch);
    assert_eq!(step(Some(&slot()), "nope", AGE, 100, false), ServeDecision::Refuse(testing::failure()));
}
