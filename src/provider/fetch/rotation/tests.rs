use super::*;
use crate::config::from_text;
use crate::ipc::ItemState;
use crate::provider::base::active_config::ActiveConfig;
use crate::provider::fetch::broker::tests::Rig;

/// Ten secrets of ten items of one source with a refresh interval, and two without.
fn rig() -> Rig {
    let secret = |n: usize, more: &str| {
        format!(r#"{{ "name": "s{n}", "reference": "op://v/i{n}/password", "units": ["app"]{more} }}"#)
    };
    let often = (0..8).map(|n| secret(n, r#", "refresh": "5m""#));
    let seldom = (8..10).map(|n| secret(n, r#", "refresh": "1h""#));
    let never = (10..12).map(|n| secret(n, ""));
    let secrets = often.chain(seldom).chain(never).collect::<Vec<_>>().join(",");
    let text =
        format!(r#"{{ "source": {{ "kind": "connect", "url": "https://one" }}, "secrets": [ {secrets} ] }}"#);
    let rig = Rig::new("1h");
    rig.broker
        .activate(ActiveConfig::new(from_text(std::path::Path::new("test.json"), &text).unwrap().settings));
    rig
}

fn later(seconds: u64) -> BootTime {
    BootTime::now().after(Duration::from_secs(seconds))
}

async fn fetch_all(rig: &Rig) {
    for n in 0..12 {
        rig.script.fetch_gives(1, &[Ok(b"first")]);
        let wanted = rig.config.get().secret(&format!("s{n}")).unwrap().wanted.clone();
        rig.broker.try_once(&wanted, &Asker::Onecred).await.unwrap();
    }
    rig.script.asked();
}

impl Rotation {
    /// Does what is due until nothing more is due at this time.
    async fn settle(&mut self, rig: &Rig, now: BootTime) {
        self.look(&rig.broker, now);
        while !self.work.is_empty() {
            self.wait(Duration::from_secs(3600)).await;
            self.look(&rig.broker, now);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_due_of_a_source_is_one_call() {
    let rig = rig();
    let mut rotation = Rotation::default();
    rotation.settle(&rig, later(600)).await;
    assert!(rig.script.asked().is_empty(), "what was never asked for is left alone");
    fetch_all(&rig).await;
    rotation.settle(&rig, later(240)).await;
    assert!(rig.script.asked().is_empty(), "nothing is due yet");
    rig.script.check_gives(Ok(ItemState::Unchanged { vault_version: Some(7) }));
    rotation.settle(&rig, later(340)).await;
    assert_eq!(rig.script.asked(), ["check 12"]);
    // two intervals at a time: the hourly secrets have been compared by then, and need no further call
    rig.script.check_gives(Ok(ItemState::Unchanged { vault_version: Some(7) }));
    rotation.settle(&rig, later(4000)).await;
    assert_eq!(rig.script.asked(), ["check 12"]);
}

#[tokio::test(start_paused = true)]
async fn what_has_changed_is_fetched_and_a_failure_waits_for_the_next_turn() {
    let rig = rig();
    let mut rotation = Rotation::default();
    fetch_all(&rig).await;
    rig.script.check_gives(Ok(ItemState::Changed));
    (0..9).for_each(|_| rig.script.fetch_gives(2, &[Ok(b"second")]));
    rotation.settle(&rig, later(340)).await;
    let asked = rig.script.asked();
    assert_eq!(
        (asked.len(), asked[0].as_str()),
        (11, "check 12"),
        "and all that are kept fresh, those of an hour too, because they are known to have changed: {asked:?}"
    );
    rotation.settle(&rig, later(345)).await;
    assert!(rig.script.asked().is_empty(), "the one that failed has to wait");
    rig.script.fetch_gives(2, &[Ok(b"second")]);
    rotation.settle(&rig, later(401)).await;
    let asked = rig.script.asked();
    assert_eq!(asked.len(), 1, "no check is needed to find out that it changed: {asked:?}");
    assert!(asked[0].starts_with("fetch "), "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn a_source_that_hangs_does_not_delay_another() {
    let rig = Rig::new("1h");
    let secret = |name: &str, source: &str| {
        format!(
            r#"{{ "name": "{name}", "source": "{source}", "reference": "op://v/{name}/password", "units": ["app"], "refresh": "5m" }}"#
        )
    };
    let text = format!(
        r#"{{ "sources": {{ "one": {{ "kind": "connect", "url": "https://one" }}, "two": {{ "kind": "connect", "url": "https://two" }} }},
            "secrets": [ {}, {} ] }}"#,
        secret("a", "one"),
        secret("b", "two")
    );
    rig.broker
        .activate(ActiveConfig::new(from_text(std::path::Path::new("test.json"), &text).unwrap().settings));
    let fetch = async |name: &str| {
        rig.script.fetch_gives(1, &[Ok(b"first")]);
        let wanted = rig.config.get().secret(name).unwrap().wanted.clone();
        rig.broker.try_once(&wanted, &Asker::Onecred).await.unwrap();
    };
    fetch("a").await;
    rig.script.hang.store(true, std::sync::atomic::Ordering::Relaxed);
    rig.script.asked();
    let mut rotation = Rotation::default();
    rotation.look(&rig.broker, later(340));
    task::yield_now().await;
    assert_eq!(rig.script.asked(), ["check 1"]);
    rig.script.hang.store(false, std::sync::atomic::Ordering::Relaxed);
    fetch("b").await;
    rig.script.asked();
    rig.script.check_gives(Ok(ItemState::Unchanged { vault_version: Some(7) }));
    rotation.look(&rig.broker, later(341));
    task::yield_now().await;
    assert_eq!(rig.script.asked(), ["check 1"], "the other source's, and not the same once more");
}

#[test]
fn what_templates_are_made_of_is_kept_fresh_too() {
    let text = r#"{ "secrets": [ { "name": "a", "reference": "op://v/a/f", "units": ["app"] },
                                 { "name": "b", "reference": "op://v/b/f", "units": ["app"], "refresh": "1h" } ],
                    "templates": [ { "name": "often", "content": "{{a}} {{op://v/c/f}}", "units": ["app"], "refresh": "5m" },
                                   { "name": "never", "content": "{{op://v/d/f}}", "units": ["app"] } ] }"#;
    let settings = from_text(std::path::Path::new("test.json"), text).unwrap().settings;
    let kept = kept_fresh(&settings).map(|(interval, wanted)| (interval.as_secs(), wanted.label.as_str()));
    assert_eq!(kept.collect::<Vec<_>>(), [(3600, "b"), (300, "a"), (300, "op://v/c/f")]);
}

#[test]
fn a_field_is_incomplete_after_a_temporary_failure() {
    use crate::ipc::{Class, Failure};
    use crate::provider::store::testing::{field, slot};
    for (failed, expected) in [
        (None, false),
        (Some(Class::Away), true),
        (Some(Class::Limited), true),
        (Some(Class::NotFound), false),
    ] {
        let value = failed.map_or(Ok(b"x"), |class| Err(Failure::new(class, "cause", "remedy")));
        let slot = slot(&[("password", value)]);
        assert_eq!(is_incomplete(&slot, &field("password")), expected, "{failed:?}");
        assert!(!is_incomplete(&slot, &field("other")));
    }
}
