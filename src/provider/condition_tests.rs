use super::*;
use crate::config::from_text;
use crate::provider::store::testing::{failure, slot};

fn wanted(max_age: &str) -> Wanted {
    let text = format!(
        r#"{{ "source": {{ "kind": "connect", "url": "https://one" }}, "secrets": [ {{ "name": "s", "reference": "op://v/i/password", "maxAge": "{max_age}" }} ] }}"#
    );
    let settings = from_text(std::path::Path::new("test.json"), &text).unwrap().settings;
    settings.policy.secrets().next().unwrap().wanted.clone()
}

fn seen(slot: Option<&Slot>, after: u64) -> Seen<'_> {
    let now = slot.map_or_else(BootTime::now, |slot| slot.confirmed.after(Duration::from_secs(after)));
    Seen { slot, failing: None, trouble: None, held: None, now }
}

#[test]
fn each_state_has_its_reason() {
    let here = slot(&[("password", Ok(b"hunter2"))]);
    let state = |max_age, seen: &Seen<'_>| Condition::of(&wanted(max_age), seen).state;
    assert_eq!(state("30s", &seen(None, 0)), State::NeverFetched);
    assert_eq!(state("30s", &seen(Some(&here), 30)), State::Fresh);
    assert_eq!(state("30s", &seen(Some(&here), 31)), State::Stale);
    assert_eq!(state("session", &seen(Some(&here), 9999)), State::Fresh);
    let changed = Slot { changed: true, ..here.clone() };
    assert_eq!(state("session", &seen(Some(&changed), 0)), State::Stale);
    let gone = failure();
    assert_eq!(state("30s", &Seen { failing: Some(&gone), ..seen(None, 0) }), State::Failing);
    let without = slot::<1>(&[("password", Err(failure()))]);
    assert_eq!(state("30s", &seen(Some(&without), 0)), State::Failing);
    let other = slot(&[("username", Ok(b"bob"))]);
    assert_eq!(state("30s", &seen(Some(&other), 0)), State::NeverFetched);
}

#[test]
fn a_source_in_trouble_is_told_of_and_changes_no_state() {
    let (here, away) = (slot(&[("password", Ok(b"hunter2"))]), failure());
    let condition = Condition::of(&wanted("30s"), &Seen { trouble: Some(&away), ..seen(Some(&here), 0) });
    assert_eq!((condition.state, condition.error), (State::Fresh, Some(away)));
    assert_eq!(condition.version, Some(1));
}
