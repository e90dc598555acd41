//! Tests of queries of the sources' status.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::*;
use crate::ipc::{
    Check, Checked, Class, Declarations, Failure, Fetch, Fetched, Pending, Resolve, SourceState,
};
use crate::provider::base::active_config::{ActiveConfig, CurrentConfig};
use crate::provider::store::Store;

/// A resolver that knows one source, and counts the queries.
#[derive(Default)]
struct Counting {
    asked: AtomicUsize,
    hangs: AtomicBool,
    /// Whether it has not read the current definition yet.
    is_behind: AtomicBool,
}

fn away<T>() -> Result<T, Failure> {
    Err(Failure::new(Class::Away, "nobody there", "wait"))
}

impl Resolve for Counting {
    fn fetch(&self, _: Fetch) -> Pending<'_, Fetched> {
        Box::pin(std::future::ready(away()))
    }

    fn check(&self, _: Check) -> Pending<'_, Checked> {
        Box::pin(std::future::ready(away()))
    }

    fn status(&self, prints: Declarations) -> Pending<'_, Status> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            if self.hangs.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
            tokio::task::yield_now().await;
            let source = SourceStatus {
                name: name("default"),
                print: if self.is_behind.load(Ordering::Relaxed) {
                    "old".into()
                } else {
                    prints[&name("default")].print.clone()
                },
                kind: "connect".into(),
                state: SourceState::Ready,
                last_failure: None,
                last_success: None,
                calls: Default::default(),
                quota: None,
                spenders: Vec::new(),
                core: None,
            };
            Ok(Status { sources: vec![source] })
        })
    }
}

fn name(text: &str) -> SourceName {
    SourceName::parse(text).unwrap()
}

fn active(server: &str) -> ActiveConfig {
    let text =
        format!(r#"{{ "source": {{ "kind": "connect", "url": "https://{server}" }}, "secrets": [] }}"#);
    ActiveConfig::new(crate::config::from_text(std::path::Path::new("test.json"), &text).unwrap().settings)
}

fn parts() -> (Arc<Counting>, Broker, Statuses) {
    let resolver = Arc::new(Counting::default());
    let broker = Broker::new(
        Arc::clone(&resolver) as Arc<dyn Resolve>,
        Store::none(),
        CurrentConfig::new(active("a")),
    );
    (resolver, broker, Statuses::default())
}

#[tokio::test(start_paused = true)]
async fn one_look_asks_once_and_the_next_look_again() {
    let (resolver, broker, statuses) = parts();
    let default = name("default");
    let looks = tokio::join!(statuses.of(&broker, &default), statuses.of(&broker, &default));
    assert!(looks.0.is_some() && looks.0 == looks.1);
    assert_eq!(statuses.of(&broker, &name("other")).await, None);
    assert_eq!(resolver.asked.load(Ordering::Relaxed), 1);
    tokio::time::advance(GOOD_FOR).await;
    assert!(statuses.of(&broker, &default).await.is_some());
    assert_eq!(resolver.asked.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn a_resolver_that_hangs_is_not_waited_for_again_and_again() {
    let (resolver, broker, statuses) = parts();
    resolver.hangs.store(true, Ordering::Relaxed);
    let began = Instant::now();
    assert_eq!(*statuses.get(&broker).await, None);
    assert_eq!(began.elapsed(), PATIENCE);
    assert_eq!(*statuses.get(&broker).await, None);
    assert_eq!((began.elapsed(), resolver.asked.load(Ordering::Relaxed)), (PATIENCE, 1));
}

#[tokio::test(start_paused = true)]
async fn a_source_is_not_told_of_by_its_old_definition() {
    let (resolver, broker, statuses) = parts();
    let default = name("default");
    assert!(statuses.of(&broker, &default).await.is_some());
    broker.activate(active("b"));
    assert!(statuses.of(&broker, &default).await.is_some(), "asked again at once");
    assert_eq!(resolver.asked.load(Ordering::Relaxed), 2);
    resolver.is_behind.store(true, Ordering::Relaxed);
    broker.activate(active("c"));
    assert_eq!(statuses.of(&broker, &default).await, None, "the resolver still has the old one");
}
