//! Loads the configuration again. Another thread reads the files, because their disk may hang.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
    announced: Arc<Announced>,
    /// The current reload.
    present: Option<Announcement>,
    /// The callers on D-Bus that wait for the current reload.
    waiting: Vec<dbus::Reload>,
    /// The callers that wait for the next one.
    next: Vec<dbus::Reload>,
}

impl Reloads {
    pub(super) fn new(paths: Paths) -> Self {
        Self::reading(
            move || config::load(&paths),
            PATIENCE,
            |notice| match notice {
                Notice::Reloading => notify::reloading(),
                Notice::Ready(status) => notify::ready(status),
            },
        )
    }

    fn reading(
        read: impl Fn() -> Result<Loaded, Report> + Send + Sync + 'static,
        patience: Duration,
        notify: impl Fn(Notice<'_>) + Send + Sync + 'static,
    ) -> Self {
        Self {
            files: Background::new(read),
            patience,
            announced: Announced::new(notify),
            present: None,
            waiting: Vec::new(),
            next: Vec::new(),
        }
    }

    /// Begins a reload, and waits a little for its end. The main loop accepts no connections in this time. If a
    /// reload is in progress, another one follows, because files may have changed after they were read.
    pub(super) async fn request(&mut self, context: &Arc<Context>, caller: Option<dbus::Reload>) {
        if !self.files.request() {
            self.next.extend(caller);
            return;
        }
        self.waiting.extend(caller);
        self.present = Some(self.announced.begin(context));
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
            let announcement = self.present.take();
            if self.files.is_running() {
                self.present = Some(self.announced.begin(context));
            }
            let result = activate(context, loaded, announcement);
            for caller in self.waiting.drain(..) {
                let _ = caller.send(result.clone());
            }
            self.waiting = std::mem::take(&mut self.next);
            if self.files.is_running() {
                ended = timeout(self.patience, self.loaded()).await.ok();
            }
        }
    }
}

/// What the service manager is notified of.
#[derive(Debug, PartialEq, Eq)]
enum Notice<'a> {
    /// A reload begins.
    Reloading,
    /// All reloads have ended. `systemctl status` shows this line.
    Ready(&'a str),
}

/// The reloads that the service manager knows of and that have not ended. The end of one is reported only if it
/// is the last: READY=1 would also end those that began after it.
struct Announced {
    state: Mutex<State>,
    notify: Box<dyn Fn(Notice<'_>) + Send + Sync>,
}

struct State {
    open: usize,
    /// The result of the newest reload whose files were read.
    standing: Standing,
}

impl Announced {
    fn new(notify: impl Fn(Notice<'_>) + Send + Sync + 'static) -> Arc<Self> {
        let state = Mutex::new(State { open: 0, standing: Standing::Current });
        Arc::new(Self { state, notify: Box::new(notify) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(self: &Arc<Self>, context: &Arc<Context>) -> Announcement {
        self.state().open += 1;
        (self.notify)(Notice::Reloading);
        Announcement { all: Arc::clone(self), context: Arc::clone(context) }
    }
}

/// A reload that ends when this is dropped.
struct Announcement {
    all: Arc<Announced>,
    context: Arc<Context>,
}

impl Drop for Announcement {
    fn drop(&mut self) {
        let mut state = self.all.state();
        state.open -= 1;
        if state.open == 0 {
            (self.all.notify)(Notice::Ready(&line(&self.context, &state.standing)));
        }
    }
}

/// Makes a configuration active. If it has errors, the one before stays active, and the first error is the answer.
fn activate(
    context: &Arc<Context>,
    loaded: Result<Loaded, Report>,
    announcement: Option<Announcement>,
) -> Result<(), String> {
    let active = context.config.get();
    let set = |standing| {
        if let Some(announcement) = &announcement {
            announcement.all.state().standing = standing;
        }
    };
    match loaded {
        Ok(loaded) => {
            set(Standing::Current);
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
                drop(announcement);
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
            set(standing);
            Err(report.first_error())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::mpsc;

    use tokio::sync::oneshot;
    use tokio::time::sleep;

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
        let mut reloads = Reloads::reading(read, Duration::ZERO, |_| {});
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
        let mut reloads = Reloads::reading(read, Duration::from_secs(60), |_| {});
        reloads.request(&context, None).await;
        assert!(context.config.get().secret("new").is_some() && !reloads.files.is_running());
    }

    #[tokio::test]
    async fn a_reload_is_not_reported_as_ended_while_another_one_has_begun() {
        let (_rig, context) = context();
        let (texts, next) = mpsc::channel::<String>();
        let next = Mutex::new(next);
        let read = move || {
            let text = next.lock().unwrap().recv_timeout(Duration::from_secs(60)).unwrap();
            config::from_text(Path::new("secrets.json"), &text)
        };
        let notices = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&notices);
        let mut reloads = Reloads::reading(read, Duration::ZERO, move |notice| {
            let text = match notice {
                Notice::Reloading => "reloading".to_owned(),
                Notice::Ready(line) => format!("ready: {line}"),
            };
            log.lock().unwrap().push(text);
        });
        let end = async |reloads: &mut Reloads, text: String| {
            texts.send(text).unwrap();
            let loaded = reloads.loaded().await;
            reloads.end(&context, loaded).await;
        };
        let announced = Arc::clone(&reloads.announced);
        let notices_at = async |open: usize| {
            let until = async {
                while announced.state().open != open {
                    sleep(Duration::from_millis(1)).await;
                }
            };
            timeout(Duration::from_secs(60), until).await.expect("the files are published");
            std::mem::take(&mut *notices.lock().unwrap())
        };

        reloads.request(&context, None).await;
        end(&mut reloads, text("first")).await;
        // the files of the first are published during the second
        reloads.request(&context, None).await;
        assert_eq!(notices_at(1).await, ["reloading", "reloading"]);
        end(&mut reloads, text("second")).await;
        let [ready] = notices_at(0).await.try_into().expect("one notice");
        assert!(ready.starts_with("ready: serving 1 secret") && !ready.contains("stays active"), "{ready}");

        // the second has an error, and ends before the files of the first are published
        reloads.request(&context, None).await;
        end(&mut reloads, text("third")).await;
        reloads.request(&context, None).await;
        end(&mut reloads, "{".to_owned()).await;
        let all = notices_at(0).await;
        assert_eq!(all[..2], ["reloading", "reloading"]);
        assert!(all.len() == 3 && all[2].contains("stays active: secrets.json:1:"), "{all:?}");

        // what is requested during a reload follows it
        reloads.request(&context, None).await;
        reloads.request(&context, None).await;
        end(&mut reloads, text("fourth")).await;
        assert_eq!(notices_at(1).await, ["reloading", "reloading"]);
        end(&mut reloads, text("fifth")).await;
        assert_eq!(notices_at(0).await.len(), 1);
    }
}
