//! Tests of what `onecred add` writes, and of what it does not change.

use super::*;

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn add(&self, arguments: &[&str]) -> Result<String, String> {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            args: AddArgs,
        }
        let line = ["add"].into_iter().chain(arguments.iter().copied());
        let mut args = <Line as clap::Parser>::try_parse_from(line).map_err(|error| error.to_string())?.args;
        (args.config, args.drop_ins) = (self.0.path().join("onecred"), self.0.path().join("system"));
        args.host_key = self.0.path().join("credential.secret");
        fs::create_dir_all(&args.config).unwrap();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let ran = run(&args, &mut out, &mut err);
        let text = |bytes| String::from_utf8(bytes).unwrap().replace(self.0.path().to_str().unwrap(), "");
        let err = text(err);
        ran.map(|()| text(out))
            .map_err(|error| format!("{err}{error}").replace(self.0.path().to_str().unwrap(), ""))
    }

    fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.0.path().join(path)).ok()
    }

    fn files(&self) -> usize {
        let of = |dir: &str| fs::read_dir(self.0.path().join(dir)).map(Iterator::count).unwrap_or_default();
        of("onecred/secrets.d") + of("system") // and no draft remains
    }
}

const DB: [&str; 4] = ["db", "op://Servers/postgres/password", "--unit", "app"];

#[test]
fn a_definition_and_a_drop_in_are_written_and_what_to_run_is_said() {
    let place = Place::new();
    let said = place.add(&DB).unwrap();
    let expected = "\
written: /onecred/secrets.d/db.json
written: /system/app.service.d/50-onecred-db.conf
now run:
  systemd-creds setup
  systemctl daemon-reload
  onecred reload
  systemctl restart app.service
the program finds it in the file $CREDENTIALS_DIRECTORY/db
";
    assert_eq!(said, expected);
    let written: serde_json::Value =
        serde_json::from_str(&place.read("onecred/secrets.d/db.json").unwrap()).unwrap();
    let secret = serde_json::json!({ "//": "written by onecred add", "name": "db", "reference": "op://Servers/postgres/password", "units": ["app.service"] });
    assert_eq!(written["secrets"], serde_json::json!([secret]));
    let drop_in =
        "# written by onecred add db\n[Service]\nLoadCredentialEncrypted=db:/run/onecred/sealed.sock\n";
    assert_eq!(place.read("system/app.service.d/50-onecred-db.conf").unwrap(), drop_in);
    assert!(place.add(&DB).unwrap().starts_with("everything exists already\n"));
    assert_eq!(place.files(), 2);
}

#[test]
fn plain_where_that_is_wanted_and_no_setup_where_there_is_a_key() {
    let place = Place::new();
    let said = place.add(&[&DB[..], &["--plain"]].concat()).unwrap();
    assert!(!said.contains("setup"), "{said}");
    let drop_in = place.read("system/app.service.d/50-onecred-db.conf").unwrap();
    assert!(drop_in.ends_with("\nLoadCredential=db:/run/onecred/credential.sock\n"), "{drop_in}");
    fs::write(place.0.path().join("credential.secret"), "").unwrap();
    let said = place.add(&["web", "op://Servers/web/password", "--unit", "web"]).unwrap();
    assert!(!said.contains("setup"), "{said}");
}

#[test]
fn several_units_an_id_and_a_template() {
    let place = Place::new();
    let said = place
        .add(&["db", "op://v/i/f", "--unit", "web@", "--unit", "data.mount", "--id", "password"])
        .unwrap();
    assert!(said.contains("  systemctl restart 'web@*.service' 'data.mount'\n"), "{said}");
    let json = place.read("onecred/secrets.d/db.json").unwrap();
    assert!(
        json.contains("\"web@*.service/password\"") && json.contains("\"data.mount/password\""),
        "{json}"
    );
    let drop_in = place.read("system/data.mount.d/50-onecred-db.conf").unwrap();
    assert!(drop_in.contains("[Mount]\nLoadCredentialEncrypted=password:/run"), "{drop_in}");
    assert!(place.read("system/web@.service.d/50-onecred-db.conf").is_some());
}

#[test]
fn what_others_have_written_is_left_alone() {
    let place = Place::new();
    place.add(&DB).unwrap();
    let refused = |arguments: &[&str], words: &str| {
        let why = place.add(arguments).unwrap_err();
        assert!(why.contains(words), "{why}");
        assert_eq!(place.files(), 2, "{arguments:?} wrote something");
    };
    refused(
        &["db", "op://Servers/other/password", "--unit", "app"],
        "is declared already, as op://Servers/postgres/password (/onecred/secrets.d/db.json:",
    );
    refused(
        &["db", "op://Servers/postgres/password", "--unit", "web"],
        "add \"web.service\" to its units there",
    );
    // the same unit would get another secret under the same ID
    refused(&["db2", "op://v/i/f", "--unit", "app", "--id", "db"], "nothing was written");
    fs::write(place.0.path().join("system/app.service.d/50-onecred-key.conf"), "[Service]\n").unwrap();
    refused(&["key", "op://v/i/f", "--unit", "app"], "50-onecred-key.conf exists with other content");
}

#[test]
fn what_could_not_work_is_refused() {
    let place = Place::new();
    let long = "u".repeat(70);
    for (arguments, words) in [
        (vec!["db", "op://v/f", "--unit", "app"], "op://v/f"),
        (vec!["../db", "op://v/i/f", "--unit", "app"], "is not a secret name"),
        (vec!["db", "op://v/i/f"], "--unit"),
        (vec!["db", "op://v/i/f", "--unit", "a.timer"], "a.timer cannot load credentials: only services can"),
        (vec!["db", "op://v/i/f", "--unit", "a.socket"], "a.socket cannot load credentials"),
        (vec!["db", "op://v/i/f", "--unit", "dev-sda.swap"], "dev-sda.swap cannot load credentials"),
        (vec!["db", "op://v/i/f", "--unit", "a", "--id", "a b"], "quotes"),
        (vec!["db", "op://v/i/f", "--unit", &long, "--id", "some-id"], "83 at most"),
        (vec!["db", "op://v/i/f", "--unit", "a", "--source", "none"], "source"),
    ] {
        let why = place.add(&arguments).unwrap_err();
        assert!(why.contains(words), "{arguments:?}: {why}");
    }
    assert_eq!(place.files(), 0);
}

#[test]
fn a_dry_run_shows_and_writes_nothing() {
    let place = Place::new();
    let said = place.add(&[&DB[..], &["--dry-run"]].concat()).unwrap();
    assert!(said.contains("would write /system/app.service.d/50-onecred-db.conf:\n# written by"), "{said}");
    assert!(said.contains("would write /onecred/secrets.d/db.json:\n{\n"), "{said}");
    assert_eq!(place.files(), 0);
}
