//! What the fuzzer tries on the book: a ledger of any content keeps its budget, and a write that was torn leaves what was written before.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value as Json;

use super::super::ledger::Budget;
use super::super::quota::Quota;
use super::*;
use crate::fuzzing::Input;

/// The ledgers that stand in a book, and where the next write of it ends.
pub(crate) fn book(data: &[u8]) {
    let mut input = Input(data);
    let (cut, raw) = (usize::from(input.byte()) << 8 | usize::from(input.byte()), input.byte() & 1 == 1);
    let Ok(fd) = Book::file() else { return };
    let file = File::from(fd);
    if raw {
        let placed = file.write_all_at(input.rest(), 0).and_then(|()| file.write_all_at(input.rest(), PLACE));
        assert!(
            placed.is_err() || read(&file).is_err() || input.rest().is_empty(),
            "an authentic book, by chance"
        );
        return;
    }
    let Ok(mut ledgers) = serde_json::from_slice::<BTreeMap<String, Ledger>>(input.rest()) else { return };
    if write(&file, 1, &ledgers).is_err() {
        return;
    }
    let before = shown(&ledgers);
    let Ok((1, read_back)) = read(&file) else { panic!("what was written can't be read") };
    assert_eq!(shown(&read_back), before);

    if let Some(page) = ledgers.keys().next() {
        within_budget(&ledgers, page, u32::from(data[0]));
    }
    let now = BootTime::now();
    let day = Duration::from_secs(86_400);
    for ledger in ledgers.values_mut() {
        let spent = ledger.spent(now, day);
        ledger.spend(2, now);
        assert!(ledger.spent(now, day) >= spent.min(u32::MAX - 2), "calls are forgotten");
        assert!(ledger.spent(now, day) >= 2 && ledger.matters(now));
    }
    let after = shown(&ledgers);
    if write(&file, 2, &ledgers).is_err() {
        return;
    }
    // the second place as far as it was written; what is behind it is what a memory file has there
    let length = HEAD + serde_json::to_vec(&ledgers).map_or(0, |json| json.len());
    let Some(missing) = length.checked_sub(cut).filter(|missing| *missing > 0 && *missing <= length) else {
        return;
    };
    let torn = file.write_all_at(&vec![0xa5; missing], cut as u64);
    let Ok((turn, ledgers)) = read(&file) else { panic!("nothing can be read") };
    assert!(torn.is_err() || (turn, shown(&ledgers)) == (1, before) || (turn, shown(&ledgers)) == (2, after));
}

/// The ledgers as text. What is earned of a share may be off by its last digit, as serde_json reads numbers.
fn shown(ledgers: &BTreeMap<String, Ledger>) -> String {
    fn rounded(json: Json) -> Json {
        match json {
            Json::Number(number) if number.is_f64() => {
                Json::from(format!("{:.9e}", number.as_f64().unwrap_or_default()))
            }
            Json::Array(list) => list.into_iter().map(rounded).collect(),
            Json::Object(map) => map.into_iter().map(|(key, value)| (key, rounded(value))).collect(),
            other => other,
        }
    }
    serde_json::to_value(ledgers).map(rounded).unwrap_or_default().to_string()
}

/// Whatever is in the ledger, no more is paid than the budget has, and whoever is refused is told how long.
fn within_budget(ledgers: &BTreeMap<String, Ledger>, page: &str, per_day: u32) {
    let Ok(file) = Book::file().map(File::from) else { return };
    if write(&file, 1, ledgers).is_err() {
        return;
    }
    let quota = Quota::new(Budget { per_day }, Arc::new(Book::in_file(file.into())), page.to_owned());
    for _ in 0..8 {
        let before = quota.spent().day;
        match quota.pay(1) {
            Ok(_) => assert!(before == 0 || before < per_day, "{before} of {per_day} were spent already"),
            Err(failure) => assert!(failure.retry_after.is_some_and(|wait| !wait.is_zero())),
        }
        if quota.admit_check(Default::default()).is_ok() {
            assert!(
                per_day <= 1 || quota.spent().day < per_day - per_day / 4,
                "a check takes what is kept back"
            );
        }
    }
    let _ = quota.retry_login();
    let status = quota.status();
    assert!(status.left <= per_day && status.kept_back <= per_day);
    let limited = crate::ipc::Failure::new(crate::ipc::Class::Limited, "", "");
    assert!(quota.noticed(limited).retry_after.is_some_and(|wait| !wait.is_zero()));
    assert!(quota.pay(1).is_err(), "asked although 1Password limits");
}
