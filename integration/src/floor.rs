//! The floor: a minimal C program in units that differ from onecred's only in their names, for comparison.
use crate::installed::repository;
use std::{fs, io};

/// onecred's own units with the floor's name, without what only onecred has: a resolver, a reload, a
/// watchdog.
pub fn floor_units() -> io::Result<Vec<(String, String)>> {
    let only_ours = [
        "ExecReload=",
        "PropagatesReloadTo=",
        "WatchdogSec=",
        "Wants=onecred-resolver",
        "Wants=onecred-sealed",
        "Documentation=",
    ];
    let mut units = Vec::new();
    for unit in ["onecred.service", "onecred.socket", "run-onecred-store.mount"] {
        let text = fs::read_to_string(repository().join("units/systemd").join(unit))?;
        let kept = text.lines().filter(|line| !only_ours.iter().any(|start| line.starts_with(start)));
        let kept = kept.map(|line| match line.starts_with("ExecStart=") {
            true => "ExecStart=/usr/bin/floor /run/floor/store\n".to_owned(),
            false => format!("{}\n", line.replace("onecred-resolver.socket", "").replace("onecred", "floor")),
        });
        units.push((
            unit.replace("onecred", "floor"),
            kept.collect::<String>().replace("/etc/floor", "/etc/onecred"),
        ));
    }
    Ok(units)
}
