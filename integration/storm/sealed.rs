//! Hundreds of hardened units at once, without the drop-in for systemd-creds.socket: at the sealed socket,
//! and in turn at the plain one for the ratio of durations. None may fail. Skipped before systemd 258, where
//! the process of each unit decrypts.

use super::{Crowd, Size};
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

/// Starts groups of each size.
pub fn rows(suite: Suite, size: &Size) -> Result<Vec<Row>, Box<dyn Error>> {
    if suite.version()? < 258 {
        eprintln!("{suite}: crowds of sealed units: skipped before systemd 258");
        return Ok(Vec::new());
    }
    let stage = boot(suite);
    // the first start of each does not count, because it fetches the value and reads programs from disk
    for side in [0, 1] {
        start(&stage, side, 10);
    }
    Ok(size.crowds.iter().flat_map(|crowd| start_crowd(&stage, crowd)).collect())
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

/// Starts this many units at once. Returns the duration in ms, and how many failed.
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

fn start_crowd(stage: &Stage, &Crowd { units, rounds, plain }: &Crowd) -> Vec<Row> {
    let (mut pairs, mut failed) = (Vec::new(), 0);
    for round in 0..rounds {
        let mut pair = [0.0; 2];
        let sides: &[usize] = if !plain {
            &[0]
        } else if round % 2 == 0 {
            &[0, 1]
        } else {
            &[1, 0]
        };
        for &side in sides {
            let (took, lost) = start(stage, side, units);
            pair[side] = took;
            failed += lost;
        }
        pairs.push(pair);
    }
    let what = format!("{units} hardened units at once");
    let place = if plain { "each socket" } else { "the sealed socket" };
    let count = format!("{what}, {rounds} times at {place}: failed");
    eprintln!("  {count} {failed}");
    let mut rows = vec![Row::alone(count, Unit::Times, failed as f64, Some(Wanted::AtMost(0.0)))];
    if plain {
        let ratio = median(pairs.iter().map(|[sealed, plain]| sealed / plain));
        eprintln!("  {what}: median of the ratios sealed to plain: {ratio:.2}");
        let what = format!("{what}: sealed; against onecred's plain socket");
        rows.push(Row::neighbours(what, Unit::Milliseconds, &pairs, None));
    } else {
        let took = median(pairs.iter().map(|[sealed, _]| *sealed));
        rows.push(Row::alone(format!("{what}: sealed"), Unit::Milliseconds, took, None));
    }
    rows
}
