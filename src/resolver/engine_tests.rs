//! How many calls questions cost, and what is believed when things change between and during them.

use std::future::pending;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value as Json, json};

use super::*;
use crate::name::SourceName;
use crate::reference::Reference;
use crate::resolver::model;
use crate::secret::SecretValue;
use crate::wire::{ItemState, Known};

/// A backend in memory that counts, and changes or fails when it is told to.
#[derive(Default)]
struct World {
    document: Mutex<Json>,
    calls: Mutex<Vec<String>>,
    /// What calls of a name fail with, the first next.
    failures: Mutex<Vec<(&'static str, Failure)>>,
    /// What happens once a call of a name has come in.
    events: Mutex<Vec<(&'static str, fn(&mut Json))>>,
    hangs: AtomicBool,
}

impl World {
    async fn call(&self, name: &str) -> Result<(), Failure> {
        lock(&self.calls).push(name.to_owned());
        tokio::time::sleep(Duration::from_millis(20)).await;
        if self.hangs.load(Ordering::SeqCst) {
            pending::<()>().await;
        }
        let event = {
            let mut events = lock(&self.events);
            events.iter().position(|(of, _)| name.starts_with(of)).map(|i| events.remove(i).1)
        };
        if let Some(event) = event {
            event(&mut lock(&self.document));
        }
        let mut failures = lock(&self.failures);
        match failures.iter().position(|(of, _)| name.starts_with(of)) {
            Some(i) => Err(failures.remove(i).1),
            None => Ok(()),
        }
    }

    fn read<T: serde::de::DeserializeOwned>(&self, pointer: &str) -> Result<T, Failure> {
        let document = lock(&self.document);
        let gone = || Failure::new(Class::NotFound, "no such thing (404)", "none");
        let found = document.pointer(pointer).ok_or_else(gone)?;
        Ok(model::parse(found.to_string().as_bytes()).expect("Connect's shapes"))
    }

    fn place(&self, kind: &str, parent: &str, id: &str) -> String {
        let list = lock(&self.document).pointer(parent).cloned().unwrap_or_default();
        let at = list.as_array().into_iter().flatten().position(|thing| thing["id"] == id);
        format!("{parent}/{}", at.map_or_else(|| format!("no {kind}"), |at| at.to_string()))
    }

    fn edit(&self, change: impl FnOnce(&mut Json)) {
        change(&mut lock(&self.document));
    }
}

impl Backend for Arc<World> {
    async fn vaults(&self, _by: Instant) -> Result<Vec<Vault>, Failure> {
        let taken = self.read("/vaults"); // what a server saw when it was asked, however long its answer takes
        self.call("vaults").await?;
        taken
    }

    async fn items(&self, vault: &str, _by: Instant) -> Result<Vec<ItemOverview>, Failure> {
        let taken = self.read(&format!("{}/items", self.place("vault", "/vaults", vault)));
        self.call(&format!("items {vault}")).await?;
        taken
    }

    async fn item(&self, id: &ItemId, _by: Instant) -> Result<FullItem, Failure> {
        self.call(&format!("item {}", id.item)).await?;
        let items = format!("{}/items", self.place("vault", "/vaults", &id.vault));
        self.read(&self.place("item", &items, &id.item))
    }

    async fn file(&self, _id: &ItemId, file: &model::File, _by: Instant) -> Result<SecretValue, Failure> {
        self.call(&format!("file {}", file.id)).await?;
        Ok(SecretValue::new(b"content".to_vec()))
    }
}

/// Three vaults of five items with two fields and a file each.
fn world() -> (Arc<World>, Arc<Engine<Arc<World>>>) {
    let item = |vault: usize, i: usize| {
        json!({
            "id": format!("item{vault}{i}"), "title": format!("Item {i}"), "version": 1,
            "fields": [
                {"id": "a", "label": "a", "value": format!("canary {vault}{i}a")},
                {"id": "b", "label": "b", "value": format!("canary {vault}{i}b")},
                {"id": "k", "label": "k", "type": "SSHKEY", "value": "canary key"},
                {"id": "t", "label": "t", "type": "OTP", "value": "canary://uri"},
                {"id": "p", "label": "p", "value": {"canary": {"canary": "canary"}}},
            ],
            "files": [{"id": "f", "name": "a.txt"}],
        })
    };
    let vault = |v: usize| {
        let items: Vec<Json> = (0..5).map(|i| item(v, i)).collect();
        json!({"id": format!("vault{v}"), "name": format!("Vault {v}"), "contentVersion": 1, "items": items})
    };
    let world = Arc::new(World::default());
    world.edit(|document| *document = json!({"vaults": [vault(0), vault(1), vault(2)]}));
    let engine = Arc::new(Engine::new(Arc::clone(&world)));
    (world, engine)
}

fn ask(reference: &str) -> Fetch {
    let Reference { item, field } = Reference::parse(reference).expect(reference);
    let source = SourceName::default_source();
    Fetch { source, item, known: None, fields: vec![field], patience: Duration::from_secs(20) }
}

/// All items of all vaults, with two fields each.
fn everything() -> Vec<Fetch> {
    let mut questions = Vec::new();
    for (vault, item) in (0..3).flat_map(|v| (0..5).map(move |i| (v, i))) {
        let mut question = ask(&format!("op://vault {vault}/item {item}/a"));
        question.fields.extend(ask(&format!("op://vault {vault}/item {item}/b")).fields);
        questions.push(question);
    }
    questions
}

fn known(fetch: &Fetch, fetched: &Fetched) -> Known {
    let Fetched { id, version, vault_version, .. } = fetched;
    Known { item: fetch.item.clone(), id: id.clone(), version: *version, vault_version: *vault_version }
}

fn check(items: Vec<Known>) -> Check {
    Check { source: SourceName::default_source(), items, patience: Duration::from_secs(20) }
}

fn text(fetched: &Fetched) -> String {
    let value = fetched.fields[0].as_ref().expect("a value");
    String::from_utf8(value.value.expose().to_vec()).expect("text")
}

fn calls(world: &World) -> Vec<String> {
    std::mem::take(&mut *lock(&world.calls))
}

fn items_of(document: &mut Json, vault: usize) -> &mut Vec<Json> {
    document["vaults"][vault]["items"].as_array_mut().expect("items")
}

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

    let fresh = Engine::new(Arc::clone(&world)); // a restarted resolver, asked by a provider that knows the ID
    let fetched = fresh.fetch(fetch).await.expect("found");
    assert_eq!((calls(&world).len(), fetched.vault_version), (1, None));
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
    let cases: [(fn(&mut Json), Result<&str, Class>); 6] = [
        (|d| items_of(d, 0)[0]["title"] = json!("Other"), Err(Class::NotFound)),
        (|d| items_of(d, 0)[0]["state"] = json!("DELETED"), Err(Class::NotFound)),
        (|d| items_of(d, 0)[0]["state"] = json!("ARCHIVED"), Ok("canary 00a")),
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
        world.edit(change); // at once: the lists at hand still tell the old
        let got = engine.fetch(question()).await;
        let got = got.as_ref().map(text).map_err(|failure| failure.class);
        assert_eq!(got.as_deref().map_err(|class| *class), expected, "case {i}");
    }
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
        items_of(document, 0)[1]["title"] = json!("Item 2"); // 1 is missing, 2 is there twice
        document["vaults"].as_array_mut().expect("vaults").remove(1);
    };

    world.edit(less);
    let checked = engine.check(check(all.clone())).await.expect("checked");
    let gone = |i: usize| match &checked.items[i] {
        ItemState::Gone(failure) => Some(failure.class),
        _ => None,
    };
    let classes: Vec<_> = (0..6).map(gone).collect();
    let (not_found, several) = (Some(Class::NotFound), Some(Class::Several));
    assert_eq!(classes, [None, not_found, several, None, None, not_found]);

    // a server that had not everything for a moment
    let moment = lock(&world.document).clone();
    let engine = Engine::new(Arc::clone(&world));
    let heal = tokio::spawn({
        let world = Arc::clone(&world);
        async move {
            tokio::time::sleep(Duration::from_millis(500)).await;
            world.edit(|document| *document = whole);
        }
    });
    let checked = engine.check(check(all.clone())).await.expect("checked");
    heal.await.expect("healed");
    assert!(checked.items.iter().all(|state| matches!(state, ItemState::Unchanged { .. })), "{checked:?}");

    // no time for a second look, or a second look that fails
    world.edit(|document| *document = moment);
    let hasty = Check { patience: Duration::from_millis(900), ..check(all.clone()) };
    assert_eq!(engine.check(hasty).await.expect_err("no verdict").class, Class::Away);
    let fail = tokio::spawn({
        let world = Arc::clone(&world);
        async move {
            tokio::time::sleep(Duration::from_millis(500)).await;
            lock(&world.failures).push(("vaults", Failure::new(Class::Away, "away", "wait")));
        }
    });
    assert_eq!(engine.check(check(all)).await.expect_err("no verdict").class, Class::Away);
    fail.await.expect("failed");
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
    assert_eq!(engine.check(check(all)).await.expect_err("passes").class, Class::Away);
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
    tokio::time::sleep(Duration::from_millis(10)).await;
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
