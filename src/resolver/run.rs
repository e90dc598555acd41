//! The resolver's life: reads the sources and their tokens, answers questions, and reads both anew on SIGHUP.

use std::collections::BTreeMap;
use std::future::ready;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio::time::interval;

use super::Resolver;
use super::service_account::Surroundings;
use super::shown::{self, Shown};
use crate::config::{self, Paths};
use crate::name::{CredentialId, SourceName};
use crate::secret::{SecretValue, wipe_stack};
use crate::systemd::notify;
use crate::wire::{
    self, Check, Checked, Class, Failure, Fetch, Fetched, Pending, Prints, Probe, Probed, Resolve, Status,
};

/// The most bytes that a token may have.
const TOKEN_MAX: u64 = 1 << 16;

/// What the resolver is told.
pub struct Options {
    /// The listening socket.
    pub listener: OwnedFd,
    /// Where the configuration is.
    pub config: Paths,
    /// Files with tokens, by the credential's name, that go before the unit's own credentials.
    pub tokens: BTreeMap<CredentialId, PathBuf>,
    /// The user whose processes may ask, besides root's.
    pub allowed_uid: u32,
    /// What sources are opened with.
    pub surroundings: Surroundings,
}

/// Runs the resolver to its end.
pub fn run(options: Options) -> io::Result<()> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().on_thread_park(wipe_stack).build()?;
    let result = runtime.block_on(live(options));
    runtime.shutdown_background();
    result
}

async fn live(options: Options) -> io::Result<()> {
    let Options { listener, config, tokens, allowed_uid, surroundings } = options;
    let current = Arc::new(Current::new(Inputs { config, tokens, surroundings }));
    current.read();
    let mut stop = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut reload = signal(SignalKind::hangup())?;
    let mut alive = interval(notify::watchdog_interval().unwrap_or(Duration::from_secs(60)));
    let resolver: Arc<dyn Resolve> = Arc::<Current>::clone(&current);
    let mut serving = std::pin::pin!(wire::server::serve(listener, resolver, allowed_uid));
    let mut shown = Shown::default();
    notify::ready(&shown.take(current.line()));
    loop {
        tokio::select! {
            ended = &mut serving => return ended,
            _ = stop.recv() => break,
            _ = interrupt.recv() => break,
            _ = alive.tick() => {
                notify::alive();
                shown.refresh(current.line());
            }
            () = shown.due(&current.asked) => shown.refresh(current.line()),
            _ = reload.recv() => {
                notify::reloading();
                current.read();
                notify::ready(&shown.take(current.line()));
            }
        }
    }
    notify::stopping("stopping; the provider asks again"); // a question without an answer is one that it repeats
    Ok(())
}

/// How often the configuration is looked at for a definition that the provider has and we have not.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What sources are made from.
#[derive(Clone)]
struct Inputs {
    config: Paths,
    tokens: BTreeMap<CredentialId, PathBuf>,
    surroundings: Surroundings,
}

/// The sources in force.
struct Current {
    inputs: Inputs,
    loaded: RwLock<Arc<Loaded>>,
    /// When the configuration was last looked at for a definition that was not there.
    looked: Mutex<Option<Instant>>,
    /// Something was asked, so that the status may be another.
    asked: Notify,
}

#[derive(Default)]
struct Loaded {
    resolver: Resolver,
    /// The sources, with the fingerprints of their definitions.
    sources: BTreeMap<SourceName, String>,
    /// Why there are no sources, where the configuration could not be read at all.
    error: Option<String>,
}

impl Loaded {
    /// The resolver, if it works with the definition of the source that the provider has.
    fn resolver(&self, source: &SourceName, print: &str) -> Result<&Resolver, Failure> {
        match &self.error {
            None if self.sources.get(source).is_some_and(|own| own == print) => Ok(&self.resolver),
            None => Err(Failure::new(
                Class::Away,
                format!("the resolver has not read the present definition of source {source}"),
                "if that goes on: systemctl reload onecred-resolver, and look at its journal",
            )
            .retry_after(Duration::from_millis(200))),
            Some(error) => Err(unusable(error)),
        }
    }
}

fn unusable(error: &str) -> Failure {
    Failure::new(
        Class::Misconfigured,
        format!("the resolver can't use the configuration: {error}"),
        "mend it (its files have to be readable by user onecred: they hold no secret), then: onecred reload",
    )
}

impl Current {
    fn new(inputs: Inputs) -> Self {
        let resolver = Resolver::within(&BTreeMap::new(), |_| None, &inputs.surroundings);
        let loaded = RwLock::new(Arc::new(Loaded { resolver, ..Loaded::default() }));
        Self { inputs, loaded, looked: Mutex::default(), asked: Notify::new() }
    }

    fn get(&self) -> Arc<Loaded> {
        Arc::clone(&self.loaded.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn set(&self, loaded: Loaded) {
        *self.loaded.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(loaded);
    }

    /// Reads the configuration; with errors in it, what was there before stays.
    fn read(&self) {
        let Inputs { config, tokens, .. } = &self.inputs;
        match config::load_if_any(config) {
            Ok(loaded) => {
                let sources = &loaded.settings.sources;
                let before = self.get();
                let resolver = before.resolver.renewed(sources, |name| token(name, tokens));
                let sources = sources.iter().map(|(name, source)| (name.clone(), source.print())).collect();
                self.set(Loaded { resolver, sources, error: None });
            }
            Err(report) => {
                for problem in &report.problems {
                    tracing::error!("{problem}");
                }
                let first =
                    report.problems.iter().find(|problem| problem.severity == config::Severity::Error);
                if self.get().sources.is_empty() {
                    let error = Some(first.map(ToString::to_string).unwrap_or_default());
                    let resolver = self.get().resolver.renewed(&BTreeMap::new(), |_| None);
                    self.set(Loaded { resolver, error, ..Loaded::default() });
                } else {
                    tracing::error!(
                        "the configuration has errors, so the sources stay as they were; see: onecred check"
                    );
                }
            }
        }
    }

    /// What would be in force after a reading, which leaves alone what is.
    fn reread(&self) -> Arc<Loaded> {
        let fresh = Self::new(self.inputs.clone());
        *fresh.loaded.write().unwrap_or_else(PoisonError::into_inner) = self.get();
        fresh.read();
        fresh.get()
    }

    /// The sources, with the definition of this one that the asker has. What was written since they were read is looked at, now and then,
    /// and taken over if it has it: the provider may have been told before us, or we may have started before there was a file.
    fn with(&self, source: &SourceName, print: &str) -> Arc<Loaded> {
        let loaded = self.get();
        if loaded.resolver(source, print).is_ok() {
            return loaded;
        }
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        if looked.is_some_and(|before| before.elapsed() < LOOK_AGAIN) {
            return loaded;
        }
        *looked = Some(Instant::now());
        let fresh = self.reread();
        if fresh.resolver(source, print).is_err() && loaded.error.is_none() {
            return loaded;
        }
        *self.loaded.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&fresh);
        fresh
    }

    /// How it is, in a line.
    fn line(&self) -> String {
        let loaded = self.get();
        match &loaded.error {
            None => shown::line(&loaded.resolver.about()),
            Some(error) => format!("refusing everything: {error}"),
        }
    }
}

impl Resolve for Current {
    fn fetch(&self, fetch: Fetch) -> Pending<'_, Fetched> {
        let loaded = self.with(&fetch.source, &fetch.print);
        Box::pin(async move {
            let outcome = loaded.resolver(&fetch.source, &fetch.print)?.fetch(fetch).await;
            self.asked.notify_one();
            outcome
        })
    }

    fn check(&self, check: Check) -> Pending<'_, Checked> {
        let loaded = self.with(&check.source, &check.print);
        Box::pin(async move {
            let outcome = loaded.resolver(&check.source, &check.print)?.check(check).await;
            self.asked.notify_one();
            outcome
        })
    }

    /// An administrator may ask about what was written since the last reload, which is then read for this question alone.
    fn probe(&self, probe: Probe, token: Option<SecretValue>) -> Pending<'_, Probed> {
        let mut loaded = self.get();
        if loaded.resolver(&probe.source, &probe.print).is_err() {
            loaded = self.reread();
        }
        Box::pin(async move {
            let outcome = loaded.resolver(&probe.source, &probe.print)?.probe(probe, token).await;
            self.asked.notify_one();
            outcome
        })
    }

    fn status(&self, prints: Prints) -> Pending<'_, Status> {
        // a source that the provider has another definition of is read again, so that it is not reported by its old one
        let unknown = prints.iter().find(|(source, print)| self.get().resolver(source, print).is_err());
        let loaded = unknown.map_or_else(|| self.get(), |(source, print)| self.with(source, print));
        Box::pin(ready(match &loaded.error {
            None => Ok(loaded.resolver.about()),
            Some(error) => Err(unusable(error)),
        }))
    }
}

/// A token: from a file that was named, or from the credentials of the resolver's unit. White space around it is not part of it.
fn token(name: &CredentialId, files: &BTreeMap<CredentialId, PathBuf>) -> Option<SecretValue> {
    let folder = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    let path = files.get(name).cloned().or_else(|| folder.map(|folder| folder.join(name.as_str())))?;
    match read_token(&path) {
        Ok(token) => Some(token).filter(|token| !token.is_empty()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            tracing::error!("token {name}: {} can't be read: {error}", path.display());
            None
        }
    }
}

fn read_token(path: &Path) -> io::Result<SecretValue> {
    use std::io::Read;
    let mut bytes = Vec::with_capacity(8192);
    std::fs::File::open(path)?.take(TOKEN_MAX).read_to_end(&mut bytes)?;
    let whole = SecretValue::new(bytes);
    // exposed: to cut off the white space around it
    Ok(SecretValue::new(whole.expose().trim_ascii().to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_without_the_space_around_it() {
        let folder = tempfile::tempdir().unwrap();
        let (name, file) = (CredentialId::parse("token").unwrap(), folder.path().join("t"));
        let files = BTreeMap::from([(name.clone(), file.clone())]);
        assert!(token(&name, &files).is_none());
        std::fs::write(&file, " \n").unwrap();
        assert!(token(&name, &files).is_none(), "an empty file is no token");
        std::fs::write(&file, "\tsecret\n\n").unwrap();
        assert_eq!(token(&name, &files).unwrap().expose(), b"secret");
    }

    #[test]
    fn a_definition_that_was_written_later_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let write = |text: &str| std::fs::write(folder.path().join("secrets.json"), text).unwrap();
        let config = Paths { dir: folder.path().into() };
        write("{");
        let inputs =
            Inputs { config: config.clone(), tokens: BTreeMap::new(), surroundings: Surroundings::default() };
        let current = Current::new(inputs);
        current.read();
        let source = SourceName::default_source();
        let why =
            |loaded: &Loaded, print: &str| loaded.resolver(&source, print).err().map(|failure| failure.class);
        assert_eq!(why(&current.get(), ""), Some(Class::Misconfigured), "it can't be read, and says so");
        write(r#"{ "source": { "kind": "file", "path": "/a.json" }, "secrets": [] }"#);
        let print = config::load(&config).unwrap().settings.sources[&source].print();
        assert_eq!(why(&current.with(&source, &print), &print), None);
        assert_eq!(why(&current.with(&source, "another"), "another"), Some(Class::Away));
        *current.looked.lock().unwrap() = None;
        assert_eq!(why(&current.with(&source, "another"), "another"), Some(Class::Away));
        assert_eq!(why(&current.get(), &print), None, "what works is not given up for what does not help");
    }
}
