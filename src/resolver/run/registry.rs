//! The sources that the resolver has opened, and how it answers questions about them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, Notify};

use super::token_file::token;
use crate::config::{self, Loaded, Paths, Report, Source};
use crate::domain::name::{CredentialId, SourceName};
use crate::domain::secret::SecretValue;
use crate::host::background::Background;
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
    /// Reads of the configuration to find a definition that did not come with its question.
    search: Mutex<Search>,
    /// A question was asked, so the status may have changed.
    pub(super) asked: Notify,
}

/// Reads of the configuration, one at a time, in another thread, since its disk may hang.
struct Search {
    files: Background<Result<Loaded, Report>>,
    /// When the last one began.
    began: Option<Instant>,
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
        let paths = inputs.config.clone();
        let files = Background::new(move || config::load_if_any(&paths));
        let search = Mutex::new(Search { files, began: None });
        Self { inputs, loaded, search, asked: Notify::new() }
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

    /// Reads the configuration. Blocks as long as the disk does.
    pub(super) fn load(&self) -> Result<Loaded, Report> {
        config::load_if_any(&self.inputs.config)
    }

    /// Makes the sources of a configuration active. If it has errors, they do not change.
    pub(super) fn activate(&self, loaded: Result<Loaded, Report>) {
        self.set(self.following(&self.get(), loaded));
    }

    /// What would become active with this configuration.
    fn following(&self, before: &OpenSources, loaded: Result<Loaded, Report>) -> Arc<OpenSources> {
        match loaded {
            Ok(loaded) => self.opened(before, &loaded.settings.sources, None),
            Err(report) => {
                for problem in &report.problems {
                    tracing::error!("{problem}");
                }
                tracing::error!(
                    "the configuration has errors or can't be read, so the sources of onecred.service stay active; see: onecred check"
                );
                self.opened(before, &before.resolver.definitions, Some(report.first_error()))
            }
        }
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
    async fn with(&self, named: &Named<'_>) -> Arc<OpenSources> {
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
        let Some(read) = self.read_again(named, LOOK_AGAIN).await else { return self.get() };
        let before = self.get();
        let fresh = self.following(&before, read);
        if fresh.resolver(source, print).is_err() && !before.sources.is_empty() {
            return before;
        }
        self.set(Arc::clone(&fresh));
        fresh
    }

    /// Reads the configuration to find this source. `None` if it was found by another question meanwhile, or if
    /// the last read began less than `pause` ago. A read goes on if nothing waits for it any more, and the next
    /// question gets its result.
    async fn read_again(&self, named: &Named<'_>, pause: Duration) -> Option<Result<Loaded, Report>> {
        let mut search = self.search.lock().await;
        if self.get().resolver(named.source, named.print).is_ok() {
            return None;
        }
        if !search.files.is_running() {
            if search.began.is_some_and(|began| began.elapsed() < pause) {
                return None;
            }
            search.began = Some(Instant::now());
            search.files.request();
        }
        Some(search.files.ended().await)
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
        Box::pin(async move {
            let Fetch { source, print, definition, .. } = &fetch;
            let loaded = self.with(&Named { source, print, definition: definition.as_deref() }).await;
            let outcome = loaded.resolver(source, print)?.fetch(fetch).await;
            self.asked.notify_one();
            outcome
        })
    }

    fn check(&self, check: Check) -> Pending<'_, Checked> {
        Box::pin(async move {
            let Check { source, print, definition, .. } = &check;
            let loaded = self.with(&Named { source, print, definition: definition.as_deref() }).await;
            let outcome = loaded.resolver(source, print)?.check(check).await;
            self.asked.notify_one();
            outcome
        })
    }

    /// An administrator may ask about changes that were made since the last reload. The definition is used
    /// for this question only.
    fn probe(&self, probe: Probe, token: Option<SecretValue>) -> Pending<'_, Probed> {
        Box::pin(async move {
            let mut loaded = self.get();
            let Probe { source, print, definition, .. } = &probe;
            if loaded.resolver(source, print).is_err() {
                let named = Named { source, print, definition: definition.as_deref() };
                loaded = match named.defined() {
                    Some(defined) => self.including(&loaded, source, defined),
                    None => match self.read_again(&named, Duration::ZERO).await {
                        Some(read) => self.following(&self.get(), read),
                        None => self.get(),
                    },
                };
            }
            let outcome = loaded.resolver(source, print)?.probe(probe, token).await;
            self.asked.notify_one();
            outcome
        })
    }

    fn status(&self, sources: Declarations) -> Pending<'_, Status> {
        Box::pin(async move {
            for (source, Declared { print, definition }) in &sources {
                self.with(&Named { source, print, definition: definition.as_deref() }).await;
            }
            self.about()
        })
    }
}

#[cfg(test)]
mod tests;
