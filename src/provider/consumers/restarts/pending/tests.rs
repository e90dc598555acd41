use super::*;

const ACTIVE: Activity = Activity::Active;

fn due(unit: &str, measure: Measure, secret: &str) -> Due {
    Due { unit: unit.into(), measure, secret: secret.into() }
}

fn found(activity: Activity, job: bool, started: u64) -> UnitReading {
    UnitReading::Known(UnitState { activity, job, invocation: "1".into(), started, active_since: started })
}

fn refused() -> Option<Problem> {
    Some(Problem::Refused("db".into(), "empty".into()))
}

/// A restart of app for a secret that changed at 100.
fn one(first: bool) -> Pending {
    let mut pending = Pending::default();
    pending.note("db".into(), first);
    pending.listed(vec![due("app", Measure::Restart, "db")], &pending.news(), 100);
    pending
}

fn free(_: &str) -> Option<String> {
    None
}

#[test]
fn what_is_done_depends_on_the_unit_and_on_what_it_received() {
    let unknown = || UnitReading::Unknown("no answer".into());
    let withhold = || NextStep::Withhold(Problem::Unknown("no answer".into()));
    let (busy, ended) = (Activity::Busy, Activity::Ended);
    for (case, first, found, has, expected) in [
        ("it has an older value", false, found(ACTIVE, false, 50), Has::Other, NextStep::Judge),
        ("it has the current value", false, found(ACTIVE, false, 50), Has::Current, NextStep::Drop),
        (
            "it started before, and nothing is known",
            false,
            found(ACTIVE, false, 50),
            Has::Unknown,
            NextStep::Judge,
        ),
        ("it started as it changed", false, found(ACTIVE, false, 100), Has::Unknown, NextStep::Judge),
        ("it started since", false, found(ACTIVE, false, 101), Has::Unknown, NextStep::Drop),
        (
            "it started since with an older value",
            false,
            found(ACTIVE, false, 101),
            Has::Other,
            NextStep::Judge,
        ),
        ("it starts with an older value", false, found(busy, true, 50), Has::Other, NextStep::Wait),
        ("it starts with the current value", false, found(busy, true, 50), Has::Current, NextStep::Drop),
        ("it starts, and nothing is known", false, found(busy, true, 50), Has::Unknown, NextStep::Wait),
        ("it has a job", false, found(ACTIVE, true, 50), Has::Other, NextStep::Wait),
        ("it has ended", false, found(ended, false, 50), Has::Other, NextStep::Drop),
        ("it is being restarted", false, found(ended, true, 50), Has::Other, NextStep::Drop),
        ("there was no value before", true, found(ACTIVE, false, 50), Has::Unknown, NextStep::Drop),
        (
            "the item was made again with the same value",
            true,
            found(ACTIVE, false, 50),
            Has::Current,
            NextStep::Drop,
        ),
        (
            "the item was made again with another value",
            true,
            found(ACTIVE, false, 50),
            Has::Other,
            NextStep::Judge,
        ),
        ("the manager is silent", false, unknown(), Has::Current, withhold()),
    ] {
        let mut pending = one(first);
        let step = pending.settle("app", &found, |_, _| has, free);
        assert_eq!(pending.units.is_empty(), step == NextStep::Drop, "{case}");
        assert_eq!(step, expected, "{case}");
    }
}

#[test]
fn a_unit_that_starts_is_no_longer_withheld() {
    let mut pending = one(false);
    pending.decide("app", refused());
    assert!(pending.is_withheld());
    let step = pending.settle("app", &found(Activity::Busy, true, 50), |_, _| Has::Other, free);
    assert_eq!(step, NextStep::Wait);
    assert!(!pending.is_withheld());
}

#[test]
fn other_units_come_first_only_if_nothing_else_is_due() {
    let wave = |name: &str| (name == "db").then(|| "after app@1".to_owned());
    let mut pending = one(false);
    let step = pending.settle("app", &found(ACTIVE, false, 50), |_, _| Has::Other, wave);
    assert_eq!(step, NextStep::Withhold(Problem::Wave("after app@1".into())));
    pending.listed(vec![due("app", Measure::Reload, "key")], &BTreeMap::new(), 200);
    assert_eq!(pending.settle("app", &found(ACTIVE, false, 50), |_, _| Has::Other, wave), NextStep::Judge);
    // causes that are over do not count
    let has = |name: &str, _: &UnitState| if name == "key" { Has::Current } else { Has::Other };
    let step = pending.settle("app", &found(ACTIVE, false, 50), has, wave);
    assert!(matches!(step, NextStep::Withhold(_)), "{step:?}");
}

#[test]
fn what_is_withheld_is_looked_at_less_often() {
    let manager = || Some(Problem::Unknown("no answer".into()));
    let wave = || Some(Problem::Wave("later".into()));
    for (case, problems, first, waiting, withheld) in [
        ("refused", vec![refused()], true, false, true),
        ("refused again", vec![refused(), refused()], false, false, true),
        ("the manager is silent", vec![manager()], true, false, true),
        ("it is still silent", vec![manager(), manager()], false, false, true),
        ("refused after that", vec![manager(), refused()], true, false, true),
        ("silent after a refusal", vec![refused(), manager()], false, false, true),
        ("other units come first", vec![wave()], true, true, false),
        ("they still do", vec![wave(), wave()], false, true, false),
        ("refused after them", vec![wave(), refused()], true, false, true),
    ] {
        let mut pending = one(false);
        let decisions: Vec<_> = problems.into_iter().map(|problem| pending.decide("app", problem)).collect();
        assert_eq!(decisions.last(), Some(&Decision::Withhold { first }), "{case}");
        assert_eq!((pending.is_waiting(), pending.is_withheld()), (waiting, withheld), "{case}");
        assert_eq!(
            (pending.units(false).len(), pending.units(true).len()),
            (usize::from(waiting), 1),
            "{case}"
        );
    }
}

#[test]
fn what_is_carried_out_is_not_carried_out_twice() {
    let mut pending = one(false);
    assert!(pending.is_waiting());
    assert_eq!(pending.decide("app", None), Decision::Act);
    let done = pending.causes("app");
    assert_eq!((pending.units(true), pending.is_waiting(), pending.is_withheld()), (vec![], false, false));
    // the secret changes again while the unit restarts
    pending.note("db".into(), false);
    pending.listed(vec![due("app", Measure::Restart, "db")], &pending.news(), 200);
    pending.ended("app", &done, 300);
    assert_eq!(pending.units(false), ["app"], "that is still due");
    assert_eq!(pending.carried_out("db"), Some(300));
    pending.decide("app", None);
    pending.ended("app", &pending.causes("app"), 400);
    assert_eq!(pending, Pending::default(), "nothing is left");
}

#[test]
fn the_strongest_measure_is_taken() {
    let mut pending = Pending::default();
    for (measure, secret) in [(Measure::Reload, "a"), (Measure::Restart, "b"), (Measure::Restart, "c")] {
        pending.listed(vec![due("app", measure, secret)], &BTreeMap::new(), 1);
    }
    assert_eq!(pending.due("app"), Some(due("app", Measure::Restart, "b")));
    assert_eq!(pending.due("web"), None);
}

#[test]
fn a_value_that_came_again_and_changed_is_a_change() {
    let mut pending = Pending::default();
    pending.note("db".into(), true);
    let news = pending.news();
    pending.note("db".into(), false);
    pending.listed(vec![due("app", Measure::Restart, "db")], &news, 100);
    assert_eq!(pending.news(), BTreeMap::from([("db".to_owned(), false)]), "it has changed since");
    pending.listed(vec![due("app", Measure::Restart, "db")], &pending.news(), 200);
    assert!(!pending.units["app"].causes["db"].first && pending.news().is_empty());
    pending.note("db".into(), true);
    pending.listed(vec![due("app", Measure::Restart, "db")], &pending.news(), 300);
    assert!(!pending.units["app"].causes["db"].first, "the change before is still to be told");
}

#[test]
fn the_next_provider_continues_with_it() {
    let mut pending = one(false);
    pending.note("key".into(), true);
    pending.decide("app", refused());
    let bytes = serde_json::to_vec(&pending).unwrap();
    assert_eq!(serde_json::from_slice::<Pending>(&bytes).unwrap(), pending);
    pending.decide("app", None);
    let next: Pending = serde_json::from_slice(&serde_json::to_vec(&pending).unwrap()).unwrap();
    assert_eq!(next.units(false), ["app"], "what was being carried out is looked at again");
}

#[test]
fn states_of_the_service_manager() {
    for (word, activity) in [
        ("active", Activity::Active),
        ("activating", Activity::Busy),
        ("reloading", Activity::Busy),
        ("refreshing", Activity::Busy),
        ("deactivating", Activity::Ended),
        ("inactive", Activity::Ended),
        ("failed", Activity::Ended),
    ] {
        assert_eq!(Activity::of(word), activity, "{word}");
    }
}

#[test]
fn what_is_due_is_known_for_each_unit() {
    let pending = one(false);
    for (unit, name, is_due) in [("app", "db", true), ("app", "key", false), ("web", "db", false)] {
        assert_eq!(pending.is_due(unit, name), is_due, "{unit} {name}");
    }
    assert_eq!(pending.entries().map(|(unit, _)| unit).collect::<Vec<_>>(), ["app"]);
}
