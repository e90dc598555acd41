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
    Seen { slot, failing: None, trouble: None, held: None, ids: &[], now }
}

#[test]
fn each_state_has_its_reason() {
    let here = slot(&[("password", Ok(b"hunter2"))]);
    let state = |max_age, seen: &Seen<'_>| Condition::of(&wanted(max_age), seen).state;
    assert_eq!(state("30s", &seen(None, 0)), SecretState::NeverFetched);
    assert_eq!(state("30s", &seen(Some(&here), 30)), SecretState::Fresh);
    assert_eq!(state("30s", &seen(Some(&here), 31)), SecretState::Stale);
    assert_eq!(state("session", &seen(Some(&here), 9999)), SecretState::Fresh);
    let changed = Slot { changed: true, ..here.clone() };
    assert_eq!(state("session", &seen(Some(&changed), 0)), SecretState::Stale);
    let gone = failure();
    assert_eq!(state("30s", &Seen { failing: Some(&gone), ..seen(None, 0) }), SecretState::Failing);
    let without = slot::<1>(&[("password", Err(failure()))]);
    assert_eq!(state("30s", &seen(Some(&without), 0)), SecretState::Failing);
    let other = slot(&[("username", Ok(b"bob"))]);
    assert_eq!(state("30s", &seen(Some(&other), 0)), SecretState::NeverFetched);
}

#[test]
fn a_source_in_trouble_is_told_of_and_changes_no_state() {
    let (here, away) = (slot(&[("password", Ok(b"hunter2"))]), failure());
    let condition = Condition::of(&wanted("30s"), &Seen { trouble: Some(&away), ..seen(Some(&here), 0) });
    assert_eq!((condition.state, condition.error), (SecretState::Fresh, Some(away)));
    assert_eq!(condition.version, Some(1));
}

#[test]
fn what_units_get_of_a_trimmed_value_counts() {
    let limit = (1 << 20) - "db".len();
    let ids = [CredentialId::parse("db").unwrap()];
    let folder = crate::provider::store::testing::folder();
    let kind = crate::provider::store::Kind::Anything;
    let store = crate::provider::store::Store::open(folder.path(), kind, 8 << 20).unwrap();
    for (length, line_ends, trim, size, state) in [
        (7, 2, true, 7, SecretState::Fresh),
        (7, 2, false, 9, SecretState::Fresh),
        (limit, 1, true, limit, SecretState::Fresh),
        (limit, 1, false, limit + 1, SecretState::Failing),
        (0, 2, true, 0, SecretState::Failing),
        (0, 2, false, 2, SecretState::Fresh),
    ] {
        let wanted = Wanted { trim, ..wanted("30s") };
        let value = [vec![b'v'; length], vec![b'\n'; line_ends]].concat();
        let fetched = crate::provider::store::testing::fetched(1, &[Ok(&value)]);
        let field = std::slice::from_ref(&wanted.reference.field);
        crate::provider::store::testing::put(&store, "i", field, fetched).unwrap();
        let slot = store.slot(&crate::provider::store::testing::key("i")).unwrap();
        let case = format!("{length} bytes, {line_ends} line ends, trim: {trim}");
        let condition = Condition::of(&wanted, &Seen { ids: &ids, ..seen(Some(&slot), 0) });
        assert_eq!((condition.size, condition.state), (Some(size), state), "{case}");
        let (origin, place) = (crate::provider::store::Origin::Put, (&slot.snapshot.key, &field[0]));
        store.hold("s", origin, place, 0, crate::domain::secret::SecretValue::new(value)).unwrap();
        let held = store.held("s");
        let condition =
            Condition::of(&wanted, &Seen { held: held.as_ref(), ids: &ids, ..seen(Some(&slot), 0) });
        assert_eq!((condition.size, condition.state), (Some(size), SecretState::Held), "{case}");
        assert_eq!(condition.unusable.is_some(), state == SecretState::Failing, "{case}");
    }
}

#[test]
fn a_value_that_units_are_refused_is_failing() {
    use SecretState::{Failing, Fresh, Held};
    let plain = (1 << 20) - "db".len();
    let sealed = 884_648;
    let of = |size, held: bool, allow_empty, ids: &[&str]| {
        let slot = slot(&[("password", Ok(&[b'v'; 1]))]);
        let value = vec![b'v'; size];
        let folder = crate::provider::store::testing::folder();
        let kind = crate::provider::store::Kind::Anything;
        let store = crate::provider::store::Store::open(folder.path(), kind, 8 << 20).unwrap();
        let wanted = Wanted { allow_empty, ..wanted("30s") };
        let place = (&slot.snapshot.key, &wanted.reference.field);
        store
            .hold(
                "s",
                crate::provider::store::Origin::Put,
                place,
                0,
                crate::domain::secret::SecretValue::new(value.clone()),
            )
            .unwrap();
        let held_value = store.held("s").filter(|_| held);
        let fetched = crate::provider::store::testing::fetched(1, &[Ok(&value)]);
        crate::provider::store::testing::put(&store, "i", std::slice::from_ref(place.1), fetched).unwrap();
        let slot = store.slot(&slot.snapshot.key).unwrap();
        let ids: Vec<_> = ids.iter().map(|id| CredentialId::parse(id).unwrap()).collect();
        let condition =
            Condition::of(&wanted, &Seen { held: held_value.as_ref(), ids: &ids, ..seen(Some(&slot), 0) });
        assert_eq!(condition.size, Some(size));
        (condition.state, condition.unusable, condition.sealed)
    };
    let too_large = |size, limit, form| Some(Unusable::TooLarge { size, limit, form });
    for (size, held, allow_empty, ids, expected) in [
        (7, false, false, &["db"][..], (Fresh, None, None)),
        (0, false, true, &["db"], (Fresh, None, None)),
        (0, false, false, &["db"], (Failing, Some(Unusable::Empty), None)),
        (0, false, false, &[], (Failing, Some(Unusable::Empty), None)),
        (0, true, false, &["db"], (Held, Some(Unusable::Empty), None)),
        (sealed, false, false, &["db"], (Fresh, None, None)),
        (sealed + 1, false, false, &["db"], (Fresh, None, too_large(sealed + 1, sealed, Form::Sealed))),
        (plain, false, false, &["db"], (Fresh, None, too_large(plain, sealed, Form::Sealed))),
        (plain + 1, false, false, &["db"], (Failing, too_large(plain + 1, plain, Form::Plain), None)),
        (plain + 1, true, false, &["db"], (Held, too_large(plain + 1, plain, Form::Plain), None)),
        (plain, false, false, &["a", "db2"], (Failing, too_large(plain, plain - 1, Form::Plain), None)),
        (plain + 1, false, false, &[], (Fresh, None, None)),
    ] {
        assert_eq!(of(size, held, allow_empty, ids), expected, "{size} {held} {allow_empty} {ids:?}");
    }
}

#[test]
fn of_a_changed_item_no_value_is_known() {
    let empty = Slot { changed: true, ..slot(&[("password", Ok(b""))]) };
    let condition = Condition::of(&wanted("30s"), &seen(Some(&empty), 0));
    assert_eq!((condition.state, condition.unusable, condition.size), (SecretState::Stale, None, None));
}
