use super::*;
use crate::config::from_text;
use crate::ipc::ItemState;
use crate::provider::base::active_config::Active;
use crate::provider::fetch::broker::tests::Rig;

/// Ten secrets of ten items of one source that are kept fresh, and two that are not.
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
    rig.broker.activate(Active::new(from_text(std::path::Path::new("test.json"), &text).unwrap().settings));
    rig
}

fn later(seconds: u64) -> BootTime {
    BootTime::now().after(Duration::from_secs(seconds))
}

async fn fetch_all(rig: &Rig) {
    for n in 0..12 {
        rig.script.fetch_gives(1, &[Ok(b"first")]);
        let wanted = rig.broker.active().secret(&format!("s{n}")).unwrap().wanted.clone();
        rig.broker.try_once(&wanted).await.unwrap();
    }
    rig.script.asked();
}

#[tokio::test(start_paused = true)]
async fn what_is_due_of_a_source_is_one_call() {
    let rig = rig();
    let mut rotation = Rotation::default();
    rotation.look(&rig.broker, later(600)).await;
    assert!(rig.script.asked().is_empty(), "what was never asked for is left alone");
    fetch_all(&rig).await;
    rotation.look(&rig.broker, later(240)).await;
    assert!(rig.script.asked().is_empty(), "nothing is due yet");
    rig.script.check_gives(Ok(ItemState::Unchanged { vault_version: Some(7) }));
    rotation.look(&rig.broker, later(340)).await;
    assert_eq!(rig.script.asked(), ["check 12"]);
    // two intervals at a time: those of an hour have been compared by then, and again are one call with the others
    rig.script.check_gives(Ok(ItemState::Unchanged { vault_version: Some(7) }));
    rotation.look(&rig.broker, later(4000)).await;
    assert_eq!(rig.script.asked(), ["check 12"]);
}

#[tokio::test(start_paused = true)]
async fn what_has_changed_is_fetched_and_a_failure_waits_for_the_next_turn() {
    let rig = rig();
    let mut rotation = Rotation::default();
    fetch_all(&rig).await;
    rig.script.check_gives(Ok(ItemState::Changed));
    (0..7).for_each(|_| rig.script.fetch_gives(2, &[Ok(b"second")]));
    rotation.look(&rig.broker, later(340)).await;
    let asked = rig.script.asked();
    assert_eq!(
        (asked.len(), asked[0].as_str()),
        (9, "check 12"),
        "and the eight that are kept fresh: {asked:?}"
    );
    rotation.look(&rig.broker, later(345)).await;
    assert!(rig.script.asked().is_empty(), "the one that failed has to wait");
    rig.script.fetch_gives(2, &[Ok(b"second")]);
    // by then it is known to be another: no check is needed to find that out
    rotation.look(&rig.broker, later(690)).await;
    let asked = rig.script.asked();
    let fetches = asked.iter().filter(|call| call.starts_with("fetch")).count();
    assert!(fetches >= 1, "{asked:?}");
}
