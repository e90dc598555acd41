//! A session: a worker that has logged in, made anew when it ends, and left alone for a while when that fails.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::{Instant, sleep, timeout_at};
use zeroize::Zeroizing;

use super::super::connect::breaker::Breaker;
use super::super::record::Record;
use super::quota::Quota;
use super::token::Token;
use super::verdict::{self, Then};
use super::worker::{Ask, Launch, Told, Trouble, Wanted, Worker};
use crate::wire::{Class, Failure};

/// What a login costs: four requests, and the keys at the first use of them.
const LOGIN_COST: u32 = 5;
/// How long a worker may take to load the core (less than the provider waits for an answer, so that it is told why), and then to log in; the core gives up each request after 30 s.
const LOADING: Duration = Duration::from_secs(15);
const LOGGING_IN: Duration = Duration::from_secs(60);
/// How long after a doubtful answer the same is asked again.
const DOUBT: Duration = Duration::from_millis(300);
/// A session younger than this does not end by itself: the token is no longer accepted.
const FRESH: Duration = Duration::from_secs(30);
/// After how long without a failure the pauses begin small again.
const CALM: Duration = Duration::from_secs(1_200);

/// A service account, to be asked.
pub(super) struct Session {
    account: Arc<Account>,
    state: Arc<Mutex<State>>,
    breaker: Breaker,
}

pub(super) struct Account {
    pub(super) token: Token,
    pub(super) launch: Launch,
    pub(super) library: Wanted,
    pub(super) quota: Arc<Quota>,
    pub(super) record: Arc<Record>,
}

#[derive(Default)]
struct State {
    worker: Option<Arc<Worker>>,
    /// Failures to have a worker, or to keep one, with no long time between them, and the last of them.
    failures: u32,
    last: Option<Instant>,
    /// Why there is none, and until when none is made.
    rest: Option<(Failure, Instant)>,
}

impl Session {
    /// Nothing is asked, and no worker started, before there is something to ask.
    pub(super) fn new(account: Account) -> Self {
        Self { account: Arc::new(account), state: Arc::default(), breaker: Breaker::default() }
    }

    /// The host of the account, for messages.
    pub(super) fn host(&self) -> &str {
        self.account.token.host()
    }

    /// Has the core do something. `what` it is in words, for messages.
    pub(super) async fn call(
        &self,
        name: &str,
        parameters: serde_json::Value,
        what: &str,
        by: Instant,
    ) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let pass = self.breaker.enter()?;
        let outcome = self.attempts(name, parameters, what, by).await;
        match &outcome {
            Err(failure) if failure.class.is_transient() => pass.failed(failure, false),
            Ok(_) | Err(_) => pass.reached(),
        }
        outcome
    }

    async fn attempts(
        &self,
        name: &str,
        parameters: serde_json::Value,
        what: &str,
        by: Instant,
    ) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let ask = Ask::Call { name: name.into(), parameters };
        let mut tried = Vec::new();
        loop {
            self.account.quota.admit()?;
            let worker = self.worker(by).await?;
            self.account.quota.spend(1);
            let (failure, then) = match worker.ask(ask.clone(), None, by).await {
                Ok(answer) => {
                    self.account.record.count(&Ok(()));
                    self.account.quota.answered();
                    return Ok(answer.content);
                }
                Err(Trouble::Late) => (verdict::too_late(self.host()), Then::Tell),
                Err(Trouble::Died(why)) => (verdict::crashed(&why), Then::Replace),
                Err(Trouble::Refused(refused)) => verdict::of(self.host(), what, &refused),
            };
            let failure = self.account.quota.noticed(failure);
            self.account.record.count::<()>(&Err(failure.clone()));
            let in_vain = then == Then::LogIn && worker.age() < FRESH;
            if then == Then::Tell || in_vain || tried.contains(&then) {
                return Err(failure);
            }
            tried.push(then);
            match then {
                Then::Tell => {}
                Then::Doubt => sleep(DOUBT).await,
                Then::LogIn => self.discard(&worker, None, by).await?,
                Then::Replace => self.discard(&worker, Some(failure), by).await?,
            }
        }
    }

    /// The worker that has logged in; it is made where there is none. That goes on also when the asker's time is up.
    async fn worker(&self, by: Instant) -> Result<Arc<Worker>, Failure> {
        let late = || verdict::too_late(self.host());
        let mut state = timeout_at(by, Arc::clone(&self.state).lock_owned()).await.map_err(|_| late())?;
        match state.worker.take() {
            Some(worker) if worker.is_alive() => {
                state.worker = Some(Arc::clone(&worker));
                return Ok(worker);
            }
            Some(_died) => state.failed(verdict::crashed("it ended while nothing was asked of it")),
            None => {}
        }
        if let Some((failure, until)) = &state.rest {
            let wait = until.saturating_duration_since(Instant::now());
            if failure.class == Class::Away && Instant::now() + wait < by {
                sleep(wait).await; // others wait for this one, and then for what it made
            } else if !wait.is_zero() {
                return Err(failure.clone().retry_after(wait));
            }
        }
        let making = tokio::spawn(make(Arc::clone(&self.account), state));
        match timeout_at(by, making).await {
            Ok(Ok(made)) => made,
            Ok(Err(_panicked)) => Err(verdict::crashed("its worker could not be made")),
            Err(_) => Err(late()),
        }
    }

    /// Gives a worker up: it has crashed, for this reason, or its session is over.
    async fn discard(
        &self,
        worker: &Arc<Worker>,
        failure: Option<Failure>,
        by: Instant,
    ) -> Result<(), Failure> {
        let late = |_| verdict::too_late(self.host());
        let mut state = timeout_at(by, self.state.lock()).await.map_err(late)?;
        if state.worker.as_ref().is_some_and(|current| Arc::ptr_eq(current, worker)) {
            state.worker = None;
            if let Some(failure) = failure {
                tracing::warn!("{}", failure.cause);
                state.failed(failure);
            }
        }
        Ok(())
    }
}

async fn make(account: Arc<Account>, mut state: OwnedMutexGuard<State>) -> Result<Arc<Worker>, Failure> {
    let made = log_in(&account).await;
    account.record.count(&made);
    account.record.logged_in(made.as_ref().map(|_| ()));
    match made {
        Ok(worker) => {
            let worker = Arc::new(worker);
            state.worker = Some(Arc::clone(&worker));
            state.rest = None;
            Ok(worker)
        }
        Err(failure) => {
            let failure = account.quota.noticed(failure);
            state.failed(failure.clone());
            Err(failure)
        }
    }
}

async fn log_in(account: &Account) -> Result<Worker, Failure> {
    let host = account.token.host();
    let failure = |trouble| match trouble {
        Trouble::Late => verdict::too_late(host),
        Trouble::Died(why) => verdict::crashed(&why),
        Trouble::Refused(refused) => match verdict::of(host, "a session", &refused) {
            (failure, Then::Doubt) => Failure { remedy: verdict::NEW_TOKEN.into(), ..failure },
            (failure, _) => failure,
        },
    };
    let worker = Worker::start(&account.launch)
        .map_err(|error| verdict::crashed(&format!("no process can be started for it: {error}")))?;
    let load = Ask::Load(account.library.clone());
    let loaded = match worker.ask(load, None, Instant::now() + LOADING).await {
        Err(Trouble::Late) => {
            return Err(verdict::crashed(&format!("it was not loaded within {} s", LOADING.as_secs())));
        }
        loaded => loaded.map_err(failure)?,
    };
    if let Told::Loaded { path, sha256 } = &loaded.told {
        super::releases::notice(path, sha256);
        account.record.core(super::releases::release(sha256).unwrap_or("unknown"));
    }
    account.quota.spend(LOGIN_COST);
    let login = worker.ask(Ask::Login, Some(account.token.text()), Instant::now() + LOGGING_IN);
    login.await.map_err(failure)?;
    Ok(worker)
}

impl State {
    /// No worker until some time has passed, longer at each failure in a row: crashes cost time here, denials at 1Password.
    fn failed(&mut self, failure: Failure) {
        let (first, longest) = match failure.class {
            Class::Denied => (Duration::from_secs(10), Duration::from_secs(600)),
            Class::Misconfigured => (Duration::from_secs(1), Duration::from_secs(2)),
            _ => (Duration::from_millis(100), Duration::from_secs(30)),
        };
        if self.last.is_none_or(|last| last.elapsed() > CALM) {
            self.failures = 0; // that a login worked in between says little: a core may crash at each call
        }
        let wait = (first * 2_u32.pow(self.failures.min(10))).min(longest);
        let jitter = wait.mul_f64(fastrand::f64() / 4.0);
        self.failures = self.failures.saturating_add(1);
        self.last = Some(Instant::now());
        self.rest = Some((failure, Instant::now() + wait + jitter));
    }
}
