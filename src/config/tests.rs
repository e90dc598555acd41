//! Tests with whole configurations, valid and invalid, from integration/fixtures/config.
//!
//! The messages for an invalid one are in a .txt file next to it. UPDATE_EXPECTED=1 writes these files.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::sync::LazyLock;
use std::time::Duration;

use super::*;
use crate::domain::name::UnitName;
use crate::domain::secret::MaxAge;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/integration/fixtures/config");

fn fixtures(kind: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(Path::new(FIXTURES).join(kind)).expect("the fixtures");
    let mut found: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    found.retain(|path| path.extension().is_none_or(|ending| ending == "json"));
    found.sort();
    assert!(found.len() > 5, "{found:?}");
    found
}

/// A copy with the modes of an installed configuration, whatever the umask was.
fn installed(dir: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().expect("a directory");
    for part in ["", "secrets.d"] {
        let to = copy.path().join(part);
        fs::create_dir_all(&to).expect("a directory");
        fs::set_permissions(&to, Permissions::from_mode(0o755)).expect("chmod");
        for file in fs::read_dir(dir.join(part)).expect(part).map(|entry| entry.expect("an entry").path()) {
            if file.is_file() {
                let to = to.join(file.file_name().expect("a name"));
                fs::copy(&file, &to).expect("copied");
                fs::set_permissions(&to, Permissions::from_mode(0o644)).expect("chmod");
            }
        }
    }
    copy
}

fn load_fixture(path: &Path) -> Result<Loaded, Report> {
    if path.is_dir() {
        let copy = installed(path);
        let paths = Paths { dir: copy.path().to_owned() };
        return load(&paths).map_err(|mut report| {
            for problem in &mut report.problems {
                problem.file = problem.file.strip_prefix(copy.path()).expect("within").to_owned();
                problem.what = problem.what.replace(&format!("{}/", copy.path().display()), "");
                problem.remedy = problem.remedy.replace(&format!("{}/", copy.path().display()), "");
            }
            report
        });
    }
    from_text(Path::new(path.file_name().expect("a name")), &fs::read_to_string(path).expect("text"))
}

fn good(name: &str) -> Settings {
    let loaded = load_fixture(&Path::new(FIXTURES).join("good").join(name));
    let loaded = loaded.unwrap_or_else(|report| panic!("{name}:\n{report}"));
    assert_eq!(loaded.warnings, [], "{name}");
    loaded.settings
}

fn reference(settings: &Settings, unit: &str, credential: &str) -> String {
    let unit = UnitName::parse(unit).expect("valid");
    let wanted = settings.policy.judge(&unit, &CredentialId::parse(credential).expect("valid"));
    let wanted = wanted.unwrap_or_else(|denial| panic!("{unit} {credential}: {denial:?}"));
    let parts = wanted.parts().iter();
    parts.map(|part| format!("{} from {}", part.reference, part.source)).collect::<Vec<_>>().join(", ")
}

#[test]
fn good_ones_are_fine_and_without_warnings() {
    for file in fixtures("good") {
        good(file.file_name().and_then(|name| name.to_str()).expect("a name"));
    }
}

#[test]
fn bad_ones_are_told_in_full() {
    for file in fixtures("bad") {
        let told = format!("{}\n", load_fixture(&file).expect_err(&format!("{}", file.display())));
        let expected = file.with_extension("txt");
        if std::env::var_os("UPDATE_EXPECTED").is_some() {
            fs::write(&expected, &told).expect("written");
        }
        let expected = fs::read_to_string(&expected).unwrap_or_default();
        assert!(told == expected, "{} tells (UPDATE_EXPECTED=1 takes it over):\n{told}", file.display());
    }
}

#[test]
fn the_smallest_file_takes_a_service_account() {
    let settings = good("smallest.json");
    assert_eq!(
        reference(&settings, "app.service", "db-password"),
        "op://Servers/postgres/password from default"
    );
    let source = &settings.sources[&SourceName::default_source()];
    assert_eq!(
        (&source.kind, source.token.as_str()),
        (&SourceKind::ServiceAccount(ServiceAccount::default()), "token")
    );
    assert_eq!(
        (settings.limits, settings.recover, settings.audit),
        (Limits::default(), true, Audit::Refusals)
    );
}

#[test]
fn the_file_of_the_origin_publishes_and_gives_nobody_a_credential() {
    let settings = good("origin.json");
    let secret = settings.policy.secrets().next().expect("a secret");
    assert_eq!(secret.wanted.reference.to_string(), "op://Infrastructure Secrets/openai-api-key/password");
    let target = Target {
        path: "/run/secrets/openai-api-key".into(),
        user: "opencode".into(),
        group: Some("opencode".into()),
        mode: 0o400,
        links: Vec::new(),
        make_directories: false,
    };
    assert_eq!(
        (secret.target.as_ref(), secret.grants.len(), secret.declared_at.as_str()),
        (Some(&target), 0, "origin.json:3")
    );
}

#[test]
fn all_of_it() {
    let settings = good("all-of-it.json");
    let kind = SourceKind::Connect {
        url: "https://connect.example:8443".into(),
        insecure: false,
        users: Vec::new(),
        ca_file: None,
    };
    assert_eq!(settings.sources[&SourceName::default_source()].kind, kind);
    assert!(
        reference(&settings, "opencode.service", "openai-key")
            .starts_with("op://Infrastructure Secrets/openai-api-key/password")
    );
    assert!(
        reference(&settings, "app@1.service", "db-password")
            .starts_with("op://Infrastructure Secrets/postgres/password")
    );
    let secret = settings.policy.secrets().nth(1).expect("two secrets");
    assert_eq!(
        (secret.rotation.restart_units.len(), secret.rotation.reload_units.len(), secret.wanted.deadline),
        (1, 0, Duration::from_secs(60))
    );
    assert_eq!(settings.templates[0].filling.template.names, ["openai-api-key"]);
}

#[test]
fn rules_and_ids() {
    let settings = good("connect-and-rules.json");
    assert_eq!(reference(&settings, "other.service", "other-id"), "op://My Vault/db/password from default");
    assert_eq!(reference(&settings, "tpl@x.service", "key"), "op://My Vault/x/key from default");
}

#[test]
fn several_sources_and_every_key() {
    let settings = good("several-sources.json");
    let source = |name: &str| &settings.sources[&SourceName::parse(name).expect("valid")];
    assert_eq!(
        (source("account").token.as_str(), source("staging").token.as_str()),
        ("account.token", "staging-token")
    );
    assert_eq!(
        source("staging").kind,
        SourceKind::Connect {
            url: "http://connect.internal:8080".into(),
            insecure: true,
            users: Vec::new(),
            ca_file: None
        }
    );
    assert_eq!(source("laptop").kind, SourceKind::File { path: "/etc/onecred/vault.json".into() });
    assert_eq!(settings.limits, Limits { store_bytes: 1 << 30, connections: 100 });
    assert_eq!((settings.recover, settings.audit), (false, Audit::All));
    let secrets: Vec<_> = settings.policy.secrets().collect();
    assert_eq!((secrets[0].wanted.allow_empty, secrets[1].wanted.allow_empty), (true, false));
    assert_eq!(secrets[0].wanted.max_age, MaxAge::Session);
    assert_eq!(secrets[1].wanted.max_age, MaxAge::Always);
    assert_eq!(secrets[2].wanted.max_age, MaxAge::Age(Duration::from_secs(5400)));
    assert_eq!(
        (secrets[0].wanted.deadline, secrets[1].wanted.deadline),
        (Duration::from_secs(1), Duration::from_secs(600))
    );
    let owner = |target: Option<&Target>| target.map(|t| (t.user.clone(), t.group.clone(), t.mode));
    assert_eq!(owner(secrets[2].target.as_ref()), Some(("1000".into(), Some("adm".into()), 0o640)));
    assert_eq!(
        owner(settings.templates[0].target.as_ref()),
        Some(("root".into(), Some("adm".into()), 0o440))
    );
    assert_eq!(
        reference(&settings, "a.service", "code"),
        "op://Vault One/login/one-time password?attribute=otp from account"
    );
    assert_eq!(
        reference(&settings, "x.mount", "key-for-all"),
        "op://Vault One/signing key/ssh/private key?ssh-format=openssh from staging"
    );
    assert_eq!(reference(&settings, "web@1.service", "tls-key"), "op://web/1/tls-key from laptop");
    assert_eq!(reference(&settings, "web@1.service", "other"), "op://Fleet/web-1/other from account");
}

#[test]
fn parts_are_merged_in_the_order_of_their_names() {
    let settings = good("in-parts");
    assert_eq!(reference(&settings, "app.service", "db"), "op://v/db/password from default");
    assert_eq!(reference(&settings, "web.service", "web"), "op://v/web/password from other");
    let ages: Vec<_> = settings.policy.secrets().map(|s| s.wanted.max_age).collect();
    assert_eq!(ages, [300, 60].map(|age| MaxAge::Age(Duration::from_secs(age))));
}

#[test]
fn nothing_in_it_is_worth_a_warning() {
    let loaded = from_text(Path::new("x.json"), "{}").expect("no error");
    assert_eq!(
        loaded.warnings[0].to_string(),
        "x.json:1:1: warning: no unit or file gets a secret: no secrets or rules are declared; declare some in \"secrets\""
    );
}

#[test]
fn a_token_pasted_into_the_configuration_is_not_shown() {
    let report =
        load_fixture(&Path::new(FIXTURES).join("bad/token-pasted.json")).expect_err("bad").to_string();
    assert!(!report.contains("hunter2") && !report.contains("eyJ"), "{report}");
}

/// The texts of all fixtures, to be mutated.
static TEXTS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let files = ["good", "bad"].into_iter().flat_map(fixtures).filter(|path| path.is_file());
    files.map(|file| fs::read_to_string(file).expect("text")).collect()
});
static TREES: LazyLock<Vec<serde_json::Value>> =
    LazyLock::new(|| TEXTS.iter().filter_map(|text| serde_json::from_str(text).ok()).collect());

/// The strings in a tree, to be changed one at a time.
fn leaves(value: &mut serde_json::Value) -> Vec<&mut String> {
    match value {
        serde_json::Value::String(text) => vec![text],
        serde_json::Value::Array(entries) => entries.iter_mut().flat_map(leaves).collect(),
        serde_json::Value::Object(members) => members.values_mut().flat_map(leaves).collect(),
        _ => Vec::new(),
    }
}

fn load_mutated(text: &str) -> Result<(), proptest::test_runner::TestCaseError> {
    if let Err(report) = from_text(Path::new("x.json"), text) {
        for problem in &report.problems {
            let at = problem.at.expect("a place");
            proptest::prop_assert!(at.line <= text.lines().count() + 1, "{problem}");
            proptest::prop_assert!(!problem.what.is_empty());
        }
        proptest::prop_assert!(report.errors() > 0);
    }
    Ok(())
}

/// Texts that have a meaning for some part of the loader.
const WORDS: &str = r#"\PC|[{}\[\]:,"\\]|"[a-zA-Z@*?/\[\]!.-]{0,4}"|null|true|-?[0-9]{1,20}|"(op://|/run/|\{\{|"\{)?"|"name":|"units":|"//":|@|/|\*|\[|\{|\}"#;
const PARTS: &str =
    r#"(\PC|[{}\[\]/@*?:.$0-9 -]|\{\{|\}\}|op://|https?://|/run|/\.\.|\.service|[0-9]{1,20}|ms|MiB|a){0,6}"#;

proptest::proptest! {
    #[test]
    fn no_mutation_makes_it_panic(file in 0usize..100, cuts in proptest::collection::vec((0.0..1.0f64, 0usize..12, WORDS), 1..6)) {
        let mut text: Vec<char> = TEXTS[file % TEXTS.len()].chars().collect();
        for (at, len, word) in cuts {
            let start = (at * text.len() as f64) as usize;
            let end = text.len().min(start + len);
            text.splice(start..end, word.chars());
        }
        let text: String = text.into_iter().collect();
        load_mutated(&text)?;
    }

    #[test]
    fn no_text_within_it_makes_it_panic(file in 0usize..100, leaf in 0usize..1000, before in PARTS, after in PARTS, keep in 0usize..3) {
        let mut tree = TREES[file % TREES.len()].clone();
        let mut leaves = leaves(&mut tree);
        let index = leaf % leaves.len().max(1);
        if let Some(text) = leaves.get_mut(index) {
            **text = if keep == 0 { format!("{before}{text}{after}") } else { before };
        }
        load_mutated(&tree.to_string())?;
    }
}
