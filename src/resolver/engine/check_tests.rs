//! Tests of checks: how many calls they need, and what they report about items that change, disappear, or are
//! temporarily invisible.

use serde_json::{Value as Json, json};

use super::world::{Change, ask, calls, check, everything, items_of, known, text, world};
use super::*;
use crate::ipc::{ItemState, Known};

#[tokio::test(start_paused = true)]
async fn later_a_fetch_is_one_call_and_a_check_as_many_as_vaults_have_changed() {
    let (world, engine) = world();
    let mut all = Vec::new();
    for fetch in everything() {
        all.push(known(&fetch, &engine.fetch(fetch.clone()).await.expect("found")));
    }
    calls(&world);

    tokio::time::advance(Duration::from_secs(60)).await;
    let checked = engine.check(check(all.clone())).await.expect("checked");
    assert!(checked.items.iter().all(|state| *state == ItemState::Unchanged { vault_version: Some(1) }));
    assert_eq!(calls(&world), ["vaults"]);

    world.edit(|document| {
        document["vaults"][1]["contentVersion"] = json!(2);
        items_of(document, 1)[3]["version"] = json!(2);
        items_of(document, 1)[3]["fields"][0]["value"] = json!("new");
    });
    let checked = engine.check(check(all.clone())).await.expect("checked");
    let changed: Vec<usize> = (0..15).filter(|&i| checked.items[i] == ItemState::Changed).collect();
    assert_eq!(changed, [8]);
    assert_eq!(checked.items[9], ItemState::Unchanged { vault_version: Some(2) });
    let mut fetch = everything().remove(8);
    fetch.known = Some(all[8].id.clone());
    let fetched = engine.fetch(fetch.clone()).await.expect("found");
    assert_eq!((text(&fetched).as_str(), fetched.version, fetched.vault_version), ("new", 2, Some(2)));
    assert_eq!(calls(&world), ["vaults", "items vault1", "item item13"]);

    let fresh = Engine::new(Arc::clone(&world)); // a restarted resolver; the provider still knows the ID
    let fetched = fresh.fetch(fetch).await.expect("found");
    assert_eq!((calls(&world).len(), fetched.vault_version), (1, None));
}

#[tokio::test(start_paused = true)]
async fn a_vault_of_the_same_name_is_seen_by_the_check_and_looked_up_then() {
    let (world, engine) = world();
    let question = ask("op://Vault 0/Item 0/a");
    let before = known(&question, &engine.fetch(question.clone()).await.expect("found"));
    world.edit(|document| {
        document["vaults"][0]["name"] = json!("Old");
        document["vaults"][1]["name"] = json!("Vault 0");
    });
    let checked = engine.check(check(vec![before.clone()])).await.expect("checked");
    assert_eq!(checked.items, [ItemState::Changed]);
    let fetched = engine.fetch(Fetch { known: Some(before.id), ..question }).await.expect("found");
    assert_eq!(text(&fetched), "canary 10a");
}

#[tokio::test(start_paused = true)]
async fn a_thing_is_gone_only_when_it_was_missed_twice() {
    let (world, engine) = world();
    let questions = everything();
    let mut all = Vec::new();
    for fetch in &questions[..6] {
        all.push(known(fetch, &engine.fetch(fetch.clone()).await.expect("found")));
    }
    let whole = lock(&world.document).clone();
    let less = |document: &mut Json| {
        document["vaults"][0]["contentVersion"] = json!(2);
        items_of(document, 0)[1]["title"] = json!("Item 2"); // item 1 is missing, item 2 exists twice
        document["vaults"].as_array_mut().expect("vaults").remove(1);
    };

    world.edit(less);
    let checked = engine.check(check(all.clone())).await.expect("checked");
    let classes: Vec<_> = checked.items[..6].iter().map(gone_of).collect();
    let not_found = Some(Class::NotFound);
    assert_eq!(classes, [None, not_found, None, None, None, not_found]);
    // the fetched item is unchanged
    let is_several = |state: &ItemState| matches!(state, ItemState::Unknown(f) if f.class == Class::Several);
    assert!(is_several(&checked.items[2]), "{checked:?}");
    for (key, value) in [("version", json!(9)), ("state", json!("ARCHIVED")), ("title", json!("Item 3"))] {
        let before = lock(&world.document).clone();
        world.edit(|document| {
            document["vaults"][0]["contentVersion"] = json!(3);
            let mut third = items_of(document, 0)[1].clone();
            third["id"] = json!("third");
            items_of(document, 0).push(third);
            items_of(document, 0)[2][key] = value;
        });
        let checked = engine.check(check(all.clone())).await.expect("checked");
        assert_eq!(gone_of(&checked.items[2]), Some(Class::Several), "{key}: {checked:?}");
        world.edit(|document| *document = before);
    }

    // a server that temporarily lacked some items
    let moment = lock(&world.document).clone();
    let engine = Engine::new(Arc::clone(&world));
    let heal = tokio::spawn({
        let world = Arc::clone(&world);
        async move {
            sleep(Duration::from_millis(500)).await;
            world.edit(|document| *document = whole);
        }
    });
    let checked = engine.check(check(all.clone())).await.expect("checked");
    heal.await.expect("healed");
    // the third item was not reported as gone, so it is not looked up again
    let others = checked.items.iter().enumerate().filter(|(i, _)| *i != 2);
    assert!(
        others.map(|(_, state)| state).all(|state| matches!(state, ItemState::Unchanged { .. })),
        "{checked:?}"
    );

    // no time for a second look, or the second look fails
    world.edit(|document| *document = moment);
    let hasty = Check { patience: Duration::from_millis(900), ..check(all.clone()) };
    let is_unknown =
        |state: &ItemState| matches!(state, ItemState::Unknown(failure) if failure.class == Class::Away);
    let without_verdict = |checked: Checked| {
        let unknown: Vec<usize> = (0..6).filter(|&i| is_unknown(&checked.items[i])).collect();
        assert_eq!(unknown, [1, 5], "the others count: {checked:?}");
        assert!(is_several(&checked.items[2]));
        assert!(matches!(checked.items[0], ItemState::Unchanged { .. }));
    };
    without_verdict(engine.check(hasty).await.expect("asked"));
    let fail = tokio::spawn({
        let world = Arc::clone(&world);
        async move {
            sleep(Duration::from_millis(500)).await;
            lock(&world.failures).push(("vaults", Failure::new(Class::Away, "away", "wait")));
        }
    });
    without_verdict(engine.check(check(all)).await.expect("asked"));
    fail.await.expect("failed");
}

fn gone_of(state: &ItemState) -> Option<Class> {
    match state {
        ItemState::Gone(failure) => Some(failure.class),
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn another_vault_of_the_same_name_says_nothing_of_items_that_are_as_they_were() {
    let cases: [(Change, bool); 4] = [
        (|_| {}, false),
        (|d| items_of(d, 0)[0]["version"] = json!(9), true),
        (|d| items_of(d, 0)[0]["title"] = json!("Other"), true),
        (|d| drop(items_of(d, 0).remove(0)), true),
    ];
    for (i, (change, is_gone)) in cases.into_iter().enumerate() {
        let (world, engine) = world();
        let fetch = ask("op://Vault 0/Item 0/a");
        let known = known(&fetch, &engine.fetch(fetch.clone()).await.expect("found"));
        world.edit(|document| {
            document["vaults"][1]["name"] = json!("Vault 0");
            document["vaults"][0]["contentVersion"] = json!(2);
        });
        world.edit(change);
        let checked = engine.check(check(vec![known.clone()])).await.expect("checked");
        let class = match &checked.items[0] {
            ItemState::Unknown(failure) if !is_gone => failure.class,
            ItemState::Gone(failure) if is_gone => failure.class,
            other => panic!("case {i}: {other:?}"),
        };
        assert_eq!(class, Class::Several, "case {i}");
        // the fetched item's vault has another name: the reference now matches the other vault
        world.edit(|document| document["vaults"][0]["name"] = json!("Vault 9"));
        let checked = engine.check(check(vec![known])).await.expect("checked");
        assert!(matches!(checked.items[0], ItemState::Changed), "case {i}: {checked:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_vault_that_cannot_be_listed_does_not_hold_up_the_others() {
    let (world, engine) = world();
    let mut all = Vec::new();
    for fetch in everything() {
        all.push(known(&fetch, &engine.fetch(fetch.clone()).await.expect("found")));
    }
    world.edit(|document| {
        document["vaults"][0]["contentVersion"] = json!(2);
        document["vaults"][1]["contentVersion"] = json!(2);
    });
    let denied = Failure::new(Class::Denied, "denied (403)", "none");
    lock(&world.failures).push(("items vault0", denied));
    calls(&world);
    let checked = engine.check(check(all.clone())).await.expect("checked");
    assert!(checked.items[..5].iter().all(|state| *state == ItemState::Changed));
    assert!(checked.items[5..].iter().all(|state| matches!(state, ItemState::Unchanged { .. })));
    assert_eq!(calls(&world), ["vaults", "items vault0", "items vault1"]);
    lock(&world.failures).push(("items vault1", Failure::new(Class::Away, "away", "wait")));
    let checked = engine.check(check(all)).await.expect("checked");
    assert!(checked.items[..5].iter().all(|state| matches!(state, ItemState::Unchanged { .. })));
    assert!(checked.items[5..10].iter().all(|state| matches!(state, ItemState::Unknown(_))));
    assert!(checked.items[10..].iter().all(|state| matches!(state, ItemState::Unchanged { .. })));
}

/// Fetches all items, then changes all vaults.
async fn fetched_and_changed(world: &world::World, engine: &Engine<Arc<world::World>>) -> Vec<Known> {
    let mut all = Vec::new();
    for fetch in everything() {
        all.push(known(&fetch, &engine.fetch(fetch.clone()).await.expect("found")));
    }
    world.edit(|document| {
        for vault in document["vaults"].as_array_mut().expect("vaults") {
            vault["contentVersion"] = json!(2);
        }
    });
    all
}

#[tokio::test(start_paused = true)]
async fn slow_vaults_are_listed_at_the_same_time() {
    let (world, engine) = world();
    let all = fetched_and_changed(&world, &engine).await;
    lock(&world.latency).push(("items", Duration::from_millis(1_700)));
    let hasty = Check { patience: Duration::from_secs(5), ..check(all) };
    let checked = engine.check(hasty).await.expect("checked");
    assert!(checked.items.iter().all(|state| *state == ItemState::Unchanged { vault_version: Some(2) }));
}

#[tokio::test(start_paused = true)]
async fn what_was_learned_before_the_time_ran_out_counts_and_the_rest_comes_first_next_time() {
    let (world, engine) = world();
    let all = fetched_and_changed(&world, &engine).await;
    lock(&world.latency).push(("items vault2", Duration::from_secs(60)));
    let hasty = || Check { patience: Duration::from_secs(5), ..check(all.clone()) };
    let checked = engine.check(hasty()).await.expect("checked");
    let confirmed = ItemState::Unchanged { vault_version: Some(2) };
    assert!(checked.items[..10].iter().all(|state| *state == confirmed), "{checked:?}");
    assert!(checked.items[10..].iter().all(|state| matches!(state, ItemState::Unknown(_))), "{checked:?}");
    lock(&world.latency).clear();
    calls(&world);
    let checked = engine.check(hasty()).await.expect("checked");
    assert!(checked.items.iter().all(|state| *state == confirmed), "{checked:?}");
    assert_eq!(calls(&world), ["vaults", "items vault2", "items vault0", "items vault1"]);
}

#[tokio::test(start_paused = true)]
async fn a_list_that_makes_no_sense_is_not_requested_by_every_check() {
    let (world, engine) = world();
    let all = fetched_and_changed(&world, &engine).await;
    let of_vault0 =
        |state: &ItemState| matches!(state, ItemState::Unknown(failure) if failure.class == Class::Malformed);
    for (call, after, expected) in [
        ("items vault0", 0, &["vaults", "items vault0", "items vault1", "items vault2"][..]),
        ("items vault0", 30, &["vaults", "items vault1", "items vault2"]),
        ("items vault0", 70, &["vaults", "items vault0", "items vault1", "items vault2"]),
        ("vaults", 0, &["vaults"]),
        ("vaults", 30, &[]),
        ("vaults", 70, &["vaults"]),
    ] {
        tokio::time::advance(Duration::from_secs(after)).await;
        lock(&world.failures).clear();
        lock(&world.failures).push((call, Failure::new(Class::Malformed, "it is not JSON", "look")));
        calls(&world);
        match engine.check(check(all.clone())).await {
            Ok(checked) => assert!(checked.items[..5].iter().all(of_vault0), "{call}: {checked:?}"),
            Err(failure) => assert_eq!((call, failure.class), ("vaults", Class::Malformed)),
        }
        assert_eq!(calls(&world), expected, "{call} after {after} s");
    }
    // an item can be fetched nevertheless
    lock(&world.failures).clear();
    assert!(engine.fetch(everything().remove(0)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn without_versions_of_vaults_the_items_are_compared() {
    let (world, engine) = world();
    world.edit(|document| {
        for vault in document["vaults"].as_array_mut().expect("vaults") {
            vault["contentVersion"] = Json::Null;
        }
    });
    let question = ask("op://Vault 0/Item 0/a");
    let before = known(&question, &engine.fetch(question.clone()).await.expect("found"));
    assert_eq!(before.vault_version, None);
    let states = engine.check(check(vec![before.clone()])).await.expect("checked").items;
    assert_eq!(states, [ItemState::Unchanged { vault_version: None }]);
    world.edit(|document| items_of(document, 0)[0]["version"] = json!(2));
    assert_eq!(engine.check(check(vec![before])).await.expect("checked").items, [ItemState::Changed]);
}

#[tokio::test(start_paused = true)]
async fn another_item_of_the_same_name_and_version_is_a_change() {
    let (world, engine) = world();
    let question = ask("op://Vault 0/Item 0/a");
    let before = known(&question, &engine.fetch(question.clone()).await.expect("found"));
    world.edit(|document| {
        document["vaults"][0]["contentVersion"] = json!(2);
        items_of(document, 0)[0]["id"] = json!("itemnew");
        items_of(document, 0)[0]["fields"][0]["value"] = json!("new");
    });
    let checked = engine.check(check(vec![before.clone()])).await.expect("checked");
    assert_eq!(checked.items, [ItemState::Changed]);
    calls(&world);
    let fetched = engine.fetch(Fetch { known: Some(before.id), ..question }).await.expect("found");
    assert_eq!(text(&fetched), "new");
    assert_eq!(calls(&world), ["item itemnew"], "the check has told which");
}

/// Checks an item that cannot be compared, and returns the failure.
async fn unknown(engine: &Engine<Arc<world::World>>, before: &Known) -> Failure {
    match &engine.check(check(vec![before.clone()])).await.expect("asked").items[..] {
        [ItemState::Unknown(failure)] => failure.clone(),
        other => panic!("{other:?}"),
    }
}

/// A list that is invalid or out of date says nothing about its own items, and the check of other items
/// continues.
#[tokio::test(start_paused = true)]
async fn a_vault_that_makes_no_sense_does_not_hold_up_the_others() {
    let (world, engine) = world();
    let mut all = Vec::new();
    for fetch in everything() {
        all.push(known(&fetch, &engine.fetch(fetch.clone()).await.expect("found")));
    }
    let of_vault = |vault: usize, version: u64| {
        world.edit(|document| document["vaults"][vault]["contentVersion"] = json!(version));
    };
    for class in [Class::Malformed, Class::TooLarge] {
        tokio::time::advance(Duration::from_secs(600)).await; // the pause after the previous list is over
        of_vault(0, 2);
        of_vault(1, 2);
        lock(&world.failures).push(("items vault0", Failure::new(class, "it is not JSON", "look")));
        calls(&world);
        let checked = engine.check(check(all.clone())).await.expect("checked");
        let is_unknown =
            |state: &ItemState| matches!(state, ItemState::Unknown(failure) if failure.class == class);
        assert!(checked.items[..5].iter().all(is_unknown), "{checked:?}");
        let others = ItemState::Unchanged { vault_version: Some(2) };
        assert!(checked.items[5..10].iter().all(|state| *state == others), "{checked:?}");
        assert_eq!(calls(&world), ["vaults", "items vault0", "items vault1"], "each list once");
    }
    of_vault(0, 0);
    let checked = engine.check(check(all)).await.expect("checked");
    assert!(checked.items[..5].iter().all(|state| matches!(state, ItemState::Unknown(_))), "{checked:?}");
    assert!(checked.items[5..].iter().all(|state| matches!(state, ItemState::Unchanged { .. })));
}

/// For example an old replica, or a server that was restored from a backup.
#[tokio::test(start_paused = true)]
async fn a_server_that_is_behind_is_not_believed() {
    let (before_that, engine) = world();
    let question = ask("op://Vault 0/Item 0/a");
    let set = |vault: u64, item: u64| {
        before_that.edit(|document| {
            document["vaults"][0]["contentVersion"] = json!(vault);
            items_of(document, 0)[0]["version"] = json!(item);
        });
    };
    set(5, 3);
    let before = known(&question, &engine.fetch(question.clone()).await.expect("found"));
    let again = Fetch { known: Some(before.id.clone()), version: Some(3), ..question.clone() };
    let behind = |failure: Failure, words: &str| {
        assert_eq!(failure.class, Class::Away, "{failure}");
        assert!(failure.cause.contains(words), "{failure}");
    };
    set(4, 3);
    behind(unknown(&engine, &before).await, "version 4 of vault \"Vault 0\"");
    before_that.edit(|document| drop(items_of(document, 0).remove(0)));
    behind(unknown(&engine, &before).await, "version 4 of vault \"Vault 0\"");
    let (world, engine) = world();
    world.edit(|document| {
        document["vaults"][0]["contentVersion"] = json!(6);
        items_of(document, 0)[0]["version"] = json!(2);
    });
    behind(unknown(&engine, &before).await, "version 2 of item \"Item 0\"");
    let failure = engine.fetch(again).await.unwrap_err();
    assert!(failure.is_of_item, "the source answers");
    behind(failure, "but had already returned version 3");
    // the list and the item come from different replicas
    let engine = Engine::new(Arc::clone(&world));
    world
        .events
        .lock()
        .unwrap()
        .push(("item item00", |document| items_of(document, 0)[0]["version"] = json!(1)));
    behind(engine.fetch(question.clone()).await.unwrap_err(), "version 1 of item");
    world.edit(|document| items_of(document, 0)[0]["version"] = json!(3));
    assert_eq!(engine.fetch(question).await.expect("it has caught up").version, 3);
}

/// The check learned of a change from one replica. The replica that is asked for the item does not have it
/// yet.
#[tokio::test(start_paused = true)]
async fn what_a_check_has_seen_is_not_fetched_older() {
    let (world, engine) = world();
    let question = ask("op://Vault 0/Item 0/a");
    let before = known(&question, &engine.fetch(question.clone()).await.expect("found"));
    let set = |vault: u64, item: u64| {
        world.edit(|document| {
            document["vaults"][0]["contentVersion"] = json!(vault);
            items_of(document, 0)[0]["version"] = json!(item);
        });
    };
    let again = Fetch { known: Some(before.id.clone()), version: Some(before.version), ..question };
    let now = before.version + 1;
    set(9, now);
    let checked = engine.check(check(vec![before.clone()])).await.expect("asked");
    assert!(matches!(checked.items[..], [ItemState::Changed]), "{checked:?}");
    set(9, before.version);
    let failure = engine.fetch(again.clone()).await.unwrap_err();
    assert!(failure.class == Class::Away && failure.cause.contains("had already returned"), "{failure}");
    set(9, now);
    assert_eq!(engine.fetch(again).await.expect("it has caught up").version, now);
}

/// A list that is missing, or that the item contradicts, says nothing about the item.
#[tokio::test(start_paused = true)]
async fn what_is_no_list_says_of_nothing_that_it_is_gone() {
    let (world, engine) = world();
    let question = ask("op://Vault 0/Item 0/a");
    let missing = || Failure::new(Class::NotFound, "no such thing (404)", "none");
    let fails = |call, failure| world.failures.lock().unwrap().push((call, failure));
    for _ in 0..2 {
        fails("vaults", missing());
    }
    assert_eq!(engine.fetch(question.clone()).await.unwrap_err().class, Class::Malformed);
    world.failures.lock().unwrap().clear();
    for call in ["items vault0", "item item00"] {
        for _ in 0..4 {
            fails(call, missing());
        }
        let failure = engine.fetch(question.clone()).await.unwrap_err();
        assert!(
            failure.class == Class::Away && failure.cause.contains("is listed, but"),
            "{call}: {failure}"
        );
        world.failures.lock().unwrap().clear();
        tokio::time::advance(Duration::from_secs(60)).await;
    }
    let before = known(&question, &engine.fetch(question.clone()).await.expect("found"));
    world.edit(|document| document["vaults"][0]["contentVersion"] = json!(2));
    fails("items vault0", Failure::new(Class::Malformed, "it is not JSON", "look"));
    assert_eq!(unknown(&engine, &before).await.class, Class::Malformed);
    tokio::time::advance(Duration::from_secs(600)).await; // the pause after that list is over
    fails("items vault0", Failure::new(Class::Denied, "no access", "give it"));
    assert_eq!(engine.check(check(vec![before])).await.expect("one of many").items, [ItemState::Changed]);
}
