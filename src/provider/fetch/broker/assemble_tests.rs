//! Tests of templates that are assembled from values of the broker.

use std::time::Duration;

use super::tests::{Rig, away, gone};
use super::*;
use crate::config::from_text;
use crate::provider::base::refusal::Refusal;
use crate::provider::fetch::assemble::{self, Job};

fn rig() -> Rig {
    let rig = Rig::new("1h");
    let text = r#"{ "source": { "kind": "connect", "url": "https://one" }, "defaults": { "maxAge": "1h", "deadline": "30s" },
        "secrets": [ { "name": "pass", "reference": "op://v/i/password" }, { "name": "user", "reference": "op://v/i/username", "deadline": "10s" } ],
        "templates": [ { "name": "app.env", "content": "P={{pass}}\nU={{user}}", "units": ["app"] },
                       { "name": "two", "content": "{{pass}}{{op://v/other/f}}", "units": ["app"] } ] }"#;
    rig.broker
        .activate(ActiveConfig::new(from_text(std::path::Path::new("test.json"), text).unwrap().settings));
    rig
}

fn job(rig: &Rig, name: &str, process: u64) -> Job {
    let what = rig.config.get().settings.policy.by_name(name).unwrap().clone();
    Job { what, process: ProcessId::testing(process), arrived: BootTime::now(), asker: Asker::Onecred }
}

fn known(rig: &Rig, name: &str, process: u64) -> Option<Result<assemble::Assembled, Refusal>> {
    assemble::look_up(&rig.broker, &job(rig, name, process)).known()
}

fn text(result: Result<assemble::Assembled, Refusal>) -> String {
    String::from_utf8(result.unwrap().value.expose().to_vec()).unwrap()
}

fn cause(refusal: &Refusal) -> String {
    let unit = crate::domain::name::UnitName::parse("app.service").unwrap();
    refusal.cause(&unit, &CredentialId::parse("app.env").unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_template_is_one_fetch_of_an_item_and_then_at_once() {
    let rig = rig();
    assert!(known(&rig, "app.env", 1).is_none());
    rig.script.fetch_gives(1, &[Ok(b"hunter2"), Ok(b"bob")]);
    assert_eq!(text(assemble::get(&rig.broker, &job(&rig, "app.env", 1)).await), "P=hunter2\nU=bob\n");
    assert_eq!(rig.script.asked(), ["fetch i password,username"]);
    assert_eq!(text(known(&rig, "app.env", 2).unwrap()), "P=hunter2\nU=bob\n");
    assert_eq!(rig.script.asked(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_reference_in_a_template_makes_its_item_wanted() {
    let rig = rig();
    let names: Vec<_> = rig.config.get().keys().map(|key| key.item.item.text.to_string()).collect();
    assert_eq!(names, ["i", "other"]);
}

#[tokio::test(start_paused = true)]
async fn a_missing_part_refuses_the_whole_and_is_named() {
    let rig = rig();
    rig.script.fetch_gives(1, &[Ok(b"hunter2"), Err(gone())]);
    let refusal = assemble::get(&rig.broker, &job(&rig, "app.env", 1)).await.unwrap_err();
    assert!(
        cause(&refusal).starts_with("template app.env can't be filled in: op://v/i/username: "),
        "{}",
        cause(&refusal)
    );
    assert_eq!(
        (refusal.kind(), refusal.reference().unwrap().to_string().as_str()),
        ("not-found", "op://v/i/username")
    );
    let rig = self::rig();
    rig.script.fetch_gives(1, &[Ok(b""), Ok(b"bob")]);
    let refusal = assemble::get(&rig.broker, &job(&rig, "app.env", 1)).await.unwrap_err();
    assert_eq!(
        cause(&refusal),
        "template app.env can't be filled in: op://v/i/password: the field is empty in 1Password"
    );
    let rig = self::rig();
    rig.script.fetch_gives(1, &[Ok(b"a\0b"), Ok(b"bob")]);
    let refusal = assemble::get(&rig.broker, &job(&rig, "app.env", 1)).await.unwrap_err();
    assert!(
        cause(&refusal)
            .contains("op://v/i/password: the value can't be used in this template: it contains a NUL byte")
    );
    let shown = format!("{refusal:?}{}", cause(&refusal));
    assert!(!shown.contains("bob") && !shown.contains("a\0b"), "{shown}");
}

#[tokio::test(start_paused = true)]
async fn the_first_part_that_comes_to_its_deadline_ends_the_wait() {
    let rig = rig();
    let began = Instant::now();
    let refusal = assemble::get(&rig.broker, &job(&rig, "app.env", 1)).await.unwrap_err();
    assert_eq!(refusal.kind(), away_kind());
    assert!(began.elapsed() <= Duration::from_secs(10), "the user's deadline: {:?}", began.elapsed());
    assert!(cause(&refusal).contains("op://v/i/username"), "{}", cause(&refusal));
}

fn away_kind() -> &'static str {
    let reference = crate::domain::reference::Reference::parse("op://v/i/f").unwrap();
    Refusal::Failed { reference, failure: away() }.kind()
}

#[tokio::test(start_paused = true)]
async fn all_parts_are_of_one_generation_for_one_process() {
    let rig = rig();
    rig.script.fetch_gives(1, &[Ok(b"old"), Ok(b"old")]);
    assert_eq!(text(assemble::get(&rig.broker, &job(&rig, "app.env", 1)).await), "P=old\nU=old\n");
    let wanted = Arc::clone(&job(&rig, "pass", 1).what.parts()[0]);
    rig.script.fetch_gives(2, &[Ok(b"new"), Ok(b"new")]);
    rig.broker.refresh(&wanted, Thoroughness::Values, rig.broker.ask(&wanted), &Asker::Admin).await.unwrap();
    assert_eq!(text(assemble::get(&rig.broker, &job(&rig, "app.env", 1)).await), "P=old\nU=old\n");
    assert_eq!(text(assemble::get(&rig.broker, &job(&rig, "app.env", 2)).await), "P=new\nU=new\n");
}
