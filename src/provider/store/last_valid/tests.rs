//! Tests of what a provider starts with, and of what it stores for the next one.

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::provider::store::Kind;
use crate::provider::store::tests::testing;

#[test]
fn only_errors_bring_the_last_one_back_and_only_if_it_is_not_strict() {
    for (files, last, choice) in [
        (Files::Valid, Last::None, Choice::Files),
        (Files::Valid, Last::Strict, Choice::Files),
        (Files::Valid, Last::Usable, Choice::Files),
        (Files::Unusable, Last::None, Choice::Nothing),
        (Files::Unusable, Last::Strict, Choice::Nothing),
        (Files::Unusable, Last::Usable, Choice::Last),
        (Files::Missing, Last::None, Choice::Nothing),
        (Files::Missing, Last::Strict, Choice::Nothing),
        (Files::Missing, Last::Usable, Choice::Nothing),
    ] {
        assert_eq!(choose(files, last), choice, "{files:?}, {last:?}");
    }
}

/// A configuration and a store, which outlive the provider.
struct Rig {
    config: tempfile::TempDir,
    store: tempfile::TempDir,
}

impl Rig {
    fn new() -> Self {
        Self { config: tempfile::tempdir().unwrap(), store: testing::folder() }
    }

    fn write(&self, text: &str) {
        fs::write(self.config.path().join("secrets.json"), text).unwrap();
    }

    fn open(&self) -> Store {
        Store::open(self.store.path(), Kind::Anything, 1 << 20).unwrap()
    }

    /// The names of the secrets that the next provider starts with, and whether they come from the files.
    fn start(&self) -> (&'static str, Vec<String>) {
        let paths = Paths { dir: self.config.path().to_owned() };
        let names = |active: &ActiveConfig| {
            active.settings.policy.secrets().map(|secret| secret.name.to_string()).collect()
        };
        match start(&paths, &self.open()) {
            Start::Files(active, _) => ("files", names(&active)),
            Start::Last(active, report) => {
                assert!(report.errors() > 0 && active.loaded > 0 && !active.digest.is_empty());
                ("last", names(&active))
            }
            Start::Nothing(_) => ("nothing", Vec::new()),
        }
    }
}

fn of(name: &str) -> String {
    format!(r#"{{ "secrets": [ {{ "name": "{name}", "reference": "op://v/i/f", "units": ["a"] }} ] }}"#)
}

fn last(name: &str) -> (&'static str, Vec<String>) {
    ("last", vec![name.to_owned()])
}

fn files(name: &str) -> (&'static str, Vec<String>) {
    ("files", vec![name.to_owned()])
}

const NOTHING: (&str, Vec<String>) = ("nothing", Vec::new());

#[test]
fn the_last_valid_one_outlives_the_provider() {
    let rig = Rig::new();
    rig.write("{");
    assert_eq!(rig.start(), NOTHING, "there was none yet");
    rig.write(&of("one"));
    assert_eq!(rig.start(), files("one"));
    rig.write(&of("two").replace("units", "unit"));
    assert_eq!(rig.start(), last("one"));
    assert_eq!(rig.start(), last("one"), "and again");
    rig.write(&of("two"));
    assert_eq!(rig.start(), files("two"));
    fs::set_permissions(rig.config.path().join("secrets.json"), fs::Permissions::from_mode(0o666)).unwrap();
    assert_eq!(rig.start(), last("two"), "others can write it, so it is not used");
}

#[test]
fn what_was_removed_does_not_come_back() {
    let rig = Rig::new();
    rig.write(&of("one"));
    assert_eq!(rig.start(), files("one"));
    fs::remove_file(rig.config.path().join("secrets.json")).unwrap();
    assert_eq!(rig.start(), NOTHING);
    rig.write("{");
    assert_eq!(rig.start(), NOTHING, "not later either");
}

#[test]
fn a_strict_one_does_not_come_back() {
    let rig = Rig::new();
    let strict = of("one").replacen('{', r#"{ "strict": true,"#, 1);
    rig.write(&strict);
    assert_eq!(rig.start(), files("one"));
    rig.write("{");
    assert_eq!(rig.start(), NOTHING);
    assert_eq!(rig.start(), NOTHING, "whatever it had before");
    rig.write(&of("two"));
    assert_eq!(rig.start(), files("two"));
    rig.write(&strict.replace("units", "unit"));
    assert_eq!(rig.start(), last("two"), "a file with errors makes nothing strict");
}

#[test]
fn what_is_of_another_boot_or_makes_no_sense_is_not_used() {
    let rig = Rig::new();
    rig.write(&of("one"));
    assert_eq!(rig.start(), files("one"));
    rig.write("{");
    let kept = rig.open().configuration().unwrap();
    let change = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut kept: serde_json::Value = serde_json::from_slice(&kept).unwrap();
        change(&mut kept);
        rig.open().set_configuration(kept.to_string().as_bytes()).unwrap();
        rig.start()
    };
    assert_eq!(change(&|_| ()), last("one"));
    assert_eq!(change(&|kept| kept["boot"] = "another".into()), NOTHING);
    assert_eq!(change(&|kept| kept["texts"] = 1.into()), NOTHING);
    assert_eq!(change(&|kept| kept["texts"][0][1] = r#"{ "gone": 1 }"#.into()), NOTHING);
    rig.open().set_configuration(&kept[..kept.len() / 2]).unwrap();
    assert_eq!(rig.start(), NOTHING, "it is cut");
}

#[test]
fn the_time_is_that_of_the_first_load_and_a_failed_write_leaves_nothing_older() {
    let rig = Rig::new();
    let texts = |name: &str| config::from_text(std::path::Path::new("a.json"), &of(name)).unwrap().texts;
    let store = rig.open();
    let (digest, at) = keep(&store, &texts("one"));
    clock::simulated::jump(100);
    assert_eq!(keep(&store, &texts("one")), (digest.clone(), at));
    let (other, later) = keep(&store, &texts("two"));
    assert!(other != digest && later >= at + 100);
    fs::create_dir(rig.store.path().join("new.configuration.json")).unwrap(); // blocks the next write
    assert_eq!(keep(&store, &texts("one")).0, digest, "it becomes active all the same");
    assert_eq!(store.configuration(), None, "an older one may give what this one takes away");
    assert_eq!(keep(&Store::none(), &texts("one")).0, digest);
}
