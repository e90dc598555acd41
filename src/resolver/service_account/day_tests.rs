//! Simulates a day of four machines that share an account. On each, a timer starts a unit every minute. Time
//! is simulated; broker, store, engine, session, quota and book are real; the SDK core is a fake that counts.

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};
use zeroize::Zeroizing;

use super::worker::{Ask, Refused, Told, WorkerAnswer, WorkerError};
use super::*;
use crate::domain::name::{CredentialId, UnitName};
use crate::host::clock::{BootTime, simulated};
use crate::provider::base::active_config::{ActiveConfig, CurrentConfig};
use crate::provider::base::process_id::ProcessId;
use crate::provider::fetch::broker::{Broker, LookUp, Order};
use crate::provider::store::{Kind, Store, testing};

/// The requests per day that 1Password allows an account.
const ALLOWED: u32 = 1_000;
const HOSTS: usize = 4;
pub(super) const VAULT: &str = "vvvvvvvvvvvvvvvvvvvvvvvvvv";

thread_local! {
    /// The account: the requests of all machines, and the version of its vault.
    pub(super) static ACCOUNT: RefCell<(u32, u64)> = const { RefCell::new((0, 1)) };
    /// The titles of the items.
    pub(super) static ITEMS: RefCell<Vec<String>> = RefCell::new(["a", "b", "c"].map(str::to_owned).to_vec());
}

/// A fake SDK core that has every requested item. It fails requests beyond the account's limit.
pub(super) struct Counting(Instant);

impl Work for Counting {
    fn start(_launch: &Launch) -> io::Result<Self> {
        Ok(Self(Instant::now()))
    }

    fn age(&self) -> Duration {
        self.0.elapsed()
    }

    fn is_alive(&self) -> bool {
        true
    }

    async fn ask(
        &self,
        ask: Ask,
        _token: Option<&SecretValue>,
        _by: Instant,
    ) -> Result<WorkerAnswer, WorkerError> {
        let requests = match ask {
            Ask::Load(_) => 0,
            Ask::Login => 5,
            Ask::Call { .. } => 1,
        };
        sleep(Duration::from_millis(200)).await;
        let (spent, version) = ACCOUNT.with_borrow_mut(|(spent, version)| {
            *spent += requests;
            (*spent, *version)
        });
        if requests > 0 && spent > ALLOWED {
            let (name, message) = ("RateLimitExceeded".into(), "rate limit exceeded".into());
            return Err(WorkerError::Refused(Refused::Core { name, message }));
        }
        let text = match &ask {
            Ask::Call { name, parameters } => said(name, parameters, version),
            Ask::Load(_) | Ask::Login => String::new(),
        };
        Ok(WorkerAnswer { told: Told::Done, content: Zeroizing::new(text.into_bytes()) })
    }
}

fn said(name: &str, parameters: &serde_json::Value, version: u64) -> String {
    let titles = ITEMS.with_borrow(Clone::clone);
    let items: Vec<(String, String)> =
        titles.into_iter().map(|title| (title.clone(), format!("{title:x<26}"))).collect();
    let item = |(title, id): &(String, String)| {
        let about = format!(r#""id":"{id}","title":"{title}","vaultId":"{VAULT}""#);
        let field = r#"{"id":"password","title":"password","fieldType":"Concealed","value":"p"}"#;
        format!(r#"{{{about},"updatedAt":"2024-01-01T00:00:00Z","state":"active","fields":[{field}]}}"#)
    };
    match name {
        "VaultsList" => format!(r#"[{{"id":"{VAULT}","title":"v","contentVersion":{version}}}]"#),
        "ItemsList" => format!("[{}]", items.iter().map(item).collect::<Vec<_>>().join(",")),
        "ItemsGet" => items.iter().find(|(_, id)| parameters["item_id"] == **id).map(item).expect("there"),
        "ItemsGetAll" => {
            let one = |wanted: &(String, String)| format!(r#"{{"content":{},"error":null}}"#, item(wanted));
            let ids = parameters["item_ids"].as_array().expect("IDs");
            let all = items.iter().filter(|(_, id)| ids.iter().any(|wanted| wanted == id)).map(one);
            format!(r#"{{"individualResponses":[{}]}}"#, all.collect::<Vec<_>>().join(","))
        }
        other => panic!("nothing calls {other}"),
    }
}

/// A resolver that is restarted from time to time.
#[derive(Default)]
struct Restarted(Mutex<Option<Arc<ServiceAccount<Counting>>>>);

impl Restarted {
    fn now(&self) -> Arc<ServiceAccount<Counting>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone().expect("it was started")
    }
}

impl Resolve for Restarted {
    fn fetch(&self, fetch: Fetch) -> Pending<'_, Fetched> {
        let account = self.now();
        Box::pin(async move { account.fetch(fetch).await })
    }

    fn check(&self, check: Check) -> Pending<'_, Checked> {
        let account = self.now();
        Box::pin(async move { account.check(check).await })
    }
}

/// A machine.
struct Host {
    budget: u32,
    hosts: u32,
    resolver: Arc<Restarted>,
    config: Arc<CurrentConfig>,
    broker: Arc<Broker>,
    book: OwnedFd,
    _store: tempfile::TempDir,
}

impl Host {
    /// Boots the machine: store and book are empty.
    fn boot(budget: u32, hosts: u32) -> Self {
        let (resolver, folder) = (Arc::<Restarted>::default(), testing::folder());
        let store = Store::open(folder.path(), Kind::Anything, 1 << 20).unwrap();
        let text = r#"{ "secrets": [ { "name": "a", "reference": "op://v/a/password", "units": ["app"] },
            { "name": "b", "reference": "op://v/b/password", "units": ["app"] },
            { "name": "c", "reference": "op://v/c/password", "units": ["app"] } ] }"#;
        let settings = crate::config::from_text(std::path::Path::new("test.json"), text).unwrap().settings;
        let asked: Arc<dyn Resolve> = Arc::<Restarted>::clone(&resolver);
        let config = CurrentConfig::new(ActiveConfig::new(settings));
        let broker = Arc::new(Broker::new(asked, store, Arc::clone(&config)));
        let host =
            Self { budget, hosts, resolver, config, broker, book: Book::file().unwrap(), _store: folder };
        host.restart();
        host
    }

    /// Restarts the resolver. The service manager has kept the book.
    fn restart(&self) {
        let book = Arc::new(Book::in_file(self.book.try_clone().unwrap()));
        let configured = Configured { budget: self.budget, hosts: self.hosts, ..Configured::default() };
        let surroundings = Surroundings { book, ..Surroundings::default() };
        let token = token::tests::token("https://my.1password.com");
        let account = ServiceAccount::with(
            "default",
            &configured,
            &token,
            &surroundings,
            Arc::default(),
            Launch::default(),
        );
        *self.resolver.0.lock().unwrap() = account.ok().map(Arc::new);
    }

    /// Starts the unit, which fails if it does not get its credential.
    async fn start(&self, process: u64) -> Result<(), Failure> {
        let unit = UnitName::parse("app.service").unwrap();
        for name in ["a", "b", "c"] {
            let active = self.config.get();
            let wanted = active.settings.policy.judge(&unit, &CredentialId::parse(name).unwrap()).unwrap();
            let wanted = Arc::clone(&wanted.parts()[0]);
            let order = Order {
                wanted,
                process: ProcessId::testing(process),
                arrived: BootTime::now(),
                asker: crate::provider::base::asker::Asker::Start(unit.clone()),
            };
            if let LookUp::Pending(_) = self.broker.look_up(&order) {
                self.broker.get(&order).await?;
            }
        }
        Ok(())
    }
}

/// Returns the requests of a day and the refused starts.
async fn day(budget: u32, hosts: u32) -> (u32, Vec<String>) {
    simulated::follow();
    ACCOUNT.set((0, 1));
    let begun = Instant::now();
    let mut machines: Vec<Host> = (0..HOSTS).map(|_| Host::boot(budget, hosts)).collect();
    let mut refused = Vec::new();
    for minute in 0..24 * 60 {
        sleep_until(begun + Duration::from_secs(minute * 60)).await;
        if minute % 240 == 17 {
            ACCOUNT.with_borrow_mut(|(_, version)| *version += 1); // someone edits the vault
        }
        for (number, host) in machines.iter_mut().enumerate() {
            match minute + 10 * number as u64 {
                600 => *host = Host::boot(budget, hosts),
                at if at % 180 == 90 => host.restart(),
                _ => {}
            }
            if let Err(failure) = host.start(minute).await {
                refused.push(format!("minute {minute}, host {number}: {failure}"));
            }
        }
    }
    (ACCOUNT.with_borrow(|(spent, _)| *spent), refused)
}

#[tokio::test(start_paused = true)]
async fn four_machines_with_a_minutely_timer_stay_within_what_is_allowed() {
    let (requests, refused) = day(800, HOSTS as u32).await;
    assert!(requests < ALLOWED, "{requests} requests");
    assert!(requests > 400, "{requests} requests: what may be spent on checks is");
    assert_eq!(refused, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn without_a_budget_they_use_up_the_account_and_cold_starts_are_refused() {
    let (requests, refused) = day(10_000_000, 1).await;
    assert!(requests >= ALLOWED, "{requests} requests");
    assert!(refused.iter().any(|line| line.contains("rate limited")), "{refused:?}");
}
