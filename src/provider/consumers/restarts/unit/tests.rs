use std::pin::Pin;

use super::*;
use crate::config::from_text;
use crate::provider::base::limits::UNIT_TOTAL;
use crate::provider::base::unit_totals::UnitTotals;
use crate::provider::base::{limits, process_id::ProcessId};
use crate::provider::fetch::assemble::Assembled;
use crate::provider::fetch::broker::tests::Rig;

#[test]
fn lines_are_sorted() {
    let line = |id: &str, path: &str| (id.to_owned(), path.to_owned());
    let lines = Lines {
        load: vec![
            line("a", PLAIN),
            line("b", "/var/run/onecred/credential.sock"),
            line("c", SEALED),
            line("file", "/etc/app/key"),
            line("gone", "/etc/app/gone"),
            line("published", "/run/secrets/db"),
            line("unpublished", "/run/secrets/gone"),
            line("store", "store"),
        ],
        load_encrypted: vec![line("d", SEALED), line("encrypted", "/etc/app/encrypted")],
        set: vec![("file".to_owned(), vec![0; 7]), ("set".to_owned(), vec![0; 3])],
        environment: vec![
            ("/run/secrets/db".to_owned(), false),
            ("/run/secrets/gone".to_owned(), false),
            ("/run/secrets/gone".to_owned(), true),
            ("/etc/app/gone".to_owned(), false),
        ],
    };
    let find = |path: &str| {
        let size = match path {
            "/etc/app/gone" | "/run/secrets/gone" => return None,
            "/etc/app/key" | "/etc/app/encrypted" => Some(9),
            "/run/secrets/db" => Some(4),
            _ => None,
        };
        Some(Found { path: path.replace("/var/run", "/run").into(), size })
    };
    let sorted = Credentials::of(&lines, find, |path| path.starts_with("/run/secrets"));
    let request = |id: &str, sealed| (id.to_owned(), sealed);
    assert_eq!(
        sorted,
        Credentials {
            requests: vec![request("a", false), request("b", false), request("c", true), request("d", true)],
            others: [("file", 9), ("published", 4), ("set", 3)]
                .map(|(id, size)| (id.to_owned(), size))
                .into(),
            missing: ["unpublished", FILE].map(|id| (id.to_owned(), "/run/secrets/gone".into())).into(),
        }
    );
}

struct Sizes;

impl Fit for Sizes {
    fn ready(&self, _: Form) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(std::future::ready(()))
    }

    fn fit(
        &self,
        totals: &UnitTotals,
        (process, claim): (ProcessId, &Claim),
        it: Assembled,
        what: &Deliverable,
        form: Form,
    ) -> Result<Assembled, Refusal> {
        let (what, size) = (what.references(), it.value.len());
        let takes = limits::largest(form, &claim.credential);
        if size > takes {
            return Err(Refusal::TooLarge { what, size, takes });
        }
        let counted = totals.add(process, claim, size, BootTime::now());
        counted.map_err(|others| Refusal::TooLargeTogether { what, size, others }).map(|()| it)
    }
}

#[tokio::test(start_paused = true)]
async fn all_credentials_of_a_unit_are_judged() {
    let half = vec![b'x'; UNIT_TOTAL / 2];
    let sealed_only = vec![b'x'; 900_000];
    for (case, requests, others, user, password, expected) in [
        ("complete", &["user", "password"][..], 0, Ok(&b"bob"[..]), Ok(&b"pw"[..]), None),
        ("one is empty", &["user", "password"], 0, Ok(b"bob"), Ok(b""), Some("the field is empty")),
        ("another unit's", &["user"], 0, Ok(b"bob"), Ok(b""), None),
        ("one has gone", &["user", "password"], 0, Ok(b"bob"), Err(()), Some("no item")),
        ("together too large", &["user", "password"], 0, Ok(&half), Ok(&half), Some("together")),
        ("with a file", &["user"], UNIT_TOTAL / 2, Ok(&half), Ok(b"pw"), Some("together")),
        ("at the plain socket", &["user"], 0, Ok(&sealed_only), Ok(b"pw"), None),
        ("at the sealed socket", &["user/sealed"], 0, Ok(&sealed_only), Ok(b"pw"), Some("too large")),
        ("not allowed", &["user", "other"], 0, Ok(b"bob"), Ok(b"pw"), Some("other")),
    ] {
        for look_up in [true, false] {
            let rig = Rig::with_store("1h", 1 << 24);
            let text = r#"{ "source": { "kind": "connect", "url": "https://one" }, "secrets": [
                { "name": "password", "reference": "op://v/i/password", "units": ["app"] },
                { "name": "user", "reference": "op://v/i/username", "units": ["app"] } ] }"#;
            let settings = from_text(Path::new("x"), text).unwrap().settings;
            rig.broker.activate(ActiveConfig::new(settings));
            let gone = || crate::ipc::Failure::new(crate::ipc::Class::NotFound, "no item", "make one");
            rig.script.fetch_gives(1, &[password.map_err(|()| gone()), user.map_err(|(): ()| gone())]);
            rig.script.fetch_gives(1, &[password.map_err(|()| gone()), user.map_err(|()| gone())]);
            let wanted = rig.config.get().secret("user").unwrap().wanted.clone();
            rig.broker.try_once(&wanted, &Asker::Onecred).await.unwrap();
            let request = |id: &&str| (id.trim_end_matches("/sealed").to_owned(), id.ends_with("/sealed"));
            let others = if others > 0 { [("file".to_owned(), others)].into() } else { BTreeMap::new() };
            let credentials = Credentials {
                requests: requests.iter().map(request).collect(),
                others,
                ..Credentials::default()
            };
            let unit = UnitName::parse("app.service").unwrap();
            let problem = credentials.problem((&rig.broker, &Sizes), &rig.config.get(), &unit, look_up).await;
            match (&problem, expected) {
                (None, None) => {}
                (Some(problem), Some(words)) => {
                    assert!(problem.in_words().contains(words), "{case}: {problem:?}")
                }
                _ => panic!("{case}, look up {look_up}: {problem:?}"),
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_published_file_that_is_missing_is_a_problem() {
    let rig = Rig::new("1h");
    let missing = vec![("db".to_owned(), "/run/secrets/db".into())];
    let credentials = Credentials { missing, ..Credentials::default() };
    let unit = UnitName::parse("app.service").unwrap();
    let problem = credentials.problem((&rig.broker, &Sizes), &rig.config.get(), &unit, true).await.unwrap();
    assert!(problem.in_words().starts_with("credential db: /run/secrets/db"), "{problem:?}");
}
