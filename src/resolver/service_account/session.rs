//! A session: a worker that has logged in. A new one is made when it ends, after a pause if it failed.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::{Instant, sleep, timeout_at};
use zeroize::Zeroizing;

use super::super::connect::breaker::Breaker;
use super::super::record::Record;
use super::quota::{self, Quota};
use super::token::Token;
use super::verdict::{self, Then};
use super::worker::{Ask, Launch, Told, Wanted, Work, Worker, WorkerError};
use crate::host::pause::{after_failures, prolonged};
use crate::ipc::{Class, Failure};

/// How long a worker may take to load the SDK core, and then to log in. Loading must take less than the
/// provider's wait for an answer, so that the provider receives the reason. The core gives up each request
/// after 30 s.
const LOADING: Duration = Duration::from_secs(15);
const LOGGING_IN: Duration = Duration::from_secs(60);
/// The pause before a call with a doubtful answer is repeated.
const DOUBT: Duration = Duration::from_millis(300);
/// If a session ends at a younger age than this, the token was rejected: sessions do not expire so soon.
const FRESH: Duration = Duration::from_secs(30);
/// If a session lasts less than this, the next login is limited by a share of the budget.
const SHORT: Duration = Duration::from_secs(600);
/// The time without failures after which pauses start from the shortest again.
const CALM: Duration = Duration::from_secs(1_200);

/// A session of a service account.
pub(super) struct Session<W = Worker> {
    account: Arc<Account>,
    state: Arc<Mutex<State<W>>>,
    breaker: Breaker,
}

pub(super) struct Account {
    pub(super) token: Token,
    pub(super) launch: Launch,
    pub(super) library: Wanted,
    pub(super) quota: Arc<Quota>,
    pub(super) record: Arc<Record>,
}

struct State<W> {
    worker: Option<Arc<W>>,
    /// Recent consecutive failures to start or keep a worker, and the time of the last one.
    failures: u32,
    last: Option<Instant>,
    /// Why there is no worker, and until when none is started.
    rest: Option<(Failure, Instant)>,
    /// Why the last login failed, or its session ended too soon.
    in_vain: Option<Failure>,
}

impl<W> Default for State<W> {
    fn default() -> Self {
        Self { worker: None, failures: 0, last: None, rest: None, in_vain: None }
    }
}

impl<W: Work> Session<W> {
    /// Creates a session without a worker. The first question starts one.
    pub(super) fn new(account: Account) -> Self {
        Self { account: Arc::new(account), state: Arc::default(), breaker: Breaker::default() }
    }

    /// The host of the account, for messages.
    pub(super) fn host(&self) -> &str {
        self.account.token.host()
    }

    /// Makes a call to the SDK core. `what` is its description for messages.
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
            Err(failure) if failure.is_of_asker => drop(pass), // 1Password was not asked
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
        let requests = requests_of(name);
        let mut tried = Vec::new();
        loop {
            let worker = self.worker(by).await?;
            let paid = self.account.quota.pay(requests)?;
            let (failure, then) = match worker.ask(ask.clone(), None, by).await {
                Ok(answer) => {
                    self.account.record.count(&Ok(()));
                    self.account.quota.answered(paid);
                    return Ok(answer.content);
                }
                Err(WorkerError::Late) => (verdict::too_late(self.host()), Then::Tell),
                Err(WorkerError::Died(why)) => (verdict::crashed(&why), Then::Replace),
                Err(WorkerError::Refused(refused)) => verdict::of(self.host(), what, &refused),
            };
            if then == Then::Unreached {
                self.account.quota.give_back(requests);
            }
            let failure = self.account.quota.noticed(failure);
            self.account.record.count::<()>(&Err(failure.clone()));
            let in_vain = then == Then::LogIn && worker.age() < FRESH;
            if matches!(then, Then::Tell | Then::Unreached) || in_vain || tried.contains(&then) {
                return Err(failure);
            }
            tried.push(then);
            match then {
                Then::Tell | Then::Unreached => {}
                Then::Doubt => sleep(DOUBT).await,
                Then::LogIn | Then::Replace => self.discard(&worker, failure, then, by).await?,
            }
        }
    }

    /// Returns a worker that has logged in; starts one if necessary. Starting continues even if the asker's
    /// time runs out.
    async fn worker(&self, by: Instant) -> Result<Arc<W>, Failure> {
        let late = || verdict::too_late(self.host());
        let mut state = timeout_at(by, Arc::clone(&self.state).lock_owned()).await.map_err(|_| late())?;
        match state.worker.take() {
            Some(worker) if worker.is_alive() => {
                state.worker = Some(Arc::clone(&worker));
                return Ok(worker);
            }
            Some(_died) => state.in_vain(verdict::crashed("it ended while it was idle")),
            None => {}
        }
        if let Some((failure, until)) = &state.rest {
            let wait = until.saturating_duration_since(Instant::now());
            if failure.class == Class::Away && Instant::now() + wait < by {
                sleep(wait).await; // others wait for this attempt, and then use its worker
            } else if !wait.is_zero() {
                return Err(failure.clone().retry_after(wait));
            }
        }
        self.account.quota.affords_login()?;
        let making = tokio::spawn(make(Arc::clone(&self.account), state));
        match timeout_at(by, making).await {
            Ok(Ok(made)) => made,
            Ok(Err(_panicked)) => Err(verdict::crashed("its worker could not be started")),
            Err(_) => Err(late()),
        }
    }

    /// Drops a worker that has crashed or whose session is over.
    async fn discard(
        &self,
        worker: &Arc<W>,
        failure: Failure,
        then: Then,
        by: Instant,
    ) -> Result<(), Failure> {
        let late = |_| verdict::too_late(self.host());
        let mut state = timeout_at(by, self.state.lock()).await.map_err(late)?;
        if state.worker.as_ref().is_some_and(|current| Arc::ptr_eq(current, worker)) {
            state.worker = None;
            if then == Then::Replace {
                tracing::warn!("{}", failure.cause);
                state.in_vain(failure);
            } else if worker.age() < SHORT {
                state.in_vain = Some(failure);
            }
        }
        Ok(())
    }
}

async fn make<W: Work>(
    account: Arc<Account>,
    mut state: OwnedMutexGuard<State<W>>,
) -> Result<Arc<W>, Failure> {
    let made = log_in(&account, state.in_vain.take()).await;
    match made {
        Ok(worker) => {
            let worker = Arc::new(worker);
            state.worker = Some(Arc::clone(&worker));
            state.rest = None;
            Ok(worker)
        }
        Err(NoLogin { failure, in_vain }) => {
            match in_vain {
                true => state.in_vain(failure.clone()),
                false => state.failed(failure.clone()),
            }
            Err(failure)
        }
    }
}

/// The cost of a call in requests: for a file, the SDK core first reads its item.
fn requests_of(name: &str) -> u32 {
    if name == "ItemsFilesRead" { 2 } else { 1 }
}

/// Why a login failed, and whether trying again soon is pointless.
struct NoLogin {
    failure: Failure,
    in_vain: bool,
}

impl From<Failure> for NoLogin {
    fn from(failure: Failure) -> Self {
        Self { failure, in_vain: false }
    }
}

/// Starts a worker and logs in. If the previous login failed for the reason `before`, the login is limited by
/// a share of the budget.
async fn log_in<W: Work>(account: &Account, before: Option<Failure>) -> Result<W, NoLogin> {
    let host = account.token.host();
    let verdict = |trouble| match trouble {
        WorkerError::Late => (verdict::too_late(host), Then::Tell),
        WorkerError::Died(why) => (verdict::crashed(&why), Then::Replace),
        WorkerError::Refused(refused) => match verdict::of(host, "a session", &refused) {
            (failure, Then::Doubt) => (Failure { remedy: verdict::NEW_TOKEN.into(), ..failure }, Then::Tell),
            told => told,
        },
    };
    let worker = W::start(&account.launch)
        .map_err(|error| verdict::crashed(&format!("no process can be started for it: {error}")))?;
    let load = Ask::Load(account.library.clone());
    let loaded = match worker.ask(load, None, Instant::now() + LOADING).await {
        Err(WorkerError::Late) => {
            let why = format!("it was not loaded within {} s", LOADING.as_secs());
            return Err(verdict::crashed(&why).into());
        }
        loaded => loaded.map_err(|trouble| verdict(trouble).0)?,
    };
    if let Told::Loaded { path, sha256 } = &loaded.told {
        // the answer comes from a process with foreign code: report the path and sum only if they were asked
        // for
        if !account.library.allows(path, sha256) {
            return Err(
                verdict::crashed("it reports that it has loaded a library that was not requested").into()
            );
        }
        super::releases::notice(path, sha256);
        account.record.core(super::releases::release(sha256).unwrap_or("unknown"));
    }
    if let Some(before) = before {
        account
            .quota
            .retry_login()
            .map_err(|wait| NoLogin { failure: paced(before, wait), in_vain: true })?;
    }
    account.quota.pay_login()?;
    let login = worker.ask(Ask::Login, Some(account.token.text()), Instant::now() + LOGGING_IN).await;
    let outcome = login.map(drop).map_err(|trouble| {
        let (failure, then) = verdict(trouble);
        if then == Then::Unreached {
            account.quota.give_back(quota::LOGIN);
        }
        (account.quota.noticed(failure), then)
    });
    account.record.count(&outcome.as_ref().map(drop).map_err(|(failure, _)| failure.clone()));
    account.record.logged_in(outcome.as_ref().map(drop).map_err(|(failure, _)| failure));
    match outcome {
        Ok(()) => Ok(worker),
        Err((failure, then)) => {
            let in_vain = then == Then::Replace || failure.class == Class::Denied;
            Err(NoLogin { failure, in_vain })
        }
    }
}

/// The failure of the previous login, while logins are paused.
fn paced(mut failure: Failure, wait: Duration) -> Failure {
    const WORDS: &str = "; to save the budget, the next login waits";
    if !failure.cause.ends_with(WORDS) {
        failure.cause.push_str(WORDS);
    }
    failure.retry_after(wait)
}

impl<W> State<W> {
    /// Records a failure after which another login would probably fail too.
    fn in_vain(&mut self, failure: Failure) {
        self.in_vain = Some(failure.clone());
        self.failed(failure);
    }

    /// Pauses the start of workers, longer after each consecutive failure: crashes cost time on this machine,
    /// rejected logins cost calls.
    fn failed(&mut self, failure: Failure) {
        let (first, longest) = match failure.class {
            Class::Denied => (Duration::from_secs(10), Duration::from_secs(600)),
            Class::Misconfigured => (Duration::from_secs(1), Duration::from_secs(2)),
            _ => (Duration::from_millis(100), Duration::from_secs(30)),
        };
        if self.last.is_none_or(|last| last.elapsed() > CALM) {
            // a successful login in between means little: an SDK core may crash at each call
            self.failures = 0;
        }
        let wait = failure.retry_after.unwrap_or(after_failures(self.failures, first, longest));
        self.failures = self.failures.saturating_add(1);
        self.last = Some(Instant::now());
        self.rest = Some((failure, Instant::now() + prolonged(wait, 0.25)));
    }
}
