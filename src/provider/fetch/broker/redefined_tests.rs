//! Tests of sources whose definition changes.

use super::tests::{Rig, away, fresh, gone, settings};
use super::*;
use crate::ipc::{Check, Checked, Fetch, Fetched, Pending as Reply};
use crate::provider::store::testing::fetched;
use crate::provider::store::{Kind, testing};

#[tokio::test(start_paused = true)]
async fn a_flight_that_lands_under_another_definition_of_its_source_is_thrown_away() {
    let rig = Rig::new("session");
    rig.script.fetch_gives(1, &[Ok(b"of one"), Ok(b"bob")]);
    rig.script.fetch_gives(1, &[Ok(b"of two"), Ok(b"bob")]);
    let redefine = async {
        tokio::task::yield_now().await; // the flight is under way
        rig.broker.activate(ActiveConfig::new(settings("session", "two")));
    };
    let (got, ()) = tokio::join!(rig.get(1, "pass"), redefine);
    assert_eq!(got, fresh("of two"));
    assert_eq!(rig.get(2, "pass").await, fresh("of two"));
}

#[tokio::test(start_paused = true)]
async fn another_source_under_the_same_name_has_none_of_the_old_values() {
    let rig = Rig::new("session");
    rig.script.fetch_gives(1, &[Ok(b"hunter2"), Ok(b"bob")]);
    assert_eq!(rig.get(1, "pass").await, fresh("hunter2"));
    rig.broker.activate(ActiveConfig::new(settings("session", "one")));
    assert_eq!(rig.get(2, "pass").await, fresh("hunter2"));
    rig.broker.activate(ActiveConfig::new(settings("session", "two")));
    assert_eq!(rig.broker.size(), (0, 0));
    rig.script.fetch_gives(1, &[Ok(b"other"), Ok(b"eve")]);
    assert_eq!(rig.get(3, "pass").await, fresh("other"));
    rig.broker.activate(ActiveConfig::broken("secrets.json:1:1: error".into()));
    assert_eq!(rig.broker.size().0, 1, "errors in a file throw nothing away");
}

#[tokio::test(start_paused = true)]
async fn what_is_remembered_of_a_source_ends_with_its_definition() {
    let rig = Rig::new("30s");
    let (source, secret) = (SourceName::default_source(), rig.config.get().secret("pass").unwrap().clone());
    let wanted = Arc::new(secret.wanted);
    for outcome in [away(), gone()] {
        rig.script.then(Err(outcome));
        assert!(rig.broker.try_once(&wanted, &Asker::Onecred).await.is_err());
    }
    rig.script.then(Err(away()));
    assert!(rig.broker.try_once(&wanted, &Asker::Onecred).await.is_err());
    assert!(rig.broker.last_failure(&source).is_some() && rig.broker.condition(&wanted).error.is_some());
    rig.broker.activate(ActiveConfig::new(settings("30s", "another")));
    assert_eq!(rig.broker.last_failure(&source), None);
    assert_eq!(rig.broker.condition(&wanted).error, None);
    assert_eq!(
        rig.broker.condition(&wanted).state,
        crate::provider::observe::secret_status::SecretState::NeverFetched
    );
    // the first definition returns, but not what was remembered of it
    rig.broker.activate(ActiveConfig::new(settings("30s", "connect")));
    assert_eq!(
        rig.broker.condition(&wanted).state,
        crate::provider::observe::secret_status::SecretState::NeverFetched
    );
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_the_definition_before_counts_for_nothing() {
    for outcome in [Err(away()), Err(gone()), Ok(fetched(1, &[Ok(b"old"), Ok(b"old")]))] {
        let rig = Rig::new("30s");
        let (source, secret) =
            (SourceName::default_source(), rig.config.get().secret("pass").unwrap().clone());
        let wanted = Arc::new(secret.wanted);
        rig.script.then(outcome);
        let broker = Arc::clone(&rig.broker);
        let flying = {
            let wanted = Arc::clone(&wanted);
            tokio::spawn(async move { broker.try_once(&wanted, &Asker::Onecred).await })
        };
        rig.script.until_asked().await;
        rig.broker.activate(ActiveConfig::new(settings("30s", "another")));
        let failure = flying.await.unwrap().unwrap_err();
        assert!(failure.cause.contains("changed during a request"), "{failure}");
        assert_eq!(rig.broker.last_failure(&source), None);
        assert_eq!(
            rig.broker.condition(&wanted).state,
            crate::provider::observe::secret_status::SecretState::NeverFetched
        );
    }
}

/// The unit waits for a flight that has ended, and the source is redefined before the unit receives the
/// result.
#[tokio::test(start_paused = true)]
async fn not_found_in_the_source_before_refuses_no_unit() {
    /// Each source has its own item, and asking the first source activates the definition of the second.
    struct Redefining(Mutex<Option<Arc<Broker>>>);
    impl Resolve for Redefining {
        fn fetch(&self, fetch: Fetch) -> Reply<'_, Fetched> {
            Box::pin(async move {
                tokio::task::yield_now().await;
                let Some(broker) = self.0.lock().unwrap().take() else {
                    return Ok(fetched(1, &vec![Ok(b"of two".as_slice()); fetch.fields.len()]));
                };
                tokio::spawn(async move { broker.activate(ActiveConfig::new(settings("session", "two"))) });
                Err(gone())
            })
        }

        fn check(&self, _: Check) -> Reply<'_, Checked> {
            Box::pin(async { Err(away()) })
        }
    }
    let (resolver, folder) = (Arc::new(Redefining(Mutex::default())), testing::folder());
    let store = Store::open(folder.path(), Kind::Anything, 1 << 20).unwrap();
    let config = CurrentConfig::new(ActiveConfig::new(settings("session", "one")));
    let broker = Arc::new(Broker::new(Arc::<Redefining>::clone(&resolver), store, Arc::clone(&config)));
    *resolver.0.lock().unwrap() = Some(Arc::clone(&broker));
    let wanted = Arc::new(config.get().secret("pass").unwrap().wanted.clone());
    let order =
        Order { wanted, process: ProcessId::testing(1), arrived: BootTime::now(), asker: Asker::Onecred };
    let ready = broker.get(&order).await.expect("the second source has it");
    assert_eq!(ready.read().unwrap().expose(), b"of two");
}

#[tokio::test(start_paused = true)]
async fn a_start_that_began_with_the_source_before_gets_nothing_of_it() {
    let rig = Rig::new("session");
    rig.script.fetch_gives(1, &[Ok(b"of one"), Ok(b"bob")]);
    assert_eq!(rig.get(1, "pass").await, fresh("of one"));
    rig.broker.activate(ActiveConfig::new(settings("session", "two")));
    rig.script.fetch_gives(2, &[Ok(b"of two"), Ok(b"eve")]);
    assert_eq!((rig.get(1, "pass").await, rig.get(1, "user").await), (fresh("of two"), fresh("eve")));
}
