//! Tests of setting a token: only a valid one is written, and it does not appear anywhere else.

use std::path::Path;
use std::sync::Arc;

use nix::sys::socket::SockType;

use super::*;
use crate::domain::name::CredentialId;
use crate::host::systemd::activation;
use crate::ipc::{Check, Checked, Class, Failure, Fetch, Fetched, Pending, Probe, Probed, Resolve, server};

const GOOD: &str = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJjYW5hcnkifQ.c2ln";
const BAD: &str = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ3cm9uZyJ9.c2ln";

/// A resolver that accepts one token.
struct Judge;

impl Resolve for Judge {
    fn fetch(&self, _: Fetch) -> Pending<'_, Fetched> {
        unreachable!("nothing is fetched")
    }

    fn check(&self, _: Check) -> Pending<'_, Checked> {
        unreachable!("nothing is checked")
    }

    fn probe(&self, _: Probe, token: Option<SecretValue>) -> Pending<'_, Probed> {
        let good = token.is_some_and(|token| token.expose() == GOOD.as_bytes());
        let denied = || Failure::new(Class::Denied, "1Password denied the token", "take another one");
        let probed = Probed { at: "http://\u{1b}[2Jconnect".into(), ..Probed::default() };
        Box::pin(std::future::ready(if good { Ok(probed) } else { Err(denied()) }))
    }
}

struct Bench {
    dir: tempfile::TempDir,
    args: SetArgs,
    chosen: Chosen,
    places: Places,
}

impl Bench {
    fn new(config: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("secrets.json"), config).unwrap();
        let (config, socket) = (dir.path().to_owned(), dir.path().join("resolver.sock"));
        let place = Where { source: None, config, socket, development: false };
        let chosen = Chosen::find(&place).unwrap();
        let args = SetArgs { place, with_key: TokenKey::Auto, file: Some(None), no_check: false };
        let places = Places {
            credential: CredentialId::parse("token").unwrap(),
            tokens: dir.path().join("tokens"),
            drop_ins: dir.path().join("drop-ins"),
        };
        Self { dir, args, chosen, places }
    }

    fn with_resolver(self) -> Self {
        let listener = activation::bound_at(&self.args.place.socket, SockType::SeqPacket).unwrap();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let uid = nix::unistd::geteuid().as_raw();
            runtime.block_on(server::serve(listener, Arc::new(Judge), uid)).unwrap();
        });
        self
    }

    /// Whether the token was set, and all output.
    fn set(&self, token: &str) -> (Result<bool, String>, String) {
        let token = SecretValue::new(token.into());
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let done = is_set(
            &self.args,
            &self.chosen,
            &self.places,
            Some((&self.places.plain(), None)),
            &token,
            &mut out,
            &mut err,
        );
        out.append(&mut err);
        (done.map_err(|error| error.to_string()), String::from_utf8(out).unwrap())
    }

    fn file(&self) -> Option<String> {
        std::fs::read_to_string(self.places.plain()).ok()
    }
}

const CONNECT: &str = r#"{ "source": { "kind": "connect", "url": "http://127.0.0.1:1" }, "secrets": [] }"#;

#[test]
fn a_good_token_is_written_and_shown_nowhere() {
    let bench = Bench::new(CONNECT).with_resolver();
    let (done, said) = bench.set(GOOD);
    assert_eq!((done, bench.file().as_deref()), (Ok(true), Some(GOOD)), "{said}");
    assert!(said.contains("at       http:// [2Jconnect\n") && said.contains("written: "), "{said}");
    assert!(!said.contains("eyJ") && !said.contains("canary"), "{said}");
}

#[test]
fn a_refused_token_changes_nothing() {
    let bench = Bench::new(CONNECT).with_resolver();
    assert_eq!(bench.set(GOOD).0, Ok(true));
    let (done, said) = bench.set(BAD);
    assert_eq!((done, bench.file().as_deref()), (Ok(false), Some(GOOD)));
    assert!(said.contains("the token is refused, and nothing was changed: denied: "), "{said}");
    assert!(!said.contains("eyJ"), "{said}");
}

#[test]
fn what_can_not_be_tried_is_written_only_by_order() {
    let mut bench = Bench::new(CONNECT);
    let (done, said) = bench.set(GOOD);
    assert_eq!((done, bench.file()), (Ok(false), None));
    assert!(said.contains("--no-check") && said.contains("the resolver can't be reached"), "{said}");
    bench.args.no_check = true;
    let (done, said) = bench.set(GOOD);
    assert_eq!((done, bench.file().as_deref()), (Ok(true), Some(GOOD)));
    assert!(said.starts_with("written") && said.contains("warning: the token was not tested"), "{said}");
}

#[test]
fn the_form_comes_first() {
    let account = Bench::new(r#"{ "secrets": [] }"#);
    let connect = Bench::new(CONNECT);
    for (bench, token, words) in [
        (&account, GOOD, "token of a Connect server"),
        (&account, "ghp_canary", "not the token of a service account"),
        (&account, "ops_canary", "is not valid"),
        (&account, "", "no token was given"),
        (&connect, "ops_canary", "token of a service account"),
    ] {
        let (done, said) = bench.set(token);
        let why = done.unwrap_err();
        assert!(why.contains(words), "{why}");
        assert!(!why.contains("canary") && !said.contains("canary"), "{why} {said}");
        assert_eq!(bench.file(), None);
    }
    assert!(connect.set("odd").1.contains("does not look like the token of a Connect server"));
}

#[test]
fn the_source_is_the_one_that_is_meant() {
    let two = r#"{ "sources": { "a": {}, "b": { "kind": "connect", "url": "https://c" }, "v": { "kind": "file", "path": "/v" } },
        "secrets": [] }"#;
    let bench = |name: Option<&str>| {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("secrets.json"), two).unwrap();
        let place = Where {
            source: name.map(Into::into),
            config: dir.path().into(),
            socket: Path::new("/nonexistent").into(),
            development: false,
        };
        let found = Chosen::find(&place)
            .map(|chosen| (chosen.kind(), chosen.source.token.to_string(), chosen.takes_token()));
        let set = SetArgs { place, with_key: TokenKey::Auto, file: Some(None), no_check: false };
        if name == Some("v") {
            let why = run(&set, &mut Vec::new(), &mut Vec::new()).unwrap_err().to_string();
            assert!(
                why.contains("source v is a vault file, which needs no token; nothing was changed"),
                "{why}"
            );
        }
        found
    };
    assert_eq!(bench(Some("b")), Ok(("Connect", "b.token".into(), true)));
    assert_eq!(bench(Some("a")), Ok(("service account", "a.token".into(), true)));
    assert!(bench(Some("v")).is_ok_and(|(_, _, takes_token)| !takes_token));
    for (name, words) in [(None, "--source: a, b, v"), (Some("c"), "no source c; it has: a, b, v")] {
        let why = bench(name).unwrap_err();
        assert!(why.contains(words), "{why}");
    }
    let nothing_yet = Bench::new(r#"{ "secrets": [] }"#);
    std::fs::remove_file(nothing_yet.dir.path().join("secrets.json")).unwrap();
    assert_eq!(
        Chosen::find(&nothing_yet.args.place).unwrap().source.print(),
        nothing_yet.chosen.source.print()
    );
}
