//! Tests of the metrics' text. `UPDATE_EXPECTED=1` writes the text that the Prometheus parser reads.

use std::collections::BTreeMap;
use std::path::Path;

use super::*;
use crate::domain::name::SourceName;
use crate::ipc::Spent;
use crate::provider::observe::counters::Counters;

/// One metric of each type, and names with difficult characters.
fn sample() -> Figures {
    let mut buckets = [0; BOUNDS_USEC.len() + 1];
    (buckets[0], buckets[3], buckets[12]) = (7, 2, 1);
    let totals = Totals {
        answers: 10,
        refusals: BTreeMap::from([("away", 3), ("not-allowed", 1), ("stranger", 2)]),
        latency: Latency { buckets, sum: Duration::from_micros(61_004_321) },
        stale: 4,
        waits: 5,
    };
    let counts = |answers, refusals| Counts { answers, refusals, last_answer: None };
    let secret = |name: &str, state, age, counts| SecretFigures { name: name.to_owned(), state, age, counts };
    let secrets = vec![
        secret("db-password", Some(SecretState::Fresh), Some(Duration::from_secs(12)), counts(9, 0)),
        secret("back\\slash \"quoted\"\nline", Some(SecretState::NeverFetched), None, counts(0, 4)),
        secret("app.env", None, None, counts(1, 0)),
    ];
    let source = |name: &str, answers, status| SourceFigures { name: name.to_owned(), answers, status };
    let status = SourceStatus {
        name: SourceName::parse("default").unwrap(),
        print: String::new(),
        kind: "service-account".into(),
        state: SourceState::Limited,
        last_failure: None,
        last_success: Some(1_764_061_200),
        calls: BTreeMap::from([("away".to_owned(), 2), ("ok".to_owned(), 40)]),
        quota: Some(QuotaStatus {
            spent: Spent { hour: 30, day: 790, budget: 800 },
            left: 10,
            kept_back: 200,
            limited_until: Some(1_764_064_800),
        }),
        spenders: Vec::new(),
        core: Some("0.4.2".into()),
    };
    let sources = vec![source("default", true, Some(status)), source("backup", false, None)];
    let store = StoreFigures { items: 2, bytes: 1234, limit: 64 << 20 };
    Figures { version: "1.2.3", serves: true, totals, secrets, resolver_answers: true, sources, store }
}

#[test]
fn the_text_is_what_the_judge_reads() {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("integration/fixtures/metrics.txt");
    let now = text(&sample());
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        std::fs::write(&kept, &now).unwrap();
    }
    let before = std::fs::read_to_string(&kept).unwrap_or_default();
    assert!(now == before, "not what {} has; UPDATE_EXPECTED=1 takes it over:\n{now}", kept.display());
}

#[test]
fn buckets_are_cumulative_and_their_bounds_seconds() {
    let said = text(&sample());
    for line in [
        "onecred_answer_latency_seconds_bucket{le=\"0.00025\"} 7\n",
        "onecred_answer_latency_seconds_bucket{le=\"0.0025\"} 9\n",
        "onecred_answer_latency_seconds_bucket{le=\"60.0\"} 9\n",
        "onecred_answer_latency_seconds_bucket{le=\"+Inf\"} 10\n",
        "onecred_answer_latency_seconds_sum 61.004321\n",
        "onecred_answer_latency_seconds_count 10\n",
    ] {
        assert!(said.contains(line), "{line}{said}");
    }
}

#[test]
fn a_name_can_t_end_its_label() {
    let said = text(&sample());
    let line = "onecred_secret_refusals_total{secret=\"back\\\\slash \\\"quoted\\\"\\nline\"} 4\n";
    assert!(said.contains(line), "{said}");
    assert!(said.ends_with("# EOF\n") && said.matches("# EOF").count() == 1);
}

#[test]
fn each_secret_is_in_one_state() {
    let said = text(&sample());
    let ones = said.lines().filter(|l| l.starts_with("onecred_secret_state{") && l.ends_with(" 1")).count();
    assert_eq!(ones, 2, "a template has none: {said}");
}

#[test]
fn of_a_source_that_nothing_is_told_of_nothing_is_said() {
    let said = text(&sample());
    let of =
        |source: &str| said.lines().filter(|line| line.contains(&format!("source=\"{source}\""))).count();
    assert_eq!((of("backup"), of("default")), (1, 13), "{said}");
    assert!(said.contains("onecred_source_state{source=\"default\",state=\"limited\"} 1\n"), "{said}");
    assert!(said.contains("onecred_source_budget_left{source=\"default\"} 10\n"), "{said}");
}

#[test]
fn nothing_counted_is_still_a_whole_text() {
    let said = text(&Figures { totals: Counters::default().totals(), ..Figures::default() });
    assert!(said.contains("onecred_answers_total 0\n") && said.contains("onecred_serves 0\n"), "{said}");
}
