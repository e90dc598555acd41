use std::collections::VecDeque;

use super::*;
use crate::config::{Settings, from_text};
use crate::domain::name::{CredentialId, UnitName};
use crate::ipc::{Check, Checked, Fetch, Fetched, ItemState, Known, Pending};
use crate::provider::store::Kind;
use crate::provider::store::testing::{self, fetched};

/// A resolver that gives scripted answers and records the questions.
#[derive(Default)]
pub(in crate::provider) struct Scripted {
    fetches: Mutex<VecDeque<Result<Fetched, Failure>>>,
    pub(super) checks: Mutex<VecDeque<Result<ItemState, Failure>>>,
    asked: Mutex<Vec<String>>,
    /// Whether checks are never answered.
    pub(in crate::provider) hang: AtomicBool,
}

impl Scripted {
    pub(in crate::provider) fn fetch_gives(&self, version: u64, values: &[Result<&[u8], Failure>]) {
        self.fetches.lock().unwrap().push_back(Ok(fetched(version, values)));
    }

    pub(in crate::provider) fn then(&self, outcome: Result<Fetched, Failure>) {
        self.fetches.lock().unwrap().push_back(outcome);
    }

    pub(in crate::provider) fn check_gives(&self, state: Result<ItemState, Failure>) {
        self.checks.lock().unwrap().push_back(state);
    }

    pub(in crate::provider) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }

    /// Waits until it was asked something. Uses the real clock, because tests pause the runtime's clock.
    pub(in crate::provider) async fn until_asked(&self) {
        let began = std::time::Instant::now();
        while self.asked().is_empty() {
            assert!(began.elapsed() < Duration::from_secs(60), "it is not asked");
            tokio::task::yield_now().await;
        }
    }
}

impl Resolve for Scripted {
    fn fetch(&self, fetch: Fetch) -> Pending<'_, Fetched> {
        Box::pin(async move {
            let fields: Vec<String> = fetch.fields.iter().map(ToString::to_string).collect();
            self.asked.lock().unwrap().push(format!("fetch {} {}", fetch.item.item.text, fields.join(",")));
            tokio::task::yield_now().await;
            self.fetches.lock().unwrap().pop_front().unwrap_or_else(|| Err(away()))
        })
    }

    fn check(&self, check: Check) -> Pending<'_, Checked> {
        Box::pin(async move {
            self.asked.lock().unwrap().push(format!("check {}", check.items.len()));
            if self.hang.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
            tokio::task::yield_now().await;
            let state = self.checks.lock().unwrap().pop_front().unwrap_or_else(|| Err(away()))?;
            // the failure concerns vault v; other vaults are fine
            let state_of = |known: &Known| match &*known.item.vault.text {
                "v" => state.clone(),
                _ => ItemState::Unchanged { vault_version: Some(1) },
            };
            Ok(Checked { items: check.items.iter().map(state_of).collect() })
        })
    }
}

pub(in crate::provider) fn away() -> Failure {
    Failure::new(Class::Away, "nobody there", "wait")
}

pub(super) fn gone() -> Failure {
    Failure::new(Class::NotFound, "no item", "make one")
}

pub(super) fn settings(max_age: &str, url: &str) -> Settings {
    with_deadline(max_age, url, "30s")
}

fn with_deadline(max_age: &str, url: &str, deadline: &str) -> Settings {
    let text = format!(
        r#"{{ "source": {{ "kind": "connect", "url": "https://{url}" }}, "defaults": {{ "maxAge": "{max_age}", "deadline": "{deadline}" }},
        "secrets": [ {{ "name": "pass", "reference": "op://v/i/password", "units": ["app"] }},
                     {{ "name": "user", "reference": "op://v/i/username", "units": ["app"] }} ] }}"#
    );
    from_text(std::path::Path::new("test.json"), &text).unwrap().settings
}

pub(in crate::provider) struct Rig {
    pub(in crate::provider) script: Arc<Scripted>,
    pub(in crate::provider) config: Arc<CurrentConfig>,
    pub(in crate::provider) broker: Arc<Broker>,
    pub(super) _folder: tempfile::TempDir,
}

impl Rig {
    pub(in crate::provider) fn new(max_age: &str) -> Self {
        Self::of(settings(max_age, "one"))
    }

    pub(in crate::provider) fn with_deadline(deadline: &str) -> Self {
        Self::of(with_deadline("1h", "one", deadline))
    }

    pub(super) fn of(settings: Settings) -> Self {
        Self::sized(settings, 1 << 20)
    }

    pub(in crate::provider) fn with_store(max_age: &str, limit: u64) -> Self {
        Self::sized(settings(max_age, "one"), limit)
    }

    fn sized(settings: Settings, limit: u64) -> Self {
        let (script, folder) = (Arc::new(Scripted::default()), testing::folder());
        let store = Store::open(folder.path(), Kind::Anything, limit).unwrap();
        let resolver: Arc<dyn Resolve> = Arc::<Scripted>::clone(&script);
        let config = CurrentConfig::new(ActiveConfig::new(settings));
        let broker = Arc::new(Broker::new(resolver, store, Arc::clone(&config)));
        Self { script, config, broker, _folder: folder }
    }

    /// What a process gets for a request that arrives now.
    pub(super) async fn get(&self, process: u64, credential: &str) -> Result<(Vec<u8>, bool), Failure> {
        let unit = UnitName::parse("app.service").unwrap();
        let active = self.config.get();
        let wanted = active.settings.policy.judge(&unit, &CredentialId::parse(credential).unwrap()).unwrap();
        let wanted = Arc::clone(&wanted.parts()[0]);
        let order = Order {
            wanted,
            process: ProcessId::testing(process),
            arrived: BootTime::now(),
            asker: Asker::Onecred,
        };
        let ready = match self.broker.look_up(&order) {
            LookUp::Ready(ready) => ready,
            LookUp::Pending(_) => self.broker.get(&order).await?,
        };
        let stale = ready.stale.is_some();
        Ok((ready.read().unwrap().expose().to_vec(), stale))
    }
}

pub(super) fn fresh(value: &str) -> Result<(Vec<u8>, bool), Failure> {
    Ok((value.as_bytes().to_vec(), false))
}

#[tokio::test(start_paused = true)]
async fn many_askers_make_one_fetch_of_all_fields() {
    let rig = Rig::new("1h");
    rig.script.fetch_gives(1, &[Ok(b"hunter2"), Ok(b"bob")]);
    let (a, b, c) = tokio::join!(rig.get(1, "pass"), rig.get(2, "pass"), rig.get(3, "user"));
    assert_eq!((a, b, c), (fresh("hunter2"), fresh("hunter2"), fresh("bob")));
    assert_eq!(rig.get(4, "pass").await, fresh("hunter2"));
    assert_eq!(rig.script.asked(), ["fetch i password,username"]);
}

#[tokio::test(start_paused = true)]
async fn what_passes_is_waited_out_and_what_does_not_is_refused_at_once() {
    let rig = Rig::new("1h");
    rig.script.fetches.lock().unwrap().extend([Err(away()), Err(away())]);
    rig.script.fetch_gives(1, &[Ok(b"hunter2"), Ok(b"bob")]);
    assert_eq!(rig.get(1, "pass").await, fresh("hunter2"));
    assert_eq!(rig.script.asked().len(), 3);
    let rig = Rig::new("1h");
    rig.script.fetches.lock().unwrap().push_back(Err(gone()));
    let began = Instant::now();
    assert_eq!(rig.get(1, "pass").await, Err(gone()));
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn the_deadline_ends_it_with_the_last_cause() {
    let rig = Rig::new("1h");
    let began = Instant::now();
    assert_eq!(rig.get(1, "pass").await, Err(away()));
    assert_eq!(began.elapsed(), Duration::from_secs(30));
    let asked = rig.script.asked().len();
    assert!((5..=15).contains(&asked), "{asked} tries");
}

#[tokio::test(start_paused = true)]
async fn an_old_snapshot_is_checked_once_and_served_as_it_is_when_that_fails() {
    let rig = Rig::new("always");
    rig.script.fetch_gives(1, &[Ok(b"hunter2"), Ok(b"bob")]);
    assert_eq!(rig.get(1, "pass").await, fresh("hunter2"));
    rig.script.checks.lock().unwrap().push_back(Ok(ItemState::Unchanged { vault_version: Some(1) }));
    assert_eq!(rig.get(2, "pass").await, fresh("hunter2"));
    assert_eq!(rig.script.asked(), ["fetch i password,username", "check 1"]);
    assert_eq!(rig.get(3, "pass").await, Ok((b"hunter2".to_vec(), true)), "1Password is away");
    assert_eq!(rig.get(4, "pass").await, Ok((b"hunter2".to_vec(), true)));
    assert_eq!(rig.script.asked(), ["check 1"], "and is left alone for a while");
}

/// The source has answered, but could not report the state of this item.
#[tokio::test(start_paused = true)]
async fn a_vault_that_cannot_be_compared_is_served_as_it_is_and_left_alone_for_a_while() {
    let text = r#"{ "source": { "kind": "connect", "url": "https://one" }, "defaults": { "maxAge": "always", "deadline": "30s" },
        "secrets": [ { "name": "pass", "reference": "op://v/i/password", "units": ["app"] },
                     { "name": "user", "reference": "op://v/i/username", "units": ["app"] },
                     { "name": "other", "reference": "op://w/i/password", "units": ["app"] } ] }"#;
    let rig = Rig::of(from_text(std::path::Path::new("test.json"), text).unwrap().settings);
    let unknown = || rig.script.check_gives(Ok(ItemState::Unknown(away())));
    rig.script.fetch_gives(1, &[Ok(b"hunter2"), Ok(b"bob")]);
    assert_eq!(rig.get(1, "pass").await, fresh("hunter2"));
    rig.script.fetch_gives(1, &[Ok(b"else")]);
    assert_eq!(rig.get(1, "other").await, fresh("else"));
    rig.script.asked();
    unknown();
    assert_eq!(rig.get(2, "pass").await, Ok((b"hunter2".to_vec(), true)));
    assert_eq!(rig.get(3, "user").await, Ok((b"bob".to_vec(), true)));
    assert_eq!(rig.script.asked(), ["check 2"]);
    unknown();
    assert_eq!(rig.get(3, "other").await, fresh("else"));
    let source = SourceName::parse("default").unwrap();
    assert_eq!(rig.broker.last_failure(&source), None, "others of the source are none of its trouble");
    let secret = rig.config.get().secret("pass").unwrap().wanted.clone();
    rig.script.check_gives(Ok(ItemState::Unchanged { vault_version: Some(1) }));
    assert!(
        rig.broker
            .refresh(&secret, Thoroughness::Versions, rig.broker.ask(&secret), &Asker::Admin)
            .await
            .is_ok()
    );
    assert_eq!(rig.broker.condition(&secret).error, None);
    unknown();
    rig.script.asked();
    let refreshed =
        rig.broker.refresh(&secret, Thoroughness::Versions, rig.broker.ask(&secret), &Asker::Admin).await;
    assert_eq!(refreshed, Err(away()), "and costs no fetch");
    assert_eq!(rig.script.asked(), ["check 2"]);
    crate::host::clock::simulated::pass(Duration::from_secs(60));
    assert_eq!(rig.broker.condition(&secret).error, Some(away()), "until it can be compared again");
}

#[tokio::test(start_paused = true)]
async fn a_source_of_which_nothing_can_be_compared_is_in_trouble() {
    let rig = Rig::new("always");
    rig.script.fetch_gives(1, &[Ok(b"hunter2"), Ok(b"bob")]);
    assert_eq!(rig.get(1, "pass").await, fresh("hunter2"));
    rig.script.check_gives(Ok(ItemState::Unknown(away())));
    assert_eq!(rig.get(2, "pass").await, Ok((b"hunter2".to_vec(), true)));
    assert_eq!(rig.broker.last_failure(&SourceName::parse("default").unwrap()), Some(away()));
    assert_eq!(rig.get(3, "user").await, Ok((b"bob".to_vec(), true)));
    assert_eq!(rig.script.asked(), ["fetch i password,username", "check 1"]);
}

#[tokio::test(start_paused = true)]
async fn a_changed_item_is_fetched_before_it_is_served() {
    let rig = Rig::new("always");
    rig.script.fetch_gives(1, &[Ok(b"old"), Ok(b"bob")]);
    assert_eq!(rig.get(1, "pass").await, fresh("old"));
    rig.script.checks.lock().unwrap().push_back(Ok(ItemState::Changed));
    rig.script.fetch_gives(2, &[Ok(b"new"), Ok(b"alice")]);
    assert_eq!(rig.get(2, "pass").await, fresh("new"));
    assert_eq!(
        rig.get(1, "user").await,
        fresh("bob"),
        "a start that has begun with one version ends with it"
    );
    assert_eq!(rig.get(2, "user").await, fresh("alice"));
}

#[tokio::test(start_paused = true)]
async fn a_value_that_is_known_to_be_old_is_never_served() {
    let rig = Rig::new("always");
    rig.script.fetch_gives(1, &[Ok(b"old"), Ok(b"bob")]);
    assert_eq!(rig.get(1, "pass").await, fresh("old"));
    rig.script.checks.lock().unwrap().push_back(Ok(ItemState::Changed));
    assert_eq!(rig.get(2, "pass").await, Err(away()), "after the deadline");
}

#[tokio::test(start_paused = true)]
async fn what_is_gone_is_forgotten() {
    let rig = Rig::new("always");
    rig.script.fetch_gives(1, &[Ok(b"old"), Ok(b"bob")]);
    assert_eq!(rig.get(1, "pass").await, fresh("old"));
    rig.script.checks.lock().unwrap().push_back(Ok(ItemState::Gone(gone())));
    rig.script.fetches.lock().unwrap().push_back(Err(gone()));
    assert_eq!(rig.get(2, "pass").await, Err(gone()));
    assert_eq!(rig.broker.size(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_field_that_fails_for_a_moment_is_waited_out_and_takes_nothing_away() {
    let rig = Rig::new("1h");
    rig.script.fetch_gives(1, &[Ok(b"hunter2"), Err(away())]);
    rig.script.fetch_gives(1, &[Ok(b"hunter2"), Ok(b"bob")]);
    assert_eq!(rig.get(1, "user").await, fresh("bob"));
    let rig = Rig::new("always");
    rig.script.fetch_gives(1, &[Ok(b"hunter2"), Ok(b"bob")]);
    assert_eq!(rig.get(1, "user").await, fresh("bob"));
    rig.script.checks.lock().unwrap().push_back(Ok(ItemState::Changed));
    rig.script.fetch_gives(2, &[Err(away()), Err(away())]);
    rig.script.fetch_gives(2, &[Ok(b"hunter3"), Ok(b"alice")]);
    assert_eq!(rig.get(2, "user").await, fresh("alice"));
}

#[tokio::test(start_paused = true)]
async fn credentials_of_two_versions_are_not_put_together() {
    let rig = Rig::new("always");
    let order = |process: u64, field: &str| {
        let reference = crate::domain::reference::Reference::parse(&format!("op://v/many/{field}")).unwrap();
        let settings = &rig.config.get().settings;
        let unit = UnitName::parse("app.service").unwrap();
        let some =
            settings.policy.judge(&unit, &CredentialId::parse("pass").unwrap()).unwrap().parts()[0].clone();
        let wanted = Arc::new(Wanted { reference, ..(*some).clone() });
        Order {
            wanted,
            process: ProcessId::testing(process),
            arrived: BootTime::now(),
            asker: Asker::Onecred,
        }
    };
    rig.script.fetch_gives(1, &[Ok(b"one")]);
    rig.broker.get(&order(1, "a")).await.unwrap();
    rig.script.fetch_gives(2, &[Ok(b"two"), Ok(b"two")]);
    let torn = rig.broker.get(&order(1, "b")).await.unwrap_err();
    assert!(torn.cause.contains("changed while the unit was starting"), "{torn}");
    assert_eq!(rig.broker.get(&order(2, "b")).await.unwrap().read().unwrap().expose(), b"two");
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_never_leaves_anything_to_serve_ends() {
    let rig = Rig::new("1h");
    for version in 1..10 {
        let mut expired = fetched(version, &[Ok(b"123456"), Ok(b"bob")]);
        if let Ok(value) = &mut expired.fields[0] {
            value.expires = Some(1);
        }
        rig.script.fetches.lock().unwrap().push_back(Ok(expired));
    }
    assert_eq!(rig.get(1, "pass").await.unwrap_err().class, Class::Malformed);
    assert_eq!(rig.script.asked().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_check_without_an_answer_holds_up_no_value() {
    let rig = Rig::new("always");
    rig.script.fetch_gives(1, &[Ok(b"hunter2"), Ok(b"bob")]);
    assert_eq!(rig.get(1, "pass").await, fresh("hunter2"));
    rig.script.hang.store(true, Ordering::Relaxed);
    let began = Instant::now();
    assert_eq!(rig.get(2, "pass").await, Ok((b"hunter2".to_vec(), true)));
    assert_eq!(began.elapsed(), CHECK_LIMIT);
}

#[tokio::test(start_paused = true)]
async fn fields_that_come_while_a_flight_is_under_way_share_the_next() {
    let rig = Rig::new("1h");
    let wanted = |n: u64| {
        let reference = crate::domain::reference::Reference::parse(&format!("op://v/many/f{n:02}")).unwrap();
        let template = &rig.config.get().settings;
        let unit = UnitName::parse("app.service").unwrap();
        let some =
            template.policy.judge(&unit, &CredentialId::parse("pass").unwrap()).unwrap().parts()[0].clone();
        Order {
            wanted: Arc::new(Wanted { reference, ..(*some).clone() }),
            process: ProcessId::testing(n),
            arrived: BootTime::now(),
            asker: Asker::Onecred,
        }
    };
    let orders: Vec<Order> = (0..30).map(wanted).collect();
    for _ in 0..2 {
        rig.script.fetch_gives(1, &vec![Ok(b"x".as_slice()); 30]);
    }
    let mut tasks = Vec::new();
    for order in orders {
        let broker = Arc::clone(&rig.broker);
        tasks.push(tokio::spawn(async move { broker.get(&order).await.map(drop) }));
    }
    for task in tasks {
        assert_eq!(task.await.unwrap(), Ok(()));
    }
    assert!(rig.script.asked().len() <= 2);
}
