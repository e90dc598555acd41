use std::collections::VecDeque;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use super::handle_units::HandleStep;
use super::*;
use crate::config::{Settings, from_text};
use crate::domain::policy::Policy;
use crate::domain::secret::{MaxAge, Secret};
use crate::host::systemd::manager::Listed;
use crate::ipc::{Check, Checked, Class, Failure, Fetch, Fetched, Pending, Resolve};
use crate::provider::fetch::broker::Order;
use crate::provider::store::Store;
use crate::provider::store::testing;

/// The version of an item with its password and username, or a failure.
type Answer = Result<(u64, [&'static str; 2]), Failure>;

/// A resolver with these answers in turn.
#[derive(Default)]
struct Scripted(Mutex<VecDeque<Answer>>);

impl Resolve for Scripted {
    fn fetch(&self, fetch: Fetch) -> Pending<'_, Fetched> {
        let next = self.0.lock().unwrap().pop_front();
        Box::pin(async move {
            tokio::task::yield_now().await;
            let (version, [password, username]) = next.unwrap_or_else(|| Err(away()))?;
            let value = |field: &FieldRef| match field.to_string().as_str() {
                "password" => Ok(password.as_bytes()),
                "username" => Ok(username.as_bytes()),
                _ => Err(testing::failure()),
            };
            Ok(testing::fetched(version, &fetch.fields.iter().map(value).collect::<Vec<_>>()))
        })
    }

    fn check(&self, _check: Check) -> Pending<'_, Checked> {
        Box::pin(async { Err(away()) })
    }
}

fn away() -> Failure {
    Failure::new(Class::Malformed, "nobody there", "wait")
}

struct Rig {
    script: Arc<Scripted>,
    publisher: Arc<Publisher>,
    root: tempfile::TempDir,
    store: tempfile::TempDir,
}

impl Rig {
    /// Waits until the files have these contents. Another thread writes them.
    async fn comes_to_hold(&self, password: Option<&str>, username: Option<&str>) {
        for _ in 0..60_000 {
            let now = (self.read("password"), self.read("username"));
            if (now.0.as_deref(), now.1.as_deref()) == (password, username) {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
            tokio::task::yield_now().await;
        }
        panic!("{:?} and {:?}", self.read("password"), self.read("username"));
    }

    fn new(files: &[&str]) -> Self {
        let (root, store) = (testing::folder(), testing::folder());
        let script = Arc::new(Scripted::default());
        let publisher = Self::start(&script, store.path(), Self::settings(root.path(), files, &own()));
        Self { script, publisher, root, store }
    }

    fn start(script: &Arc<Scripted>, store: &Path, settings: Settings) -> Arc<Publisher> {
        let store = Store::open(store, Kind::Anything, 1 << 20).unwrap();
        let resolver: Arc<dyn Resolve> = Arc::<Scripted>::clone(script);
        let config = CurrentConfig::new(ActiveConfig::new(settings));
        let broker = Arc::new(Broker::new(resolver, store, Arc::clone(&config)));
        Arc::new(Publisher::new(config, broker, Kind::Anything))
    }

    /// Secrets that are fields of one item, each published to a file of the same name.
    fn settings(root: &Path, files: &[&str], user: &str) -> Settings {
        let mut settings = from_text("x".as_ref(), "{}").unwrap().settings;
        let secret = |name: &&str| {
            let text = format!(
                r#"{{"secrets": [{{"name": "{name}", "reference": "op://v/i/{name}", "units": ["a"]}}]}}"#
            );
            let loaded = from_text("x".as_ref(), &text).unwrap().settings;
            let secret = loaded.policy.secrets().next().unwrap().clone();
            let (user, group) = (user.to_owned(), None);
            let target = Target {
                path: root.join(name),
                user,
                group,
                mode: 0o400,
                links: Vec::new(),
                make_directories: false,
            };
            Secret { target: Some(target), ..secret }
        };
        settings.policy = Policy::new(files.iter().map(secret).collect(), Vec::new());
        settings.roots = vec![root.to_owned()];
        settings
    }

    fn gives(&self, answers: impl IntoIterator<Item = Answer>) {
        self.script.0.lock().unwrap().extend(answers);
    }

    fn restart(&mut self, files: &[&str]) {
        let settings = Self::settings(self.root.path(), files, &own());
        self.publisher = Self::start(&self.script, self.store.path(), settings);
    }

    fn read(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.root.path().join(name)).ok()
    }

    async fn refusal(&self, name: &str) -> Refusal {
        self.publisher.publish(name).await.unwrap_err()
    }
}

/// The user of these tests.
fn own() -> String {
    nix::unistd::geteuid().to_string()
}

#[tokio::test]
async fn a_handle_publishes_its_own_file_and_the_item_s_others_follow_it() {
    let rig = Rig::new(&["password", "username"]);
    rig.gives([Ok((1, ["p1", "u1"]))]);
    let paths = rig.publisher.publish("password").await.unwrap();
    assert_eq!(paths, [rig.root.path().join("password")]);
    assert_eq!((rig.read("password").as_deref(), rig.read("username")), (Some("p1"), None));
    tokio::spawn(Arc::clone(&rig.publisher).follow());
    rig.comes_to_hold(Some("p1"), Some("u1")).await; // what is in the store is published at a start
    assert!(matches!(rig.refusal("other").await, Refusal::NoFile(name) if name == "other"));
}

#[tokio::test]
async fn a_process_that_starts_needs_no_call_and_touches_nothing_that_is_right() {
    let mut rig = Rig::new(&["password", "username"]);
    rig.gives([Ok((1, ["p1", "u1"]))]);
    rig.publisher.publish("password").await.unwrap();
    let inode = |rig: &Rig| fs::metadata(rig.root.path().join("password")).unwrap().ino();
    let before = inode(&rig);
    rig.restart(&["password", "username"]); // and the resolver has no further answers
    rig.publisher.sync().await;
    assert_eq!((inode(&rig), rig.read("username").as_deref()), (before, Some("u1")));
    rig.restart(&["username"]);
    rig.publisher.sync().await;
    assert_eq!((rig.read("password"), rig.read("username").as_deref()), (None, Some("u1")));
}

#[tokio::test(start_paused = true)]
async fn what_changes_is_replaced_and_what_is_gone_goes() {
    let rig = Rig::new(&["password", "username"]);
    tokio::spawn(Arc::clone(&rig.publisher).follow());
    rig.gives([
        Ok((1, ["p1", "u1"])),
        Ok((2, ["p2", "u2"])),
        Err(away()),
        Err(Failure::new(Class::NotFound, "no item", "make one")),
    ]);
    rig.publisher.publish("username").await.unwrap();
    let broker = Arc::clone(&rig.publisher.broker);
    let wanted = rig.publisher.plan().unwrap().files[0].content.parts()[0].clone();
    let fetch_anew = async || {
        let wanted = Arc::new(Wanted { max_age: MaxAge::Always, ..Wanted::clone(&wanted) });
        let key = ItemKey::new(&wanted.source, &wanted.reference.item);
        broker.store().remove(&key);
        let order =
            Order { wanted, process: ProcessId::nobody(), arrived: BootTime::now(), asker: Asker::Onecred };
        broker.get(&order).await.map(drop)
    };
    fetch_anew().await.unwrap();
    rig.comes_to_hold(Some("p2"), Some("u2")).await;
    fetch_anew().await.unwrap_err();
    assert_eq!(rig.read("password").as_deref(), Some("p2"), "the failure may pass");
    fetch_anew().await.unwrap_err();
    rig.comes_to_hold(None, None).await;
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_may_pass_leaves_what_is_there() {
    let rig = Rig::new(&["password"]);
    rig.gives([Ok((1, ["p1", "u1"]))]);
    rig.publisher.publish("password").await.unwrap();
    tokio::time::advance(Duration::from_secs(60)).await;
    rig.publisher.sync().await;
    assert_eq!((rig.read("password").as_deref(), rig.publisher.bytes()), (Some("p1"), 4096));
}

#[tokio::test]
async fn an_owner_who_is_not_there_costs_no_call() {
    let rig = Rig::new(&["password"]);
    let settings = Rig::settings(rig.root.path(), &["password"], "nobody-of-this-name");
    rig.publisher.broker.activate(ActiveConfig::new(settings));
    let refusal = rig.refusal("password").await;
    assert!(matches!(refusal, Refusal::Unpublished { fault: Fault::Account { .. }, .. }), "{refusal:?}");
    assert!(refusal.outright("password").contains("systemctl restart onecred-file@password"));
    rig.gives([Ok((1, ["", "u1"]))]);
    rig.publisher.broker.activate(ActiveConfig::new(Rig::settings(rig.root.path(), &["password"], &own())));
    assert!(matches!(rig.refusal("password").await, Refusal::Empty(_)));
}

#[tokio::test]
async fn all_that_can_be_is_published_and_the_rest_is_named() {
    let rig = Rig::new(&["password", "username", "third"]);
    rig.gives([Ok((1, ["p1", "u1"]))]);
    let (count, refusals) = rig.publisher.publish_all().await.unwrap();
    let names: Vec<_> = refusals.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!((count, names), (2, vec!["third"]));
    assert_eq!((rig.read("password").as_deref(), rig.read("username").as_deref()), (Some("p1"), Some("u1")));
}

#[tokio::test]
async fn a_file_does_not_outlive_what_it_was_made_of() {
    let mut rig = Rig::new(&["password", "username"]);
    rig.gives([Ok((1, ["p1", "u1"]))]);
    rig.publisher.publish_all().await.unwrap();
    let elsewhere = |rig: &Rig| {
        let mut settings = Rig::settings(rig.root.path(), &["password", "username"], &own());
        let secrets = settings.policy.secrets().cloned().map(|mut secret| {
            if secret.name.as_str() == "password" {
                secret.wanted.reference =
                    crate::domain::reference::Reference::parse("op://v/j/password").unwrap();
            }
            secret
        });
        settings.policy = Policy::new(secrets.collect(), Vec::new());
        settings
    };
    let settings = elsewhere(&rig);
    rig.publisher.broker.activate(ActiveConfig::new(settings));
    rig.publisher.on_disk(Publisher::prune).await;
    assert_eq!((rig.read("password"), rig.read("username").as_deref()), (None, Some("u1")));
    // the same applies to a process that starts with another configuration
    rig.restart(&["password", "username"]);
    rig.publisher.sync().await;
    assert_eq!(rig.read("password").as_deref(), Some("p1"));
    let settings = elsewhere(&rig);
    rig.publisher = Rig::start(&rig.script, rig.store.path(), settings);
    rig.publisher.sync().await;
    assert_eq!((rig.read("password"), rig.read("username").as_deref()), (None, Some("u1")));
}

#[tokio::test(start_paused = true)]
async fn what_is_gone_goes_also_where_nobody_was_told() {
    let rig = Rig::new(&["password"]);
    rig.gives([Ok((1, ["p1", "u1"])), Err(Failure::new(Class::NotFound, "no item", "make one"))]);
    rig.publisher.publish("password").await.unwrap();
    let broker = Arc::clone(&rig.publisher.broker);
    let wanted = rig.publisher.plan().unwrap().files[0].content.parts()[0].clone();
    let asked = broker.ask(&wanted);
    broker
        .refresh(&wanted, crate::provider::fetch::broker::Thoroughness::Values, asked, &Asker::Admin)
        .await
        .unwrap_err();
    rig.publisher.sync().await; // as after too many events
    assert_eq!(rig.read("password"), None);
}

#[tokio::test(start_paused = true)]
async fn a_link_that_stays_keeps_no_file() {
    let rig = Rig::new(&["password"]);
    rig.gives([Ok((1, ["p1", "u1"]))]);
    rig.publisher.publish("password").await.unwrap();
    let mut file = rig.publisher.plan().unwrap().files[0].clone();
    let link = PathBuf::from("/tmp/link"); // a directory that every user can write to
    rig.publisher.writer().manifest.set_link(&link, &file.target.path);
    file.target.links.push(link);
    rig.publisher.withdraw(std::iter::once(&file), NO_MORE);
    assert_eq!(rig.read("password"), None);
}

#[tokio::test]
async fn what_was_published_of_an_item_comes_along_with_a_newer_version() {
    let rig = Rig::new(&["password", "username"]);
    rig.gives([Ok((1, ["p1", "u1"])), Ok((2, ["p2", "u2"]))]);
    rig.publisher.publish("password").await.unwrap();
    rig.publisher.publish("username").await.unwrap();
    // the next request gets another version; these events are not followed
    let wanted = rig.publisher.plan().unwrap().files[0].content.parts()[0].clone();
    rig.publisher.broker.store().remove(&ItemKey::new(&wanted.source, &wanted.reference.item));
    rig.publisher.publish("password").await.unwrap();
    assert_eq!((rig.read("password").as_deref(), rig.read("username").as_deref()), (Some("p2"), Some("u2")));
}

#[tokio::test]
async fn a_list_that_outlived_the_process_is_enough_to_remove_what_it_published() {
    let mut rig = Rig::new(&["password", "username"]);
    rig.gives([Ok((1, ["p1", "u1"]))]);
    rig.publisher.publish("password").await.unwrap();
    rig.publisher.publish("username").await.unwrap(); // this one is appended to the manifest
    rig.restart(&[]);
    rig.publisher.on_disk(Publisher::prune).await;
    assert_eq!((rig.read("password"), rig.read("username")), (None, None));
}

#[tokio::test]
async fn a_file_that_is_gone_or_back_is_looked_at() {
    let rig = Rig::new(&["password"]);
    let is_due = async || {
        let due = rig.publisher.files_changed.notified();
        tokio::time::timeout(Duration::ZERO, due).await.is_ok()
    };
    assert!(!is_due().await);
    rig.gives([Ok((1, ["p1", "u1"])), Ok((2, ["p2", "u2"]))]);
    rig.publisher.publish("password").await.unwrap();
    assert!(is_due().await, "it has come");
    rig.publisher.refresh(Which::All).await;
    assert!(!is_due().await, "nothing has changed");
    let plan = rig.publisher.plan().unwrap();
    rig.publisher.withdraw(plan.files.iter(), NO_MORE);
    assert!(is_due().await, "it has gone");
    rig.publisher.sync().await;
    assert!(is_due().await, "an earlier process may have removed some");
}

/// A unit as the service manager lists it.
fn listed(unit: &str, state: &str) -> Listed {
    let (text, path) = (String::new, zbus::OwnedObjectPath::try_from("/").unwrap());
    (unit.into(), text(), text(), state.into(), text(), text(), path.clone(), 0, text(), path)
}

#[tokio::test]
async fn handles_follow_their_files() {
    let rig = Rig::new(&["password", "username"]);
    let step = |unit: &str, state: &str| {
        let steps = rig.publisher.steps(vec![listed(unit, state)]);
        steps.into_iter().next().map(|(_, step)| step)
    };
    let (password, username) = ("onecred-file@password.service", "onecred-file@username.service");
    let all = "onecred-publish.service";
    for unit in [password, username, all] {
        assert_eq!(step(unit, "active"), Some(HandleStep::AskAgain), "{unit}: no file was published");
    }
    rig.gives([Ok((1, ["p1", "u1"]))]);
    rig.publisher.publish("password").await.unwrap();
    assert_eq!((step(password, "active"), step(password, "failed")), (None, Some(HandleStep::Start)));
    assert_eq!((step(all, "active"), step(all, "failed")), (Some(HandleStep::AskAgain), None));
    rig.publisher.publish("username").await.unwrap();
    assert_eq!((step(all, "active"), step(all, "failed")), (None, Some(HandleStep::Start)));
    let plan = rig.publisher.plan().unwrap();
    rig.publisher.withdraw(plan.named("username"), NO_MORE);
    for (unit, expected) in
        [(password, None), (username, Some(HandleStep::AskAgain)), (all, Some(HandleStep::AskAgain))]
    {
        assert_eq!(step(unit, "active"), expected, "{unit}: one file is gone");
    }
    assert_eq!(step("other.service", "active"), None);
    rig.publisher.leave_to_recovery(move |unit| unit == password);
    assert_eq!(step(password, "failed"), None, "recovery starts it");
}

#[tokio::test]
async fn everything_can_be_published_at_once() {
    let rig = Rig::new(&["password", "username"]);
    rig.gives([Ok((1, ["p1", "u1"]))]);
    for case in ["from 1Password", "from the store"] {
        let (count, refusals) = rig.publisher.publish_all().await.unwrap();
        assert_eq!((count, refusals.len()), (2, 0), "{case}");
        assert_eq!(
            (rig.read("password").as_deref(), rig.read("username").as_deref()),
            (Some("p1"), Some("u1"))
        );
    }
    // another file cannot be written
    let path = rig.root.path().join("username");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    rig.publisher.publish("password").await.unwrap();
    let (count, refusals) = rig.publisher.publish_all().await.unwrap();
    let refused: Vec<_> = refusals.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!((count, refused), (1, vec!["username"]));
}

#[tokio::test]
async fn without_files_the_handle_of_all_stays() {
    let rig = Rig::new(&[]);
    let steps = |unit| rig.publisher.steps(vec![listed(unit, "active")]).len();
    assert_eq!((steps("onecred-publish.service"), steps("onecred-file@password.service")), (0, 1));
}
