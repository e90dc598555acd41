use super::*;
use crate::domain::reference::Reference;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

fn at(seconds: u64) -> BootTime {
    BootTime::default().after(Duration::from_secs(seconds))
}

fn key(source: &str, item: &str) -> ItemKey {
    let reference = Reference::parse(&format!("op://v/{item}/password")).unwrap();
    ItemKey::new(&SourceName::parse(source).unwrap(), &reference.item)
}

fn candidate(source: &str, item: &str, interval: u64) -> Candidate {
    Candidate {
        key: key(source, item),
        field: Reference::parse("op://v/i/password").unwrap().field,
        interval: Duration::from_secs(interval),
        confirmed: at(0),
        fetched: at(0),
        changed: false,
        incomplete: false,
        has_value: true,
    }
}

/// What is due, as text.
fn take(schedule: &mut Schedule, candidates: &[Candidate], seconds: u64) -> Vec<String> {
    let Due { checks, fetches } = schedule.take(candidates, |_| false, at(seconds), || 1.0);
    let checks = checks.iter().map(|source| format!("check {source}"));
    checks.chain(fetches.keys().map(|key| format!("fetch {}", key.item))).collect()
}

#[test]
fn what_is_due() {
    let often = || candidate("one", "a", MINUTE);
    let seldom = || candidate("one", "b", HOUR);
    let changed = |it: Candidate| Candidate { changed: true, ..it };
    let without = |it: Candidate| Candidate { has_value: false, ..it };
    let confirmed = |it: Candidate, seconds| Candidate { confirmed: at(seconds), ..it };
    for (case, candidates, seconds, expected) in [
        ("nothing is configured", vec![], DAY, &[][..]),
        ("before the interval ends", vec![often(), seldom()], 59, &[]),
        ("when it ends", vec![often(), seldom()], 60, &["check one"]),
        ("both", vec![often(), seldom()], HOUR, &["check one"]),
        ("two sources", vec![often(), candidate("two", "c", MINUTE)], 60, &["check one", "check two"]),
        ("a check by another", vec![confirmed(often(), 30)], 89, &[]),
        ("a check by another, and the interval", vec![confirmed(often(), 30)], 90, &["check one"]),
        ("a change is due at once", vec![often(), changed(seldom())], 1, &["fetch op://v/b"]),
        (
            "a change of one, and the interval of another",
            vec![often(), changed(seldom())],
            60,
            &["check one", "fetch op://v/b"],
        ),
        ("two fields of an item", vec![changed(seldom()), changed(seldom())], 1, &["fetch op://v/b"]),
        ("a missing value", vec![without(confirmed(seldom(), 3000))], HOUR - 1, &[]),
        (
            "is fetched at its interval, as a check does not bring it",
            vec![without(confirmed(seldom(), 3000))],
            HOUR,
            &["fetch op://v/b"],
        ),
    ] {
        assert_eq!(take(&mut Schedule::default(), &candidates, seconds), expected, "{case}");
    }
}

#[test]
fn a_try_counts_however_it_ends() {
    let mut schedule = Schedule::default();
    let all = [candidate("one", "a", MINUTE), candidate("one", "b", 2 * MINUTE)];
    assert_eq!(take(&mut schedule, &all, 60), ["check one"]);
    // nothing was confirmed; the check counts for all secrets of the source
    for (seconds, due) in [(61, false), (119, false), (120, true), (179, false), (180, true)] {
        assert_eq!(!take(&mut schedule, &all, seconds).is_empty(), due, "{seconds}");
    }
}

#[test]
fn a_busy_source_waits() {
    let mut schedule = Schedule::default();
    let all = [candidate("one", "a", MINUTE), candidate("two", "b", MINUTE)];
    let busy = |source: &SourceName| source.as_str() == "one";
    let due = schedule.take(&all, busy, at(60), || 1.0);
    assert_eq!(due.checks.iter().map(SourceName::as_str).collect::<Vec<_>>(), ["two"]);
    assert_eq!(take(&mut schedule, &all, 61), ["check one"]);
}

#[test]
fn a_failed_fetch_of_a_change_is_tried_again_after_growing_pauses() {
    let (mut schedule, mut tried) = (Schedule::default(), Vec::new());
    let changed = [Candidate { changed: true, ..candidate("one", "a", 10 * MINUTE) }];
    for seconds in 1..HOUR {
        if !take(&mut schedule, &changed, seconds).is_empty() {
            tried.push(seconds);
            schedule.ended(&changed[0].key, true);
        }
    }
    // at most the interval
    assert_eq!(tried, [1, 61, 181, 421, 901, 1501, 2101, 2701, 3301]);
}

#[test]
fn a_new_change_does_not_wait_for_the_pause_of_an_old_one() {
    for (case, ended, fetched) in [("its fetch succeeded", false, 0), ("a unit had it fetched", true, 2)] {
        let mut schedule = Schedule::default();
        let changed = [Candidate { changed: true, fetched: at(fetched), ..candidate("one", "a", DAY) }];
        assert_eq!(take(&mut schedule, &changed, 1), ["fetch op://v/a"]);
        schedule.ended(&changed[0].key, ended);
        assert_eq!(take(&mut schedule, &changed, 3), ["fetch op://v/a"], "{case}");
        schedule.ended(&changed[0].key, true);
        assert!(take(&mut schedule, &changed, 62).is_empty(), "{case}: the first pause again");
        assert_eq!(take(&mut schedule, &changed, 63), ["fetch op://v/a"], "{case}");
    }
}

#[test]
fn a_change_after_a_fetch_in_the_same_moment_does_not_wait() {
    let mut schedule = Schedule::default();
    let changed = |fetched| Candidate { changed: true, fetched: at(fetched), ..candidate("one", "a", HOUR) };
    assert_eq!(take(&mut schedule, &[changed(0)], 100), ["fetch op://v/a"]);
    schedule.ended(&key("one", "a"), true);
    assert_eq!(take(&mut schedule, &[changed(99)], 101), [""; 0], "the fetch failed");
    assert_eq!(take(&mut schedule, &[changed(100)], 101), ["fetch op://v/a"]);
}

#[test]
fn an_item_that_left_the_configuration_is_forgotten() {
    let mut schedule = Schedule::default();
    let changed = [Candidate { changed: true, ..candidate("one", "a", DAY) }];
    take(&mut schedule, &changed, 1);
    take(&mut schedule, &[], 2);
    assert!(schedule.items.is_empty());
}

/// 1Password, and what the store has of it, in seconds.
struct World {
    items: Vec<Item>,
    checks: Vec<u64>,
}

struct Item {
    candidate: Candidate,
    /// When it was changed, if it was not fetched since.
    edited: Option<u64>,
    /// The longest time from a change to its fetch.
    longest: u64,
}

impl World {
    fn new(intervals: &[u64]) -> Self {
        let item = |(n, interval): (usize, &u64)| {
            let candidate = candidate("one", &format!("i{n}"), *interval);
            Item { candidate, edited: None, longest: 0 }
        };
        Self { items: intervals.iter().enumerate().map(item).collect(), checks: Vec::new() }
    }

    /// Does what is due until nothing is.
    fn settle(&mut self, schedule: &mut Schedule, now: u64, part: &mut impl FnMut() -> f64, away: bool) {
        loop {
            let candidates: Vec<_> = self.items.iter().map(|item| item.candidate.clone()).collect();
            let Due { checks, fetches } = schedule.take(&candidates, |_| false, at(now), &mut *part);
            if checks.is_empty() && fetches.is_empty() {
                return;
            }
            self.checks.extend(checks.iter().map(|_| now));
            for item in self.items.iter_mut().filter(|_| !checks.is_empty() && !away) {
                match item.edited {
                    Some(_) => item.candidate.changed = true,
                    None => item.candidate.confirmed = at(now),
                }
            }
            for item in self.items.iter_mut().filter(|item| fetches.contains_key(&item.candidate.key)) {
                schedule.ended(&item.candidate.key, away);
                if !away {
                    item.longest = item.longest.max(now - item.edited.take().unwrap_or(now));
                    (item.candidate.confirmed, item.candidate.fetched) = (at(now), at(now));
                    item.candidate.changed = false;
                }
            }
        }
    }
}

#[test]
fn seven_days() {
    let mut random = fastrand::Rng::with_seed(7);
    let intervals = [MINUTE, 2 * MINUTE, 5 * MINUTE, HOUR, DAY, 30 * DAY];
    for (away, shortest) in [(false, 0), (true, 0), (false, 2), (false, 4)] {
        let intervals = &intervals[shortest..];
        let (mut world, mut schedule) = (World::new(intervals), Schedule::default());
        let outage = |now: u64| away && (DAY..DAY + 2 * HOUR).contains(&now);
        for now in (15..7 * DAY).step_by(15) {
            let edited = random.usize(..intervals.len() * 200);
            if let Some(item) = world.items.get_mut(edited) {
                item.edited.get_or_insert(now);
            }
            world.settle(&mut schedule, now, &mut || random.f64().mul_add(0.2, 0.9), outage(now));
        }
        // the checks at the shortest interval find the changes of all items
        let (first, extra) = (intervals[0], if away { 2 * HOUR } else { 0 });
        for Item { candidate, longest, .. } in &world.items {
            let most = first + first / 10 + 15 + extra;
            assert!(*longest <= most, "{}: {longest} s of {most}", candidate.key.item);
            assert!(*longest > 0 || first == DAY, "{}: was never fetched again", candidate.key.item);
        }
        let most = usize::try_from(7 * DAY * 10 / (first * 9)).unwrap();
        assert!(world.checks.len() <= most + 1, "{} checks of {most}", world.checks.len());
    }
}

/// A fetch returned the other fields of a changed item, but not this one.
#[test]
fn a_value_that_did_not_come_is_fetched_after_a_growing_pause() {
    let mut schedule = Schedule::default();
    let changed = Candidate { changed: true, ..candidate("one", "a", HOUR) };
    assert_eq!(take(&mut schedule, std::slice::from_ref(&changed), 10), ["fetch op://v/a"]);
    let mut tried = 10;
    for pause in [1, 2, 4, 8, 16, 32, 60, 60].map(|minutes| minutes * MINUTE) {
        schedule.ended(&changed.key, true);
        let incomplete = [Candidate {
            incomplete: true,
            has_value: false,
            fetched: at(tried + 1),
            ..candidate("one", "a", HOUR)
        }];
        assert_eq!(take(&mut schedule, &incomplete, tried + pause), [""; 0], "{pause}");
        tried += pause + 1;
        assert_eq!(take(&mut schedule, &incomplete, tried), ["fetch op://v/a"], "{pause}");
    }
    let of_a_start = [Candidate { incomplete: true, has_value: false, ..candidate("one", "b", HOUR) }];
    assert_eq!(take(&mut Schedule::default(), &of_a_start, MINUTE - 1), [""; 0]);
    assert_eq!(take(&mut Schedule::default(), &of_a_start, MINUTE), ["fetch op://v/b"]);
}
