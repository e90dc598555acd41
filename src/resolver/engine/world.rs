//! An in-memory backend for tests. It counts its calls, and changes or fails as the test demands.

use std::future::pending;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value as Json, json};

use super::*;
use crate::domain::name::SourceName;
use crate::domain::reference::Reference;
use crate::domain::secret::SecretValue;
use crate::ipc::Known;
use crate::resolver::backend::About;
use crate::resolver::items::model;

/// A change to its content.
pub(super) type Change = fn(&mut Json);

/// An in-memory backend that counts its calls, and changes or fails as the test demands.
#[derive(Default)]
pub(super) struct World {
    pub(super) document: Mutex<Json>,
    calls: Mutex<Vec<String>>,
    /// The failures of the next calls, by the name of the call.
    pub(super) failures: Mutex<Vec<(&'static str, Failure)>>,
    /// Changes that happen once a call of that name has arrived.
    pub(super) events: Mutex<Vec<(&'static str, Change)>>,
    pub(super) hangs: AtomicBool,
    /// How long calls of that name take.
    pub(super) latency: Mutex<Vec<(&'static str, Duration)>>,
}

impl World {
    async fn call(&self, name: &str) -> Result<(), Failure> {
        lock(&self.calls).push(name.to_owned());
        let latency =
            lock(&self.latency).iter().find(|(of, _)| name.starts_with(of)).map(|(_, latency)| *latency);
        sleep(latency.unwrap_or(Duration::from_millis(20))).await;
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

    pub(super) fn edit(&self, change: impl FnOnce(&mut Json)) {
        change(&mut lock(&self.document));
    }
}

impl Backend for Arc<World> {
    const CALLS_COST: bool = true;
    const VERSIONS_GROW: bool = true;
    const HOLDERS: Option<&'static str> = Some("test accounts");

    fn about(&self) -> About {
        About { at: "a world in memory".into(), ..About::default() }
    }

    async fn vaults(&self, _by: Instant) -> Result<Vec<Vault>, Failure> {
        let taken = self.read("/vaults"); // the state when the request arrived, however long the answer takes
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

/// Three vaults with five items each; each item has two fields and a file.
pub(super) fn world() -> (Arc<World>, Arc<Engine<Arc<World>>>) {
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

pub(super) fn ask(reference: &str) -> Fetch {
    let Reference { item, field } = Reference::parse(reference).expect(reference);
    let source = SourceName::default_source();
    Fetch {
        source,
        print: String::new(),
        definition: None,
        item,
        known: None,
        version: None,
        fields: vec![field],
        look_again: None,
        asker: Default::default(),
        patience: Duration::from_secs(20),
    }
}

/// Fetches of all items of all vaults, with two fields each.
pub(super) fn everything() -> Vec<Fetch> {
    let mut questions = Vec::new();
    for (vault, item) in (0..3).flat_map(|v| (0..5).map(move |i| (v, i))) {
        let mut question = ask(&format!("op://vault {vault}/item {item}/a"));
        question.fields.extend(ask(&format!("op://vault {vault}/item {item}/b")).fields);
        questions.push(question);
    }
    questions
}

pub(super) fn known(fetch: &Fetch, fetched: &Fetched) -> Known {
    let Fetched { id, version, vault_version, .. } = fetched;
    Known { item: fetch.item.clone(), id: id.clone(), version: *version, vault_version: *vault_version }
}

pub(super) fn check(items: Vec<Known>) -> Check {
    Check {
        source: SourceName::default_source(),
        print: String::new(),
        definition: None,
        items,
        asker: Default::default(),
        patience: Duration::from_secs(20),
    }
}

pub(super) fn text(fetched: &Fetched) -> String {
    let value = fetched.fields[0].as_ref().expect("a value");
    String::from_utf8(value.value.expose().to_vec()).expect("text")
}

pub(super) fn calls(world: &World) -> Vec<String> {
    std::mem::take(&mut *lock(&world.calls))
}

pub(super) fn items_of(document: &mut Json, vault: usize) -> &mut Vec<Json> {
    document["vaults"][vault]["items"].as_array_mut().expect("items")
}
