//! Tests what other users and units on the machine can do to sockets, files, processes and D-Bus.
use onecred_integration::{
    attempts::{Attempt, judge, made_by},
    cases,
    installed::{LIBEXEC, SOCKET},
    machine::{Suite, wait_until},
    setup::Setup,
    stage::Stage,
    theme::Theme,
};
use std::{fs, path::Path};

pub const THEME: Theme = Theme {
    name: "attackers",
    stage,
    shared: true,
    cases: cases![
        a_user_a_unit_and_a_root_without_capabilities_get_nowhere,
        what_others_have_put_there_is_not_followed,
    ],
};

pub const FLOOD: Theme = Theme {
    name: "attackers-flood",
    stage,
    shared: false,
    cases: cases![a_flood_on_the_bus_holds_up_no_unit],
};

const VALUE: &[u8] = b"hunter2";
/// What users send to the bus, and the maximum memory in KiB and number of descriptors that the provider may
/// have used by then. A message of 30 MiB is read whole while the previous one is examined.
const FLOODS: [(&str, u64, u64); 4] = [
    ("bodies", 100 << 10, 256),
    ("descriptors", 100 << 10, 256),
    ("many", 100 << 10, 256),
    ("large", 200 << 10, 256),
];

fn stage(suite: Suite) -> Stage {
    let stage = Setup::vault(suite)
        .default("maxAge", "1h")
        .secret("password", "op://My Vault/db/password", &["app*"])
        .entry(serde_json::json!({ "name": "linked", "reference": "op://My Vault/db/password", "units": [],
            "target": "/run/owned/linked" }))
        .entry(
            serde_json::json!({ "name": "published", "reference": "op://My Vault/db/password", "units": [],
            "target": "/run/secrets/published" }),
        )
        .setting("publish", serde_json::json!({ "roots": ["/run/owned"] }))
        .stage();
    let client = fs::read(Path::new(env!("CARGO_BIN_EXE_bus-client"))).unwrap_or_default();
    stage.write(&format!("{LIBEXEC}/bus-client"), client, 0o755);
    stage.sh("systemctl start dbus.socket onecred.service onecred-resolver.service").ok();
    stage.gets("app.service", "", &[("password", VALUE)]);
    stage.sh("systemctl start onecred-file@published.service").ok();
    wait_until("the provider is on the bus", || {
        stage.sh("busctl --no-pager status org.onecred.Credentials1").succeeded()
    });
    stage
}

/// What only root may do.
const ATTEMPTS: [Attempt; 13] = [
    (
        "connect",
        "perl -MSocket -e 'socket(my $s, 1, 1, 0); connect($s, pack_sockaddr_un(\"/run/onecred/credential.sock\")) or exit 1'",
    ),
    (
        "connect-sealed",
        "perl -MSocket -e 'socket(my $s, 1, 1, 0); connect($s, pack_sockaddr_un(\"/run/onecred/sealed.sock\")) or exit 1'",
    ),
    (
        "connect-resolver",
        "perl -MSocket -e 'socket(my $s, 1, 5, 0); connect($s, pack_sockaddr_un(\"/run/onecred/resolver.sock\")) or exit 1'",
    ),
    (
        "bind-beside",
        "perl -MSocket -e 'socket(my $s, 1, 1, 0); bind($s, pack_sockaddr_un(\"/run/onecred/x.sock\")) or exit 1' && rm /run/onecred/x.sock",
    ),
    (
        "move-socket",
        "mv /run/onecred/credential.sock /run/onecred/y && mv /run/onecred/y /run/onecred/credential.sock",
    ),
    ("list-store", "ls /run/onecred/store"),
    ("read-store", "grep -rq hunter2 /run/onecred/store"),
    ("read-published", "cat /run/secrets/published"),
    ("write-published", "touch /run/onecred/rw/secrets/x && rm /run/onecred/rw/secrets/x"),
    ("link-store", "ln -s /etc/passwd /run/onecred/store/x && rm /run/onecred/store/x"),
    ("read-token", "cat /etc/onecred/token"),
    ("read-credentials", "cat /run/credentials/held.service/password"),
    (
        "open",
        "busctl call org.onecred.Credentials1 /org/onecred/Credentials1 org.onecred.Credentials1.Manager Open s password",
    ),
];

/// What can be seen and changed of a process.
const OF_PROCESS: [(&str, &str); 5] = [
    ("mem", "head -c0 /proc/PID/mem"),
    ("maps", "head -c1 /proc/PID/maps | grep -q ."),
    ("environ", "head -c1 /proc/PID/environ"),
    ("fd", "readlink /proc/PID/fd/0"),
    ("fdinfo", "head -c1 /proc/PID/fdinfo/0 | grep -q ."),
];

fn a_user_a_unit_and_a_root_without_capabilities_get_nowhere(stage: &Stage) {
    stage.write("/etc/onecred/token", "canary", 0o600);
    let held = format!("[Service]\nLoadCredential=password:{SOCKET}\nExecStart=/bin/sleep infinity\n",);
    stage.units([("app-held.service", held.replace("held", "app-held").as_str())]);
    stage.sh("systemctl start app-held").ok();
    let provider = stage.show("onecred.service", "MainPID");
    let resolver = stage.show("onecred-resolver.service", "MainPID");
    let keeper = stage.sh(&format!("grep -l '^PPid:.{provider}$' /proc/[0-9]*/status | cut -d/ -f3")).ok();
    assert_eq!(stage.sh(&format!("cat /proc/{}/comm", keeper.trim())).ok(), "onecred-keeper\n");
    let processes = [("provider", provider.as_str()), ("keeper", keeper.trim()), ("resolver", &resolver)];
    let of_processes: Vec<Attempt> = processes
        .iter()
        .flat_map(|(name, pid)| {
            OF_PROCESS.iter().map(move |(what, attempt)| {
                let name: &'static str = format!("{name}-{what}").leak();
                let attempt: &'static str = attempt.replace("PID", pid).leak();
                (name, attempt)
            })
        })
        .collect();
    let attempts: Vec<Attempt> = ATTEMPTS
        .iter()
        .map(|(name, attempt)| (*name, &*attempt.replace("/held.service", "/app-held.service").leak()))
        .chain(of_processes.iter().copied())
        .collect();
    let units = [
        ("by-user.service", made_by("User=news")),
        ("by-dynamic-user.service", made_by("DynamicUser=yes")),
        ("by-the-resolvers-user.service", made_by("User=onecred")),
        // a service whose author has sandboxed it, with the capabilities that the provider keeps: it can see
        // nothing of other processes of root
        ("by-root-of-little.service", made_by("CapabilityBoundingSet=CAP_CHOWN\nNoNewPrivileges=yes")),
        ("by-root.service", made_by("")),
    ];
    let units: Vec<(&str, &str)> = units.iter().map(|(name, text)| (*name, text.as_str())).collect();
    judge(stage, &units, &attempts, |unit, name| match unit {
        "by-root.service" => true,
        // root's own files need no capability, and on D-Bus root is root
        "by-root-of-little.service" => ATTEMPTS.iter().any(|(attempt, _)| *attempt == name),
        _ => false,
    });
}

/// Links, files and directories in the path of a published file. Nothing is published to a directory of
/// another user, and no links are followed elsewhere.
fn what_others_have_put_there_is_not_followed(stage: &Stage) {
    stage.sh("mkdir /run/owned && mount -t ramfs -o mode=0755 x /run/owned && chown news /run/owned").ok();
    stage.sh("echo mine >/etc/target && chmod 0600 /etc/target && setpriv --reuid=news --clear-groups ln -s /etc/target /run/owned/linked").ok();
    let publish = |name: &str| stage.sh(&format!("systemctl restart onecred-file@{name}.service"));
    publish("linked").fails();
    let line = stage.waits_for_line("onecred-file@linked.service", "belongs to user");
    assert!(line.contains("who could put something else there"), "{line}");
    assert_eq!(stage.read("/etc/target"), b"mine\n");
    // in root's own directory a link is replaced, and its target does not change
    stage.sh("chown root /run/owned").ok();
    publish("linked").ok();
    assert_eq!(
        (stage.read("/run/owned/linked"), stage.read("/etc/target")),
        (VALUE.to_vec(), b"mine\n".to_vec())
    );
    stage.sh("test ! -L /run/owned/linked").ok();
    // a hard link to another user's file is not written through
    stage.sh("echo theirs >/run/owned/theirs && ln -f /run/owned/theirs /run/owned/linked").ok();
    publish("linked").ok();
    assert_eq!(
        (stage.read("/run/owned/linked"), stage.read("/run/owned/theirs")),
        (VALUE.to_vec(), b"theirs\n".to_vec())
    );
    stage.sh("rm /run/owned/linked && mkdir /run/owned/linked").ok();
    publish("linked").fails();
}

fn a_flood_on_the_bus_holds_up_no_unit(stage: &Stage) {
    let provider = stage.show("onecred.service", "MainPID");
    let peak = |key: &str| {
        let status = stage.sh(&format!("cat /proc/{provider}/status")).ok();
        let line = status.lines().find_map(|line| line.strip_prefix(key)?.split_whitespace().next());
        line.and_then(|number| number.parse::<u64>().ok()).unwrap_or(u64::MAX)
    };
    for (kind, memory, descriptors) in FLOODS {
        let flood = |user: &str| {
            format!("setpriv --reuid={user} --regid={user} --clear-groups {LIBEXEC}/bus-client flood {kind}")
        };
        // three users at once
        let users = ["news", "games", "mail"].map(|user| format!("{} >/srv/out/{user} &", flood(user)));
        stage.sh(&format!("{} wait", users.join(" "))).ok();
        for user in ["news", "games", "mail"] {
            let said = stage.sh(&format!("cat /srv/out/{user}")).ok();
            assert_eq!(said.lines().last(), Some("no call was allowed"), "{kind}: {said}");
        }
        stage.starts("app.service", &[("password", VALUE)]);
        stage.sh("busctl call org.onecred.Credentials1 /org/onecred/Credentials1 org.onecred.Credentials1.Manager ListSecrets").ok();
        let peaks = (peak("VmHWM:"), peak("FDSize:"));
        eprintln!("after {kind}: at most {} KiB and {} descriptors", peaks.0, peaks.1);
        assert!(peaks.0 < memory && peaks.1 <= descriptors, "{kind}: {peaks:?}");
    }
    assert_eq!(stage.show("onecred.service", "MainPID"), provider, "it was started anew");
}
