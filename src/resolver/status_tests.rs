//! Tests of the status over the socket: without a token, with an invalid one, and after calls.

use nix::sys::socket::SockType;

use super::vectors_tests::ask;
use super::*;
use crate::config::SourceKind;
use crate::host::systemd::activation;
use crate::ipc::client::SocketResolver;
use crate::ipc::{Declarations, SourceState, server};

fn source(kind: SourceKind, token: &str) -> Source {
    Source { kind, token: CredentialId::parse(token).expect("valid"), declared_at: "here:1".into() }
}

#[tokio::test]
async fn the_status_tells_how_each_source_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let vault = folder.path().join("vault.json");
    std::fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/integration/fixtures/vault.json"), &vault)
        .expect("copied");
    let connect = |token| {
        let url = "https://connect.example".into();
        source(SourceKind::Connect { url, insecure: false, users: Vec::new(), ca_file: None }, token)
    };
    let account = source(SourceKind::ServiceAccount(crate::config::ServiceAccount::default()), "there");
    let name = |text: &str| SourceName::parse(text).expect("valid");
    let sources = BTreeMap::from([
        (SourceName::default_source(), source(SourceKind::File { path: vault.clone() }, "none")),
        (name("later"), connect("none")),
        (name("other"), connect("there")),
        (name("wrong"), account),
    ]);
    let token =
        |id: &CredentialId| (id.as_str() == "there").then(|| SecretValue::new(b"ops_bogus-canary".to_vec()));
    let resolver = Arc::new(Resolver::new(&sources, token));
    let path = folder.path().join("socket");
    let listener = activation::bound_at(&path, SockType::SeqPacket).expect("listens");
    let asked = SocketResolver::new(&path);
    tokio::spawn(server::serve(listener, resolver, nix::unistd::geteuid().as_raw()));

    let before = asked.status(Declarations::new()).await.expect("answered").sources;
    let states: Vec<_> = before.iter().map(|s| (s.name.as_str(), s.kind.as_str(), s.state)).collect();
    assert_eq!(
        states,
        [
            ("default", "file", SourceState::Ready),
            ("later", "connect", SourceState::NoToken),
            ("other", "connect", SourceState::Ready),
            ("wrong", "service-account", SourceState::Refused),
        ]
    );
    assert!(before.iter().all(|source| source.calls.is_empty() && source.last_success.is_none()));
    let why = before[3].last_failure.as_ref().map(ToString::to_string).unwrap_or_default();
    assert!(why.contains("denied") && !format!("{before:?}").contains("canary"), "{why}");

    asked.fetch(ask("op://My Vault/db/password")).await.expect("found");
    let after = asked.status(Declarations::new()).await.expect("answered").sources;
    assert!(after[0].calls["ok"] >= 2 && after[0].last_success.is_some(), "{:?}", after[0]);

    let now = async |state: SourceState, words: &str| {
        let about = asked.status(Declarations::new()).await.expect("answered").sources.swap_remove(0);
        let why = about.last_failure.as_ref().map(ToString::to_string).unwrap_or_default();
        assert!(about.state == state && why.contains(words), "{about:?}");
    };
    let good = std::fs::read(&vault).expect("read");
    std::fs::write(&vault, "{").expect("written");
    now(SourceState::Refused, "can't be read").await;
    now(SourceState::Refused, "can't be read").await;
    std::fs::write(&vault, good).expect("written");
    now(SourceState::Ready, "").await;
    std::fs::remove_file(&vault).expect("removed");
    now(SourceState::Refused, "does not exist").await;
}
