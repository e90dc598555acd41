//! The sources that the resolver has opened, and how it answers questions about them.

use std::collections::BTreeMap;
use std::future::ready;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::token_file::token;
use crate::config::{self, Loaded, Paths, Report, Source};
use crate::domain::name::{CredentialId, SourceName};
use crate::domain::secret::SecretValue;
use crate::ipc::{
    Check, Checked, Class, Declarations, Declared, Failure, Fetch, Fetched, Pending, Probe, Probed, Resolve,
    Status,
};
use crate::resolver::service_account::Surroundings;
use crate::resolver::{Resolver, ready_line};

/// The minimum time between two reads of the configuration to find a definition that only the provider has.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What sources are opened from.
#[derive(Clone)]
pub(super) struct Inputs {
    pub(super) config: Paths,
    pub(super) tokens: BTreeMap<CredentialId, PathBuf>,
    pub(super) surroundings: Surroundings,
}

/// The active sources.
pub(super) struct Registry {
    inputs: Inputs,
    loaded: RwLock<Arc<OpenSources>>,
    /// When the configuration was last read to find a missing definition.
    looked: Mutex<Option<Instant>>,
    /// A question was asked, so the status may have changed.
    pub(super) asked: Notify,
}

#[derive(Default)]
struct OpenSources {
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

impl OpenSources {
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

impl Registry {
    pub(super) fn new(inputs: Inputs) -> Self {
        let resolver = Resolver::within(&BTreeMap::new(), |_| None, &inputs.surroundings);
        let loaded = RwLock::new(Arc::new(OpenSources::of(resolver, None)));
        Self { inputs, loaded, looked: Mutex::default(), asked: Notify::new() }
    }

    fn get(&self) -> Arc<OpenSources> {
        Arc::clone(&self.loaded.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn set(&self, loaded: Arc<OpenSources>) {
        *self.loaded.write().unwrap_or_else(PoisonError::into_inner) = loaded;
    }

    /// Opens these sources. Sources that did not change keep what they have learned in `before`.
    fn opened(
        &self,
        before: &OpenSources,
        sources: &BTreeMap<SourceName, Source>,
        error: Option<String>,
    ) -> Arc<OpenSources> {
        let token = |name: &CredentialId| token(name, &self.inputs.tokens);
        Arc::new(OpenSources::of(before.resolver.renewed(sources, token), error))
    }

    /// Reads the configuration, and makes its sources active.
    pub(super) fn read(&self) {
        self.activate(self.load());
    }

    /// Reads the configuration. Takes as long as its disk.
    pub(super) fn load(&self) -> Result<Loaded, Report> {
        config::load_if_any(&self.inputs.config)
    }

    /// Makes the sources of a configuration active. If it has errors, they do not change.
    pub(super) fn activate(&self, loaded: Result<Loaded, Report>) {
        let before = self.get();
        self.set(match loaded {
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
    fn reread(&self) -> Arc<OpenSources> {
        let fresh = Self::new(self.inputs.clone());
        fresh.set(self.get());
        fresh.read();
        fresh.get()
    }

    /// What would become active with this definition of one source.
    fn including(&self, before: &OpenSources, name: &SourceName, source: Source) -> Arc<OpenSources> {
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
    fn with(&self, named: &Named<'_>) -> Arc<OpenSources> {
        let Named { source, print, .. } = named;
        let loaded = self.get();
        if loaded.resolver(source, print).is_ok() {
            return loaded;
        }
        if let Some(defined) = named.defined() {
            tracing::info!(
                "source {source}: using the definition from onecred.service, which differs from the files"
            );
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
    pub(super) fn line(&self) -> String {
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
                format!("{sources}; the old configuration stays active: {error}")
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

impl Resolve for Registry {
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    struct Rig {
        folder: tempfile::TempDir,
        registry: Registry,
    }

    impl Rig {
        fn new(text: &str) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let config = Paths { dir: folder.path().into() };
            let surroundings = Surroundings::default();
            let registry = Registry::new(Inputs { config, tokens: BTreeMap::new(), surroundings });
            let rig = Self { folder, registry };
            rig.write(text);
            rig.registry.read();
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

    fn why(loaded: &OpenSources, declared: &Declared) -> Option<Class> {
        loaded.resolver(name(), &declared.print).err().map(|failure| failure.class)
    }

    #[test]
    fn without_a_definition_the_files_are_read_again() {
        let old = |declared: Declared| Declared { definition: None, ..declared };
        let rig = Rig::new("{");
        let (here, another) = (old(declared(&vault("/a.json"))), old(declared(&vault("/b.json"))));
        assert_eq!(
            why(&rig.registry.get(), &here),
            Some(Class::Misconfigured),
            "it can't be read, and says so"
        );
        rig.write(&vault("/a.json"));
        assert_eq!(why(&rig.registry.with(&named(&here)), &here), None);
        assert_eq!(why(&rig.registry.with(&named(&another)), &another), Some(Class::Away));
        *rig.registry.looked.lock().unwrap() = None;
        assert_eq!(why(&rig.registry.with(&named(&another)), &another), Some(Class::Away));
        assert_eq!(
            why(&rig.registry.get(), &here),
            None,
            "what works is not given up for what does not help"
        );
    }

    #[test]
    fn the_provider_decides_which_definition_counts() {
        let (here, another) = (declared(&vault("/a.json")), declared(&vault("/b.json")));
        for files in ["{".to_owned(), vault("/b.json")] {
            let rig = Rig::new(&files);
            assert!(why(&rig.registry.get(), &here).is_some(), "{files}");
            assert_eq!(why(&rig.registry.with(&named(&here)), &here), None, "{files}");
            assert_eq!(why(&rig.registry.get(), &here), None, "{files}: it stays");
        }
        let rig = Rig::new(&vault("/a.json"));
        let forged = Declared { print: here.print.clone(), ..another.clone() };
        assert_eq!(named(&forged).defined(), None, "it is not the one of the fingerprint");
        for unreadable in [None, Some("{}".to_owned()), Some("x".to_owned())] {
            let newer = Declared { definition: unreadable, ..another.clone() };
            assert_eq!(why(&rig.registry.with(&named(&newer)), &another), Some(Class::Away));
        }
        assert_eq!(why(&rig.registry.get(), &here), None);
    }

    #[test]
    fn a_reload_with_errors_keeps_the_sources() {
        let rig = Rig::new(&vault("/a.json"));
        let here = declared(&vault("/a.json"));
        rig.write("{");
        rig.registry.read();
        assert_eq!(why(&rig.registry.get(), &here), None);
        let line = rig.registry.line();
        assert!(line.contains("default (file)") && line.contains("secrets.json:1:"), "{line}");
    }

    #[tokio::test]
    async fn a_status_knows_all_sources_of_the_provider() {
        let rig = Rig::new("{");
        assert!(rig.registry.status(Declarations::new()).await.is_err());
        let sources = Declarations::from([(name().clone(), declared(&vault("/a.json")))]);
        assert_eq!(rig.registry.status(sources).await.unwrap().sources.len(), 1);
        assert_eq!(rig.registry.status(Declarations::new()).await.unwrap().sources.len(), 1);
    }

    #[tokio::test]
    async fn a_probe_changes_nothing() {
        let rig = Rig::new(&vault("/a.json"));
        let (source, Declared { print, definition }) = (name().clone(), declared(&vault("/b.json")));
        let before = rig.registry.get();
        let _ = rig.registry.probe(Probe { source, print, definition, patience: Duration::ZERO }, None).await;
        assert!(Arc::ptr_eq(&before, &rig.registry.get()));
    }
}
