//! Tests of the worker process: what it has, what it does not have, and that it is replaced.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use onecred::ipc::{Class, Fetch, Resolve};

use crate::Case;
use crate::bench::{DB, ask, configured, fake, resolver, resolver_with, run, value};

pub(crate) const CASES: &[Case] = &[
    ("the_worker_has_no_more_than_it_needs", the_worker_has_no_more_than_it_needs),
    ("a_killed_worker_is_replaced", a_killed_worker_is_replaced),
    ("a_stopped_worker_costs_a_request_its_time_alone", a_stopped_worker_costs_a_request_its_time_alone),
    ("without_the_core_the_remedy_is_told", without_the_core_the_remedy_is_told),
    ("the_worker_ends_with_its_source", the_worker_ends_with_its_source),
];

/// The worker of the resolver on this thread: other cases have their own at the same time.
fn workers() -> Vec<Pid> {
    let thread = format!("/proc/self/task/{}/children", nix::unistd::gettid());
    let children = fs::read_to_string(thread).unwrap();
    children.split_whitespace().map(|pid| Pid::from_raw(pid.parse().unwrap())).collect()
}

fn worker() -> Pid {
    let all = workers();
    assert_eq!(all.len(), 1, "{all:?}");
    all[0]
}

fn proc(pid: Pid, file: &str) -> String {
    String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/{file}")).unwrap()).into_owned()
}

fn the_worker_has_no_more_than_it_needs() {
    run(async {
        let fake = fake();
        let resolver = resolver(&fake);
        assert_eq!(value(&resolver, DB).await.unwrap(), "hunter2");
        let pid = worker();
        assert_eq!(proc(pid, "environ"), "TOKIO_WORKER_THREADS=2\0", "nothing of the resolver's environment");
        assert_eq!(proc(pid, "cmdline"), "onecred\0core-worker\0");
        assert!(
            !proc(pid, "maps").lines().any(|line| line.contains("rwx")),
            "nothing is writable and executable"
        );
        assert!(proc(pid, "limits").lines().any(|line| line.starts_with("Max core file size        0 ")));
        // its last answer may be open for a moment longer
        let end = Instant::now() + Duration::from_secs(10);
        while !unknown(pid).is_empty() && Instant::now() < end {
            tokio::task::yield_now().await;
        }
        assert_eq!(unknown(pid), [""; 0]);
        let status = proc(pid, "status");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        assert!(kib < 44 << 10, "{kib} KiB, which leave no 20 MiB of 64 to the resolver");
    });
}

/// Open descriptors of a worker that it does not need.
fn unknown(pid: Pid) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let targets = entries.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    let targets = targets.map(|target| target.to_string_lossy().into_owned());
    targets
        .filter(|t| !["socket:", "anon_inode:", "/dev/null"].iter().any(|known| t.starts_with(known)))
        .collect()
}

fn a_killed_worker_is_replaced() {
    run(async {
        let fake = fake();
        let resolver = resolver(&fake);
        assert_eq!(value(&resolver, DB).await.unwrap(), "hunter2");
        let first = worker();
        kill(first, Signal::SIGKILL).unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(value(&resolver, "op://My Vault/multi/f1").await.unwrap(), "prodtok");
        assert_ne!(worker(), first);
    });
}

fn a_stopped_worker_costs_a_request_its_time_alone() {
    run(async {
        let fake = fake();
        let resolver = resolver(&fake);
        assert_eq!(value(&resolver, DB).await.unwrap(), "hunter2");
        kill(worker(), Signal::SIGSTOP).unwrap();
        let fetch = Fetch { patience: Duration::from_secs(60), ..ask("op://My Vault/multi/f1") };
        let fetched = resolver.fetch(fetch).await.unwrap();
        assert_eq!(fetched.fields[0].as_ref().unwrap().value.expose(), b"prodtok", "by another one");
    });
}

fn without_the_core_the_remedy_is_told() {
    run(async {
        let fake = fake();
        let mut configured = configured();
        configured.library = Some(PathBuf::from("/nonexistent/libop_uniffi_core.so"));
        let failure =
            value(&resolver_with(configured, Some(fake.control.token().unwrap())), DB).await.unwrap_err();
        assert_eq!(failure.class, Class::Misconfigured);
        assert!(failure.remedy.contains("onecred core install"), "{failure}");
    });
}

fn the_worker_ends_with_its_source() {
    run(async {
        let fake = fake();
        let resolver = resolver(&fake);
        assert_eq!(value(&resolver, DB).await.unwrap(), "hunter2");
        let pid = worker();
        drop(resolver);
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            if !workers().contains(&pid) || proc(pid, "stat").contains(") Z ") {
                return;
            }
        }
        panic!("worker {pid} is still there");
    });
}
