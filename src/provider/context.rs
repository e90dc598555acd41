//! The state that the request path, the D-Bus interface and the main loop share. It is created once and
//! passed on.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::config::Paths;
use crate::domain::name::Claim;
use crate::domain::policy::Deliverable;
use crate::host::clock::BootTime;
use crate::provider::base::active_config::CurrentConfig;
use crate::provider::base::files::Standing;
use crate::provider::base::keeper_state::KeeperState;
use crate::provider::base::limits::{self, Form};
use crate::provider::base::process_id::ProcessId;
use crate::provider::base::refusal::Refusal;
use crate::provider::base::sealer::Sealer;
use crate::provider::base::unit_totals::UnitTotals;
use crate::provider::consumers::recovery::Recovery;
use crate::provider::consumers::restarts::{Due, Restarts};
use crate::provider::fetch::assemble::Assembled;
use crate::provider::fetch::broker::Broker;
use crate::provider::fetch::source_status::Statuses;
use crate::provider::fetch::start::Fit;
use crate::provider::observe::counters::Counters;
use crate::provider::publish::Publisher;
use crate::provider::store::Kind;

/// How long reading the files of the configuration may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The shared state of the provider.
pub struct Context {
    /// The active configuration.
    pub config: Arc<CurrentConfig>,
    /// The paths of its files.
    pub config_paths: Paths,
    /// Gets values.
    pub broker: Arc<Broker>,
    /// Publishes files.
    pub publisher: Arc<Publisher>,
    /// Restarts and reloads units when secrets change.
    pub restarts: Restarts,
    /// Starts units again that were refused during an outage.
    pub recovery: Arc<Recovery>,
    /// Counts answers and refusals.
    pub counters: Counters,
    /// The state of each source.
    pub statuses: Statuses,
    /// What was sent to each process that sets up a unit's credentials.
    pub unit_totals: UnitTotals,
    /// The state of the keeper.
    pub keeper: KeeperState,
    /// Encrypts values for the sealed socket.
    pub sealer: Arc<Sealer>,
    /// The permit to read the files of the configuration, so that a disk that hangs blocks only one thread.
    looks: Arc<tokio::sync::Mutex<()>>,
}

impl Context {
    /// Creates the shared state. `kind` says where files may be published.
    pub fn new(
        config: Arc<CurrentConfig>,
        config_paths: Paths,
        broker: Arc<Broker>,
        sealer: Sealer,
        kind: Kind,
    ) -> Self {
        let publisher = Publisher::new(Arc::clone(&config), Arc::clone(&broker), kind);
        let sealer = Arc::new(sealer);
        let recovery = Arc::new(Recovery::new(Arc::clone(&config), Arc::clone(&sealer), broker.store()));
        let recovers = Arc::clone(&recovery);
        publisher.leave_to_recovery(move |unit| recovers.will_start(unit));
        Self {
            publisher: Arc::new(publisher),
            restarts: Restarts::new(Arc::clone(&config), broker.store()),
            recovery,
            config,
            config_paths,
            broker,
            counters: Counters::default(),
            statuses: Statuses::default(),
            unit_totals: UnitTotals::default(),
            keeper: KeeperState::default(),
            sealer,
            looks: Arc::default(),
        }
    }

    /// The relation between the active configuration and its files, which another thread reads.
    pub async fn standing(&self) -> Standing {
        let (active, paths) = (self.config.get(), self.config_paths.clone());
        let looks = Arc::clone(&self.looks);
        let look = async move {
            let permit = looks.lock_owned().await;
            let look = move || {
                let standing = Standing::of(&active, &paths);
                drop(permit);
                standing
            };
            tokio::task::spawn_blocking(look).await
        };
        match timeout(PATIENCE, look).await {
            Ok(Ok(standing)) => standing,
            Ok(Err(error)) => Standing::Rejected(format!("the files could not be read: {error}")),
            Err(_elapsed) => {
                let dir = self.config_paths.dir.display();
                Standing::Rejected(format!("{dir} can't be read: its disk does not answer"))
            }
        }
    }

    /// Restarts and reloads units when secrets change. Runs until it is dropped.
    pub async fn restart_units(&self) {
        self.restarts.follow(&self.broker, &self.publisher, self).await;
    }

    /// Why a due restart would be withheld, according to what is in memory. Empty if it would not be.
    pub async fn foresee(&self, due: &Due) -> String {
        self.restarts.foresee(&self.broker, self, due).await
    }
}

impl Fit for Context {
    fn ready(&self, form: Form) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        match form {
            Form::Plain => Box::pin(std::future::ready(())),
            Form::Sealed => Box::pin(async { drop(self.sealer.problem().await) }),
        }
    }

    /// Prepares a value for a socket: checks its size and the unit's total, and encrypts it if the socket
    /// requires that. `totals` has what the same process received, and counts this value.
    fn fit(
        &self,
        totals: &UnitTotals,
        (process, claim): (ProcessId, &Claim),
        it: Assembled,
        what: &Deliverable,
        form: Form,
    ) -> Result<Assembled, Refusal> {
        let (size, id) = (it.value.len(), &claim.credential);
        let takes = limits::largest(form, id);
        let what = || match what {
            Deliverable::Secret(wanted) => wanted.reference.to_string(),
            Deliverable::Template(filling) => format!("template {}", filling.name),
        };
        if size > takes {
            return Err(Refusal::TooLarge { what: what(), size, takes });
        }
        // the plain size in both forms, because systemd counts after decryption
        let counted = totals.add(process, claim, size, BootTime::now());
        counted.map_err(|others| Refusal::TooLargeTogether { what: what(), size, others })?;
        match form {
            Form::Plain => Ok(it),
            Form::Sealed => {
                let value = self.sealer.seal(id, &it.value).map_err(Refusal::Unsealed)?;
                Ok(Assembled { value, ..it })
            }
        }
    }
}
