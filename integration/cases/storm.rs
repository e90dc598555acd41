//! Tests with many secrets: rotations while the provider is killed, hundreds of changes at once, and a
//! thousand unchanged secrets.
use onecred_integration::{
    cases,
    installed::SOCKET,
    machine::{Machine, Suite, wait_until, watch_until},
    setup::{Setup, field},
    size::Size,
    stage::Stage,
    theme::Theme,
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    os::fd::AsRawFd,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

/// Kills during a rotation.
pub const KILLS: Theme = Theme {
    name: "storm-kills",
    stage: pairs,
    shared: false,
    cases: cases![kills_in_a_rotation_tear_nothing],
};

/// Many changes.
pub const CHANGES: Theme = Theme {
    name: "storm-changes",
    stage: two_hundred,
    shared: false,
    cases: cases![a_unit_is_restarted_once_for_two_hundred_changes],
};

/// Many secrets without changes.
pub const CHECK: Theme = Theme {
    name: "storm-check",
    stage: a_thousand,
    shared: false,
    cases: cases![a_check_of_a_thousand_is_one_call_and_no_write],
};

const MANAGER: &str = "org.onecred.Credentials1 /org/onecred/Credentials1 org.onecred.Credentials1.Manager";
/// How many items have a user name and a password.
const PAIRS: usize = 25;
/// The number of rotations, and how often the provider is killed in each.
const ROUNDS: Size = Size { short: 10, full: 25 };
const KILLS_A_ROUND: usize = 8;

/// The pause between two reads of all pairs: readers without pauses would take the processors from the
/// provider and other cases.
const PAUSE: Duration = Duration::from_millis(5);

/// A vault of items with the same version and these fields.
fn vault(items: usize, version: u64, fields: impl Fn(usize) -> Vec<Value>) -> Value {
    let item = |n: usize| {
        json!({ "id": format!("{:a<26}", format!("item{n}b")), "title": format!("item {n}"), "category": "LOGIN",
            "version": version, "fields": fields(n) })
    };
    let items: Vec<Value> = (0..items).map(item).collect();
    json!({ "vaults": [{ "id": "vaultmineaaaaaaaaaaaaaaaaa", "name": "My Vault", "contentVersion": version, "items": items }] })
}

fn load(stage: &Stage, document: &Value) {
    stage.connect().load(document).unwrap_or_else(|error| panic!("{error}"));
}

fn refresh_all(stage: &Stage) -> String {
    stage.sh(&format!("busctl --timeout=500 call {MANAGER} RefreshAll t 0")).ok()
}

#[track_caller]
fn on_the_bus(stage: &Stage) {
    wait_until("the provider is on the bus", || {
        stage.sh("busctl --no-pager status org.onecred.Credentials1").succeeded()
    });
}

fn pair_of(version: u64, n: usize) -> [String; 2] {
    let long = |what: &str, length| {
        let mark = format!("{what} {n} of version {version}.");
        format!("{mark}{}{mark}", "-".repeat(length))
    };
    [long("user", 40), long("password", 9000)]
}

fn pairs_of(version: u64) -> Value {
    vault(PAIRS, version, |n| {
        let [user, password] = pair_of(version, n);
        vec![field("user", &user), field("password", &password)]
    })
}

/// Each item is published as two files in a separate directory, and as a template.
fn pairs(suite: Suite) -> Stage {
    let mut setup = Setup::connect(suite).default("maxAge", "1h").holding(pairs_of(1));
    for n in 0..PAIRS {
        for what in ["user", "password"] {
            setup = setup.entry(
                json!({ "name": format!("{what}-{n}"), "reference": format!("op://My Vault/item {n}/{what}"),
                "target": format!("/run/secrets/pair-{n}/{what}") }),
            );
        }
        setup = setup.template(
            &json!({ "name": format!("both-{n}"), "target": format!("/run/secrets/both-{n}"), "escape": "raw",
            "content": format!("{{{{user-{n}}}}}\n{{{{password-{n}}}}}") }),
        );
    }
    let stage = setup.stage();
    stage.sh("systemctl start dbus.socket onecred.service").ok();
    on_the_bus(&stage);
    stage
}

/// What readers have read: how often each version, and anything that is not a version.
#[derive(Default)]
struct Read {
    whole: BTreeMap<u64, usize>,
    mixed: usize,
    cut: usize,
    empty: usize,
    gone: usize,
}

impl Read {
    fn note(&mut self, n: usize, files: Option<[Vec<u8>; 2]>) {
        let Some(files) = files else { return self.gone += 1 };
        let version = |text: &[u8]| {
            let text = String::from_utf8_lossy(text);
            let (_, rest) = text.split_once(" of version ")?;
            rest.split_once('.')?.0.parse::<u64>().ok()
        };
        let is_whole = |at: usize, version: u64| files[at] == pair_of(version, n)[at].as_bytes();
        match files.each_ref().map(|file| version(file)) {
            _ if files.iter().any(Vec::is_empty) => self.empty += 1,
            [Some(user), Some(password)] if !is_whole(0, user) || !is_whole(1, password) => self.cut += 1,
            [Some(user), Some(password)] if user != password => self.mixed += 1,
            [Some(user), Some(_)] => *self.whole.entry(user).or_default() += 1,
            _ => self.cut += 1,
        }
    }

    fn add(&mut self, other: Self) {
        other.whole.into_iter().for_each(|(version, reads)| *self.whole.entry(version).or_default() += reads);
        self.mixed += other.mixed;
        self.cut += other.cut;
        self.empty += other.empty;
        self.gone += other.gone;
    }
}

/// Reads both files through a directory that was opened once. `None` if it was replaced in the meantime.
fn read_pair(secrets: &Path, n: usize) -> Option<[Vec<u8>; 2]> {
    let dir = File::open(secrets.join(format!("pair-{n}"))).ok()?;
    let file = |name| fs::read(format!("/proc/self/fd/{}/{name}", dir.as_raw_fd())).ok();
    Some([file("user")?, file("password")?])
}

fn read_template(secrets: &Path, n: usize) -> Option<[Vec<u8>; 2]> {
    let both = fs::read(secrets.join(format!("both-{n}"))).ok()?;
    let mut lines = both.splitn(2, |&byte| byte == b'\n').map(<[u8]>::to_vec);
    Some([lines.next().unwrap_or_default(), lines.next().unwrap_or_default()])
}

type Reader = fn(&Path, usize) -> Option<[Vec<u8>; 2]>;

fn read_until(machine: &Machine, enough: &AtomicBool, reader: Reader) -> Read {
    let (secrets, mut read) = (machine.root().join("run/secrets"), Read::default());
    while !enough.load(Ordering::Relaxed) {
        (0..PAIRS).for_each(|n| read.note(n, reader(&secrets, n)));
        thread::sleep(PAUSE);
    }
    read
}

fn kills_in_a_rotation_tear_nothing(stage: &Stage) {
    refresh_all(stage);
    stage.sh("systemctl start onecred-publish.service").ok();
    let secrets = stage.root().join("run/secrets");
    let is_there = |version| {
        let whole = |n| [read_pair, read_template].map(|reader| reader(&secrets, n));
        let expected = |n| Some(pair_of(version, n).map(String::into_bytes));
        (0..PAIRS).all(|n| whole(n).iter().all(|read| *read == expected(n)))
    };
    wait_until("all is published", || is_there(1));
    let (rounds, enough) = (ROUNDS.now(), AtomicBool::new(false));
    stage.write("/srv/killer", include_str!("killer.sh"), 0o755);
    let (mut version, mut read) = (1, Read::default());
    thread::scope(|scope| {
        let readers = [read_pair as Reader, read_template].map(|reader| {
            let enough = &enough;
            scope.spawn(move || read_until(&stage.machine, enough, reader))
        });
        stage
            .sh(&format!("systemd-run -q --unit=pace sh -c 'until [ -e /srv/out/enough ]; do busctl call {MANAGER} RefreshAll t 0; done'"))
            .ok();
        for round in 1..=rounds {
            version += 1;
            load(stage, &pairs_of(version));
            // killed as soon as the new version becomes readable: in the middle of the rotation
            let seen =
                |n| read_pair(&secrets, n).is_some_and(|[user, _]| user == pair_of(version, n)[0].as_bytes());
            watch_until("the change is seen", || (0..PAIRS).any(seen));
            stage.sh(&format!("/srv/killer {KILLS_A_ROUND} {round}")).ok();
        }
        stage.sh("touch /srv/out/enough").ok();
        on_the_bus(stage);
        refresh_all(stage);
        wait_until("the last version is published", || is_there(version));
        enough.store(true, Ordering::Relaxed);
        readers.into_iter().for_each(|reader| read.add(reader.join().unwrap_or_default()));
    });
    let kills = stage.sh("cat /srv/out/kills").ok();
    assert_eq!(kills.lines().map(|kills| kills.parse().unwrap_or(0)).sum::<usize>(), rounds * KILLS_A_ROUND);
    let Read { whole, mixed, cut, empty, gone } = read;
    let reads: usize = whole.values().sum();
    eprintln!(
        "{} kills, {version} versions, {reads} reads of {}; {gone} found a file gone",
        rounds * KILLS_A_ROUND,
        whole.len()
    );
    assert_eq!((mixed, cut, empty), (0, 0, 0), "of {reads} reads");
    assert!(whole.len() > rounds / 2 && reads > 1000, "{whole:?}");
    let names = stage.sh("ls -A /run/secrets").ok();
    assert!(!names.contains(".onecred-"), "{names}");
}

const MANY: usize = 200;

fn many_of(version: u64) -> Value {
    vault(MANY + 1, version, |n| {
        let version = if n == MANY { version } else { version.min(2) };
        vec![field("password", &format!("{n} of version {version}"))]
    })
}

/// Units with fifty secrets each, one with all of them, and one with its own.
fn two_hundred(suite: Suite) -> Stage {
    let mut setup = Setup::connect(suite).default("maxAge", "1h").holding(many_of(1));
    for n in 0..=MANY {
        let restart = match n {
            MANY => json!(["sentinel"]),
            n => json!([format!("app-{}", n / 50), "app-all"]),
        };
        setup = setup.entry(json!({ "name": format!("s{n}"), "reference": format!("op://My Vault/item {n}/password"), "units": ["*"],
            "restartUnits": restart }));
    }
    let stage = setup.stage();
    stage.sh("systemctl start dbus.socket onecred.service").ok();
    on_the_bus(&stage);
    stage
}

fn counted(credentials: impl Iterator<Item = usize>) -> String {
    let loads: String = credentials.map(|n| format!("LoadCredential=s{n}:{SOCKET}\n")).collect();
    format!(
        "[Service]\nType=exec\nReadWritePaths=/srv/out\n{loads}\
         ExecStartPre=/bin/sh -c 'cat \"$CREDENTIALS_DIRECTORY\"/* | grep -o \"version .\" | sort -u >>/srv/out/%n; echo . >>/srv/out/%n'\n\
         ExecStart=/bin/sleep infinity\n"
    )
}

fn a_unit_is_restarted_once_for_two_hundred_changes(stage: &Stage) {
    let newlines = |text: String| {
        text.replace(
            "'cat \"$CREDENTIALS_DIRECTORY\"/*",
            "'for f in \"$CREDENTIALS_DIRECTORY\"/*; do cat \"$f\"; echo; done",
        )
    };
    let apps: Vec<(String, String)> = (0..4)
        .map(|app| (format!("app-{app}.service"), newlines(counted(app * 50..app * 50 + 50))))
        .chain([("app-all.service".to_owned(), newlines(counted((0..MANY).step_by(10))))])
        .chain([("sentinel.service".to_owned(), newlines(counted(MANY..=MANY)))])
        .collect();
    stage.units(apps.iter().map(|(name, text)| (name.as_str(), text.as_str())));
    refresh_all(stage);
    let names: Vec<&str> = apps.iter().map(|(name, _)| name.as_str()).collect();
    stage.run(&[&["systemctl", "start"][..], &names].concat()).ok();
    load(stage, &many_of(2));
    let said = refresh_all(stage);
    assert_eq!(said.matches("\"changed\"").count(), MANY + 1, "{said}");
    let started = |name: &str| String::from_utf8_lossy(&stage.read(&format!("/srv/out/{name}"))).into_owned();
    wait_until("all were restarted", || {
        names.iter().all(|name| started(name).matches("version 2").count() == 1)
    });
    // a later change is handled later: by then all effects of the earlier one have happened
    load(stage, &many_of(3));
    refresh_all(stage);
    wait_until("the sentinel was restarted", || started("sentinel.service").contains("version 3"));
    for name in &names[..5] {
        assert_eq!(started(name), "version 1\n.\nversion 2\n.\n", "{name}");
        let told = stage.journal(name);
        assert_eq!(told.matches("was restarted, since").count(), 1, "{told}");
    }
}

const THOUSAND: usize = 1000;
/// How many of them are published.
const PUBLISHED: usize = 100;

fn thousand_of(version: u64) -> Value {
    vault(THOUSAND, version, |n| vec![field("password", &format!("{n} of version {version}"))])
}

fn a_thousand(suite: Suite) -> Stage {
    let mut setup = Setup::connect(suite).default("maxAge", "1h").holding(thousand_of(1));
    for n in 0..THOUSAND {
        let mut secret = json!({ "name": format!("s{n}"), "reference": format!("op://My Vault/item {n}/password"), "units": [] });
        if n < PUBLISHED {
            secret["target"] = json!(format!("/run/secrets/s{n}"));
        }
        setup = setup.entry(secret);
    }
    let stage = setup.stage();
    stage.sh("systemctl start dbus.socket onecred.service").ok();
    on_the_bus(&stage);
    stage
}

fn a_check_of_a_thousand_is_one_call_and_no_write(stage: &Stage) {
    let said = refresh_all(stage);
    assert_eq!(said.matches("\"changed\"").count(), THOUSAND);
    stage.sh("systemctl start onecred-publish.service").ok();
    // the times of checks, which are saved periodically for the next process, are not secrets
    let files = || {
        let all = stage.sh("find /run/secrets /run/onecred/store -type f ! -name state.json -printf '%p %i %s %T@ %C@\\n' | sort").ok();
        all.lines().map(str::to_owned).collect::<BTreeSet<_>>()
    };
    wait_until("all is published", || {
        files().iter().filter(|file| file.starts_with("/run/secrets/s")).count() == PUBLISHED
    });
    let (before, calls) = (files(), stage.calls().len());
    assert!(before.len() > THOUSAND + PUBLISHED, "{}", before.len());
    let said = refresh_all(stage);
    assert_eq!(said.matches("\"unchanged\"").count(), THOUSAND);
    assert_eq!(stage.calls().len() - calls, 1, "{:?}", stage.calls().last());
    stage.sh("onecred refresh").ok();
    assert_eq!(stage.calls().len() - calls, 2, "and by the command, it is one as well");
    assert_eq!(files(), before, "something was written");
    // it would be noticed
    load(stage, &thousand_of(2));
    refresh_all(stage);
    wait_until("all is published anew", || {
        files().intersection(&before).all(|file| !file.starts_with("/run/secrets/s"))
    });
}
