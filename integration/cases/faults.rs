//! Tests of everything that can go wrong between this host and a Connect server, each with a separate server
//! and source. They check units whose secret is cached and units that ask for the first time, their journals,
//! the cost, and that everything works again afterwards.
use onecred_integration::{
    cases,
    fake_connect::{Edit, FakeConnect, Options, Seen, vault::fixture},
    machine::Suite,
    setup::Setup,
    stage::{Stage, connect_at, consumer},
    theme::Theme,
    upstream::{Cold, How, ROWS, Row, Warm},
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, fs, net::Ipv4Addr};

pub const THEME: Theme = Theme {
    name: "faults",
    stage: |suite| stage(suite),
    shared: false,
    cases: cases![each_fault_has_its_outcome_its_line_and_its_price],
};

/// One item per secret of a source, and its content.
const OLD: (&str, &[u8]) = ("op://My Vault/db/password", b"hunter2");
const YOUNG: (&str, &[u8]) = ("op://My Vault/Case Item/password", b"casepw");
const NEW: (&str, &[u8]) = ("op://My Vault/multi/f1", b"prodtok");
const LATE: (&str, &[u8]) = ("op://My Vault/multi/f1", b"prodtok");
const MINE: &str = "vaultmineaaaaaaaaaaaaaaaaa";
const HOSTS: &str = "127.0.0.1 localhost\n";

fn stage(suite: Suite) -> Stage {
    let hosts = format!("{HOSTS}127.0.0.1 connect.test\n");
    Setup::vault(suite).plan(|plan| plan.file("/etc/hosts", hosts, 0o644)).stage()
}

/// A row with its server.
struct Act {
    row: &'static Row,
    port: u16,
    tls: Option<tempfile::TempDir>,
    server: Option<FakeConnect>,
}

impl Act {
    fn new(row: &'static Row, port: u16) -> Self {
        let tls = matches!(row.how, How::Tls(_)).then(|| tempfile::tempdir().expect("a folder"));
        Self { row, port, tls, server: None }
    }

    /// Starts the server, or starts it again; its port must be free.
    fn server_comes(&mut self, stage: &Stage, broken: bool) {
        let document =
            self.server.take().map_or_else(fixture, |before| before.control.document().expect("steered"));
        let tls_fault = match self.row.how {
            How::Tls(fault) if broken => Some(fault),
            _ => None,
        };
        let listen = (Ipv4Addr::LOCALHOST, self.port).into();
        let tls = self.tls.as_ref().map(|folder| folder.path().to_owned());
        let options = Options { listen, document, tls, tls_fault, ..Options::default() };
        self.server = Some(connect_at(&stage.machine, &options));
    }

    fn source(&self, stage: &Stage) -> Value {
        let port = self.port;
        let Some(folder) = &self.tls else {
            let host = if matches!(self.row.how, How::Unknown) { "connect.test" } else { "127.0.0.1" };
            return json!({ "kind": "connect", "url": format!("http://{host}:{port}"), "insecure": true, "token": "token" });
        };
        let ca = format!("/etc/onecred/ca-{port}.pem");
        stage.write(&ca, fs::read(folder.path().join("ca.pem")).expect("the authority"), 0o644);
        json!({ "kind": "connect", "url": format!("https://localhost:{port}"), "caFile": ca, "token": "token" })
    }

    /// The secrets that units request: an old one, a young one, a new one, and one that is requested after
    /// the fault.
    fn secrets(&self) -> [Value; 4] {
        let name = self.row.name;
        let secret = |kind: &str, (reference, _): (&str, &[u8]), age: &str, deadline: &str| {
            json!({ "name": format!("{kind}-{name}"), "reference": reference, "source": name, "maxAge": age, "deadline": deadline,
                "units": [format!("*{kind}-{name}")] })
        };
        // a temporary fault takes as long as the deadline; nothing else should depend on the speed of the
        // machine
        let waits = |passes: bool| if passes { "8s" } else { "60s" };
        [
            secret("old", OLD, "always", waits(self.row.warm == Warm::Refused("away"))),
            secret("young", YOUNG, "1h", "60s"),
            secret("new", NEW, "1h", waits(self.row.passes())),
            secret("late", LATE, "1h", "60s"),
        ]
    }

    /// The fault begins.
    fn begins(&mut self, stage: &Stage) {
        if matches!(self.row.how, How::Gone) {
            self.server = None;
            return;
        }
        if matches!(self.row.how, How::Tls(_) | How::Unknown) {
            self.server_comes(stage, true); // this closes open connections
            return;
        }
        let control = &self.server.as_ref().expect("a server").control;
        let edit = |edit: Edit| drop(control.edit(&edit).expect("steered"));
        let mine = || "My Vault".to_owned();
        match &self.row.how {
            How::Faults(faults) => faults().iter().for_each(|fault| control.fail(fault).expect("steered")),
            How::Changed(faults) => {
                for (item, field, value) in [("db", "password", "hunter3"), ("multi", "token", "prodtok")] {
                    control.set("My Vault", item, field, value).expect("steered");
                }
                faults().iter().for_each(|fault| control.fail(fault).expect("steered"));
            }
            How::Earlier => control.load(&fixture()).expect("steered"),
            How::Deleted => {
                for item in ["db", "multi"] {
                    edit(Edit::Delete { vault: mine(), item: item.into() });
                }
            }
            How::Denied => control.deny(MINE).expect("steered"),
            How::Gone | How::Unknown | How::Tls(_) => {}
        }
        control.take_requests().expect("steered");
    }

    /// The fault ends.
    fn ends(&mut self, stage: &Stage) {
        match self.server.as_ref() {
            Some(server) if !matches!(self.row.how, How::Tls(_)) => {
                server.control.clear_faults().expect("steered")
            }
            _ => self.server_comes(stage, false),
        }
    }

    /// The requests since the last call.
    fn calls(&self) -> Vec<Seen> {
        self.server.as_ref().map_or_else(Vec::new, |server| server.control.take_requests().expect("steered"))
    }

    fn credential(&self, kind: &str) -> String {
        format!("{kind}-{}", self.row.name)
    }
}

/// The results of units, and their journals.
struct Ended {
    states: BTreeMap<String, (String, String)>,
    journal: String,
}

/// Starts one unit for each fault at the same time, which request a credential of this kind. Waits until all
/// have ended.
fn play(stage: &Stage, acts: &[&Act], prefix: &str, kind: &str) -> Ended {
    let units: Vec<String> =
        acts.iter().map(|act| format!("{prefix}{kind}-{}.service", act.row.name)).collect();
    stage.sh("mkdir -p /run/systemd/system").ok();
    let folder = stage.root().join("run/systemd/system");
    for (unit, act) in units.iter().zip(acts) {
        fs::write(folder.join(unit), consumer("", &[&act.credential(kind)])).expect("a unit");
    }
    let words = |verb: &[&'static str]| -> Vec<String> {
        verb.iter().map(ToString::to_string).chain(units.iter().cloned()).collect()
    };
    stage.run(&words(&["systemctl", "start", "--"]));
    let shown = stage
        .run(&words(&["systemctl", "show", "-p", "Id", "-p", "Result", "-p", "ExecMainStatus", "--"]))
        .ok();
    let states = shown.split("\n\n").map(|block| {
        let of = |key: &str| {
            let line = block.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            line.unwrap_or_default().to_owned()
        };
        (of("Id"), (of("Result"), of("ExecMainStatus")))
    });
    let states = states.collect();
    let pattern = format!("{prefix}{kind}-*.service");
    stage.run(&["journalctl", "--sync"]);
    let journal = stage.run(&["journalctl", "--no-pager", "-u", &pattern]).ok();
    Ended { states, journal }
}

/// The deviations from the expected results.
#[derive(Default)]
struct Wrong(Vec<String>);

impl Wrong {
    fn unless(&mut self, right: bool, what: impl FnOnce() -> String) {
        if !right {
            self.0.push(what());
        }
    }

    /// Records a deviation unless a unit got this value. Returns whether a line about it was logged.
    fn unless_it_got(&mut self, seen: &Ended, stage: &Stage, unit: &str, id: &str, value: &[u8]) {
        let state = seen.states.get(unit);
        let taken = stage.taken(unit, id);
        self.unless(
            state.is_some_and(|(result, _)| result == "success") && taken.as_deref() == Some(value),
            || {
                let got =
                    taken.map(|bytes| String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned());
                format!(
                    "{unit} did not get its value, but {got:?}, {state:?}: {}",
                    lines(&seen.journal, unit)
                )
            },
        );
    }

    fn unless_it_was_refused(&mut self, seen: &Ended, stage: &Stage, unit: &str, id: &str) {
        let state = seen.states.get(unit);
        let is_243 = state.is_some_and(|(result, status)| result == "exit-code" && status == "243");
        self.unless(is_243 && !stage.out(unit).exists(), || {
            format!("{unit} was not refused {id}: {state:?}: {}", lines(&seen.journal, unit))
        });
    }

    /// Records a deviation unless a single line with this beginning contains all these words.
    fn unless_said(&mut self, seen: &Ended, unit: &str, begins: &str, words: &[&str]) {
        let said = seen.journal.lines().any(|line| {
            line.contains(begins)
                && line.contains(" onecred[")
                && words.iter().all(|word| line.contains(word))
        });
        self.unless(said, || {
            format!("{unit}: no line {begins:?} with {words:?} in: {}", lines(&seen.journal, unit))
        });
    }

    fn unless_few(&mut self, row: &Row, when: &str, calls: &[Seen], most: usize) {
        self.unless(calls.len() <= most, || {
            let paths: Vec<&str> = calls.iter().map(|call| call.path.as_str()).collect();
            format!("{}: {when}: {} calls, not {most} at most: {paths:?}", row.name, calls.len())
        });
    }
}

/// The lines of a journal that name a unit.
fn lines(journal: &str, unit: &str) -> String {
    journal.lines().filter(|line| line.contains(unit)).map(|line| format!("\n    {line}")).collect()
}

fn each_fault_has_its_outcome_its_line_and_its_price(stage: &Stage) {
    let mut acts: Vec<Act> = (9000..).zip(ROWS).map(|(port, row)| Act::new(row, port)).collect();
    for act in &mut acts {
        act.server_comes(stage, false);
        if matches!(act.row.how, How::Earlier) {
            // as on a later day, with the same values
            for (item, field, value) in [("db", "password", "hunter2"), ("multi", "token", "prodtok")] {
                act.server
                    .as_ref()
                    .expect("a server")
                    .control
                    .set("My Vault", item, field, value)
                    .expect("steered");
            }
        }
    }
    let sources: BTreeMap<&str, Value> = acts.iter().map(|act| (act.row.name, act.source(stage))).collect();
    let secrets: Vec<Value> = acts.iter().flat_map(Act::secrets).collect();
    let config = json!({ "sources": sources, "secrets": secrets, "recover": false });
    stage.write("/etc/onecred/secrets.json", config.to_string(), 0o644);
    stage.write("/etc/onecred/token", onecred_integration::fake_connect::DEFAULT_TOKEN, 0o600);
    let mut wrong = Wrong::default();

    for (kind, (_, value)) in [("old", OLD), ("young", YOUNG)] {
        let seen = play(stage, &acts.iter().collect::<Vec<_>>(), "first-", kind);
        for act in &acts {
            let unit = format!("first-{kind}-{}.service", act.row.name);
            wrong.unless_it_got(&seen, stage, &unit, &act.credential(kind), value);
        }
    }
    assert!(wrong.0.is_empty(), "without any fault: {:#?}", wrong.0);

    stage.write("/etc/hosts", HOSTS, 0o644);
    acts.iter_mut().for_each(|act| act.begins(stage));
    young_secrets_are_served_without_a_question(stage, &acts, &mut wrong);
    old_secrets(stage, &acts, &mut wrong);
    new_secrets(stage, &acts, &mut wrong);

    stage.write("/etc/hosts", format!("{HOSTS}127.0.0.1 connect.test\n"), 0o644);
    acts.iter_mut().for_each(|act| act.ends(stage));
    let over: Vec<&Act> = acts.iter().filter(|act| act.row.ends).collect();
    let seen = play(stage, &over, "", "late");
    for act in &over {
        let unit = format!("late-{}.service", act.row.name);
        wrong.unless_it_got(&seen, stage, &unit, &act.credential("late"), LATE.1);
    }
    assert!(wrong.0.is_empty(), "{} of {} rows: {:#?}", wrong.0.len(), ROWS.len(), wrong.0);
}

fn young_secrets_are_served_without_a_question(stage: &Stage, acts: &[Act], wrong: &mut Wrong) {
    let seen = play(stage, &acts.iter().collect::<Vec<_>>(), "", "young");
    for act in acts {
        let unit = format!("young-{}.service", act.row.name);
        wrong.unless_it_got(&seen, stage, &unit, &act.credential("young"), YOUNG.1);
        wrong.unless(!seen.journal.contains(&format!("for {unit} is")), || {
            format!("{unit}: {}", lines(&seen.journal, &unit))
        });
        wrong.unless_few(act.row, "young", &act.calls(), 0);
    }
}

fn old_secrets(stage: &Stage, acts: &[Act], wrong: &mut Wrong) {
    let seen = play(stage, &acts.iter().collect::<Vec<_>>(), "", "old");
    for act in acts {
        let (row, id) = (act.row, act.credential("old"));
        let unit = format!("{id}.service");
        match row.warm {
            Warm::Gets => {
                wrong.unless_it_got(&seen, stage, &unit, &id, OLD.1);
                wrong.unless(!seen.journal.contains(&format!("for {unit} is served")), || {
                    lines(&seen.journal, &unit)
                });
            }
            Warm::Stale(class) => {
                wrong.unless_it_got(&seen, stage, &unit, &id, OLD.1);
                let begins = format!("]: credential {id} for {unit} is served from the cache ({})", OLD.0);
                wrong.unless_said(&seen, &unit, &begins, &[&format!("now: {class}: "), row.line, row.remedy]);
            }
            Warm::Refused(class) => {
                wrong.unless_it_was_refused(&seen, stage, &unit, &id);
                let begins = format!("]: credential {id} for {unit} refused: {}: {class}: ", OLD.0);
                wrong.unless_said(&seen, &unit, &begins, &[row.line, row.remedy]);
            }
        }
        wrong.unless_few(row, "old", &act.calls(), row.calls.1);
    }
}

fn new_secrets(stage: &Stage, acts: &[Act], wrong: &mut Wrong) {
    let seen = play(stage, &acts.iter().collect::<Vec<_>>(), "", "new");
    for act in acts {
        let (row, id) = (act.row, act.credential("new"));
        let unit = format!("{id}.service");
        match row.cold {
            Cold::Gets => wrong.unless_it_got(&seen, stage, &unit, &id, NEW.1),
            Cold::Refused(class) => {
                wrong.unless_it_was_refused(&seen, stage, &unit, &id);
                let begins = format!("]: credential {id} for {unit} refused: {}: {class}: ", NEW.0);
                wrong.unless_said(&seen, &unit, &begins, &[row.line, row.remedy]);
            }
        }
        wrong.unless_few(row, "new", &act.calls(), row.calls.0);
    }
}
