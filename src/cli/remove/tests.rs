//! Tests of what `onecred remove` removes, and of what it does not change.

use super::*;
use crate::cli::add;

struct Place(tempfile::TempDir);

/// Parses arguments as the command line does.
fn parsed<T: clap::Args>(arguments: &[&str]) -> T {
    let command = T::augment_args(clap::Command::new("verb"));
    let matches = command.try_get_matches_from(["verb"].iter().chain(arguments)).unwrap();
    T::from_arg_matches(&matches).unwrap()
}

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::create_dir_all(place.path("onecred")).unwrap();
        place
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn add(&self, arguments: &[&str]) {
        let mut args: add::AddArgs = parsed(arguments);
        (args.config, args.drop_ins) = (self.path("onecred"), self.path("system"));
        add::run(&args, &mut Vec::new(), &mut Vec::new()).unwrap();
    }

    fn remove(&self, arguments: &[&str]) -> Result<String, String> {
        let mut args: RemoveArgs = parsed(arguments);
        (args.config, args.drop_ins) = (self.path("onecred"), self.path("system"));
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let ran = run(&args, &mut out, &mut err);
        let text = |bytes| String::from_utf8(bytes).unwrap().replace(self.0.path().to_str().unwrap(), "");
        let (out, err) = (text(out), text(err));
        ran.map(|()| err.clone() + &out)
            .map_err(|error| format!("{err}{error}").replace(self.0.path().to_str().unwrap(), ""))
    }

    fn write(&self, path: &str, text: &str) {
        fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        fs::write(self.path(path), text).unwrap();
    }

    fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.path(path)).ok()
    }

    /// The paths of all files.
    fn files(&self) -> Vec<String> {
        let (mut files, mut folders) = (Vec::new(), vec![self.0.path().to_owned()]);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                match entry.is_dir() {
                    true => folders.push(entry),
                    false => files.push(entry.strip_prefix(self.0.path()).unwrap().display().to_string()),
                }
            }
        }
        files.sort();
        files
    }
}

const DB: [&str; 4] = ["db", "op://Servers/postgres/password", "--unit", "app"];
const OTHER: &str = r#"{ "secrets": [ { "name": "db-url", "reference": "op://v/i/f", "units": ["web"] } ] }"#;

#[test]
fn what_was_added_is_gone() {
    let place = Place::new();
    place.write("onecred/secrets.json", OTHER);
    place.add(&DB);
    let shown = place.remove(&["db", "--dry-run"]).unwrap();
    assert!(shown.starts_with("would remove /system/app.service.d/50-onecred-db.conf\n"), "{shown}");
    assert_eq!(place.files().len(), 3);
    let expected = "\
removed: /system/app.service.d/50-onecred-db.conf
removed: /onecred/secrets.d/db.json
now run:
  systemctl daemon-reload
  onecred reload
running units keep db until: systemctl restart app.service
";
    assert_eq!(place.remove(&["db"]).unwrap(), expected);
    assert_eq!(place.files(), ["onecred/secrets.json"]);
    assert!(!place.path("system/app.service.d").exists(), "nothing is in it");
    let why = place.remove(&["db"]).unwrap_err();
    assert!(why.starts_with("nothing to remove: no secret is called \"db\""), "{why}");
    let why = place.remove(&["db-uri"]).unwrap_err();
    assert!(why.ends_with("did you mean db-url?"), "{why}");
}

#[test]
fn a_reload_works_without_the_last_secret() {
    let place = Place::new();
    place.add(&DB);
    place.remove(&["db"]).unwrap();
    assert_eq!(place.files(), ["onecred/secrets.json"]);
    assert!(config::load(&Paths { dir: place.path("onecred") }).is_ok());
}

#[test]
fn one_unit_of_several() {
    let place = Place::new();
    place.add(&["db", "op://v/i/f", "--unit", "web@", "--unit", "app", "--id", "password"]);
    let why = place.remove(&["db", "--unit", "other"]).unwrap_err();
    assert!(
        why.contains("other.service is not in the units of db") && why.contains("web@*.service/password"),
        "{why}"
    );
    let said = place.remove(&["db", "--unit", "web@"]).unwrap();
    assert!(said.contains("changed: /onecred/secrets.d/db.json\n"), "{said}");
    assert!(said.ends_with("systemctl restart 'web@*.service'\n"), "{said}");
    assert_eq!(place.files(), ["onecred/secrets.d/db.json", "system/app.service.d/50-onecred-db.conf"]);
    let left: Value = serde_json::from_str(&place.read("onecred/secrets.d/db.json").unwrap()).unwrap();
    assert_eq!(left["secrets"][0]["units"], serde_json::json!(["app.service/password"]));
    // the secret is removed with its last unit
    place.remove(&["db", "--unit", "app"]).unwrap();
    assert_eq!(place.files(), ["onecred/secrets.json"]);
}

#[test]
fn what_others_wrote_stays() {
    let place = Place::new();
    let by_hand = r#"{ "secrets": [ { "name": "key", "reference": "op://v/i/f", "units": ["app"], "maxAge": "1h" } ] }"#;
    place.write("onecred/secrets.json", OTHER);
    place.write("onecred/secrets.d/key.json", by_hand);
    let before = place.files();
    for (name, file) in [("db-url", "/onecred/secrets.json:1"), ("key", "/onecred/secrets.d/key.json:1")] {
        let why = place.remove(&[name]).unwrap_err();
        assert!(
            why.contains(&format!("{name} is declared in {file}, which onecred add did not write")),
            "{why}"
        );
    }
    assert_eq!(place.files(), before);
    // a drop-in of that name without the mark
    place.add(&DB);
    place.write("system/web.service.d/50-onecred-db.conf", "[Service]\nLoadCredential=db:/x\n");
    let said = place.remove(&["db"]).unwrap();
    assert!(said.contains("warning: /system/web.service.d/50-onecred-db.conf is kept"), "{said}");
    assert!(place.read("system/web.service.d/50-onecred-db.conf").is_some());
}

#[test]
fn what_was_added_to_its_files_stays() {
    let place = Place::new();
    place.add(&DB);
    let drop_in = "system/app.service.d/50-onecred-db.conf";
    let more = "Restart=always\nLoadCredential=x:/run/onecred/credential.sock\n";
    place.write(drop_in, &format!("{}{more}", place.read(drop_in).unwrap()));
    let mut document: Value =
        serde_json::from_str(&place.read("onecred/secrets.d/db.json").unwrap()).unwrap();
    document["secrets"][0]["maxAge"] = "1h".into();
    document["secrets"]
        .as_array_mut()
        .unwrap()
        .push(serde_json::json!({ "name": "x", "reference": "op://v/i/f", "units": ["app"] }));
    place.write("onecred/secrets.d/db.json", &document.to_string());
    place.remove(&["db"]).unwrap();
    assert_eq!(place.read(drop_in).unwrap(), format!("[Service]\n{more}"));
    let left: Value = serde_json::from_str(&place.read("onecred/secrets.d/db.json").unwrap()).unwrap();
    assert_eq!((left["secrets"].as_array().unwrap().len(), &left["secrets"][0]["name"]), (1, &"x".into()));
}

#[test]
fn an_interrupted_removal_is_continued() {
    let place = Place::new();
    place.write("onecred/secrets.json", OTHER);
    place.add(&DB);
    fs::remove_file(place.path("system/app.service.d/50-onecred-db.conf")).unwrap();
    assert!(place.remove(&["db"]).unwrap().starts_with("removed: /onecred/secrets.d/db.json\n"));
    place.add(&DB);
    fs::remove_file(place.path("onecred/secrets.d/db.json")).unwrap();
    assert!(place.remove(&["db"]).unwrap().starts_with("removed: /system/app.service.d/"));
    assert_eq!(place.files(), ["onecred/secrets.json"]);
}

#[test]
fn a_secret_that_something_needs_stays() {
    let place = Place::new();
    place.add(&DB);
    let template = r#"{ "templates": [ { "name": "env", "content": "A={{db}}", "units": ["web"] } ] }"#;
    place.write("onecred/secrets.json", template);
    let why = place.remove(&["db"]).unwrap_err();
    assert!(why.contains("/onecred/secrets.json:1:") && why.contains("nothing was removed"), "{why}");
    assert_eq!(place.files().len(), 3);
}

#[test]
fn a_file_as_it_was_written_before_there_was_a_mark() {
    let place = Place::new();
    place.write("onecred/secrets.json", OTHER);
    place.add(&DB);
    let marked: Value = serde_json::from_str(&place.read("onecred/secrets.d/db.json").unwrap()).unwrap();
    let mut unmarked = marked;
    unmarked["secrets"][0].as_object_mut().unwrap().remove("//");
    place.write("onecred/secrets.d/db.json", &format!("{unmarked:#}\n"));
    place.remove(&["db"]).unwrap();
    assert_eq!(place.files(), ["onecred/secrets.json"]);
}
