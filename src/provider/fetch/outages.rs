//! Remembers which sources have an outage. For a while they are not asked, and their cached values are served
//! unchecked.
//!
//! An outage belongs to the definition of the source with which it was asked, and ends with that definition.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::domain::name::SourceName;
use crate::host::clock::BootTime;
use crate::host::systemd::message_id;
use crate::ipc::Failure;

/// How long a source is not asked after a failure that names no time.
const LEFT_ALONE_FOR: Duration = Duration::from_secs(10);

/// The sources with an outage.
#[derive(Debug, Default)]
pub struct Troubles {
    sources: Mutex<HashMap<SourceName, Trouble>>,
    over: Notify,
}

#[derive(Debug)]
struct Trouble {
    /// The fingerprint of the source's definition.
    print: String,
    until: BootTime,
    failure: Failure,
}

/// What an outcome means for a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Means {
    /// It cannot be asked now.
    Trouble,
    /// It has answered.
    Answer,
    /// It was not asked, or the answer was not its own.
    NoAnswer,
    /// Only this asker may not ask now.
    Nothing,
}

impl Means {
    fn of(failure: Option<&Failure>) -> Self {
        match failure {
            Some(failure) if failure.is_of_asker => Self::Nothing,
            Some(failure) if failure.is_answer() => Self::Answer,
            Some(failure) if failure.class.is_transient() => Self::Trouble,
            Some(_) => Self::NoAnswer,
            None => Self::Answer,
        }
    }
}

impl Troubles {
    fn sources(&self) -> MutexGuard<'_, HashMap<SourceName, Trouble>> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why a source of this definition is not asked now.
    pub fn present(&self, source: &SourceName, print: &str) -> Option<Failure> {
        let now = BootTime::now();
        self.sources()
            .get(source)
            .filter(|trouble| trouble.print == print && now < trouble.until)
            .map(|trouble| trouble.failure.clone())
    }

    /// The last failure of a source of this definition, if it has not answered since.
    pub fn last(&self, source: &SourceName, print: &str) -> Option<Failure> {
        let sources = self.sources();
        sources.get(source).filter(|trouble| trouble.print == print).map(|trouble| trouble.failure.clone())
    }

    /// Records the outcome of asking a source of this definition: the start or end of an outage.
    pub fn note(&self, source: &SourceName, print: &str, failure: Option<&Failure>) {
        match (Means::of(failure), failure) {
            (Means::Trouble, Some(failure)) => self.begin(source, print, failure),
            (Means::NoAnswer, Some(failure)) => self.replace(source, print, failure),
            (Means::Nothing, _) => {}
            (Means::Answer, _) | (_, None) => self.end(source, print),
        }
    }

    fn end(&self, source: &SourceName, print: &str) {
        let before = self.sources().remove(source);
        if before.is_some_and(|before| before.print == print) {
            tracing::info!(
                message_id = message_id::SOURCE_ANSWERS,
                onecred_source = source.as_str(),
                "source {source} answers again"
            );
            self.over.notify_waiters();
        }
    }

    /// Replaces the failure of an ongoing outage, for example if the token was removed.
    fn replace(&self, source: &SourceName, print: &str, failure: &Failure) {
        let mut sources = self.sources();
        let Some(trouble) = sources.get_mut(source).filter(|trouble| trouble.print == print) else { return };
        let is_new = trouble.failure.class != failure.class;
        trouble.failure = failure.clone();
        drop(sources);
        if is_new {
            report(source, failure);
        }
    }

    /// Begins an outage of a source of this definition.
    pub fn begin(&self, source: &SourceName, print: &str, failure: &Failure) {
        let until = BootTime::now().after(failure.retry_after.unwrap_or(LEFT_ALONE_FOR).max(LEFT_ALONE_FOR));
        let trouble = Trouble { print: print.to_owned(), until, failure: failure.clone() };
        let before = self.sources().insert(source.clone(), trouble);
        let is_same = |before: &Trouble| before.print == print && before.failure.class == failure.class;
        if !before.is_some_and(|before| is_same(&before)) {
            report(source, failure);
        }
    }

    /// Waits until any source answers again.
    pub async fn over(&self) {
        self.over.notified().await;
    }
}

fn report(source: &SourceName, failure: &Failure) {
    tracing::warn!(
        message_id = message_id::SOURCE_IN_TROUBLE,
        onecred_source = source.as_str(),
        onecred_result = failure.class.kind(),
        "source {source} can't be queried now, so its cached values are served unchecked: {failure}"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipc::Class;

    fn failure(class: Class) -> Failure {
        Failure::new(class, "cause", "remedy")
    }

    #[test]
    fn what_is_an_answer() {
        let cases = [
            (None, Means::Answer),
            (Some(failure(Class::NotFound)), Means::Answer),
            (Some(failure(Class::Several)), Means::Answer),
            (Some(failure(Class::Denied)), Means::Answer),
            (Some(failure(Class::TooLarge)), Means::Answer),
            (Some(failure(Class::Denied).malformed_token()), Means::NoAnswer),
            (Some(failure(Class::NoToken)), Means::NoAnswer),
            (Some(failure(Class::Malformed)), Means::NoAnswer),
            (Some(failure(Class::Misconfigured)), Means::NoAnswer),
            (Some(failure(Class::Away)), Means::Trouble),
            (Some(failure(Class::Limited)), Means::Trouble),
            (Some(failure(Class::Away).of_item()), Means::Answer),
            (Some(failure(Class::Limited).of_asker()), Means::Nothing),
        ];
        for (failure, means) in cases {
            assert_eq!(Means::of(failure.as_ref()), means, "{failure:?}");
        }
    }

    #[tokio::test]
    async fn trouble_ends_with_an_answer_or_with_the_definition() {
        let (troubles, source) = (Troubles::default(), SourceName::default_source());
        let class = |print: &str| troubles.last(&source, print).map(|failure| failure.class);
        troubles.begin(&source, "old", &failure(Class::Away));
        assert_eq!((class("old"), class("new")), (Some(Class::Away), None));
        assert!(troubles.present(&source, "old").is_some() && troubles.present(&source, "new").is_none());
        {
            let mut over = std::pin::pin!(troubles.over());
            assert!(is_pending(over.as_mut()).await);
            // the answer of another definition, and an outcome that is not an answer, do not end an outage
            troubles.note(&source, "old", Some(&failure(Class::NoToken)));
            assert_eq!(class("old"), Some(Class::NoToken), "the present cause");
            assert!(is_pending(over.as_mut()).await);
            troubles.note(&source, "old", Some(&failure(Class::NotFound)));
            assert!(!is_pending(over.as_mut()).await, "it answers");
            assert_eq!(class("old"), None);
        }
        troubles.note(&source, "new", Some(&failure(Class::NoToken)));
        assert_eq!(class("new"), None, "no trouble begins where no source was asked");
        troubles.begin(&source, "old", &failure(Class::Away));
        let mut over = std::pin::pin!(troubles.over());
        assert!(is_pending(over.as_mut()).await);
        troubles.note(&source, "new", None);
        assert!(
            is_pending(over.as_mut()).await,
            "the new one was in no trouble, so it does not answer again"
        );
        assert_eq!((class("old"), class("new")), (None, None));
    }

    async fn is_pending(future: std::pin::Pin<&mut impl Future<Output = ()>>) -> bool {
        let mut future = Some(future);
        std::future::poll_fn(|context| {
            let polled = future.as_mut().map(|future| future.as_mut().poll(context).is_pending());
            std::task::Poll::Ready(polled.unwrap_or_default())
        })
        .await
    }
}
