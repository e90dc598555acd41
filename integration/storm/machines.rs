//! The machine of a phase, and information about its processes.

use super::{
    asker::Form,
    halves::is_provider,
    out::{OUT, PROGRAM},
    values::{VAULT, all_ids},
};
use onecred_integration::{
    machine::{Layer, Suite, wait_until},
    setup::Setup,
    stage::Stage,
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::{env, fs, io, path::PathBuf};

/// A machine with this program, the fake Connect server, and a rule that grants each unit the fields of its
/// item.
pub fn setup(suite: Suite, document: Value) -> io::Result<(Setup, Layer)> {
    let layer = Layer::create("storm")?;
    let program = layer.path().join(PROGRAM.trim_start_matches('/'));
    fs::create_dir_all(program.parent().unwrap_or(layer.path()))?;
    fs::copy(env::current_exe()?, program)?;
    let setup = Setup::connect(suite)
        .holding(document)
        .setting("recover", false.into())
        .setting("limits", serde_json::json!({ "storeSize": "512MiB" }))
        .rule(&["app-*", "storm-*"], &all_ids(), &format!("op://{VAULT}/{{unit}}/{{credential}}"))
        .plan(|plan| plan.layer(layer.path()));
    Ok((setup, layer))
}

/// A drop-in that restarts a process without a pause: a pause of any length may take the manager a quarter of
/// a second more.
pub fn back_at_once(unit: &str) -> (String, &'static str) {
    (format!("/etc/systemd/system/{unit}.d/storm.conf"), "[Service]\nRestartSec=0\n")
}

/// A unit that checks its credentials, and reports the result by its exit code.
pub fn consumer(unit: &str, form: Form, ids: &[&str]) -> String {
    let asks: String = ids.iter().map(|id| format!("{}={id}:{}\n", form.key(), form.socket())).collect();
    format!(
        "[Unit]\nStartLimitIntervalSec=0\n[Service]\nType=oneshot\nTimeoutStartSec=infinity\n{asks}ExecStart={PROGRAM} inside check {unit} {}\n",
        ids.join(" ")
    )
}

/// A unit that runs this program.
pub fn runner(words: &str) -> String {
    format!("[Service]\nType=exec\nLimitNOFILE=20000\nExecStart={PROGRAM} inside {words}\n")
}

/// A file that a part inside has written, if it exists.
pub fn left<T: DeserializeOwned>(stage: &Stage, name: &str) -> Option<T> {
    serde_json::from_slice(&fs::read(stage.root().join(OUT.trim_start_matches('/')).join(name)).ok()?).ok()
}

/// Waits until a unit has ended, however long that takes. It must have succeeded.
pub fn ran_well(stage: &Stage, unit: &str) -> io::Result<()> {
    wait_until(&format!("{unit} has ended"), || {
        matches!(stage.show(unit, "ActiveState").as_str(), "inactive" | "failed")
    });
    match stage.show(unit, "Result").as_str() {
        "success" => Ok(()),
        result => Err(io::Error::other(format!("{unit}: {result}\n{}", stage.journal(unit)))),
    }
}

/// The control group of a unit as seen from outside, with process IDs that are valid here.
pub fn group(stage: &Stage, unit: &str) -> PathBuf {
    stage.root().join("sys/fs/cgroup/system.slice").join(unit)
}

/// The main process of a service as seen from outside; the keeper has another name.
pub fn main_of(stage: &Stage, unit: &str) -> Option<i32> {
    let listed = fs::read_to_string(group(stage, unit).join("cgroup.procs")).ok()?;
    listed.lines().filter_map(|line| line.parse().ok()).find(|&pid| is_provider(pid))
}

/// The memory in MiB and the open descriptors of a process.
pub fn size_of(pid: i32) -> io::Result<(f64, usize)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse::<f64>().ok());
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd"))?.count();
    Ok((kib.unwrap_or_default() / 1024.0, descriptors))
}
