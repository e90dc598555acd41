use super::*;

const UNIT: &str = "app.service";

/// A message to the list. The numbers are indexes into the manager's reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Message {
    Refused,
    Ended(u32),
    /// The answer to the call after the refusal of this number.
    Answer(u64, u32),
}
use Message::*;

fn refused() -> FailedUnit {
    FailedUnit { credential: Some("db".into()), why: "away".into(), ..FailedUnit::default() }
}

fn list() -> FailedUnits<u32> {
    FailedUnits::new(BTreeMap::new())
}

fn play(messages: &[Message]) -> FailedUnits<u32> {
    let mut units = list();
    for message in messages {
        match *message {
            Refused => units.refuse(UNIT.into(), refused()),
            Ended(at) => units.ended(UNIT, at),
            Answer(number, at) => units.settle(number, at),
        }
    }
    units
}

/// All orders of the messages that satisfy `follows`.
fn orders(messages: &[Message], follows: impl Fn(Message, Message) -> bool) -> Vec<Vec<Message>> {
    fn add(done: &[Message], left: &[Message], all: &mut Vec<Vec<Message>>) {
        if left.is_empty() {
            all.push(done.to_vec());
        }
        for (at, next) in left.iter().enumerate() {
            let rest = [&left[..at], &left[at + 1..]].concat();
            add(&[done, &[*next]].concat(), &rest, all);
        }
    }
    let mut all = Vec::new();
    add(&[], messages, &mut all);
    let is_possible = |order: &Vec<Message>| {
        let wrong =
            |(at, later): (usize, &Message)| order[..at].iter().any(|earlier| follows(*earlier, *later));
        !order.iter().enumerate().any(wrong)
    };
    all.into_iter().filter(is_possible).collect()
}

/// Whether the first of two messages can only come after the second.
fn follows(first: Message, second: Message) -> bool {
    match (first, second) {
        (Answer(..), Refused) => true, // of the same refusal
        (Ended(first), Ended(second)) => first > second,
        _ => false,
    }
}

#[test]
fn no_order_of_messages_loses_a_refused_unit() {
    // the start job ended at the fork, before the process asked
    let all = orders(&[Refused, Ended(1), Answer(1, 2)], follows);
    assert_eq!(all.len(), 3);
    for order in all {
        assert!(play(&order).get(UNIT).is_some(), "{order:?}");
    }
}

#[test]
fn who_stops_or_starts_a_unit_after_its_refusal_ends_it_in_any_order() {
    // 3: after the answer of the manager
    let stopped = |first, second| follows(first, second) || (first, second) == (Ended(3), Refused);
    let all = orders(&[Refused, Ended(1), Answer(1, 2), Ended(3)], stopped);
    assert_eq!(all.len(), 5);
    for order in all {
        assert!(play(&order).is_empty(), "{order:?}");
    }
    assert!(play(&[Refused, Answer(1, 2), Ended(2)]).get(UNIT).is_some(), "it had been sent before");
}

#[test]
fn a_unit_that_is_refused_again_starts_from_the_beginning() {
    // 3 is the end of the second start job; 4 is the second answer of the manager
    let before = [Refused, Ended(1), Answer(1, 2)];
    for end in 0..=2 {
        let mut rest = vec![Refused, Answer(2, 4)];
        rest.insert(end, Ended(3));
        let order = [&before[..], &rest].concat();
        assert!(play(&order).get(UNIT).is_some(), "{order:?}");
        assert!(play(&[&order[..], &[Ended(5)]].concat()).is_empty(), "{order:?}");
    }
    // an answer to an earlier call
    let order = [Refused, Refused, Answer(1, 2), Ended(3), Answer(2, 4)];
    assert!(play(&order).get(UNIT).is_some(), "{order:?}");
}

#[test]
fn positions_count_for_one_connection() {
    let mut units = play(&[Refused, Answer(1, 100)]);
    assert_eq!(units.unsettled(), None);
    assert!(units.reconnect().is_empty(), "what failed with it was reported");
    units.ended(UNIT, 1);
    assert!(units.get(UNIT).is_some() && units.unsettled() == Some(1));
    units.settle(1, 2);
    units.ended(UNIT, 3);
    assert!(units.is_empty());
}

#[test]
fn what_failed_with_units_that_were_refused_before_a_connection_is_looked_for() {
    let mut units = FailedUnits::<u32>::new(BTreeMap::from([("old".to_owned(), refused())]));
    units.refuse(UNIT.into(), refused());
    assert_eq!(units.reconnect(), [UNIT], "the process before this one has looked for those of its own");
    units.settle(1, 1);
    assert!(units.reconnect().is_empty());
}

fn needs(unit: &str, needs: &[&str]) -> (String, Vec<String>) {
    (unit.into(), needs.iter().map(ToString::to_string).collect())
}

fn names(units: &FailedUnits<u32>) -> Vec<&str> {
    units.all().keys().map(String::as_str).collect()
}

/// Two refused units, their dependents in the most difficult order, and a unit that failed because of
/// something else.
fn with_dependents() -> FailedUnits<u32> {
    let mut units = list();
    units.refuse("a".into(), refused());
    units.refuse("b".into(), refused());
    units.settle(2, 1);
    let failed = [needs("second", &["first"]), needs("first", &["a", "x"]), needs("both", &["a", "b"])];
    let others = [needs("other", &["x"])];
    let left = units.fail_with([&failed[..], &others].concat(), BootTime::now());
    assert_eq!(left, others);
    assert_eq!(names(&units), ["a", "b", "both", "first", "second"]);
    units
}

#[test]
fn who_failed_for_a_unit_is_started_after_it_and_after_no_other() {
    let mut units = with_dependents();
    assert!(units.started("b", &refused()).is_empty(), "both also needs a");
    assert_eq!(units.started("a", &refused()), ["both", "first"]);
    units.waits("both");
    assert_eq!(names(&units), ["first", "second"], "what it waits for now is not in the list");
    units.waits("second");
    assert_eq!(names(&units), ["first", "second"], "it waits for first");
    let first = units.get("first").cloned().unwrap_or_default();
    assert_eq!(units.started("first", &first), ["second"]);
}

#[test]
fn a_start_of_ours_is_not_taken_for_another() {
    let refused_again = FailedUnit { why: "another".into(), ..refused() };
    // the job ends before or after the call that queued it returns
    for is_early in [true, false] {
        let mut units = with_dependents();
        let as_it_was = units.begin("a").unwrap_or_default();
        if is_early {
            units.ended("a", 2);
        }
        assert_eq!(units.started("a", &as_it_was), ["first"]);
        units.ended("a", 3);
        assert_eq!(names(&units), ["b", "both", "first", "second"]);
    }
    let mut units = with_dependents();
    let as_it_was = units.begin("a").unwrap_or_default();
    units.refuse("a".into(), refused_again.clone());
    assert!(units.started("a", &as_it_was).is_empty());
    units.is_over("a", &as_it_was);
    assert_eq!(units.get("a"), Some(&refused_again), "it was refused again");
    units.settle(3, 4);
    units.ended("a", 5);
    assert_eq!(names(&units), ["b", "both"], "it is not being started any more");
    // a unit that was not started here can be started by someone else
    let mut units = with_dependents();
    units.begin("a");
    units.waits("a");
    units.ended("a", 2);
    assert!(units.get("a").is_none());
    let mut units = with_dependents();
    units.is_over("a", &refused());
    assert_eq!(names(&units), ["b", "both"]);
}

#[test]
fn who_failed_for_a_unit_that_somebody_started_is_left_alone() {
    for by_hand in ["a", "first"] {
        let mut units = with_dependents();
        units.ended(by_hand, 2);
        let left: &[&str] = if by_hand == "a" { &["b", "both"] } else { &["a", "b", "both"] };
        assert_eq!(names(&units), left, "{by_hand} was started or stopped");
    }
    let mut units = with_dependents();
    units.ended("a", 2);
    units.ended("b", 3);
    assert!(units.is_empty());
    let mut units = with_dependents();
    units.ended("a", 1);
    assert_eq!(names(&units).len(), 5, "that was the start that was refused");
}

#[test]
fn a_full_list_takes_no_more_and_keeps_what_it_has() {
    let mut units = list();
    (0..=MOST).for_each(|n| units.refuse(format!("u{n}"), refused()));
    assert!(units.all().len() == MOST && units.get(&format!("u{MOST}")).is_none());
    let again = FailedUnit { why: "another".into(), ..refused() };
    units.refuse("u0".into(), again.clone());
    assert_eq!(units.get("u0"), Some(&again));
    assert_eq!(units.fail_with(vec![needs("d", &["u0"])], BootTime::now()).len(), 1);
}

#[test]
fn the_list_is_written_when_it_has_changed() {
    let mut units = with_dependents();
    assert!(units.take_changed() && !units.take_changed());
    units.settle(2, 3);
    units.forget("nothing");
    assert!(!units.take_changed());
    units.forget("a");
    assert!(units.take_changed());
    units.clear();
    assert!(units.take_changed() && units.is_empty());
}

#[test]
fn a_dependent_is_noted_once_with_its_cause() {
    let mut units = list();
    units.refuse(UNIT.into(), refused());
    assert!(units.take_changed());
    let since = BootTime::default().after(std::time::Duration::from_secs(7));
    for (now, is_changed) in [(since, true), (BootTime::now(), false)] {
        assert_eq!(units.fail_with(vec![("web.service".into(), vec![UNIT.into()])], now), []);
        assert_eq!(units.take_changed(), is_changed);
    }
    assert!(units.is_needed(UNIT) && !units.is_needed("web.service"));
    let web = units.get("web.service").unwrap();
    assert_eq!((web.since, web.why.as_str()), (since, "it needs app.service, which did not start"));
}

#[test]
fn the_end_of_a_job_at_the_position_of_the_answer_may_be_that_of_the_refused_start() {
    for (ended, is_listed) in [(4, true), (5, true), (6, false)] {
        assert_eq!(play(&[Refused, Ended(ended), Answer(1, 5)]).get(UNIT).is_some(), is_listed, "{ended}");
        assert_eq!(play(&[Refused, Answer(1, 5), Ended(ended)]).get(UNIT).is_some(), is_listed, "{ended}");
    }
}
