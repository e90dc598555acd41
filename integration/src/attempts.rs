//! Attempts to do what must be impossible, made from within a unit. The same attempts outside verify that
//! they can succeed.
use crate::stage::Stage;

/// A name, and a shell command that succeeds if the action is possible.
pub type Attempt = (&'static str, &'static str);

/// What neither process of onecred may do. These attempts fail even for root, because of a system call filter
/// or a namespace, not because of permissions.
pub const FILTERED: &[Attempt] = &[
    ("raw-socket", "perl -e 'socket(my $s, 2, 3, 1) or exit 1'"),
    ("packet-socket", "perl -e 'socket(my $s, 17, 3, 768) or exit 1'"),
    ("netlink-socket", "perl -e 'socket(my $s, 16, 3, 0) or exit 1'"),
    ("namespace", "unshare -m true"),
    ("namespace-of-users", "unshare -U true"),
    ("namespace-of-network", "unshare -n true"),
    ("namespace-of-processes", "unshare -p true"),
    ("enter-namespace", "nsenter --uts=/proc/self/ns/uts true"),
    ("mount", "mount -t tmpfs x /mnt"),
    // a call that is not filtered succeeds, or fails with an error other than EPERM, which is 1
    ("call-mount", "perl -e 'syscall($ENV{MOUNT}, 0, 0, 0, 0, 0) == -1 and exit($! == 1)'"),
    ("call-bpf", "perl -e 'syscall($ENV{BPF}, 5, 0, 0) == -1 and exit($! == 1)'"),
    ("trace", "perl -e 'syscall($ENV{PTRACE}, 0, 0, 0, 0) == 0 or exit 1'"),
    ("change-root", "perl -e 'chroot(\"/\") or exit 1'"),
    ("write-and-execute", "perl -e 'syscall($ENV{MMAP}, 0, 4096, 7, 34, -1, 0) > 0 or exit 1'"),
    ("personality", "setarch -R true"),
    ("host-name", "hostname \"$(cat /proc/sys/kernel/hostname)\""),
    ("cgroup", "mkdir /sys/fs/cgroup/x"),
];

/// The numbers of system calls that have no command.
const NUMBERS: &str = "case $(uname -m) in\n\
    aarch64) export MMAP=222 PTRACE=117 BPF=280 MOUNT=40 ;;\n\
    *) export MMAP=9 PTRACE=101 BPF=321 MOUNT=165 ;;\nesac\n";

/// An installed unit with a shell script instead of its program, which makes attempts instead of serving.
#[track_caller]
pub fn taken_over(stage: &Stage, unit: &str) -> String {
    let text = stage.sh(&format!(
        "sed -e 's|^ExecStart=.*|ExecStart=/bin/sh /usr/local/libexec/attempts|; s/^Type=.*/Type=oneshot/; \
            /^Restart=/d; /^WatchdogSec=/d; /^ExecReload=/d; /^KillMode=/d; /^Requires=/d' /usr/lib/systemd/system/{unit}"
    ));
    text.ok()
}

/// A separate unit that makes attempts, with more lines for its [Service] section.
pub fn made_by(lines: &str) -> String {
    format!("[Service]\nType=oneshot\nExecStart=/bin/sh /usr/local/libexec/attempts\n{lines}\n")
}

/// Makes all attempts in each of these units, and checks that exactly those work that `may` allows.
#[track_caller]
pub fn judge(stage: &Stage, units: &[(&str, &str)], attempts: &[Attempt], may: impl Fn(&str, &str) -> bool) {
    let script: String = attempts
        .iter()
        .map(|(name, attempt)| {
            format!("if ( {attempt} ) >/dev/null 2>&1; then echo {name} works; else echo {name} fails; fi\n")
        })
        .collect();
    stage.write("/usr/local/libexec/attempts", format!("{NUMBERS}{script}"), 0o755);
    stage.units(units.iter().copied());
    let mut wrong = Vec::new();
    for (unit, _) in units {
        stage.run(&["systemctl", "start", unit]).ok();
        let said = stage.journal(unit);
        for (name, _) in attempts {
            let works = may(unit, name);
            let expected = format!("]: {name} {}", if works { "works" } else { "fails" });
            if !said.lines().any(|line| line.ends_with(&expected)) {
                wrong.push(format!("{unit}: {name} {}", if works { "fails" } else { "works" }));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
