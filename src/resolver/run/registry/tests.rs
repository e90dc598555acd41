use std::path::Path;
use std::sync::mpsc;

use tokio::time::timeout;

use super::*;

struct Rig {
    folder: tempfile::TempDir,
    registry: Registry,
}

impl Rig {
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = Paths { dir: folder.path().into() };
        let surroundings = Surroundings::default();
        let registry = Registry::new(Inputs { config, tokens: BTreeMap::new(), surroundings });
        let rig = Self { folder, registry };
        rig.write(text);
        rig.registry.read();
        rig
    }

    fn write(&self, text: &str) {
        std::fs::write(self.folder.path().join("secrets.json"), text).unwrap();
    }
}

fn vault(path: &str) -> String {
    format!(r#"{{ "source": {{ "kind": "file", "path": "{path}" }}, "secrets": [] }}"#)
}

/// The definition of the source in this configuration, as the provider has it.
fn declared(text: &str) -> Declared {
    let settings = config::from_text(Path::new("test.json"), text).unwrap().settings;
    let source = &settings.sources[name()];
    Declared { print: source.print(), definition: Some(serde_json::to_string(source).unwrap()) }
}

fn name() -> &'static SourceName {
    static NAME: std::sync::LazyLock<SourceName> = std::sync::LazyLock::new(SourceName::default_source);
    &NAME
}

fn named(Declared { print, definition }: &Declared) -> Named<'_> {
    Named { source: name(), print, definition: definition.as_deref() }
}

fn why(loaded: &Arc<OpenSources>, declared: &Declared) -> Option<Class> {
    loaded.resolver(name(), &declared.print).err().map(|failure| failure.class)
}

#[tokio::test]
async fn without_a_definition_the_files_are_read_again() {
    let old = |declared: Declared| Declared { definition: None, ..declared };
    let rig = Rig::new("{");
    let (here, another) = (old(declared(&vault("/a.json"))), old(declared(&vault("/b.json"))));
    assert_eq!(why(&rig.registry.get(), &here), Some(Class::Misconfigured), "it can't be read, and says so");
    rig.write(&vault("/a.json"));
    assert_eq!(why(&rig.registry.with(&named(&here)).await, &here), None);
    assert_eq!(why(&rig.registry.with(&named(&another)).await, &another), Some(Class::Away));
    rig.registry.search.lock().await.began = None;
    assert_eq!(why(&rig.registry.with(&named(&another)).await, &another), Some(Class::Away));
    assert_eq!(why(&rig.registry.get(), &here), None, "what works is not given up for what does not help");
}

#[tokio::test]
async fn the_provider_decides_which_definition_counts() {
    let (here, another) = (declared(&vault("/a.json")), declared(&vault("/b.json")));
    for files in ["{".to_owned(), vault("/b.json")] {
        let rig = Rig::new(&files);
        assert!(why(&rig.registry.get(), &here).is_some(), "{files}");
        assert_eq!(why(&rig.registry.with(&named(&here)).await, &here), None, "{files}");
        assert_eq!(why(&rig.registry.get(), &here), None, "{files}: it stays");
    }
    let rig = Rig::new(&vault("/a.json"));
    let forged = Declared { print: here.print.clone(), ..another.clone() };
    assert_eq!(named(&forged).defined(), None, "it is not the one of the fingerprint");
    for unreadable in [None, Some("{}".to_owned()), Some("x".to_owned())] {
        let newer = Declared { definition: unreadable, ..another.clone() };
        assert_eq!(why(&rig.registry.with(&named(&newer)).await, &another), Some(Class::Away));
    }
    assert_eq!(why(&rig.registry.get(), &here), None);
}

#[test]
fn a_reload_with_errors_keeps_the_sources() {
    let rig = Rig::new(&vault("/a.json"));
    let here = declared(&vault("/a.json"));
    rig.write("{");
    rig.registry.read();
    assert_eq!(why(&rig.registry.get(), &here), None);
    let line = rig.registry.line();
    assert!(line.contains("default (file)") && line.contains("secrets.json:1:"), "{line}");
}

#[tokio::test]
async fn a_status_knows_all_sources_of_the_provider() {
    let rig = Rig::new("{");
    assert!(rig.registry.status(Declarations::new()).await.is_err());
    let sources = Declarations::from([(name().clone(), declared(&vault("/a.json")))]);
    assert_eq!(rig.registry.status(sources).await.unwrap().sources.len(), 1);
    assert_eq!(rig.registry.status(Declarations::new()).await.unwrap().sources.len(), 1);
}

#[tokio::test]
async fn a_probe_changes_nothing() {
    let rig = Rig::new(&vault("/a.json"));
    let (source, Declared { print, definition }) = (name().clone(), declared(&vault("/b.json")));
    let before = rig.registry.get();
    let _ = rig.registry.probe(Probe { source, print, definition, patience: Duration::ZERO }, None).await;
    assert!(Arc::ptr_eq(&before, &rig.registry.get()));
}

#[tokio::test]
async fn a_disk_that_hangs_holds_up_only_questions_without_a_definition() {
    let rig = Rig::new(&vault("/a.json"));
    let (here, another) = (declared(&vault("/a.json")), declared(&vault("/b.json")));
    let old = Declared { definition: None, ..declared(&vault("/c.json")) };
    let (texts, hung) = mpsc::channel::<String>();
    let hung = std::sync::Mutex::new(hung);
    rig.registry.search.lock().await.files = Background::new(move || {
        let text = hung.lock().unwrap().recv_timeout(Duration::from_secs(60)).unwrap();
        config::from_text(Path::new("test.json"), &text)
    });
    let named_old = named(&old);
    assert!(timeout(Duration::ZERO, rig.registry.with(&named_old)).await.is_err());
    for declared in [&here, &another] {
        assert_eq!(why(&rig.registry.with(&named(declared)).await, declared), None);
    }
    // nothing waits for the read any more, and the next question gets its result
    texts.send(vault("/c.json")).unwrap();
    assert_eq!(why(&rig.registry.with(&named_old).await, &old), None);
    assert_eq!(why(&rig.registry.with(&named_old).await, &old), None, "it stays");
}
