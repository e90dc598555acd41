//! Tests of batches: how many calls they need, and that one bad item does not affect others.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::ipc::Class;

/// A backend whose items all exist, except for some prefixes: `b` fails the whole batch, `m` is missing in
/// the answer.
#[derive(Default)]
struct Items {
    calls: AtomicUsize,
    away: bool,
}

fn full(id: &str) -> FullItem {
    let json = format!(r#"{{"id":"{id}","title":"{id}"}}"#);
    serde_json::from_str(&json).unwrap()
}

impl Get for Items {
    async fn several(
        &self,
        _vault: &str,
        items: &[String],
        _by: Instant,
    ) -> Result<BTreeMap<String, FullItem>, Failure> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        sleep(Duration::from_millis(100)).await;
        assert!(items.len() <= MOST);
        match () {
            () if self.away => Err(Failure::new(Class::Away, "away", "")),
            () if items.iter().any(|id| id.starts_with('b')) => {
                Err(Failure::new(Class::NotFound, "as a whole", ""))
            }
            () => {
                Ok(items.iter().filter(|id| !id.starts_with('m')).map(|id| (id.clone(), full(id))).collect())
            }
        }
    }

    async fn one(&self, id: &ItemId, _by: Instant) -> Result<FullItem, Failure> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        sleep(Duration::from_millis(100)).await;
        if id.item.starts_with(['b', 'm']) {
            return Err(Failure::new(Class::NotFound, format!("no {}", id.item), ""));
        }
        Ok(full(&id.item))
    }

    fn host(&self) -> &str {
        "host"
    }
}

async fn all(
    items: Items,
    ids: impl Iterator<Item = String>,
) -> (Vec<(String, Result<FullItem, Failure>)>, usize) {
    let batches = Arc::new(Batches::new(Arc::new(items)));
    let by = Instant::now() + Duration::from_secs(60);
    let tasks: Vec<_> = ids
        .map(|item| {
            let batches = Arc::clone(&batches);
            let id = ItemId { vault: "v".into(), item };
            tokio::spawn(async move { (id.item.clone(), batches.item(&id, by).await) })
        })
        .collect();
    let mut outcomes = Vec::new();
    for task in tasks {
        outcomes.push(task.await.unwrap());
    }
    (outcomes, batches.get.calls.load(Ordering::SeqCst))
}

#[tokio::test(start_paused = true)]
async fn as_few_calls_as_there_are_fifties() {
    let (outcomes, calls) = all(Items::default(), (0..120).map(|n| format!("g{n}"))).await;
    assert_eq!((outcomes.len(), calls), (120, 3));
    assert!(outcomes.iter().all(|(id, got)| got.as_ref().is_ok_and(|full| full.id == *id)));
    assert_eq!(all(Items::default(), ["g1".to_owned()].into_iter()).await.1, 1);
    let (twice, calls) = all(Items::default(), ["g1".to_owned(), "g1".to_owned()].into_iter()).await;
    assert!(twice.iter().all(|(_, got)| got.is_ok()));
    assert_eq!(calls, 2, "an answer can't be given twice");
}

#[tokio::test(start_paused = true)]
async fn one_bad_item_harms_no_other() {
    let ids = (0..49).map(|n| format!("g{n}")).chain(["b".to_owned()]);
    let (outcomes, calls) = all(Items::default(), ids).await;
    for (id, got) in outcomes {
        assert_eq!(got.is_ok(), id != "b", "{id}");
    }
    assert!(calls <= 13, "{calls}");
    let (outcomes, calls) = all(Items::default(), ["g", "m"].map(String::from).into_iter()).await;
    assert!(outcomes[0].1.is_ok());
    assert_eq!(outcomes[1].1.as_ref().err().map(|f| f.cause.as_str()), Some("no m"));
    assert_eq!(calls, 2);
}

#[tokio::test(start_paused = true)]
async fn who_is_away_is_asked_once() {
    let items = Items { away: true, ..Items::default() };
    let (outcomes, calls) = all(items, (0..50).map(|n| format!("g{n}"))).await;
    assert!(outcomes.iter().all(|(_, got)| got.as_ref().is_err_and(|f| f.class == Class::Away)));
    assert_eq!(calls, 1);
}
