//! Loads the configuration again. Another thread reads the files, since their disk may hang.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::{line, rejected, time_of, warn};
use crate::config::{self, Loaded, Paths, Report};
use crate::host::background::Background;
use crate::host::systemd::notify;
use crate::provider::base::active_config::ActiveConfig;
use crate::provider::base::files::Standing;
use crate::provider::context::Context;
use crate::provider::dbus;
use crate::provider::store::last_valid;

/// How long new connections wait for a reload, so that a unit that is started after `systemctl reload` gets what
/// the files grant now.
const PATIENCE: Duration = Duration::from_secs(2);

/// Reloads of the configuration, one at a time.
pub(super) struct Reloads {
    files: Background<Result<Loaded, Report>>,
    patience: Duration,
    /// The callers on D-Bus that wait for the present reload.
    waiting: Vec<dbus::Reload>,
    /// The callers that wait for the next one.
    next: Vec<dbus::Reload>,
}

impl Reloads {
    pub(super) fn new(paths: Paths) -> Self {
        Self::reading(move || config::load(&paths), PATIENCE)
    }

    fn reading(
        read: impl Fn() -> Result<Loaded, Report> + Send + Sync + 'static,
        patience: Duration,
    ) -> Self {
        Self { files: Background::new(read), patience, waiting: Vec::new(), next: Vec::new() }
    }

    /// Begins a reload, and waits a little for its end. The main loop accepts no connections in this time. If a
    /// reload is in progress, another one follows, since files may have changed after they were read.
    pub(super) async fn request(&mut self, context: &Arc<Context>, caller: Option<dbus::Reload>) {
        if !self.files.request() {
            self.next.extend(caller);
            return;
        }
        self.waiting.extend(caller);
        notify::reloading();
        if let Ok(loaded) = timeout(self.patience, self.loaded()).await {
            self.end(context, loaded).await;
        }
    }

    /// Waits until the files were read; forever if no reload is in progress.
    pub(super) async fn loaded(&mut self) -> Result<Loaded, Report> {
        self.files.ended().await
    }

    /// Ends the present reload.
    pub(super) async fn end(&mut self, context: &Arc<Context>, loaded: Result<Loaded, Report>) {
        let mut ended = Some(loaded);
        while let Some(loaded) = ended.take() {
            let result = activate(context, loaded);
            for caller in self.waiting.drain(..) {
                let _ = caller.send(result.clone());
            }
            self.waiting = std::mem::take(&mut self.next);
            if self.files.is_running() {
                notify::reloading();
                ended = timeout(self.patience, self.loaded()).await.ok();
            }
        }
    }
}

/// Makes a configuration active. If it has errors, the one before stays active, and the first error is the answer.
fn activate(context: &Arc<Context>, loaded: Result<Loaded, Report>) -> Result<(), String> {
    let active = context.config.get();
    match loaded {
        Ok(loaded) => {
            warn(&loaded.warnings);
            context.broker.activate(match &active.error {
                Some(error) if !context.broker.has_store() => ActiveConfig::broken(error.clone()),
                _ => {
                    let (digest, at) = last_valid::keep(context.broker.store(), &loaded.texts);
                    ActiveConfig::of_files(loaded.settings, digest, at)
                }
            });
            tracing::info!("the configuration was loaded");
            let context = Arc::clone(context);
            tokio::spawn(async move {
                context.publisher.sync().await;
                notify::ready(&line(&context, &Standing::Current));
                context.publisher.complete().await;
            });
            Ok(())
        }
        Err(report) => {
            let (so, standing) = match active.error {
                Some(_) => ("every unit that asks is still refused".to_owned(), Standing::None),
                None => {
                    let so = format!("the one of {} stays active", time_of(&active));
                    (so, Standing::Rejected(report.first_error()))
                }
            };
            rejected(&report, &so);
            notify::ready(&line(context, &standing));
            Err(report.first_error())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::{Mutex, mpsc};

    use tokio::sync::oneshot;

    use super::*;
    use crate::provider::base::sealer::Sealer;
    use crate::provider::fetch::broker::tests::Rig;
    use crate::provider::store::Kind;

    fn context() -> (Rig, Arc<Context>) {
        let rig = Rig::new("session");
        let (config, broker) = (Arc::clone(&rig.config), Arc::clone(&rig.broker));
        let sealer = Sealer::new(Path::new("/nonexistent"));
        let context = Context::new(config, Paths::default(), broker, sealer, Kind::Anything);
        (rig, Arc::new(context))
    }

    fn text(name: &str) -> String {
        format!(r#"{{ "secrets": [ {{ "name": "{name}", "reference": "op://v/i/f", "units": ["app"] }} ] }}"#)
    }

    #[tokio::test]
    async fn a_disk_that_hangs_holds_up_only_those_who_wait_for_the_reload() {
        let (_rig, context) = context();
        let (texts, hung) = mpsc::channel::<String>();
        let hung = Mutex::new(hung);
        let read = move || {
            let text = hung.lock().unwrap().recv_timeout(Duration::from_secs(60)).unwrap();
            config::from_text(Path::new("secrets.json"), &text)
        };
        let mut reloads = Reloads::reading(read, Duration::ZERO);
        let (caller, mut first) = oneshot::channel();
        reloads.request(&context, Some(caller)).await;
        let (caller, mut second) = oneshot::channel();
        reloads.request(&context, Some(caller)).await;
        reloads.request(&context, None).await;
        assert!(first.try_recv().is_err() && second.try_recv().is_err());

        texts.send(text("new")).unwrap();
        let loaded = reloads.loaded().await;
        reloads.end(&context, loaded).await;
        assert_eq!(first.try_recv(), Ok(Ok(())));
        assert!(context.config.get().secret("new").is_some());
        assert!(second.try_recv().is_err(), "the files may have changed after they were read");

        texts.send("{".to_owned()).unwrap();
        let loaded = reloads.loaded().await;
        reloads.end(&context, loaded).await;
        let error = second.try_recv().unwrap().unwrap_err();
        assert!(error.contains("secrets.json:1:"), "{error}");
        assert!(context.config.get().secret("new").is_some(), "it stays active");
        assert!(!reloads.files.is_running(), "several requests have one reload");
    }

    #[tokio::test]
    async fn a_reload_has_ended_when_connections_are_accepted_again() {
        let (_rig, context) = context();
        let read = || config::from_text(Path::new("secrets.json"), &text("new"));
        let mut reloads = Reloads::reading(read, Duration::from_secs(60));
        reloads.request(&context, None).await;
        assert!(context.config.get().secret("new").is_some() && !reloads.files.is_running());
    }
}
