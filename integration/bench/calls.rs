//! Counts the calls to a Connect server for a first, a fresh, a stale and a changed value.

use super::table::{Row, Unit, Wanted};
use onecred_integration::{
    machine::Suite,
    setup::{Setup, field},
    stage::Stage,
};
use serde_json::{Value, json};
use std::{error::Error, thread, time::Duration};

const VAULTS: usize = 3;
const ITEMS: usize = 2; // per vault
const FIELDS: usize = 2; // per item
const CONFIG: &str = "/etc/onecred/secrets.json";

/// Counts the calls for one unit with all fields.
pub fn rows(suite: Suite) -> Result<Vec<Row>, Box<dyn Error>> {
    let mut setup = Setup::connect(suite).holding(vaults()).default("maxAge", "1h");
    let (mut ids, mut values) = (Vec::new(), Vec::new());
    for (vault, item, label) in fields() {
        let id = format!("s{vault}{item}{label}");
        setup = setup.secret(&id, &format!("op://Vault {vault}/item {item}/field {label}"), &["app"]);
        ids.push(id);
        values.push(first_value(vault, item, label));
    }
    let stage = setup.stage();
    let items = VAULTS * ITEMS;
    let mut rows = Vec::new();
    let mut count = |what: &str, most: usize, values: &[String]| {
        let calls = start(&stage, &ids, values, most) as f64;
        rows.push(Row::alone(what, Unit::Calls, calls, Some(Wanted::AtMost(most as f64))));
    };

    let what = format!("{} fields of {items} items by name in {VAULTS} vaults, first time", ids.len());
    count(&what, 1 + VAULTS + items, &values);
    count("the same, fresh", 0, &values);
    let config = String::from_utf8(stage.read(CONFIG))?.replace("\"1h\"", "\"2s\"");
    stage.write(CONFIG, config, 0o644);
    stage.run(&["systemctl", "reload", "onecred.service"]).ok();
    thread::sleep(Duration::from_secs(3));
    count("the same, stale and unchanged", 1, &values);
    for vault in 0..2 {
        stage.connect().set(&format!("Vault {vault}"), "item 0", "field 0", "changed")?;
        values[vault * ITEMS * FIELDS] = "changed".into();
    }
    thread::sleep(Duration::from_secs(3));
    count("the same, an item changed in each of 2 vaults", 1 + 2 + 2, &values);
    Ok(rows)
}

/// Starts the unit, checks its values, and counts the calls. Prints the calls if there are more than allowed.
fn start(stage: &Stage, ids: &[String], values: &[String], most: usize) -> usize {
    let before = stage.calls().len();
    let expected: Vec<(&str, &[u8])> =
        ids.iter().map(String::as_str).zip(values.iter().map(String::as_bytes)).collect();
    stage.gets("app.service", "", &expected);
    thread::sleep(Duration::from_millis(500)); // what is fetched ahead counts too
    let calls = &stage.calls()[before..];
    if calls.len() > most {
        calls.iter().for_each(|call| eprintln!("  {} {}", call.method, call.path));
    }
    calls.len()
}

fn fields() -> impl Iterator<Item = (usize, usize, usize)> {
    (0..VAULTS * ITEMS * FIELDS).map(|n| (n / FIELDS / ITEMS, n / FIELDS % ITEMS, n % FIELDS))
}

fn first_value(vault: usize, item: usize, label: usize) -> String {
    format!("value {vault} {item} {label}")
}

fn vaults() -> Value {
    let id =
        |kind: &str, n: usize| format!("{:a<26}", format!("{kind}{}", ["x", "y", "z", "u", "v", "w"][n]));
    let item = |vault: usize, item: usize| {
        let fields: Vec<Value> = (0..FIELDS)
            .map(|label| field(&format!("field {label}"), &first_value(vault, item, label)))
            .collect();
        json!({ "id": id("item", vault * ITEMS + item), "title": format!("item {item}"), "category": "LOGIN", "version": 1, "fields": fields })
    };
    let vault = |vault: usize| {
        let items: Vec<Value> = (0..ITEMS).map(|n| item(vault, n)).collect();
        json!({ "id": id("vault", vault), "name": format!("Vault {vault}"), "items": items })
    };
    json!({ "vaults": (0..VAULTS).map(vault).collect::<Vec<_>>() })
}
