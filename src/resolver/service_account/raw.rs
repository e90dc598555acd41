//! Calls to the SDK core without the engine above it: single calls by name, without retries.
//! integration/real/run compares their results with what is known of the SDK core.

use std::time::Duration;

use tokio::time::Instant;
use zeroize::Zeroizing;

use super::token::Token;
use super::worker::{Ask, Launch, Told, Wanted, Work, Worker, WorkerError};
use super::{Surroundings, environment, hosts, quota, releases, verdict, wanted};
use crate::config::ServiceAccount as Configured;
use crate::domain::secret::SecretValue;
use crate::ipc::{Class, Failure};
use crate::resolver::CallLimit;

/// The time limit for loading, a login or a call.
const PATIENCE: Duration = Duration::from_secs(60);

/// An SDK core in a worker process, logged in.
pub struct RawAccount {
    worker: Worker,
    host: String,
    release: Option<&'static str>,
    limit: CallLimit,
}

/// Why the SDK core refused something.
#[derive(Debug)]
pub struct Refusal {
    /// The failure that the resolver makes of it.
    pub failure: Failure,
    /// The SDK core's name for the error, if it reported one. The message is omitted, because it may contain
    /// anything.
    pub name: Option<String>,
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self { failure, name: None }
    }
}

impl RawAccount {
    /// The number of calls that a login makes.
    pub const LOGIN: u32 = quota::LOGIN;

    /// Loads the SDK core and logs in as the resolver does, but without retries.
    ///
    /// # Errors
    ///
    /// The SDK core is not installed, the token cannot be used, or 1Password rejects it or cannot be reached.
    pub async fn log_in(
        token: &SecretValue,
        configured: &Configured,
        surroundings: &Surroundings,
    ) -> Result<Self, Refusal> {
        let token = Token::read(token, &hosts(configured, &surroundings.leniency)).map_err(|bad| {
            Failure::new(Class::Denied, format!("the token is not used: {bad}"), verdict::NEW_TOKEN)
                .malformed_token()
        })?;
        let host = token.host().to_owned();
        let library = wanted(configured, surroundings.leniency.owner);
        let launch = Launch::default().with(environment(configured));
        let worker = Worker::start(&launch).map_err(|error| verdict::crashed(&error.to_string()))?;
        let release = load(&worker, &host, &library).await?;
        surroundings.limit.take(Self::LOGIN)?;
        let account = Self { worker, host, release, limit: surroundings.limit.clone() };
        account.ask(Ask::Login, Some(token.text())).await?;
        Ok(account)
    }

    /// The release of the SDK core, if its SHA-256 is known.
    pub fn release(&self) -> Option<&'static str> {
        self.release
    }

    /// Makes a call that costs this many requests. The answer is JSON.
    ///
    /// # Errors
    ///
    /// The SDK core refuses, or the limit of calls is reached.
    pub async fn call(
        &self,
        name: &str,
        parameters: serde_json::Value,
        requests: u32,
    ) -> Result<Zeroizing<Vec<u8>>, Refusal> {
        self.limit.take(requests)?;
        self.ask(Ask::Call { name: name.into(), parameters }, None).await
    }

    async fn ask(&self, ask: Ask, secret: Option<&SecretValue>) -> Result<Zeroizing<Vec<u8>>, Refusal> {
        let answer = self.worker.ask(ask, secret, Instant::now() + PATIENCE).await;
        answer.map(|answer| answer.content).map_err(|trouble| refusal(&self.host, trouble))
    }
}

async fn load(worker: &Worker, host: &str, library: &Wanted) -> Result<Option<&'static str>, Refusal> {
    let loaded = worker.ask(Ask::Load(library.clone()), None, Instant::now() + PATIENCE).await;
    match loaded.map_err(|trouble| refusal(host, trouble))?.told {
        Told::Loaded { path, sha256 } if library.allows(&path, &sha256) => Ok(releases::release(&sha256)),
        Told::Loaded { .. } | Told::Done => {
            Err(verdict::crashed("it reports that it has loaded a library that was not requested").into())
        }
    }
}

fn refusal(host: &str, trouble: WorkerError) -> Refusal {
    match trouble {
        WorkerError::Late => verdict::too_late(host).into(),
        WorkerError::Died(why) => verdict::crashed(&why).into(),
        WorkerError::Refused(refused) => {
            let (failure, _) = verdict::of(host, "an answer", &refused);
            let name = match refused {
                super::worker::Refused::Core { name, .. } => Some(name),
                _ => None,
            };
            Refusal { failure, name }
        }
    }
}
