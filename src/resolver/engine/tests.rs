//! Tests of fetches: how many calls they need, and which answers they trust when items change between and
//! during them.

use std::sync::atomic::Ordering;

use serde_json::json;

use super::world::{Change, ask, calls, everything, items_of, text, world};
use super::*;

#[tokio::test(start_paused = true)]
async fn a_boot_costs_one_call_and_one_for_each_vault_and_item() {
    let (world, engine) = world();
    for fetch in everything() {
        let fetched = engine.fetch(fetch).await.expect("found");
        assert!(fetched.fields.iter().all(Result::is_ok));
    }
    assert_eq!(calls(&world).len(), 1 + 3 + 15, "one after another");

    let (world, engine) = self::world();
    let mut all = tokio::task::JoinSet::new();
    for fetch in everything() {
        let engine = Arc::clone(&engine);
        all.spawn(async move { engine.fetch(fetch).await.map(|fetched| fetched.id) });
    }
    for outcome in all.join_all().await {
        outcome.expect("found");
    }
    assert_eq!(calls(&world).len(), 1 + 3 + 15, "at once");
}

#[tokio::test(start_paused = true)]
async fn a_file_costs_one_call_more() {
    let (world, engine) = world();
    let fetched = engine.fetch(ask("op://Vault 0/Item 0/A.TXT")).await.expect("found");
    assert_eq!(text(&fetched), "content");
    assert_eq!(calls(&world).last().map(String::as_str), Some("file f"));
}

#[tokio::test(start_paused = true)]
async fn what_is_new_is_found_although_the_list_at_hand_lacks_it() {
    let (world, engine) = world();
    engine.fetch(ask("op://Vault 0/Item 0/a")).await.expect("found");
    world.edit(|document| {
        items_of(document, 0)[4]["title"] = json!("New");
        document["vaults"][2]["name"] = json!("Renamed");
    });
    assert_eq!(text(&engine.fetch(ask("op://Vault 0/New/a")).await.expect("found")), "canary 04a");
    assert_eq!(text(&engine.fetch(ask("op://Renamed/Item 1/a")).await.expect("found")), "canary 21a");
    calls(&world);
    let failure = engine.fetch(ask("op://Vault 0/Neww/a")).await.expect_err("not there");
    assert_eq!(failure.class, Class::NotFound);
    assert!(
        failure.cause.contains(r#"no item "Neww" in vault "Vault 0"; the nearest is "New""#),
        "{failure}"
    );
    assert_eq!(calls(&world), ["vaults", "items vault0"], "looked for once more, in fresh lists");
}

#[tokio::test(start_paused = true)]
async fn a_remembered_id_is_good_only_while_the_reference_means_it() {
    let question = || ask("op://Vault 0/Item 0/a");
    type Outcome = Result<&'static str, Class>;
    let cases: [(Change, Outcome); 6] = [
        (|d| items_of(d, 0)[0]["title"] = json!("Other"), Err(Class::NotFound)),
        (|d| items_of(d, 0)[0]["state"] = json!("DELETED"), Err(Class::NotFound)),
        (|d| items_of(d, 0)[0]["state"] = json!("ARCHIVED"), Err(Class::NotFound)),
        (|d| drop(items_of(d, 0).remove(0)), Err(Class::NotFound)),
        (|d| items_of(d, 0)[0]["id"] = json!("itemnew"), Ok("canary 00a")),
        (
            |d| {
                items_of(d, 0)[0]["title"] = json!("Other");
                items_of(d, 0)[1]["title"] = json!("item 0");
            },
            Ok("canary 01a"),
        ),
    ];
    for (i, (change, expected)) in cases.into_iter().enumerate() {
        let (world, engine) = world();
        engine.fetch(question()).await.expect("found");
        world.edit(change); // immediately: the cached lists still show the old state
        let got = engine.fetch(question()).await;
        let got = got.as_ref().map(text).map_err(|failure| failure.class);
        assert_eq!(got.as_deref().map_err(|class| *class), expected, "case {i}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_remembered_id_is_not_used_once_its_vault_has_another_name() {
    type Outcome = Result<&'static str, Class>;
    let cases: [(Change, Outcome); 3] = [
        (|d| d["vaults"][0]["name"] = json!("Other"), Err(Class::NotFound)),
        (
            |d| {
                d["vaults"][0]["name"] = json!("Other");
                d["vaults"][1]["name"] = json!("vault 0");
            },
            Ok("canary 10a"),
        ),
        (|d| d["vaults"][1]["name"] = json!("Vault 0"), Err(Class::Several)),
    ];
    for (i, (change, expected)) in cases.into_iter().enumerate() {
        let (world, engine) = world();
        let question = || ask("op://Vault 0/Item 0/a");
        let id = engine.fetch(question()).await.expect("found").id;
        world.edit(change);
        sleep(lists::RECENT).await;
        engine.fetch(ask("op://Vault 2/Item 0/a")).await.expect("found, in a new list of vaults");
        for known in [None, Some(id)] {
            let got = engine.fetch(Fetch { known, ..question() }).await;
            let got = got.as_ref().map(text).map_err(|failure| failure.class);
            assert_eq!(got.as_deref().map_err(|class| *class), expected, "case {i}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_vaults_version_is_never_newer_than_the_values() {
    let (world, engine) = world();
    lock(&world.events).push(("items vault0", |document| document["vaults"][0]["contentVersion"] = json!(2)));
    let question = ask("op://Vault 0/Item 0/a");
    let fetched = engine.fetch(question.clone()).await.expect("found");
    assert_eq!(fetched.vault_version, Some(1), "of the list that was read before");
    lock(&world.events).push(("item item00", |document| document["vaults"][0]["contentVersion"] = json!(3)));
    let fetched = engine.fetch(question).await.expect("found");
    assert_eq!(fetched.vault_version, Some(1));
}

#[tokio::test(start_paused = true)]
async fn what_was_there_once_is_missed_twice_before_a_fetch_says_so() {
    let (world, engine) = world();
    let question = || ask("op://Vault 0/Item 0/a");
    engine.fetch(question()).await.expect("found");
    let taken = lock(&world.document)["vaults"][0]["items"][0].take();
    let heal = tokio::spawn({
        let world = Arc::clone(&world);
        async move {
            sleep(Duration::from_millis(700)).await;
            world.edit(|document| document["vaults"][0]["items"][0] = taken);
        }
    });
    world.edit(|document| document["vaults"][0]["items"][0] = json!({"id": "other"}));
    assert_eq!(text(&engine.fetch(question()).await.expect("there again")), "canary 00a");
    heal.await.expect("healed");
    world.edit(|document| drop(items_of(document, 0).remove(0)));
    let hasty = Fetch { patience: Duration::from_millis(900), ..question() };
    assert_eq!(engine.fetch(hasty).await.expect_err("no verdict").class, Class::Away);
    assert_eq!(engine.fetch(question()).await.expect_err("gone").class, Class::NotFound);
    calls(&world);
    let ordered = || Fetch { look_again: Some(Duration::ZERO), ..question() };
    assert_eq!(engine.fetch(ordered()).await.expect_err("gone").class, Class::NotFound);
    assert_eq!(calls(&world), ["vaults", "items vault0"], "and once it is known to be gone, no second look");
}

#[tokio::test(start_paused = true)]
async fn a_missing_item_costs_nothing_until_its_vault_changes_or_a_look_is_ordered() {
    let (world, engine) = world();
    let question = || ask("op://Vault 0/Nothing/a");
    let is_missing = async |question: Fetch| engine.fetch(question).await.expect_err("gone").class;
    assert_eq!(is_missing(question()).await, Class::NotFound);
    calls(&world);
    for _ in 0..10 {
        assert_eq!(is_missing(question()).await, Class::NotFound);
    }
    assert_eq!(calls(&world), [""; 0]);
    assert_eq!(is_missing(Fetch { look_again: Some(Duration::ZERO), ..question() }).await, Class::NotFound);
    assert_eq!(calls(&world), ["vaults", "items vault0"], "an administrator looks again at once");
    world.edit(|document| {
        items_of(document, 0)[0]["title"] = json!("Nothing");
        document["vaults"][0]["contentVersion"] = json!(2);
    });
    assert_eq!(is_missing(question()).await, Class::NotFound, "nothing has shown the change yet");
    let mut other = ask("op://Vault 1/Item 0/a");
    other.look_again = Some(Duration::ZERO);
    sleep(lists::RECENT).await;
    engine.fetch(other).await.expect("found, by a new list of vaults");
    assert_eq!(text(&engine.fetch(question()).await.expect("there now")), "canary 00a");
}

#[tokio::test(start_paused = true)]
async fn who_waited_for_a_list_shares_its_failure_and_who_comes_later_does_not() {
    let (world, engine) = world();
    lock(&world.failures).push(("vaults", Failure::new(Class::Away, "the list failed", "wait")));
    let mut all = tokio::task::JoinSet::new();
    for fetch in everything() {
        let engine = Arc::clone(&engine);
        all.spawn(async move { engine.fetch(fetch).await.expect_err("fails").cause });
    }
    assert!(all.join_all().await.iter().all(|cause| cause == "the list failed"));
    assert_eq!(calls(&world), ["vaults"]);
    engine.fetch(ask("op://Vault 0/Item 0/a")).await.expect("asked anew");
}

#[tokio::test(start_paused = true)]
async fn a_question_that_is_given_up_leaves_the_others_alone() {
    let (world, engine) = world();
    let first = tokio::spawn({
        let engine = Arc::clone(&engine);
        async move { engine.fetch(ask("op://Vault 0/Item 0/a")).await.map(|_| ()) }
    });
    sleep(Duration::from_millis(10)).await;
    first.abort();
    engine.fetch(ask("op://Vault 0/Item 1/a")).await.expect("found");
    world.hangs.store(true, Ordering::SeqCst);
    let began = Instant::now();
    let failure = engine.fetch(ask("op://Vault 1/Item 1/a")).await.expect_err("no answer");
    assert_eq!(failure.class, Class::Away);
    assert!(began.elapsed() <= Duration::from_secs(20));
}

#[tokio::test(start_paused = true)]
async fn no_failure_holds_a_value() {
    let (_, engine) = world();
    for field in [
        "a?attribute=otp",
        "a?ssh-format=openssh",
        "k",
        "k?ssh-format=openssh",
        "t?attribute=otp",
        "p",
        "nothing",
    ] {
        let fetched = engine.fetch(ask(&format!("op://Vault 0/Item 0/{field}"))).await.expect("an item");
        let failure = fetched.fields[0].as_ref().expect_err(field);
        let shown = format!("{failure} {failure:?}");
        assert!(!shown.contains("canary"), "{shown}");
    }
    let fetched = engine.fetch(ask("op://Vault 0/Item 0/a")).await.expect("found");
    assert!(!format!("{fetched:?}").contains("canary"));
}
