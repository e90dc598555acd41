//! Hundreds of hardened units at once, without the drop-in of systemd-creds.socket: at the sealed socket, in turn with the same units at the plain one.
//! None may fail. Skipped before systemd 258, where the process of each unit decrypts.

use super::Size;
use onecred_integration::{
    installed::{SEALED, SOCKET},
    machine::Suite,
    setup::Setup,
    stage::Stage,
    table::{Row, Unit, Wanted, median},
};
use std::{error::Error, time::Instant};

/// Templates of units with `PrivateDevices=`, by socket.
const FORMS: [(&str, &str, &str); 2] =
    [("sealed", "LoadCredentialEncrypted", SEALED), ("plain", "LoadCredential", SOCKET)];

/// Starts crowds of each of the sizes.
pub fn rows(suite: Suite, size: &Size) -> Result<Vec<Row>, Box<dyn Error>> {
    if suite.version()? < 258 {
        eprintln!("{suite}: crowds of sealed units: skipped before systemd 258");
        return Ok(Vec::new());
    }
    let stage = boot(suite);
    // the first of each does not count: the value is fetched, and programs are read from disk
    for side in [0, 1] {
        start(&stage, side, 10);
    }
    Ok(size.crowds.iter().flat_map(|units| crowd(&stage, *units, size.crowd_rounds)).collect())
}

fn boot(suite: Suite) -> Stage {
    let stage = Setup::vault(suite)
        .default("maxAge", "session")
        .setting("recover", false.into())
        .secret("password", "op://My Vault/db/password", &["crowd-*@*"])
        .plan(|plan| {
            plan.prepare("find /etc /usr/lib /usr/local/lib -path '*/systemd-creds.socket.d/*' -delete")
        })
        .stage();
    stage.run(&["systemd-creds", "setup"]).ok();
    for (form, key, socket) in FORMS {
        let text = format!(
            "[Unit]\nStartLimitIntervalSec=0\n[Service]\nType=oneshot\nPrivateDevices=yes\n{key}=password:{socket}\n\
             ExecStart=/bin/grep -qx hunter2 %d/password\n"
        );
        stage.units([(format!("crowd-{form}@.service").as_str(), text.as_str())]);
    }
    stage
}

/// Starts as many units at once. Gives how long that took, in ms, and how many failed.
fn start(stage: &Stage, side: usize, units: usize) -> (f64, usize) {
    let names: Vec<String> = (0..units).map(|n| format!("crowd-{}@{n}.service", FORMS[side].0)).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let begun = Instant::now();
    stage.run(&[&["systemctl", "start", "--"][..], &names].concat());
    let took = begun.elapsed().as_secs_f64() * 1e3;
    let failed = stage.run(&["systemctl", "list-units", "--failed", "--plain", "--no-legend", "crowd-*"]);
    let failed = failed.stdout().lines().count();
    stage.run(&["systemctl", "reset-failed"]);
    (took, failed)
}

fn crowd(stage: &Stage, units: usize, rounds: usize) -> [Row; 2] {
    let (mut pairs, mut failed) = (Vec::new(), 0);
    for round in 0..rounds {
        let mut pair = [0.0; 2];
        for side in if round % 2 == 0 { [0, 1] } else { [1, 0] } {
            let (took, lost) = start(stage, side, units);
            pair[side] = took;
            failed += lost;
        }
        pairs.push(pair);
    }
    eprintln!(
        "  {units} units, {rounds} times at each socket: {failed} failed; median of the ratios sealed to plain: {:.2}",
        median(pairs.iter().map(|[sealed, plain]| sealed / plain))
    );
    let what = format!("{units} hardened units at once");
    [
        Row::alone(
            format!("{what}, {rounds} times at each socket: failed"),
            Unit::Times,
            failed as f64,
            Some(Wanted::AtMost(0.0)),
        ),
        Row::neighbours(
            format!("{what}: sealed; against onecred's plain socket"),
            Unit::Milliseconds,
            &pairs,
            None,
        ),
    ]
}
