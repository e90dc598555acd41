//! Simulates a day with a greedy caller on D-Bus, a timer whose field does not exist, a unit that restarts in
//! a loop, and 40 well-behaved units. Time is simulated; broker, store, engine, session, quota and book are
//! real. Every well-behaved start must succeed, with a service account and with Connect.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

use super::day_tests::{ACCOUNT, Counting, ITEMS, VAULT};
use super::*;
use crate::domain::name::{CredentialId, UnitName};
use crate::domain::policy::Deliverable;
use crate::host::clock::{BootTime, simulated};
use crate::ipc::ItemId;
use crate::provider::base::active_config::{ActiveConfig, CurrentConfig};
use crate::provider::base::asker::Asker;
use crate::provider::base::process_id::ProcessId;
use crate::provider::fetch::assemble::{self, Job};
use crate::provider::fetch::broker::{Broker, Thoroughness};
use crate::provider::fetch::bus_pace::BusPace;
use crate::provider::store::{Kind, Store, testing};
use crate::resolver::backend::{About, Backend};
use crate::resolver::items::model::{self, File, FullItem, ItemOverview, Vault};
use crate::resolver::record::Counted;

const WELL_BEHAVED: usize = 40;
const BUDGET: u32 = 800;
/// The interval of the events.
const STEP: Duration = Duration::from_secs(10);
/// Some minutes less than a day, because the time that the test takes counts too, and shares end after a day.
const STEPS: usize = 8_600;

/// A fake Connect server that has all items and counts calls.
struct Server;

impl Server {
    async fn called(&self) -> u64 {
        sleep(Duration::from_millis(50)).await;
        ACCOUNT.with_borrow_mut(|(calls, version)| {
            *calls += 1;
            *version
        })
    }
}

fn read<T: serde::de::DeserializeOwned>(json: &serde_json::Value) -> T {
    model::parse(json.to_string().as_bytes()).expect("Connect's shapes")
}

fn item(title: &str) -> serde_json::Value {
    serde_json::json!({ "id": format!("{title:x<26}"), "title": title, "version": 1, "vault": { "id": VAULT },
        "fields": [{ "id": "password", "label": "password", "value": "p" }] })
}

impl Backend for Server {
    const CALLS_COST: bool = true;
    const VERSIONS_GROW: bool = true;
    const HOLDERS: Option<&'static str> = None;

    fn about(&self) -> About {
        About::default()
    }

    async fn vaults(&self, _by: Instant) -> Result<Vec<Vault>, Failure> {
        let version = self.called().await;
        Ok(read(&serde_json::json!([{ "id": VAULT, "name": "v", "contentVersion": version }])))
    }

    async fn items(&self, _vault: &str, _by: Instant) -> Result<Vec<ItemOverview>, Failure> {
        self.called().await;
        Ok(ITEMS.with_borrow(|titles| titles.iter().map(|title| read(&item(title))).collect()))
    }

    async fn item(&self, id: &ItemId, _by: Instant) -> Result<FullItem, Failure> {
        self.called().await;
        Ok(read(&item(id.item.trim_end_matches('x'))))
    }

    async fn file(&self, _id: &ItemId, _file: &File, _by: Instant) -> Result<SecretValue, Failure> {
        unreachable!("there are no files")
    }
}

/// A machine: its provider, and a resolver.
struct Machine {
    config: Arc<CurrentConfig>,
    broker: Arc<Broker>,
    pace: BusPace,
    _store: tempfile::TempDir,
}

impl Machine {
    fn of(resolver: Arc<dyn Resolve>, source: &str) -> Arc<Self> {
        let folder = testing::folder();
        let store = Store::open(folder.path(), Kind::Anything, 16 << 20).unwrap();
        let secret = |name: &str, field: &str| {
            format!(r#"{{ "name": "{name}", "reference": "op://v/{name}/{field}", "units": ["{name}"] }}"#)
        };
        let mut secrets =
            vec![secret("greedy", "password"), secret("timer", "nothing"), secret("loop", "password")];
        secrets.extend((0..WELL_BEHAVED).map(|unit| secret(&format!("u{unit:02}"), "password")));
        let text = format!(r#"{{ "source": {source}, "secrets": [ {} ] }}"#, secrets.join(", "));
        let settings = crate::config::from_text(std::path::Path::new("test.json"), &text).unwrap().settings;
        let config = CurrentConfig::new(ActiveConfig::new(settings));
        let broker = Arc::new(Broker::new(resolver, store, Arc::clone(&config)));
        Arc::new(Self { config, broker, pace: BusPace::default(), _store: folder })
    }

    fn wanted(&self, name: &str) -> (UnitName, Deliverable) {
        let unit = UnitName::parse(&format!("{name}.service")).unwrap();
        let active = self.config.get();
        let what = active.settings.policy.judge(&unit, &CredentialId::parse(name).unwrap()).unwrap();
        (unit, what)
    }

    /// Starts a unit.
    async fn start(&self, name: &str) -> Result<(), String> {
        let (unit, what) = self.wanted(name);
        let (process, arrived) = (ProcessId::nobody(), BootTime::now());
        let job = Job { what, process, arrived, asker: Asker::Start(unit.clone()) };
        let result = match assemble::look_up(&self.broker, &job).known() {
            Some(result) => result,
            None => assemble::get(&self.broker, &job).await,
        };
        self.broker.forget(process);
        result.map(drop).map_err(|refusal| refusal.cause(&unit, &CredentialId::parse(name).unwrap()))
    }

    /// Makes D-Bus calls for a unit, as fast as they are answered.
    async fn refresh_in_a_loop(&self, name: &str) {
        let (unit, what) = self.wanted(name);
        let (asker, wanted) = (Asker::BusUnit(unit), &what.parts()[0]);
        for _ in 0..5 {
            if self.pace.admit(&asker, name).is_ok() {
                let asked = self.broker.ask(wanted);
                let _ = self.broker.refresh(wanted, Thoroughness::Values, asked, &asker).await;
            }
        }
    }
}

/// Runs the work again if it has ended.
fn again(running: &mut Option<JoinHandle<()>>, work: impl Future<Output = ()> + Send + 'static) {
    if running.as_ref().is_none_or(JoinHandle::is_finished) {
        *running = Some(tokio::spawn(work));
    }
}

/// Returns the calls of a day and the refused starts of well-behaved units.
async fn day(machine: &Arc<Machine>) -> (u32, Vec<String>) {
    let titles = ["greedy", "timer", "loop"].map(str::to_owned).into_iter();
    ITEMS.set(titles.chain((0..WELL_BEHAVED).map(|unit| format!("u{unit:02}"))).collect());
    ACCOUNT.set((0, 1));
    let begun = Instant::now();
    let [mut greedy, mut timer, mut restarts] = [None, None, None];
    let mut refused = Vec::new();
    for step in 0..STEPS {
        sleep_until(begun + STEP * u32::try_from(step).unwrap()).await;
        if step % 1_440 == 100 {
            ACCOUNT.with_borrow_mut(|(_, version)| *version += 1); // someone edits the vault
        }
        let of = Arc::clone(machine);
        again(&mut greedy, async move { of.refresh_in_a_loop("greedy").await });
        let of = Arc::clone(machine);
        again(&mut restarts, async move { drop(of.start("loop").await) });
        if step % 6 == 0 {
            let of = Arc::clone(machine);
            again(&mut timer, async move { drop(of.start("timer").await) });
        }
        // each unit starts for the first time at some time of the day, and again later
        for unit in 0..WELL_BEHAVED {
            if [60 + 200 * unit, 60 + 200 * unit + 400].contains(&step)
                && let Err(cause) = machine.start(&format!("u{unit:02}")).await
            {
                refused.push(format!("step {step}: unit {unit}: {cause}"));
            }
        }
    }
    (ACCOUNT.with_borrow(|(calls, _)| *calls), refused)
}

#[tokio::test(start_paused = true)]
async fn greedy_consumers_leave_a_service_account_to_the_others() {
    simulated::follow();
    let configured = Configured { budget: BUDGET, ..Configured::default() };
    let token = token::tests::token("https://my.1password.com");
    let surroundings = Surroundings::default();
    let account = ServiceAccount::<Counting>::with(
        "default",
        &configured,
        &token,
        &surroundings,
        Arc::default(),
        Launch::default(),
    );
    let account = Arc::new(account.unwrap_or_else(|failure| panic!("{failure}")));
    let machine =
        Machine::of(Arc::<ServiceAccount<Counting>>::clone(&account), r#"{ "kind": "service-account" }"#);
    let (calls, refused) = day(&machine).await;
    assert_eq!(refused, Vec::<String>::new());
    assert!(calls <= BUDGET, "{calls} calls");
    let spent = |name: &str| {
        let number = machine.broker.store().number(name);
        account.quota().spenders().iter().find(|it| it.share == number).map_or(0, |it| it.calls)
    };
    let (greedy, timer) = (spent("greedy.service"), spent("timer.service"));
    // half of the unreserved budget
    assert!((5..=300).contains(&greedy), "{greedy} calls of the greedy caller");
    assert!(timer <= 60, "{timer} calls of the timer");
}

#[tokio::test(start_paused = true)]
async fn greedy_consumers_leave_a_connect_server_to_the_others() {
    simulated::follow();
    let resolver = Arc::new(Engine::new(Counted::new(Server, Arc::default())));
    let machine = Machine::of(resolver, r#"{ "kind": "connect", "url": "https://connect.example" }"#);
    let (calls, refused) = day(&machine).await;
    assert_eq!(refused, Vec::<String>::new());
    // one D-Bus fetch per 30 s, and for the restart loop one check per 30 s, which also requests the list of
    // items after a change
    assert!(calls <= 2 * 2_880 + 400, "{calls} calls");
}
