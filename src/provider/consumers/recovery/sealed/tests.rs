use super::*;
use crate::domain::name::{Claim, CredentialId, UnitName};

fn peer(unit: &str, process: u64) -> Peer {
    let claim =
        Claim { unit: UnitName::parse(unit).unwrap(), credential: CredentialId::parse("db").unwrap() };
    Peer { claim, process: ProcessId::testing(process) }
}

fn answer(unit: &str, process: u64, at: BootTime) -> SealedAnswer {
    let running = Some(Running::testing("(app)"));
    SealedAnswer {
        unit: unit.into(),
        credential: "db".into(),
        process: ProcessId::testing(process),
        running,
        at,
    }
}

#[test]
fn only_a_process_that_ended_is_a_reason_to_ask_about_its_unit() {
    let (long_ago, now) = (BootTime::default(), BootTime::default().after(REMEMBERED));
    let mut reused = Running::testing("(app)");
    reused.started = 1;
    for (why, at, running, is_taken, is_kept, is_recovered) in [
        ("it still loads credentials", now, Some(Running::testing("(app)")), false, true, false),
        ("it does so for too long", long_ago, Some(Running::testing("(app)")), false, false, false),
        ("it runs its program", now, Some(Running::testing("app")), false, false, true),
        ("it has ended", now, None, true, false, false),
        ("its ID is another process's", now, Some(reused), true, false, false),
    ] {
        let mut inner = Inner { answers: vec![answer("app.service", 1, at)], ..Inner::default() };
        inner.restarts.insert("app.service".into(), Restart::new());
        let taken = inner.take_ended(now, |_| running.clone());
        assert_eq!(
            (!taken.is_empty(), !inner.answers.is_empty(), inner.restarts.is_empty()),
            (is_taken, is_kept, is_recovered),
            "{why}"
        );
    }
}

#[test]
fn an_answer_is_forgotten_when_its_unit_is_refused_another() {
    let sealed = Sealed::default();
    sealed.answered(&peer("app.service", 1));
    sealed.answered(&peer("app.service", 1));
    sealed.answered(&peer("other.service", 2));
    assert_eq!(sealed.inner().answers.len(), 2, "one process has two answers");
    sealed.refused("app.service");
    let left: Vec<_> = sealed.inner().answers.iter().map(|answer| answer.unit.clone()).collect();
    assert_eq!(left, ["other.service"]);
}

#[test]
fn a_unit_is_restarted_three_times_with_growing_pauses() {
    let (mut restart, mut last) = (Restart::new(), Duration::ZERO);
    for _ in 0..3 {
        assert!(restart.plan(vec![1]));
        let pause = restart.due.unwrap() - Instant::now();
        assert!(pause > last + Duration::from_secs(1), "{pause:?} after {last:?}");
        last = pause;
    }
    assert!(!restart.plan(vec![1]));
    assert!(last < Duration::from_secs(40));
}

#[test]
fn a_job_ends_a_restart() {
    use At::*;
    #[derive(Debug, PartialEq, Clone, Copy)]
    enum At {
        /// The process has not asked yet.
        Fork,
        /// It still loads credentials.
        Loading,
        /// It runs its program.
        Program,
    }
    // (the job is ours, how far the process is, the job is done), (the restart continues, it has succeeded)
    for (own_job, at, is_done, is_left, has_recovered) in [
        (true, Fork, true, true, false),
        (true, Fork, false, false, false),
        (true, Loading, true, true, false),
        (true, Loading, false, true, false),
        (true, Program, true, false, true),
        (true, Program, false, false, false),
        (false, Fork, true, false, false),
        (false, Loading, true, false, false),
        (false, Program, true, false, false),
    ] {
        let sealed = Sealed::default();
        sealed.inner().restarts.insert("app.service".into(), Restart { own_job, ..Restart::new() });
        if at != Fork {
            let mut waiting = answer("app.service", 1, BootTime::now());
            if at == Loading {
                waiting.running = waiting.process.running();
            }
            sealed.inner().answers.push(waiting);
        }
        sealed.job_ended("app.service", is_done);
        let mut inner = sealed.inner();
        inner.take_due(Instant::now());
        let what = format!("ours: {own_job}, process: {at:?}, done: {is_done}");
        assert_eq!(inner.restarts.contains_key("app.service"), is_left, "{what}");
        assert_eq!(!inner.recovered.is_empty(), has_recovered, "{what}");
        drop(inner);
        sealed.job_ended("app.service", true);
        assert!(!sealed.is_to_be_restarted("app.service"), "only one job is ours: {what}");
    }
}

#[test]
fn refused_connections_are_a_sign_from_when_they_are_seen() {
    let [first, second] = [1, 2].map(|s| BootTime::default().after(Duration::from_secs(s)));
    let mut inner = Inner::default();
    inner.note_refused(4, first);
    assert_eq!(inner.refused_at, None, "they may have been refused long before");
    inner.note_refused(4, first);
    assert_eq!(inner.refused_at, None);
    inner.note_refused(5, first);
    inner.note_refused(5, second);
    assert_eq!(inner.refused_at, Some(first));
}

fn note(sealed: &Sealed, unit: &str, needs: &str) {
    sealed.note_dependent(unit.to_owned(), vec![needs.to_owned()]);
}

fn started(sealed: &Sealed) -> Vec<String> {
    let mut inner = sealed.inner();
    let mut started = mem::take(&mut inner.recovered);
    while let Some((unit, _)) = inner.dependents.take_for(&started) {
        started.push(unit);
    }
    started
}

#[test]
fn dependents_are_noted_from_the_answer_until_their_unit_has_recovered() {
    let sealed = Sealed::default();
    note(&sealed, "early.service", "app.service");
    assert!(sealed.is_empty(), "no answer was sent");
    sealed.inner().answers.push(answer("app.service", 1, BootTime::now()));
    note(&sealed, "fourth.service", "third.service");
    note(&sealed, "first.service", "app.service");
    let ended = sealed.inner().take_ended(BootTime::now(), |_| None);
    assert!(ended.len() == 1 && sealed.inner().may_restart(), "the unit is being looked at");
    note(&sealed, "second.service", "app.service");
    sealed.inner().judged.clear();
    sealed.inner().restarts.insert("app.service".into(), Restart::new());
    note(&sealed, "third.service", "app.service");
    sealed.job_ended("second.service", true);
    assert!(started(&sealed).is_empty(), "nothing has recovered");
    assert!(sealed.is_to_be_restarted("app.service"));
    sealed.inner().recovers("app.service");
    assert!(!sealed.is_to_be_restarted("app.service") && !sealed.is_empty());
    assert_eq!(started(&sealed), ["app.service", "first.service", "third.service", "fourth.service"]);
    assert!(sealed.is_empty());
}

#[test]
fn a_unit_that_was_not_restarted_has_no_dependents_to_start() {
    let sealed = Sealed::default();
    sealed.inner().answers.push(answer("app.service", 1, BootTime::now()));
    note(&sealed, "first.service", "app.service");
    sealed.inner().recovers("app.service");
    assert!(started(&sealed).is_empty());
}

#[test]
fn dependents_of_a_unit_that_is_refused_wait_for_its_cause() {
    let sealed = Sealed::default();
    sealed.inner().answers.push(answer("app.service", 1, BootTime::now()));
    note(&sealed, "second.service", "first.service");
    note(&sealed, "first.service", "app.service");
    let dependents = [("first.service", "app.service"), ("second.service", "first.service")];
    let dependents = dependents.map(|(unit, needed)| (unit.to_owned(), vec![needed.to_owned()]));
    assert_eq!(sealed.refused("app.service"), dependents);
    assert!(sealed.is_empty());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_looked_at_until_it_is_due() {
    let (now, minute) = (Instant::now(), Duration::from_secs(60));
    let mut inner = Inner::default();
    assert_eq!(inner.next(now), None);
    inner.restarts.insert("app.service".into(), Restart { due: Some(now + minute), ..Restart::new() });
    inner.restarts.insert("other.service".into(), Restart { due: Some(now + minute * 2), ..Restart::new() });
    assert_eq!(inner.next(now), Some(now + minute));
    assert!(inner.take_due(now).is_empty());
    assert_eq!(inner.take_due(now + minute), ["app.service"]);
    inner.restarts.remove("other.service");
    // it asks for nothing else
    inner.restarts.get_mut("app.service").unwrap().begin(now + minute);
    assert_eq!(inner.next(now), Some(now + minute + REMEMBERED));
    assert!(inner.take_due(now + REMEMBERED).is_empty() && inner.may_restart());
    assert!(inner.take_due(now + minute + REMEMBERED).is_empty() && !inner.may_restart());
    // as long as there are answers, their processes are checked
    inner.answers.push(answer("app.service", 1, BootTime::now()));
    assert_eq!(inner.next(now), Some(now + CHECK));
}
