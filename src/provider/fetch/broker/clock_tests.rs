//! Tests of the effect of a suspend, or of a jump of the wall clock, on served values.

use super::tests::{Rig, away, fresh};
use super::*;
use crate::host::clock::{self, simulated};
use crate::ipc::ItemState;
use crate::provider::store::testing::fetched;

const HOUR: Duration = Duration::from_secs(3_600);
const YEARS: i64 = 5 * 365 * 86_400;

#[tokio::test(start_paused = true)]
async fn a_night_in_suspend_makes_a_secret_old() {
    let rig = Rig::new("1h");
    rig.script.fetch_gives(1, &[Ok(b"hunter2"), Ok(b"bob")]);
    assert_eq!(rig.get(1, "pass").await, fresh("hunter2"));
    simulated::pass(HOUR - Duration::from_secs(60));
    assert_eq!(rig.get(2, "pass").await, fresh("hunter2"));
    rig.script.asked();
    simulated::pass(Duration::from_secs(61));
    assert_eq!(rig.get(3, "pass").await, Ok((b"hunter2".to_vec(), true)), "1Password is not back yet");
    assert_eq!(rig.script.asked(), ["check 1"]);
    assert_eq!(rig.get(4, "pass").await, Ok((b"hunter2".to_vec(), true)));
    assert_eq!(rig.script.asked().len(), 0, "it is left alone");
    simulated::pass(HOUR);
    rig.script.check_gives(Ok(ItemState::Unchanged { vault_version: Some(1) }));
    assert_eq!(rig.get(5, "pass").await, fresh("hunter2"), "and not for the time of another suspend");
    assert_eq!(rig.script.asked(), ["check 1"]);
}

#[tokio::test(start_paused = true)]
async fn a_unit_that_waits_has_the_rest_of_its_time_after_a_suspend() {
    let rig = Rig::new("1h");
    let suspend = async {
        tokio::time::sleep(Duration::from_secs(10)).await;
        simulated::pass(8 * HOUR);
    };
    let began = Instant::now();
    let (got, ()) = tokio::join!(rig.get(1, "pass"), suspend);
    assert_eq!(got, Err(away()));
    assert_eq!(began.elapsed(), Duration::from_secs(30), "as long as ever, and no less for the night");
}

#[tokio::test(start_paused = true)]
async fn a_wall_clock_that_jumps_makes_nothing_older_or_younger() {
    let rig = Rig::new("1h");
    rig.script.fetch_gives(1, &[Ok(b"hunter2"), Ok(b"bob")]);
    assert_eq!(rig.get(1, "pass").await, fresh("hunter2"));
    rig.script.asked();
    for (process, jump) in [(2, YEARS), (3, -3 * YEARS), (4, 2 * YEARS)] {
        simulated::jump(jump);
        assert_eq!(rig.get(process, "pass").await, fresh("hunter2"));
    }
    assert_eq!(rig.script.asked().len(), 0);
    simulated::pass(HOUR);
    rig.script.check_gives(Ok(ItemState::Unchanged { vault_version: Some(1) }));
    simulated::jump(-YEARS);
    assert_eq!(rig.get(5, "pass").await, fresh("hunter2"));
    assert_eq!(rig.script.asked(), ["check 1"], "an hour is one, whatever the date");
}

#[tokio::test(start_paused = true)]
async fn a_one_time_password_ends_in_time_under_a_clock_that_was_set_back() {
    let rig = Rig::new("session");
    let code = |text: &'static [u8]| {
        let mut code = fetched(1, &[Ok(text), Ok(b"bob")]);
        code.fields[0].as_mut().unwrap().expires = Some(clock::unix() + 30);
        Ok(code)
    };
    rig.script.then(code(b"123456"));
    assert_eq!(rig.get(1, "pass").await, fresh("123456"));
    simulated::jump(-YEARS);
    simulated::pass(Duration::from_secs(20));
    assert_eq!(rig.get(2, "pass").await, fresh("123456"));
    simulated::pass(Duration::from_secs(11));
    rig.script.then(code(b"654321"));
    assert_eq!(rig.get(3, "pass").await, fresh("654321"), "not for five years");
    simulated::jump(YEARS);
    rig.script.then(code(b"111111"));
    assert_eq!(rig.get(4, "pass").await, fresh("111111"), "nor past its end by a clock that was set right");
}
