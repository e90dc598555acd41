//! Measures how long it takes to publish a thousand files whose values are in the store.

use super::{
    Effort,
    table::{Row, Unit, Wanted, median},
};
use onecred_integration::{
    machine::Suite,
    setup::{Setup, field},
    stage::Stage,
};
use serde_json::{Value, json};
use std::error::Error;

const ITEMS: usize = 100;
const FIELDS: usize = 10; // per item
const UNIT: &str = "onecred-publish.service";

/// Removes and publishes all files repeatedly. Measures from the start of the unit to its end.
pub fn rows(suite: Suite, effort: Effort) -> Result<Vec<Row>, Box<dyn Error>> {
    let label = |n: usize| format!("field {n}");
    let items: Vec<Value> = (0..ITEMS)
        .map(|item| {
            let fields: Vec<Value> =
                (0..FIELDS).map(|n| field(&label(n), &format!("value {n} of {item}"))).collect();
            let digits: String = format!("{item:03}").bytes().map(|digit| char::from(digit - b'0' + b'a')).collect();
            json!({ "id": format!("{:a<26}", format!("item{digits}z")), "title": format!("item {item}"), "category": "LOGIN", "version": 1, "fields": fields })
        })
        .collect();
    let vault = json!({ "vaults": [{ "id": format!("{:a<26}", "bench"), "name": "Bench", "items": items }] });
    let mut setup = Setup::vault(suite).holding(vault).default("maxAge", "session");
    for n in 0..ITEMS * FIELDS {
        let (item, field) = (n / FIELDS, n % FIELDS);
        setup = setup.entry(json!({
            "name": format!("file-{n}"), "reference": format!("op://Bench/item {item}/field {field}"),
            "target": format!("/run/secrets/file-{n}"), "owner": "nobody",
        }));
    }
    let stage = setup.stage();
    publish(&stage)?;
    let rounds = if effort == Effort::Quick { 3 } else { 11 };
    let fresh: Vec<f64> = (0..rounds)
        .map(|_| {
            stage.sh("find /run/onecred/rw/secrets -type f -delete").ok();
            publish(&stage)
        })
        .collect::<Result<_, _>>()?;
    let unchanged: Vec<f64> = (0..rounds).map(|_| publish(&stage)).collect::<Result<_, _>>()?;
    let count = ITEMS * FIELDS;
    let row = |what: &str, times: Vec<f64>| {
        let what = format!("{count} files published from the warm store, {what}");
        Row::alone(what, Unit::Milliseconds, median(times), Some(Wanted::AtMost(300.0)))
    };
    Ok(vec![row("none of them there", fresh), row("all of them unchanged", unchanged)])
}

/// The duration in milliseconds, including the start of the unit.
fn publish(stage: &Stage) -> Result<f64, Box<dyn Error>> {
    stage.run(&["systemctl", "restart", UNIT]).ok();
    let there = stage.sh("find /run/secrets -type f -user nobody | wc -l").ok();
    if there.trim() != (ITEMS * FIELDS).to_string() {
        return Err(format!("there are {there} files").into());
    }
    let at = |property: &str| stage.show(UNIT, property).parse::<f64>();
    Ok((at("ActiveEnterTimestampMonotonic")? - at("InactiveExitTimestampMonotonic")?) / 1000.0)
}
