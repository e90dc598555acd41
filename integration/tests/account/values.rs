//! Tests of what references resolve to.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use onecred::domain::name::SourceName;
use onecred::domain::reference::ReferenceTemplate;
use onecred::domain::secret::SecretValue;
use onecred::ipc::{Class, Fetch, Probe, Resolve, Spent};
use onecred_integration::fake_account::Edit;

use crate::Case;
use crate::bench::{DB, ask, configured, fake, resolver, resolver_with, run, value};

const VECTORS: &str = include_str!("../../fixtures/op-resolution-vectors.tsv");

/// Rows in which the core's own result differs from Connect's, and additional ones. They precede the rows
/// with the same reference there.
const CORE: &str = include_str!("../../fixtures/op-resolution-core.tsv");
/// Exceptions, for which every source returns the same as Connect: files by ID and with any content, without
/// a query that does not apply to files; an unset date as an empty text, like other unset fields.
const SAME: [&str; 4] = [
    "op://My Vault/every/no date",
    "op://My Vault/document/filereadmeaaaaaaaaaaaaaaaa",
    "op://My Vault/document/readme.txt?attribute=otp",
    "op://My Vault/document/binary.bin",
];

pub(crate) const CASES: &[Case] = &[
    ("a_probe_tells_what_a_token_reaches", a_probe_tells_what_a_token_reaches),
    ("references_resolve_as_the_official_core_says", references_resolve_as_the_official_core_says),
    ("every_byte_of_a_file_arrives", every_byte_of_a_file_arrives),
    ("a_one_time_password_says_when_it_ends", a_one_time_password_says_when_it_ends),
    ("a_title_from_a_template_is_no_id", a_title_from_a_template_is_no_id),
    ("what_is_missing_is_told_with_what_there_is", what_is_missing_is_told_with_what_there_is),
];

fn what_is_missing_is_told_with_what_there_is() {
    run(async {
        let fake = fake();
        let (vault, item) = ("My Vault".to_owned(), Some("sixty".to_owned()));
        fake.control.edit(&Edit::Rename { vault, item, to: "app/db".into() }).unwrap();
        let resolver = resolver(&fake);
        let cases = [
            (
                "op://My Vault/db/pasword",
                r#"no field "pasword" in item "db", which has "password", "username""#,
            ),
            (
                "op://My Vault/app/db/password",
                r#"no item "app" in vault "My Vault"; "app/db" has a / in its name"#,
            ),
            (
                "op://Private/db/password",
                "service accounts cannot be granted access to Private, Personal and Employee vaults",
            ),
        ];
        for (reference, cause) in cases {
            let failure = value(&resolver, reference).await.unwrap_err();
            assert_eq!(failure.class, Class::NotFound);
            assert!(failure.cause.contains(cause) && !failure.cause.contains("hunter2"), "{failure}");
        }
    });
}

fn references_resolve_as_the_official_core_says() {
    run(async {
        let fake = fake();
        let resolver = resolver(&fake);
        let mut wrong = Vec::new();
        let reference = |row: &str| row.split('\t').next().unwrap_or_default().to_owned();
        let core: Vec<&str> = CORE.lines().filter(|row| !SAME.contains(&reference(row).as_str())).collect();
        let differs: Vec<String> = core.iter().map(|row| reference(row)).collect();
        let same = VECTORS.lines().filter(|row| !differs.contains(&reference(row)));
        for row in same.chain(core.iter().copied()).filter(|row| !row.starts_with('#')) {
            let columns: Vec<&str> = row.split('\t').collect();
            let [reference, outcome, text] = *columns else { panic!("{row}") };
            let expected: String = serde_json::from_str(text).unwrap();
            let got = value(&resolver, reference).await;
            let right = match (outcome, &got) {
                ("is", Ok(text)) => *text == expected,
                ("begins", Ok(text)) => text.starts_with(&expected),
                ("otp", Ok(text)) => text.len() == 6 && text.bytes().all(|b| b.is_ascii_digit()),
                ("not-found", Err(failure)) => {
                    failure.class == Class::NotFound && failure.cause.contains(&expected)
                }
                ("unreadable", Err(failure)) => matches!(failure.class, Class::Malformed | Class::NotFound),
                ("several", Err(failure)) => {
                    failure.class == Class::Several && failure.cause.contains(&expected)
                }
                _ => false,
            };
            if !right {
                wrong.push(format!("{row}: got {got:?}"));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    });
}

fn every_byte_of_a_file_arrives() {
    run(async {
        let fake = fake();
        let fetched = resolver(&fake).fetch(ask("op://My Vault/document/binary.bin")).await.unwrap();
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(fetched.fields[0].as_ref().unwrap().value.expose(), all);
    });
}

fn a_one_time_password_says_when_it_ends() {
    run(async {
        let fake = fake();
        let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let fetched =
            resolver(&fake).fetch(ask("op://My Vault/otp/one-time password?attribute=otp")).await.unwrap();
        let expires = fetched.fields[0].as_ref().unwrap().expires.unwrap();
        assert!(
            expires > before && expires <= before + 60 && expires.is_multiple_of(30),
            "{expires} {before}"
        );
    });
}

fn a_title_from_a_template_is_no_id() {
    run(async {
        let fake = fake();
        let resolver = resolver(&fake);
        let id = resolver.fetch(ask(DB)).await.unwrap().id.item;
        assert_eq!(value(&resolver, &format!("op://My Vault/{id}/password")).await.unwrap(), "hunter2");
        let template = ReferenceTemplate::parse("op://My Vault/{instance}/password").unwrap();
        let reference = template.fill(&|_| id.clone()).unwrap();
        let fetch = Fetch { item: reference.item, ..ask(DB) };
        let decoy = resolver.fetch(fetch).await.unwrap(); // another item has this ID as its title
        assert!(decoy.id.item != id && decoy.fields[0].as_ref().unwrap().value.expose() != b"hunter2");
    });
}

fn a_probe_tells_what_a_token_reaches() {
    run(async {
        let fake = fake();
        let question = || Probe {
            source: SourceName::default_source(),
            print: String::new(),
            definition: None,
            patience: Duration::from_secs(20),
        };
        let token = || Some(SecretValue::new(fake.control.token().unwrap().into_bytes()));
        let without = resolver_with(configured(), None);
        let failure = without.probe(question(), None).await.unwrap_err();
        assert_eq!(failure.class, Class::NoToken, "{failure}");
        let probed = without.probe(question(), token()).await.unwrap();
        assert_eq!((probed.at.as_str(), probed.writes, probed.expires), ("127.0.0.1", None, None));
        let vault = probed.vaults.iter().find(|vault| vault.name == "My Vault").unwrap();
        assert!(vault.items.is_some_and(|items| items > 1), "{vault:?}");
        assert_eq!(probed.spent, Some(Spent { hour: 6, day: 6, budget: 800 }));
        let failure = without.probe(question(), None).await.unwrap_err();
        assert_eq!(failure.class, Class::NoToken, "a token that was tried is not kept: {failure}");
        let good = resolver(&fake);
        assert_eq!(good.probe(question(), None).await.unwrap().vaults, probed.vaults);
        fake.control.set_token("of another account").unwrap();
        let failure = good.probe(question(), Some(SecretValue::new(b"ops_canary".into()))).await.unwrap_err();
        assert!(failure.class == Class::Denied && !failure.to_string().contains("canary"), "{failure}");
        let failure = without.probe(question(), token()).await;
        assert!(failure.is_ok(), "{failure:?}");
    });
}
