//! Tests of the quota with a simulated clock.

use std::collections::VecDeque;

use super::super::ledger::{DAY, Lot};
use super::*;
use crate::host::clock::simulated::pass;
use crate::ipc::Purpose;

const MINUTE: Duration = Duration::from_secs(60);

fn quota(per_day: u32) -> Quota {
    Quota::new(Budget { per_day }, Arc::default(), "page".into())
}

fn pay(quota: &Quota, calls: u32) {
    for _ in 0..calls {
        quota.pay(1).unwrap_or_else(|failure| panic!("{failure}"));
    }
}

fn limited_call(quota: &Quota) -> u64 {
    quota.noticed(Failure::new(Class::Limited, "", "")).retry_after.unwrap().as_secs()
}

#[test]
fn a_minutely_check_leaves_what_is_kept_back_and_never_stops_for_long() {
    let quota = quota(200);
    let (mut done, mut last, mut longest) = (VecDeque::new(), 0, 0);
    for minute in 0..2 * 1_440 {
        if quota.admit_check(ShareOwner::default()).is_ok() {
            pay(&quota, 1);
            done.push_back(minute);
            (longest, last) = (longest.max(minute - last), minute);
        }
        while done.front().is_some_and(|first| minute - first >= 1_440) {
            done.pop_front();
        }
        assert!(done.len() <= 150, "{} checks within a day", done.len());
        pass(MINUTE);
    }
    assert!(done.len() >= 115, "{}", done.len());
    assert!(longest <= 13, "{longest} minutes without a check");
    pay(&quota, 50);
}

#[test]
fn checks_that_cost_more_than_one_call_leave_what_is_kept_back_too() {
    let quota = quota(200);
    for _ in 0..1_440 {
        if quota.admit_check(ShareOwner::default()).is_ok() {
            pay(&quota, 3);
        }
        pass(MINUTE);
    }
    assert!(quota.spent().day <= 152, "{:?}", quota.spent());
}

#[test]
fn a_budget_ends_and_comes_back() {
    let quota = quota(10);
    pay(&quota, 10);
    pass(Duration::from_secs(100));
    let failure = quota.pay(1).unwrap_err();
    assert_eq!(failure.class, Class::Limited);
    let wait = failure.retry_after.unwrap();
    assert_eq!(wait.as_secs_f64().round(), 86_300.0);
    pass(wait + Duration::from_secs(1));
    pay(&quota, 10);
}

#[test]
fn a_call_counts_for_a_whole_day() {
    let quota = quota(10);
    for _ in 0..10 {
        pay(&quota, 1);
        pass(Duration::from_secs(50)); // within one lot
    }
    pass(DAY - Duration::from_secs(460));
    assert!(quota.pay(1).is_err(), "the first is over a day old, and the last is not");
    pass(Duration::from_secs(420));
    pay(&quota, 1);
}

#[test]
fn a_login_is_paid_for_beforehand() {
    let quota = quota(20);
    pay(&quota, 9);
    quota.pay_login().unwrap();
    assert_eq!(quota.spent().day, 14);
    quota.pay_login().unwrap();
    assert_eq!(quota.spent().day, 19);
    for refused in [quota.affords_login(), quota.pay_login()] {
        assert_eq!(refused.unwrap_err().class, Class::Limited);
    }
    assert_eq!(quota.spent().day, 19, "what was refused is not paid for");
    pay(&quota, 1);
}

#[test]
fn a_login_needs_the_budget_for_a_call_too() {
    for (paid, is_allowed) in [(14, true), (15, false), (16, false), (20, false)] {
        let quota = quota(20);
        pay(&quota, paid);
        assert_eq!(quota.affords_login().is_ok(), is_allowed, "{paid}");
        assert_eq!(quota.pay_login().is_ok(), is_allowed, "{paid}");
    }
}

#[test]
fn calls_that_were_not_made_are_refunded() {
    let quota = quota(20);
    quota.pay_login().unwrap();
    pay(&quota, 3);
    quota.give_back(2);
    assert_eq!(quota.spent().day, 6);
    quota.give_back(LOGIN);
    assert_eq!(quota.spent().day, 1);
}

#[test]
fn the_number_of_calls_can_be_limited() {
    let quota = quota(20).within(CallLimit::of(7));
    pay(&quota, 1);
    quota.pay_login().unwrap();
    pay(&quota, 1);
    assert_eq!(quota.pay(1).unwrap_err().class, Class::Limited);
    assert_eq!(quota.spent().day, 7, "what was refused is not paid for");
}

#[test]
fn a_loop_of_crashes_leaves_something() {
    for per_day in [200, 800] {
        let quota = quota(per_day);
        for _ in 0..1_440 {
            if quota.retry_login().is_ok() && quota.pay_login().is_ok() {
                let _ = quota.pay(1);
            }
            pass(MINUTE);
        }
        let spent = quota.spent().day;
        assert!(spent <= per_day / 4, "{spent} of {per_day} were spent on logins that were of no use");
    }
}

#[test]
fn pauses_grow_until_there_is_an_answer() {
    let quota = quota(10);
    let limit = || {
        pass(LONGEST_PAUSE);
        limited_call(&quota)
    };
    assert_eq!([limit(), limit(), limit()], [60, 120, 240]);
    assert_eq!(quota.pay(1).unwrap_err().class, Class::Limited);
    for _ in 0..10 {
        limit();
    }
    assert_eq!(limit(), 900);
    pass(LONGEST_PAUSE);
    let paid = quota.pay(1).unwrap();
    quota.answered(paid);
    pay(&quota, 1);
    assert_eq!(limit(), 60);
}

#[test]
fn an_answer_to_an_older_call_does_not_end_a_limit() {
    let quota = quota(10);
    let slow = quota.pay(1).unwrap();
    pass(Duration::from_secs(5));
    limited_call(&quota);
    pass(Duration::from_secs(5));
    quota.answered(slow);
    assert_eq!(quota.pay(1).unwrap_err().class, Class::Limited, "it was asked before the limit");
    pass(MINUTE);
    let later = quota.pay(1).unwrap();
    quota.answered(later);
    assert_eq!(limited_call(&quota), 60);
}

#[test]
fn a_limit_with_a_time_is_kept() {
    let book = Arc::<Book>::default();
    let quota = |book: &Arc<Book>| Quota::new(Budget { per_day: 10 }, Arc::clone(book), "page".into());
    let named = Failure::new(Class::Limited, "", "").retry_after(Duration::from_secs(300));
    assert_eq!(quota(&book).noticed(named).retry_after, Some(Duration::from_secs(300)));
    let status = quota(&book).status();
    assert!(status.limited_until.is_some_and(|until| until > clock::unix() + 290), "{status:?}");
    pass(Duration::from_secs(299));
    assert!(quota(&book).pay(1).is_err());
    pass(Duration::from_secs(2));
    pay(&quota(&book), 1);
}

#[test]
fn a_damaged_count_is_no_small_one() {
    let now = BootTime::now();
    let mut ledger = Ledger::default();
    ledger.lots.extend([u32::MAX, 5].map(|calls| Lot { first: now, last: now, calls }));
    assert_eq!(ledger.spent(now, DAY), u32::MAX);
    assert!(ledger.admit(1, Budget { per_day: 800 }, now).is_err());
}

fn cause(share: u64, class: Purpose, is_check: bool) -> Cause {
    Cause { asker: ShareOwner { share, class }, is_check, is_first: true }
}

/// The number of calls of this cause that can be paid for.
fn paid(ledger: &mut Ledger, cause: Cause, budget: Budget, now: BootTime) -> (u32, Failure) {
    let mut calls = 0;
    loop {
        match ledger.pay(1, cause, budget, now) {
            Ok(()) => calls += 1,
            Err(failure) => return (calls, failure),
        }
    }
}

#[test]
fn what_each_class_leaves_to_the_others() {
    use Purpose::{Background, Bus, FirstStart, Start};
    let budget = Budget { per_day: 800 };
    for (cause, most, is_of_asker, case) in [
        (cause(0, FirstStart, false), 800, false, "a first start"),
        (cause(7, FirstStart, false), 800, false, "a first start has no share"),
        (cause(0, Start, false), 700, true, "an administrator"),
        (cause(7, Start, false), 300, true, "a unit that starts again"),
        (cause(7, Bus, false), 300, true, "a caller on the bus"),
        (cause(0, Background, false), 600, true, "onecred itself"),
        (cause(7, Start, true), 600, true, "a check of a unit that starts"),
        (cause(7, Bus, true), 300, true, "a check on the bus"),
        (cause(7, FirstStart, true), 600, true, "a check has no part in what is kept back"),
    ] {
        let (calls, failure) = paid(&mut Ledger::default(), cause, budget, BootTime::now());
        assert_eq!((calls, failure.is_of_asker), (most, is_of_asker), "{case}: {failure}");
    }
}

#[test]
fn a_share_gets_smaller_with_each_consumer_and_comes_back_after_a_day() {
    let (mut ledger, budget, now) = (Ledger::default(), Budget { per_day: 800 }, BootTime::now());
    for consumer in 1..=40 {
        ledger.pay(3, cause(consumer, Purpose::FirstStart, false), budget, now).unwrap();
    }
    let greedy = cause(41, Purpose::Bus, false);
    let (calls, failure) = paid(&mut ledger, greedy, budget, now);
    assert_eq!(calls, 300 / 41);
    assert!(failure.cause.contains("7 calls of 7"), "{failure}");
    let again = cause(1, Purpose::Start, false);
    assert_eq!(paid(&mut ledger, again, budget, now).0, 7, "a first start does not count");
    assert_eq!(Budget { per_day: 10 }.share(40), 5);
    let tomorrow = now.after(failure.retry_after.unwrap());
    assert!(ledger.pay(1, greedy, budget, tomorrow).is_ok());
}

#[test]
fn a_check_of_many_vaults_delays_the_next() {
    let (mut ledger, budget, now) = (Ledger::default(), Budget { per_day: 200 }, BootTime::now());
    let check = cause(0, Purpose::Background, true);
    ledger.admit_check(check, budget, now).unwrap();
    for call in 0..40 {
        ledger.pay(1, Cause { is_first: call == 0, ..check }, budget, now).unwrap();
    }
    let failure = ledger.admit_check(check, budget, now).unwrap_err();
    // 30 at once and 120 in a day: 10 are overdrawn, and 1 is needed
    assert_eq!(failure.retry_after.unwrap().as_secs_f64().round(), 11.0 * 720.0);
}
