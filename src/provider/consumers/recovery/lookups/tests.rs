use std::sync::Mutex;

use super::*;
use crate::config::from_text;
use crate::ipc::{Check, Checked, Fetch, Fetched, Pending, Resolve};
use crate::provider::base::active_config::{ActiveConfig, CurrentConfig};
use crate::provider::store::testing::{self, fetched};
use crate::provider::store::{Kind, Store};

/// A source that returns values or fails for each vault, and records what it is asked.
#[derive(Default)]
struct Vaults {
    failing: Mutex<BTreeMap<String, Class>>,
    asked: Mutex<Vec<String>>,
}

impl Vaults {
    fn asked(&self) -> Vec<String> {
        let mut asked = std::mem::take(&mut *self.asked.lock().unwrap());
        asked.sort();
        asked
    }

    fn fails(&self, vault: &str, class: Class) {
        self.failing.lock().unwrap().insert(vault.to_owned(), class);
    }
}

impl Resolve for Vaults {
    fn fetch(&self, fetch: Fetch) -> Pending<'_, Fetched> {
        let (vault, item) = (fetch.item.vault.text.to_string(), fetch.item.item.text.to_string());
        self.asked.lock().unwrap().push(format!("{vault}/{item}"));
        let failing = self.failing.lock().unwrap().get(&vault).copied();
        let result = match failing {
            Some(class) => Err(Failure::new(class, "cause", "remedy")),
            None => Ok(fetched(1, &vec![Ok(&b"value"[..]); fetch.fields.len()])),
        };
        Box::pin(async { result })
    }

    fn check(&self, _: Check) -> Pending<'_, Checked> {
        Box::pin(async { Err(Failure::new(Class::Away, "cause", "remedy")) })
    }
}

struct Rig {
    vaults: Arc<Vaults>,
    broker: Arc<Broker>,
    config: Arc<CurrentConfig>,
    _folder: tempfile::TempDir,
}

/// Three items with two fields each: two items in vault v, one in vault w.
const ITEMS: [&str; 3] = ["v/a", "v/b", "w/c"];

impl Rig {
    fn new() -> Self {
        let secret = |(n, field): (usize, &str)| {
            format!(
                r#"{{ "name": "{field}{n}", "reference": "op://{}/{field}", "units": ["app*"] }}"#,
                ITEMS[n]
            )
        };
        let secrets: Vec<String> = (0..ITEMS.len()).flat_map(|n| [(n, "x"), (n, "y")]).map(secret).collect();
        let text = format!(
            r#"{{ "source": {{ "kind": "connect", "url": "https://one" }}, "secrets": [ {} ] }}"#,
            secrets.join(", ")
        );
        let settings = from_text(std::path::Path::new("test.json"), &text).unwrap().settings;
        let (vaults, folder) = (Arc::new(Vaults::default()), testing::folder());
        let store = Store::open(folder.path(), Kind::Anything, 1 << 20).unwrap();
        let resolver: Arc<dyn Resolve> = Arc::<Vaults>::clone(&vaults);
        let config = CurrentConfig::new(ActiveConfig::new(settings));
        let broker = Arc::new(Broker::new(resolver, store, Arc::clone(&config)));
        Self { vaults, broker, config, _folder: folder }
    }

    /// 60 units, ten for each field of each item.
    fn units(&self, awaits_correction: Option<&str>) -> Vec<Refused> {
        let unit = |n: usize| {
            let (unit, secret) = (format!("app{n}.service"), format!("{}{}", ["x", "y"][n / 3 % 2], n % 3));
            let parts = parts(&self.config.get(), &unit, &secret);
            assert_eq!(parts.len(), 1, "{secret}");
            Refused { unit, parts, awaits_correction: awaits_correction.map(str::to_owned) }
        };
        (0..60).map(unit).collect()
    }

    /// How many of these units can be started.
    async fn back(&self, units: &[Refused], is_due: bool) -> usize {
        let lookups = Lookups::of(&self.broker, units, |_, _| is_due).await;
        units.iter().filter(|unit| lookups.would_end(unit)).count()
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_is_away_is_asked_once_and_each_item_once_when_it_is_back() {
    let rig = Rig::new();
    let units = rig.units(None);
    for vault in ["v", "w"] {
        rig.vaults.fails(vault, Class::Away);
    }
    assert_eq!(rig.back(&units, false).await, 0);
    assert_eq!(rig.vaults.asked(), [""; 0], "it is not due");
    assert_eq!(rig.back(&units, true).await, 0);
    assert_eq!(rig.vaults.asked().len(), 1);
    rig.vaults.failing.lock().unwrap().clear();
    assert_eq!(rig.back(&units, true).await, 60);
    assert_eq!(rig.vaults.asked(), ITEMS);
    // values in the store are not looked up, whether the source is due or not
    assert_eq!(rig.back(&units, false).await, 60);
    assert_eq!(rig.vaults.asked(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_vault_that_is_denied_is_asked_once_and_keeps_no_other_away() {
    let rig = Rig::new();
    rig.vaults.fails("v", Class::Denied);
    // the units that were refused for it keep waiting; the others get the new cause
    assert_eq!(rig.back(&rig.units(Some("denied")), true).await, 20);
    let asked = rig.vaults.asked();
    assert!(asked.len() == 2 && asked[1] == "w/c", "{asked:?}");
    assert_eq!(rig.back(&rig.units(None), true).await, 60);
    rig.vaults.fails("v", Class::NoToken);
    assert_eq!(rig.back(&rig.units(None), true).await, 20);
    assert_eq!(rig.back(&rig.units(Some("denied")), true).await, 20);
}

#[tokio::test(start_paused = true)]
async fn a_field_that_is_missing_ends_the_wait_of_its_units() {
    let rig = Rig::new();
    rig.vaults.fails("v", Class::NotFound);
    rig.vaults.fails("w", Class::Limited);
    assert!(
        [0, 40].contains(&rig.back(&rig.units(None), true).await),
        "by which of the vaults is asked first"
    );
}

#[test]
fn a_value_that_is_never_stored_is_available_after_a_fetch() {
    let age = MaxAge::Age(Duration::from_secs(30));
    for (failed, max_age, is_available) in [
        (None, age, true),
        (Some(Class::Away), MaxAge::Always, true),
        (Some(Class::Away), age, false),
        (Some(Class::Away), MaxAge::Session, false),
        (Some(Class::NotFound), MaxAge::Always, false),
        (Some(Class::NotFound), age, false),
    ] {
        let got = failed.map_or(Ok(()), |class| Err(Failure::new(class, "cause", "remedy")));
        assert_eq!(after_fetch(got, max_age).is_ok(), is_available, "{failed:?} {max_age:?}");
    }
}
