//! The resolver's main loop: reads the sources and their tokens, answers questions, and reads both again on
//! SIGHUP.

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
use crate::config::{self, Paths, Source};
use crate::domain::name::{CredentialId, SourceName};
use crate::domain::secret::{SecretValue, wipe_stack};
use crate::host::systemd::notify;
use crate::ipc::{
    self, Check, Checked, Class, Declarations, Declared, Failure, Fetch, Fetched, Pending, Probe, Probed,
    Resolve, Status,
};
use crate::resolver::ready_line::{self, Shown};

/// The maximum length of a token in bytes.
const TOKEN_MAX: u64 = 1 << 16;

/// The options of the resolver.
pub struct Options {
    /// The listening socket.
    pub listener: OwnedFd,
    /// The paths of the configuration.
    pub config: Paths,
    /// Token files by credential name. They override the credentials of the unit.
    pub tokens: BTreeMap<CredentialId, PathBuf>,
    /// The user, besides root, whose processes may ask questions.
    pub allowed_uid: u32,
    /// The surroundings in which sources are opened.
    pub surroundings: Surroundings,
}

/// Runs the resolver until it is stopped.
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
    let mut serving = std::pin::pin!(ipc::server::serve(listener, resolver, allowed_uid));
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
    notify::stopping("stopping; the provider asks again"); // the provider repeats unanswered questions
    Ok(())
}

/// The least time between two reads of the configuration to find a definition that only the provider has.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What sources are opened from.
#[derive(Clone)]
struct Inputs {
    config: Paths,
    tokens: BTreeMap<CredentialId, PathBuf>,
    surroundings: Surroundings,
}

/// The active sources.
struct Current {
    inputs: Inputs,
    loaded: RwLock<Arc<Loaded>>,
    /// When the configuration was last read to find a missing definition.
    looked: Mutex<Option<Instant>>,
    /// A question was asked, so the status may have changed.
    asked: Notify,
}

#[derive(Default)]
struct Loaded {
    resolver: Resolver,
    /// The sources, with the fingerprints of their definitions.
    sources: BTreeMap<SourceName, String>,
    /// Why the files could not be read the last time.
    error: Option<String>,
}

/// A source as a question names it.
struct Named<'a> {
    source: &'a SourceName,
    print: &'a str,
    definition: Option<&'a str>,
}

impl Named<'_> {
    /// The definition that came with the question, if it has the fingerprint.
    fn defined(&self) -> Option<Source> {
        let source: Source = serde_json::from_str(self.definition?).ok()?;
        (source.print() == self.print).then_some(source)
    }
}

impl Loaded {
    fn of(resolver: Resolver, error: Option<String>) -> Self {
        let sources = resolver.definitions.iter().map(|(name, source)| (name.clone(), source.print()));
        Self { sources: sources.collect(), resolver, error }
    }

    /// The resolver, if its definition of the source is the provider's.
    fn resolver(&self, source: &SourceName, print: &str) -> Result<&Resolver, Failure> {
        match &self.error {
            _ if self.sources.get(source).is_some_and(|own| own == print) => Ok(&self.resolver),
            None => Err(Failure::new(
                Class::Away,
                format!("the resolver's definition of source {source} differs from the provider's"),
                "onecred reload; if that does not help, both must have the same version: systemctl restart onecred-resolver.service onecred.service",
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
        "correct it (user onecred must be able to read its files; they contain no secrets), then: onecred reload",
    )
}

impl Current {
    fn new(inputs: Inputs) -> Self {
        let resolver = Resolver::within(&BTreeMap::new(), |_| None, &inputs.surroundings);
        let loaded = RwLock::new(Arc::new(Loaded::of(resolver, None)));
        Self { inputs, loaded, looked: Mutex::default(), asked: Notify::new() }
    }

    fn get(&self) -> Arc<Loaded> {
        Arc::clone(&self.loaded.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn set(&self, loaded: Arc<Loaded>) {
        *self.loaded.write().unwrap_or_else(PoisonError::into_inner) = loaded;
    }

    /// Opens these sources. Sources that did not change keep what they have learned in `before`.
    fn opened(
        &self,
        before: &Loaded,
        sources: &BTreeMap<SourceName, Source>,
        error: Option<String>,
    ) -> Arc<Loaded> {
        let token = |name: &CredentialId| token(name, &self.inputs.tokens);
        Arc::new(Loaded::of(before.resolver.renewed(sources, token), error))
    }

    /// Reads the configuration. If it has errors, the sources do not change.
    fn read(&self) {
        let before = self.get();
        self.set(match config::load_if_any(&self.inputs.config) {
            Ok(loaded) => self.opened(&before, &loaded.settings.sources, None),
            Err(report) => {
                for problem in &report.problems {
                    tracing::error!("{problem}");
                }
                tracing::error!(
                    "the configuration has errors or can't be read, so the sources of onecred.service stay active; see: onecred check"
                );
                self.opened(&before, &before.resolver.definitions, Some(report.first_error()))
            }
        });
    }

    /// Reads the configuration and returns what would become active, without activating it.
    fn reread(&self) -> Arc<Loaded> {
        let fresh = Self::new(self.inputs.clone());
        fresh.set(self.get());
        fresh.read();
        fresh.get()
    }

    /// What would become active with this definition of one source.
    fn including(&self, before: &Loaded, name: &SourceName, source: Source) -> Arc<Loaded> {
        let mut sources = before.resolver.definitions.clone();
        sources.insert(name.clone(), source);
        self.opened(before, &sources, before.error.clone())
    }

    /// The sources, with the provider's definition of this one. The definition that comes with the question
    /// takes precedence, because the provider decides which configuration is active. The files may have
    /// changed after it read them, or may contain errors.
    ///
    /// An older provider does not send a definition. In this case the files are read again, at a limited
    /// rate, and used if they contain the definition.
    fn with(&self, named: &Named<'_>) -> Arc<Loaded> {
        let Named { source, print, .. } = named;
        let loaded = self.get();
        if loaded.resolver(source, print).is_ok() {
            return loaded;
        }
        if let Some(defined) = named.defined() {
            tracing::info!("source {source}: it is used as in onecred.service, not as in the files");
            let with = self.including(&loaded, source, defined);
            self.set(Arc::clone(&with));
            return with;
        }
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        if looked.is_some_and(|before| before.elapsed() < LOOK_AGAIN) {
            return loaded;
        }
        *looked = Some(Instant::now());
        let fresh = self.reread();
        if fresh.resolver(source, print).is_err() && !loaded.sources.is_empty() {
            return loaded;
        }
        self.set(Arc::clone(&fresh));
        fresh
    }

    /// The state in one line.
    fn line(&self) -> String {
        let loaded = self.get();
        match &loaded.error {
            None => ready_line::line(&loaded.resolver.about()),
            Some(error) if loaded.sources.is_empty() => {
                format!(
                    "waiting for the sources from onecred.service, because the configuration can't be used: {error}"
                )
            }
            Some(error) => {
                let sources = ready_line::line(&loaded.resolver.about());
                format!("{sources}; the configuration that was active before stays active: {error}")
            }
        }
    }

    fn about(&self) -> Result<Status, Failure> {
        let loaded = self.get();
        match &loaded.error {
            Some(error) if loaded.sources.is_empty() => Err(unusable(error)),
            _ => Ok(loaded.resolver.about()),
        }
    }
}

impl Resolve for Current {
    fn fetch(&self, fetch: Fetch) -> Pending<'_, Fetched> {
        let Fetch { source, print, definition, .. } = &fetch;
        let loaded = self.with(&Named { source, print, definition: definition.as_deref() });
        Box::pin(async move {
            let outcome = loaded.resolver(&fetch.source, &fetch.print)?.fetch(fetch).await;
            self.asked.notify_one();
            outcome
        })
    }

    fn check(&self, check: Check) -> Pending<'_, Checked> {
        let Check { source, print, definition, .. } = &check;
        let loaded = self.with(&Named { source, print, definition: definition.as_deref() });
        Box::pin(async move {
            let outcome = loaded.resolver(&check.source, &check.print)?.check(check).await;
            self.asked.notify_one();
            outcome
        })
    }

    /// An administrator may ask about changes that were made since the last reload. The definition is used
    /// for this question only.
    fn probe(&self, probe: Probe, token: Option<SecretValue>) -> Pending<'_, Probed> {
        let mut loaded = self.get();
        if loaded.resolver(&probe.source, &probe.print).is_err() {
            let Probe { source, print, definition, .. } = &probe;
            let named = Named { source, print, definition: definition.as_deref() };
            loaded = match named.defined() {
                Some(defined) => self.including(&loaded, source, defined),
                None => self.reread(),
            };
        }
        Box::pin(async move {
            let outcome = loaded.resolver(&probe.source, &probe.print)?.probe(probe, token).await;
            self.asked.notify_one();
            outcome
        })
    }

    fn status(&self, sources: Declarations) -> Pending<'_, Status> {
        for (source, Declared { print, definition }) in &sources {
            self.with(&Named { source, print, definition: definition.as_deref() });
        }
        Box::pin(ready(self.about()))
    }
}

/// Reads a token from a given file, or from the credentials of the resolver's unit. Removes surrounding
/// whitespace.
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
    // exposed: to remove surrounding whitespace
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

    struct Rig {
        folder: tempfile::TempDir,
        current: Current,
    }

    impl Rig {
        fn new(text: &str) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let config = Paths { dir: folder.path().into() };
            let surroundings = Surroundings::default();
            let current = Current::new(Inputs { config, tokens: BTreeMap::new(), surroundings });
            let rig = Self { folder, current };
            rig.write(text);
            rig.current.read();
            rig
        }

        fn write(&self, text: &str) {
            std::fs::write(self.folder.path().join("secrets.json"), text).unwrap();
        }
    }

    fn vault(path: &str) -> String {
        format!(r#"{{ "source": {{ "kind": "file", "path": "{path}" }}, "secrets": [] }}"#)
    }

    /// The definition of the source in this configuration, as the provider has it.
    fn declared(text: &str) -> Declared {
        let settings = config::from_text(Path::new("test.json"), text).unwrap().settings;
        let source = &settings.sources[name()];
        Declared { print: source.print(), definition: Some(serde_json::to_string(source).unwrap()) }
    }

    fn name() -> &'static SourceName {
        static NAME: std::sync::LazyLock<SourceName> = std::sync::LazyLock::new(SourceName::default_source);
        &NAME
    }

    fn named(Declared { print, definition }: &Declared) -> Named<'_> {
        Named { source: name(), print, definition: definition.as_deref() }
    }

    fn why(loaded: &Loaded, declared: &Declared) -> Option<Class> {
        loaded.resolver(name(), &declared.print).err().map(|failure| failure.class)
    }

    #[test]
    fn without_a_definition_the_files_are_read_again() {
        let old = |declared: Declared| Declared { definition: None, ..declared };
        let rig = Rig::new("{");
        let (here, another) = (old(declared(&vault("/a.json"))), old(declared(&vault("/b.json"))));
        assert_eq!(
            why(&rig.current.get(), &here),
            Some(Class::Misconfigured),
            "it can't be read, and says so"
        );
        rig.write(&vault("/a.json"));
        assert_eq!(why(&rig.current.with(&named(&here)), &here), None);
        assert_eq!(why(&rig.current.with(&named(&another)), &another), Some(Class::Away));
        *rig.current.looked.lock().unwrap() = None;
        assert_eq!(why(&rig.current.with(&named(&another)), &another), Some(Class::Away));
        assert_eq!(why(&rig.current.get(), &here), None, "what works is not given up for what does not help");
    }

    #[test]
    fn the_provider_decides_which_definition_counts() {
        let (here, another) = (declared(&vault("/a.json")), declared(&vault("/b.json")));
        for files in ["{".to_owned(), vault("/b.json")] {
            let rig = Rig::new(&files);
            assert!(why(&rig.current.get(), &here).is_some(), "{files}");
            assert_eq!(why(&rig.current.with(&named(&here)), &here), None, "{files}");
            assert_eq!(why(&rig.current.get(), &here), None, "{files}: it stays");
        }
        let rig = Rig::new(&vault("/a.json"));
        let forged = Declared { print: here.print.clone(), ..another.clone() };
        assert_eq!(named(&forged).defined(), None, "it is not the one of the fingerprint");
        for unreadable in [None, Some("{}".to_owned()), Some("x".to_owned())] {
            let newer = Declared { definition: unreadable, ..another.clone() };
            assert_eq!(why(&rig.current.with(&named(&newer)), &another), Some(Class::Away));
        }
        assert_eq!(why(&rig.current.get(), &here), None);
    }

    #[test]
    fn a_reload_with_errors_keeps_the_sources() {
        let rig = Rig::new(&vault("/a.json"));
        let here = declared(&vault("/a.json"));
        rig.write("{");
        rig.current.read();
        assert_eq!(why(&rig.current.get(), &here), None);
        let line = rig.current.line();
        assert!(line.contains("default (file)") && line.contains("secrets.json:1:"), "{line}");
    }

    #[tokio::test]
    async fn a_status_knows_all_sources_of_the_provider() {
        let rig = Rig::new("{");
        assert!(rig.current.status(Declarations::new()).await.is_err());
        let sources = Declarations::from([(name().clone(), declared(&vault("/a.json")))]);
        assert_eq!(rig.current.status(sources).await.unwrap().sources.len(), 1);
        assert_eq!(rig.current.status(Declarations::new()).await.unwrap().sources.len(), 1);
    }

    #[tokio::test]
    async fn a_probe_changes_nothing() {
        let rig = Rig::new(&vault("/a.json"));
        let (source, Declared { print, definition }) = (name().clone(), declared(&vault("/b.json")));
        let before = rig.current.get();
        let _ = rig.current.probe(Probe { source, print, definition, patience: Duration::ZERO }, None).await;
        assert!(Arc::ptr_eq(&before, &rig.current.get()));
    }
}
