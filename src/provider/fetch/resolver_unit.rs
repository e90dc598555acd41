//! Finds out from systemd why the resolver does not answer: systemd cannot load the resolver's token, so the
//! resolver never runs.
//!
//! On systemd 258 and later, systemd-creds.socket decrypts an encrypted token, and may refuse if many units
//! start. Then systemd starts the resolver repeatedly, and questions wait in the queue of its socket. This
//! module ends those questions early with the reason, and the provider asks again.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::error::Elapsed;
use tokio::time::{sleep, timeout};
use zbus::proxy::CacheProperties;

use crate::domain::secret::SecretValue;
use crate::host::pause::Growing;
use crate::host::systemd::manager::{Link, ServiceProxy, UnitProxy};
use crate::ipc::{
    Check, Checked, Class, Declarations, Failure, Fetch, Fetched, Pending, Probe, Probed, Resolve, Status,
};
use crate::provider::base::events::Event;

const UNIT: &str = "onecred-resolver.service";
/// How long to wait for an answer before systemd is asked for the first time. The pause doubles each time.
const SILENT_FOR: Duration = Duration::from_millis(1500);
const SELDOM: Duration = Duration::from_secs(12);
/// How long systemd may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// The pause between two checks of a starting unit, and the number of checks.
const NEXT_LOOK: (Duration, u32) = (Duration::from_millis(40), 20);
/// The exit status of a unit whose credentials could not be set up.
const CREDENTIALS: i32 = 243;

/// A resolver that runs as a unit on this machine.
pub struct ResolverUnit {
    resolver: Arc<dyn Resolve>,
    link: Link,
}

impl ResolverUnit {
    /// Wraps a resolver.
    pub fn new(resolver: Arc<dyn Resolve>) -> Self {
        Self { resolver, link: Link::default() }
    }

    /// Its answer, or why there will be none.
    async fn answer<T>(&self, answer: Pending<'_, T>) -> Result<T, Failure> {
        unless(answer, || timeout(PATIENCE, why_not(|| self.look()))).await
    }

    async fn look(&self) -> zbus::Result<State> {
        let unit = self.link.unit(UNIT).await?;
        let path = unit.inner().path().to_owned();
        let service = ServiceProxy::builder(unit.inner().connection()).path(path);
        let service = service.cache_properties(CacheProperties::No).build().await?;
        Ok(State { active: UnitProxy::active_state(&unit).await?, status: service.exec_main_status().await? })
    }
}

/// The answer, or why there will be none. Asks systemd at growing intervals while waiting.
async fn unless<T, F>(mut answer: Pending<'_, T>, ask: impl Fn() -> F) -> Result<T, Failure>
where
    F: Future<Output = Result<Option<Failure>, Elapsed>>,
{
    let mut pauses = Growing::doubling(SILENT_FOR, SELDOM);
    loop {
        let pause = pauses.pause();
        let why = async {
            sleep(pause).await;
            ask().await.ok().flatten()
        };
        tokio::select! {
            biased;
            result = &mut answer => return result,
            why = why => if let Some(failure) = why {
                return Err(failure);
            },
        }
    }
}

/// Why the unit cannot answer, if it cannot. Checks again while the unit is starting.
async fn why_not<F>(look: impl Fn() -> F) -> Option<Failure>
where
    F: Future<Output = zbus::Result<State>>,
{
    for _ in 0..NEXT_LOOK.1 {
        match judge(&look().await.ok()?) {
            Verdict::Starts => sleep(NEXT_LOOK.0).await,
            Verdict::Fine => return None,
            Verdict::NoToken => return Some(no_token()),
        }
    }
    None
}

/// The state of the unit.
#[derive(Debug)]
struct State {
    /// active, activating, failed…
    active: String,
    /// The exit status of its last process; 0 while it runs.
    status: i32,
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// It runs, or has ended for another reason.
    Fine,
    /// It is starting, with an uncertain result.
    Starts,
    /// It cannot start.
    NoToken,
}

fn judge(state: &State) -> Verdict {
    match (state.active.as_str(), state.status) {
        ("active" | "reloading", _) => Verdict::Fine,
        (_, CREDENTIALS) => Verdict::NoToken,
        ("activating", 0) => Verdict::Starts,
        _ => Verdict::Fine,
    }
}

fn no_token() -> Failure {
    Failure::new(
        Class::Away,
        "the resolver can't start, since systemd can't load or decrypt its token (243/CREDENTIALS)",
        "systemd tries again; the reason: journalctl -u onecred-resolver",
    )
}

/// Restarts the resolver after a reload if a token file is newer than its process, because systemd loads
/// tokens only when it starts the resolver.
pub async fn take_up_tokens(mut events: Receiver<Event>) {
    let link = Link::default();
    loop {
        match events.recv().await {
            Ok(Event::Configured) | Err(RecvError::Lagged(_)) => {}
            Ok(_) => continue,
            Err(RecvError::Closed) => return,
        }
        match restart_for_newer_token(&link).await {
            Ok(true) => tracing::info!("{UNIT} is restarted because a file with its token was replaced"),
            Ok(false) => {}
            Err(error) => tracing::debug!("can't check whether {UNIT} has the current token: {error}"),
        }
    }
}

async fn restart_for_newer_token(link: &Link) -> zbus::Result<bool> {
    let active: String = link.properties(UNIT, "Unit").await?.get("ActiveState").await?;
    let service = link.properties(UNIT, "Service").await?;
    let started = Duration::from_micros(service.get("ExecMainStartTimestamp").await?);
    let mut loaded: Vec<(String, String)> = service.get("LoadCredential").await?;
    loaded.extend(service.get::<Vec<(String, String)>>("LoadCredentialEncrypted").await?);
    let is_newer = loaded.iter().any(|(_, path)| is_newer(Path::new(path), started));
    let restarts = is_newer && matches!(active.as_str(), "active" | "reloading");
    if restarts {
        link.manager().await?.try_restart_unit(UNIT, "replace").await?;
    }
    Ok(restarts)
}

/// Whether a file, or a symbolic link to it, was changed or created after this time since the Unix epoch.
fn is_newer(path: &Path, time: Duration) -> bool {
    let changed = |metadata: Metadata| {
        let nanoseconds = |n: i64| Duration::from_nanos(u64::try_from(n).unwrap_or_default());
        let seconds = |n: i64| Duration::from_secs(u64::try_from(n).unwrap_or_default());
        let modified = seconds(metadata.mtime()) + nanoseconds(metadata.mtime_nsec());
        modified.max(seconds(metadata.ctime()) + nanoseconds(metadata.ctime_nsec()))
    };
    let all = [path.metadata(), path.symlink_metadata()];
    all.into_iter().flatten().any(|metadata| changed(metadata) > time)
}

impl Resolve for ResolverUnit {
    fn fetch(&self, fetch: Fetch) -> Pending<'_, Fetched> {
        Box::pin(self.answer(self.resolver.fetch(fetch)))
    }

    fn check(&self, check: Check) -> Pending<'_, Checked> {
        Box::pin(self.answer(self.resolver.check(check)))
    }

    fn probe(&self, probe: Probe, token: Option<SecretValue>) -> Pending<'_, Probed> {
        Box::pin(self.answer(self.resolver.probe(probe, token)))
    }

    fn status(&self, sources: Declarations) -> Pending<'_, Status> {
        Box::pin(self.answer(self.resolver.status(sources)))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::time::Instant;

    use super::*;

    #[test]
    fn what_systemd_says_of_the_resolver() {
        let table = [
            ("active", 0, Verdict::Fine),
            ("active", CREDENTIALS, Verdict::Fine), // from its previous run
            ("reloading", 0, Verdict::Fine),
            ("reloading", CREDENTIALS, Verdict::Fine), // from its previous run
            ("activating", 0, Verdict::Starts),
            ("activating", CREDENTIALS, Verdict::NoToken), // it waits for its next start
            ("failed", CREDENTIALS, Verdict::NoToken),
            ("inactive", CREDENTIALS, Verdict::NoToken),
            ("inactive", 0, Verdict::Fine),
            ("failed", 1, Verdict::Fine),
            ("activating", 9, Verdict::Fine), // killed
            ("deactivating", 0, Verdict::Fine),
        ];
        for (active, status, verdict) in table {
            let state = State { active: active.into(), status };
            assert_eq!(judge(&state), verdict, "{state:?}");
        }
        assert!(no_token().class.is_transient(), "units wait for the next start");
    }

    #[tokio::test(start_paused = true)]
    async fn systemd_is_asked_ever_more_seldom_until_it_says_why() {
        let (begun, asked) = (Instant::now(), Cell::new(0));
        let answer: Pending<'_, ()> = Box::pin(std::future::pending());
        let ask = || {
            asked.set(asked.get() + 1);
            let says = asked.get() == 5;
            async move { Ok(says.then(no_token)) }
        };
        assert_eq!(unless(answer, ask).await.unwrap_err().class, Class::Away);
        assert_eq!(begun.elapsed().as_millis(), 1500 + 3000 + 6000 + 12_000 + 12_000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_start_that_is_under_way_is_looked_at_again() {
        let starts = ("activating", 0);
        for (then, is_no_token) in
            [(("activating", CREDENTIALS), true), (("active", 0), false), (starts, false)]
        {
            let looks = Cell::new(0);
            let look = || {
                looks.set(looks.get() + 1);
                let (active, status) = if looks.get() < 3 { starts } else { then };
                async move { Ok(State { active: active.to_owned(), status }) }
            };
            assert_eq!(why_not(look).await.is_some(), is_no_token, "{then:?}");
            assert_eq!(looks.get(), if then == starts { NEXT_LOOK.1 } else { 3 }, "{then:?}");
        }
    }

    #[test]
    fn a_file_that_was_replaced_is_newer() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::write(at("token"), "one").unwrap();
        let old = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        std::fs::File::open(at("token")).unwrap().set_modified(old).unwrap();
        // it was created just now, although its content is old
        assert!(is_newer(&at("token"), Duration::from_secs(2000)));
        let later = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap() + Duration::from_secs(60);
        assert!(!is_newer(&at("token"), later) && !is_newer(&at("none"), Duration::ZERO));
        std::os::unix::fs::symlink("none", at("link")).unwrap();
        assert!(is_newer(&at("link"), Duration::from_secs(2000)), "what it leads to can't be seen");
    }

    struct Slow;

    impl Resolve for Slow {
        fn fetch(&self, _: Fetch) -> Pending<'_, Fetched> {
            Box::pin(std::future::pending())
        }
        fn check(&self, _: Check) -> Pending<'_, Checked> {
            Box::pin(std::future::pending())
        }
        fn status(&self, _: Declarations) -> Pending<'_, Status> {
            Box::pin(async {
                sleep(Duration::from_secs(60)).await;
                Ok(Status::default())
            })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_takes_long_is_awaited_where_systemd_says_nothing() {
        let unit = ResolverUnit::new(Arc::new(Slow));
        assert!(unit.status(Declarations::default()).await.is_ok());
    }
}
