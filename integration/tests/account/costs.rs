//! Tests of the number of requests.

use onecred::config::ServiceAccount;
use onecred::domain::name::CredentialId;
use onecred::domain::secret::SecretValue;
use onecred::ipc::{Class, ItemState, Resolve, SourceState};
use onecred::resolver::Resolver;
use onecred_integration::fake_account::{Edit, FakeAccount, Options};
use serde_json::{Value, json};

use crate::Case;
use crate::bench::{DB, ask, check, configured, fake, known, resolver, resolver_with, run, source, value};

pub(crate) const CASES: &[Case] = &[
    ("a_hundred_and_twenty_items_by_name", a_hundred_and_twenty_items_by_name),
    ("checks_cost_one_request_where_nothing_changed", checks_cost_one_request_where_nothing_changed),
    ("the_status_tells_the_calls_and_costs_none", the_status_tells_the_calls_and_costs_none),
    ("a_file_costs_two_requests", a_file_costs_two_requests),
    ("a_reload_costs_nothing_where_nothing_changed", a_reload_costs_nothing_where_nothing_changed),
    ("what_never_came_to_1password_costs_nothing", what_never_came_to_1password_costs_nothing),
    ("what_is_gone_is_confirmed_gone", what_is_gone_is_confirmed_gone),
    ("what_is_not_found_is_not_looked_for_again_at_once", what_is_not_found_is_not_looked_for_again_at_once),
];

/// Requests since the last call, and those of logins separately.
fn cost(fake: &FakeAccount) -> (usize, usize) {
    let seen = fake.control.take_requests().unwrap();
    let login = seen.iter().filter(|s| s.path.contains("/auth") || s.path.ends_with("/keysets")).count();
    (login, seen.len() - login)
}

fn item(n: usize) -> Value {
    json!({ "title": format!("item {n}"), "fields": [
        { "id": "password", "purpose": "PASSWORD", "type": "CONCEALED", "label": "password", "value": format!("p{n}") },
    ] })
}

fn a_hundred_and_twenty_items_by_name() {
    run(async {
        let items: Vec<Value> = (0..120).map(item).collect();
        let document =
            json!({ "vaults": [{ "id": "vaultmanyaaaaaaaaaaaaaaaaa", "name": "Many", "items": items }] });
        let fake = FakeAccount::start(Options { document, ..Options::default() }).unwrap();
        let resolver = std::sync::Arc::new(resolver(&fake));
        let mut all = tokio::task::JoinSet::new();
        for n in 0..120 {
            let resolver = std::sync::Arc::clone(&resolver);
            all.spawn(async move { (n, value(&resolver, &format!("op://Many/item {n}/password")).await) });
        }
        for (n, got) in all.join_all().await {
            assert_eq!(got, Ok(format!("p{n}")));
        }
        assert_eq!(cost(&fake), (5, 1 + 1 + 3), "the vaults, one of them, three batches");
    });
}

fn checks_cost_one_request_where_nothing_changed() {
    run(async {
        let fake = fake();
        let resolver = resolver(&fake);
        let mut all = Vec::new();
        for reference in [DB, "op://My Vault/multi/f1", "op://a.b_c-d/x/password"] {
            all.push(known(&ask(reference), &resolver.fetch(ask(reference)).await.unwrap()));
        }
        assert_eq!(cost(&fake), (5, 1 + 2 + 3), "the vaults, two of them, three items");
        let states = check(&resolver, &all).await.unwrap();
        assert!(states.iter().all(|state| matches!(state, ItemState::Unchanged { .. })), "{states:?}");
        assert_eq!(cost(&fake), (0, 1));
        fake.control.edit(&Edit::Touch { vault: "My Vault".into() }).unwrap();
        let states = check(&resolver, &all).await.unwrap();
        assert!(states.iter().all(|state| matches!(state, ItemState::Unchanged { .. })), "{states:?}");
        assert_eq!(cost(&fake), (0, 2), "the vaults, and the one that changed");
        fake.control.set("My Vault", "multi", "token", "new").unwrap();
        let states = check(&resolver, &all).await.unwrap();
        assert_eq!(
            states.iter().map(|state| *state == ItemState::Changed).collect::<Vec<_>>(),
            [false, true, false]
        );
        assert_eq!(value(&resolver, "op://My Vault/multi/f1").await.unwrap(), "new");
        assert_eq!(cost(&fake), (0, 3), "and the item that changed");
        // it has just changed, and could change again within the same second
        all[1] = known(
            &ask("op://My Vault/multi/f1"),
            &resolver.fetch(ask("op://My Vault/multi/f1")).await.unwrap(),
        );
        fake.control.set("My Vault", "multi", "token", "newer").unwrap();
        assert_eq!(check(&resolver, &all).await.unwrap()[1], ItemState::Changed);
    });
}

fn the_status_tells_the_calls_and_costs_none() {
    run(async {
        let fake = fake();
        let resolver = resolver(&fake);
        let status = async || resolver.status(Default::default()).await.unwrap().sources.remove(0);
        let before = status().await;
        assert_eq!((before.state, before.core, before.calls.len()), (SourceState::Ready, None, 0));
        value(&resolver, DB).await.unwrap();
        let (login, calls) = cost(&fake);
        let after = status().await;
        let quota = after.quota.unwrap();
        assert_eq!((quota.spent.day as usize, quota.left, quota.kept_back), (login + calls, 792, 200));
        assert_eq!((after.calls["ok"] as usize, after.calls.len()), (1 + calls, 1), "a login is one");
        assert!(after.core.is_some() && after.last_success.is_some() && after.last_failure.is_none());
        assert_eq!(cost(&fake), (0, 0));
    });
}

fn a_file_costs_two_requests() {
    run(async {
        let fake = fake();
        let resolver = resolver(&fake);
        value(&resolver, "op://My Vault/document/readme.txt").await.unwrap();
        let (login, calls) = cost(&fake);
        assert_eq!(
            calls,
            1 + 1 + 1 + 2,
            "the vaults, one of them, the item, and for the file its item again and itself"
        );
        let status = resolver.status(Default::default()).await.unwrap().sources.remove(0);
        assert_eq!(status.quota.unwrap().spent.day as usize, login + calls, "all of it is counted");
    });
}

fn a_reload_costs_nothing_where_nothing_changed() {
    run(async {
        let fake = fake();
        let library = tempfile::NamedTempFile::new().unwrap();
        std::fs::copy(configured().library.unwrap(), library.path()).unwrap();
        let configured = ServiceAccount { library: Some(library.path().into()), ..configured() };
        let (source, token) = (source(configured.clone()), Some(fake.control.token().unwrap()));
        let before = resolver_with(configured.clone(), token.clone());
        value(&before, DB).await.unwrap();
        cost(&fake);
        let token =
            |_: &CredentialId| token.as_ref().map(|token| SecretValue::new(token.clone().into_bytes()));
        let same = before.renewed(&source, token);
        drop(before);
        assert_eq!(value(&same, DB).await.unwrap(), "hunter2");
        assert_eq!(cost(&fake), (0, 1), "the item, and neither a login nor a list");
        let calls = async |resolver: &Resolver| {
            resolver.status(Default::default()).await.unwrap().sources.remove(0).calls
        };
        assert_eq!(calls(&same).await["ok"], 5);

        let more = ServiceAccount { budget: 900, ..configured };
        let other = same.renewed(&self::source(more), token);
        assert_eq!(calls(&other).await.len(), 0, "another definition is another source");
        let none = same.renewed(&source, |_: &CredentialId| None);
        assert_eq!(none.status(Default::default()).await.unwrap().sources[0].state, SourceState::NoToken);
        let again = none.renewed(&source, token);
        assert_eq!(again.status(Default::default()).await.unwrap().sources[0].state, SourceState::Ready);
        let file = std::fs::File::options().append(true).open(library.path()).unwrap();
        std::io::Write::write_all(&mut &file, b"\n").unwrap();
        assert_eq!(calls(&same.renewed(&source, token)).await.len(), 0, "another library takes a new worker");
    });
}

fn what_never_came_to_1password_costs_nothing() {
    run(async {
        let fake = fake();
        let (away, there) = (resolver(&fake), resolver(&fake));
        let spent = async |resolver: &Resolver| {
            resolver.status(Default::default()).await.unwrap().sources.remove(0).quota.unwrap().spent.day
        };
        value(&there, DB).await.unwrap();
        let before = spent(&there).await;
        drop(fake);
        assert_eq!(value(&away, DB).await.unwrap_err().class, Class::Away);
        assert_eq!(spent(&away).await, 0, "a login");
        assert_eq!(value(&there, DB).await.unwrap_err().class, Class::Away);
        assert_eq!(spent(&there).await, before, "a call");
    });
}

fn what_is_gone_is_confirmed_gone() {
    run(async {
        let fake = fake();
        let resolver = resolver(&fake);
        let mut all = Vec::new();
        for reference in
            [DB, "op://My Vault/sixty/password", "op://a.b_c-d/x/password", "op://My Vault/multi/f1"]
        {
            all.push(known(&ask(reference), &resolver.fetch(ask(reference)).await.unwrap()));
        }
        let (vault, item) = ("My Vault".to_owned(), "db".to_owned());
        fake.control
            .edit(&Edit::Rename { vault: vault.clone(), item: Some(item), to: "dbx".into() })
            .unwrap();
        fake.control.edit(&Edit::Delete { vault, item: "sixty".into() }).unwrap();
        fake.control.deny("vaultdotsaaaaaaaaaaaaaaaaa").unwrap();
        let states = check(&resolver, &all).await.unwrap();
        let gone = |i: usize| match &states[i] {
            ItemState::Gone(failure) => failure.cause.clone(),
            other => format!("{other:?}"),
        };
        assert!(gone(0).contains("no item"), "{}", gone(0));
        assert!(gone(1).contains("no item"), "{}", gone(1));
        assert!(gone(2).contains("no vault"), "{}", gone(2));
        assert!(matches!(states[3], ItemState::Unchanged { .. }), "{:?}", states[3]);
    });
}

fn what_is_not_found_is_not_looked_for_again_at_once() {
    run(async {
        let fake = fake();
        let resolver = resolver(&fake);
        let nowhere = "op://My Vault/nowhere/password";
        assert!(value(&resolver, nowhere).await.is_err());
        cost(&fake);
        let failure = value(&resolver, nowhere).await.unwrap_err();
        assert!(failure.remedy.contains("next look-up in"), "{failure}");
        assert_eq!(cost(&fake), (0, 0));
    });
}
