//! Which sources can't be asked at present: for a while, what they gave before is then served as it is, and they are left alone.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::clock::BootTime;
use crate::name::SourceName;
use crate::systemd::message_id;
use crate::wire::Failure;

/// How long a source that could not be asked is left alone, where it does not say itself.
const LEFT_ALONE_FOR: Duration = Duration::from_secs(10);

/// The sources in trouble.
#[derive(Debug, Default)]
pub struct Troubles {
    sources: Mutex<HashMap<SourceName, Trouble>>,
    over: Notify,
}

#[derive(Debug)]
struct Trouble {
    until: BootTime,
    failure: Failure,
}

impl Troubles {
    fn sources(&self) -> MutexGuard<'_, HashMap<SourceName, Trouble>> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why a source is left alone now, if it is.
    pub fn present(&self, source: &SourceName) -> Option<Failure> {
        let now = BootTime::now();
        self.sources()
            .get(source)
            .filter(|trouble| now < trouble.until)
            .map(|trouble| trouble.failure.clone())
    }

    /// The last failure of a source that has not answered since.
    pub fn last(&self, source: &SourceName) -> Option<Failure> {
        self.sources().get(source).map(|trouble| trouble.failure.clone())
    }

    /// Notes how a source's last answer was: trouble, or the end of it.
    pub fn note(&self, source: &SourceName, failure: Option<&Failure>) {
        match failure {
            Some(failure) if failure.class.is_transient() => self.begin(source, failure),
            // any other failure is an answer, too
            _ => {
                if self.sources().remove(source).is_some() {
                    tracing::info!(
                        message_id = message_id::SOURCE_ANSWERS,
                        onecred_source = source.as_str(),
                        "source {source} answers again"
                    );
                    self.over.notify_waiters();
                }
            }
        }
    }

    /// From here on, and for a while, a source is in trouble.
    pub fn begin(&self, source: &SourceName, failure: &Failure) {
        let until = BootTime::now().after(failure.retry_after.unwrap_or(LEFT_ALONE_FOR).max(LEFT_ALONE_FOR));
        let before = self.sources().insert(source.clone(), Trouble { until, failure: failure.clone() });
        if before.is_none_or(|before| before.failure.class != failure.class) {
            tracing::warn!(
                message_id = message_id::SOURCE_IN_TROUBLE,
                onecred_source = source.as_str(),
                onecred_result = failure.class.kind(),
                "source {source} can't be asked now, so what it gave before is served as it is: {failure}"
            );
        }
    }

    /// Waits until some source answers again.
    pub async fn over(&self) {
        self.over.notified().await;
    }
}
