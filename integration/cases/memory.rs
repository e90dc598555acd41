//! The memory limit of onecred.service: it follows the configuration, a flood ends only the provider, and a full store does not end it.
use onecred_integration::{
    cases,
    fake_connect::vault::long_value,
    installed::{LIBEXEC, SEALED, SOCKET},
    machine::{Suite, wait_until},
    setup::{Setup, field, fixture_with},
    stage::Stage,
    theme::Theme,
};
use serde_json::{Value, json};

pub const THEME: Theme = Theme {
    name: "memory",
    stage,
    shared: false,
    cases: cases![
        the_limit_follows_the_configuration,
        a_store_that_does_not_fit_the_machine_is_an_error,
        a_flood_ends_the_provider_alone,
    ],
};

const CONFIG: &str = "/etc/onecred/secrets.json";
const MIB: usize = 1 << 20;
const LONG: usize = 700 * 1024;
/// The size of that value in the form of the sealed socket.
const SEALED_LONG: usize = (LONG + 88_usize).div_ceil(3) * 4;
/// How many items of that size are stored and published.
const FILES: usize = 4;
/// Their titles.
const TITLES: [&str; FILES] = ["long", "long1", "long2", "long3"];
/// How many readers of a long value the flood has, at the plain and at the sealed socket.
const READERS: (usize, usize) = (60, 10);
const PASSWORD: (&str, &[u8]) = ("password", b"hunter2");

fn stage(suite: Suite) -> Stage {
    let long = long_value(LONG);
    let setup = Setup::vault(suite)
        .default("maxAge", "session")
        .holding(fixture_with(TITLES.map(|title| (title, vec![field("value", &long)]))))
        .secret("password", "op://My Vault/db/password", &["app*"])
        .secret("long", "op://My Vault/long/value", &["app*"]);
    let file = |title| json!({ "name": format!("file-{title}"), "reference": format!("op://My Vault/{title}/value"), "target": format!("/run/secrets/{title}") });
    TITLES.iter().fold(setup, |setup, title| setup.entry(file(title))).stage()
}

fn set_limits(stage: &Stage, limits: Value) {
    let mut config: Value = serde_json::from_slice(&stage.read(CONFIG)).unwrap_or_default();
    config["limits"] = limits;
    stage.write(CONFIG, config.to_string(), 0o644);
}

/// `MemoryMax=` of onecred.service in MiB.
fn limit(stage: &Stage) -> usize {
    stage.show("onecred.service", "MemoryMax").parse::<usize>().map_or(0, |bytes| bytes / MIB)
}

fn limit_becomes(stage: &Stage, mib: usize) {
    wait_until(&format!("the limit is {mib} MiB"), || limit(stage) == mib);
}

fn main_pid(stage: &Stage) -> String {
    stage.show("onecred.service", "MainPID")
}

fn the_limit_follows_the_configuration(stage: &Stage) {
    stage.gets("app.service", "", &[PASSWORD]);
    assert_eq!(limit(stage), 384);
    for unit in ["onecred.service", "onecred-resolver.service"] {
        assert_eq!(stage.show(unit, "OOMScoreAdjust"), "-900", "{unit}");
        assert_ne!(stage.show(unit, "MemoryMax"), "infinity", "{unit}");
    }
    for (limits, expected) in [
        (json!({ "storeSize": "128MiB" }), 512),
        (json!({ "storeSize": "128MiB", "connections": 8 }), 449),
        (json!({}), 384),
        (json!({ "storeSize": "16MiB" }), 288),
    ] {
        set_limits(stage, limits);
        stage.sh("systemctl reload onecred.service").ok();
        limit_becomes(stage, expected);
    }
    let main = main_pid(stage);
    stage.sh(&format!("kill -KILL {main}")).ok();
    wait_until("another provider runs", || ![main.as_str(), "0"].contains(&main_pid(stage).as_str()));
    assert_eq!(limit(stage), 288);
    stage.gets("app-2.service", "", &[PASSWORD]);
    // what is stored and published counts, even if the store may be smaller now
    stage.sh("systemctl start onecred-publish.service").ok();
    set_limits(stage, json!({ "storeSize": "1MiB" }));
    stage.sh("systemctl reload onecred.service").ok();
    wait_until("the limit is lower", || limit(stage) < 288);
    let each = FILES * LONG / MIB;
    assert!(limit(stage) > 256 + 2 * each, "{}", limit(stage));
    stage.gets("app-3.service", "", &[PASSWORD]);
}

/// The machine has as much memory as the host, so the limit is that of a container.
fn a_store_that_does_not_fit_the_machine_is_an_error(stage: &Stage) {
    stage.sh("install -d /run/limits && echo 536870912 >/run/limits/memory.max").ok();
    let check = "unshare -m sh -c 'mount --bind /run/limits /sys/fs/cgroup && onecred check'";
    stage.sh(check).ok();
    set_limits(stage, json!({ "storeSize": "129MiB" }));
    let said = stage.sh(check).fails();
    let words = "a store of 129 MiB does not fit: with it onecred may need 514 MiB, and this machine has 512 MiB; lower it to at most 128MiB";
    assert!(said.contains(words), "{said}");
    stage.sh("onecred check").ok();
    // the provider decides by what it sees in its own namespace
    stage.sh("systemctl start onecred.service").ok();
    let provider = main_pid(stage);
    stage.sh(&format!("nsenter --mount --target {provider} mount --bind /run/limits /sys/fs/cgroup")).ok();
    stage.sh(&format!("kill -HUP {provider}")).ok();
    stage.waits_for_line("onecred.service", "does not fit");
    stage.gets("app.service", "", &[PASSWORD]);
}

/// Limits the memory of processes in a control group of version 1, if the machine has no controller of version 2, and the limit of systemd has no effect.
struct Group<'a> {
    stage: &'a Stage,
    path: String,
}

impl<'a> Group<'a> {
    fn new(stage: &'a Stage) -> Option<Self> {
        if stage.sh("test -e /sys/fs/cgroup/system.slice/memory.max").succeeded() {
            return Some(Self { stage, path: String::new() });
        }
        let mounted = stage.sh("mkdir -p /srv/groups && mount -t cgroup -o memory groups /srv/groups");
        if !mounted.succeeded() {
            eprintln!("skipped: the kernel has no memory controller here");
            return None;
        }
        let path =
            format!("/srv/groups/onecred-{}", stage.sh("cat /proc/sys/kernel/random/uuid").ok().trim());
        stage.sh(&format!("mkdir {path}")).ok();
        Some(Self { stage, path })
    }

    fn limit(&self, bytes: usize) {
        match self.path.as_str() {
            "" => self
                .stage
                .sh(&format!("systemctl set-property --runtime onecred.service MemoryMax={bytes}"))
                .ok(),
            path => self.stage.sh(&format!("echo {bytes} >{path}/memory.limit_in_bytes")).ok(),
        };
    }

    /// Also for a provider that was started again.
    fn add(&self, pid: &str) {
        if !self.path.is_empty() {
            self.stage.sh(&format!("echo {pid} >{}/cgroup.procs", self.path)).ok();
        }
    }

    fn used(&self) -> usize {
        let file = match self.path.as_str() {
            "" => "/sys/fs/cgroup/system.slice/onecred.service/memory.current".to_owned(),
            path => format!("{path}/memory.usage_in_bytes"),
        };
        self.stage.sh(&format!("cat {file}")).ok().trim().parse().unwrap_or(0)
    }
}

impl Drop for Group<'_> {
    fn drop(&mut self) {
        if !self.path.is_empty() {
            // its processes end with the machine; the group outlives it
            self.stage.sh(&format!(
                "for pid in $(cat {0}/cgroup.procs); do echo $pid >/srv/groups/cgroup.procs; done; rmdir {0}",
                self.path
            ));
        }
    }
}

/// Readers at each socket that count what they read, and stop after the beginning until the end of the flood.
fn flood() -> String {
    let reader = |socket: &str, name: &str| {
        format!(
            "{{ {LIBEXEC}/probe {socket} unit/app-flood.service/long 1000 /srv/out/gate | wc -c >/srv/out/{name}-$$n; }} &"
        )
    };
    let (plain, sealed) = (reader(SOCKET, "plain"), reader(SEALED, "sealed"));
    format!(
        "[Service]\nExecStartPre=mkfifo /srv/out/gate\nExecStart=/bin/sh -c 'for n in $$(seq {}); do {plain} done; for n in $$(seq {}); do {sealed} done; wait'\n",
        READERS.0, READERS.1
    )
}

/// Lets all readers continue, and returns how many bytes each has read at this socket.
fn ends_flood(stage: &Stage, name: &str) -> Vec<usize> {
    // those that have not opened it yet get a file, which blocks none
    stage.sh("cd /srv/out; [ -e held ] || { ln gate held && : >open && mv open gate; }").ok();
    wait_until("the readers have ended", || {
        stage.sh("timeout 1 sh -c ': >/srv/out/held'");
        ["inactive", "failed"].contains(&stage.show("app-flood.service", "ActiveState").as_str())
    });
    let read = stage.sh(&format!("cat /srv/out/{name}-*")).ok();
    read.lines().filter_map(|line| line.trim().parse().ok()).collect()
}

fn a_flood_ends_the_provider_alone(stage: &Stage) {
    let Some(group) = Group::new(stage) else { return };
    stage.units([
        ("bystander.service", "[Service]\nExecStart=/bin/sleep infinity\n"),
        ("app-flood.service", flood().as_str()),
    ]);
    stage.sh("systemctl start bystander.service onecred.service").ok();
    stage.gets("app-warm.service", "", &[("long", long_value(LONG).as_bytes())]);
    let (bystander, first) = (stage.show("bystander.service", "MainPID"), main_pid(stage));
    group.add(&first);
    // less than the values that wait for their readers take
    group.limit(group.used() + 24 * MIB);
    stage.sh("systemctl start app-flood.service").ok();
    wait_until("the kernel has ended the provider", || {
        ![first.as_str(), "0"].contains(&main_pid(stage).as_str())
    });
    assert_eq!(stage.show("bystander.service", "MainPID"), bystander);
    assert_eq!(stage.show("onecred.socket", "ActiveState"), "active");
    let result = stage.sh("journalctl -o cat -u onecred.service").ok();
    assert!(result.contains("oom-kill") || result.contains("status=9/KILL"), "{result}");
    stage.gets("app-after.service", "", &[PASSWORD]);
    for (name, count, whole) in [("plain", READERS.0, LONG), ("sealed", READERS.1, SEALED_LONG)] {
        let read = ends_flood(stage, name);
        assert_eq!(read.len(), count, "{name}: {read:?}");
        // more than a credential may have is a refusal
        assert!(read.iter().all(|&size| size == whole || size > MIB), "{name}: {read:?}");
    }

    // a full store: its pages are in the group of the provider that runs
    stage.sh("systemctl start onecred-publish.service").ok();
    let before = stage.show("onecred.service", "NRestarts");
    let second = main_pid(stage);
    group.limit(limit(stage) * MIB);
    group.add(&second);
    stage.sh(&format!("kill -KILL {second}")).ok();
    wait_until("another provider runs", || ![second.as_str(), "0"].contains(&main_pid(stage).as_str()));
    group.add(&main_pid(stage));
    stage.gets("app-end.service", "", &[("long", long_value(LONG).as_bytes())]);
    let restarts = |text: &str| text.parse::<u32>().unwrap_or(0);
    assert_eq!(restarts(&stage.show("onecred.service", "NRestarts")), restarts(&before) + 1);
}
