//! The environment of a case: a booted machine, what runs beside it, and the credentials that consumers
//! received.
use crate::{
    fake_connect::{self, Control, FakeConnect, Seen},
    installed::{LIBEXEC, SOCKET},
    machine::{Machine, Plan, wait_until},
    record::this_case,
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    io::ErrorKind,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// The address of the fake Connect server in a machine's network.
pub const CONNECT: &str = "127.0.0.1:8080";

/// A machine and its environment.
pub struct Stage {
    /// The machine.
    pub machine: Machine,
    connect: Mutex<Option<FakeConnect>>,
    /// The case that a consumer belongs to.
    owners: Mutex<BTreeMap<String, u64>>,
}

impl std::ops::Deref for Stage {
    type Target = Machine;

    fn deref(&self) -> &Machine {
        &self.machine
    }
}

/// The result of a unit.
#[derive(Default)]
pub struct End {
    settled: bool,
    result: String,
    status: String,
}

impl End {
    /// Parses a block of `systemctl show`.
    fn of(block: &str) -> Self {
        let of = |key: &str| {
            let line = block.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            line.unwrap_or_default().to_owned()
        };
        Self {
            settled: is_settled(&of("ActiveState"), &of("Job")),
            result: of("Result"),
            status: of("ExecMainStatus"),
        }
    }

    /// Whether its last run succeeded.
    pub fn succeeded(&self) -> bool {
        self.result == "success"
    }
}

fn is_settled(state: &str, job: &str) -> bool {
    matches!(state, "inactive" | "failed") && job.is_empty()
}

/// A unit that copies its credentials to where [`Stage::taken`] finds them, with more lines for its [Service]
/// section.
pub fn consumer(lines: &str, credentials: &[&str]) -> String {
    let asks: String = credentials.iter().map(|id| format!("LoadCredential={id}:{SOCKET}\n")).collect();
    format!("[Service]\nType=oneshot\nReadWritePaths=/srv/out\n{asks}ExecStart={LIBEXEC}/take %n\n{lines}\n")
}

impl Stage {
    /// Boots a plan.
    #[track_caller]
    pub fn of(plan: &Plan) -> Self {
        let machine = plan.boot().unwrap_or_else(|fault| panic!("{fault}"));
        Self { machine, connect: Mutex::new(None), owners: Mutex::default() }
    }

    /// Starts a new consumer, and checks that it got exactly these values.
    #[track_caller]
    pub fn gets(&self, unit: &str, lines: &str, values: &[(&str, &[u8])]) {
        let ids: Vec<&str> = values.iter().map(|(id, _)| *id).collect();
        self.units([(unit, consumer(lines, &ids).as_str())]);
        self.starts(unit, values);
    }

    /// Starts an existing consumer, and checks that it got exactly these values.
    #[track_caller]
    pub fn starts(&self, unit: &str, values: &[(&str, &[u8])]) {
        self.own(unit);
        self.forget(unit);
        self.run(&["systemctl", "start", "--", unit]);
        self.got(unit, values);
    }

    /// Waits until a consumer has run, and checks that it got exactly these values.
    #[track_caller]
    pub fn got(&self, unit: &str, values: &[(&str, &[u8])]) {
        let result = self.settled(unit).result;
        assert!(result == "success", "{unit}: {result}: {}", self.journal(unit));
        self.took(unit, values);
    }

    /// Checks that a consumer that has succeeded got exactly these values.
    #[track_caller]
    pub fn took(&self, unit: &str, values: &[(&str, &[u8])]) {
        for (id, value) in values {
            let taken = self.taken(unit, id);
            assert!(
                taken.as_deref() == Some(*value),
                "{unit} got {} for {id}, not {}",
                say(taken.as_deref()),
                say(Some(value))
            );
        }
    }

    /// Starts a consumer of one credential, and checks that it is refused for these reasons, in its own
    /// journal.
    #[track_caller]
    pub fn refuses(&self, unit: &str, lines: &str, id: &str, words: &[&str]) {
        self.units([(unit, consumer(lines, &[id]).as_str())]);
        self.run(&["systemctl", "start", "--", unit]);
        self.was_refused(unit, id, words);
    }

    /// Waits until a consumer has failed, and checks that it never ran and that its journal has the reason.
    #[track_caller]
    pub fn was_refused(&self, unit: &str, id: &str, words: &[&str]) {
        self.own(unit);
        self.was_243(unit, &self.settled(unit));
        let refusal = format!("]: credential {id} for {unit} refused: ");
        let line = self.waits_for_line(unit, &refusal);
        assert!(line.contains(" onecred["), "not said by onecred: {line}");
        for word in words {
            assert!(line.contains(word), "{word:?} is not in the reason: {line}");
        }
    }

    /// Checks that a unit that has ended failed because of its credentials, and has not run.
    #[track_caller]
    pub fn ended_243(&self, unit: &str) {
        self.was_243(unit, &self.end_of(unit));
    }

    /// The same for a known result.
    #[track_caller]
    pub fn was_243(&self, unit: &str, end: &End) {
        assert!(end.result == "exit-code", "{unit} did not fail: {}", self.journal(unit));
        assert_eq!(end.status, "243", "{unit}");
        assert!(!self.out(unit).exists(), "{unit} ran although it was refused");
    }

    /// Waits for a line in a unit's own journal, and returns it.
    #[track_caller]
    pub fn waits_for_line(&self, unit: &str, part: &str) -> String {
        let mut line = None;
        wait_until(&format!("{unit}'s journal holds {part:?}"), || {
            line = self.journal_so_far(unit).lines().find(|line| line.contains(part)).map(str::to_owned);
            line.is_some()
        });
        line.unwrap_or_default()
    }

    /// Waits until a unit that runs to completion has ended.
    #[track_caller]
    pub fn settled(&self, unit: &str) -> End {
        let mut end = None;
        wait_until(&format!("{unit} has come to an end"), || {
            end = Some(self.end_of(unit)).filter(|end| end.settled);
            end.is_some()
        });
        end.unwrap_or_default()
    }

    /// All properties that the result of a unit is judged by. In this order a unit that has ended in between
    /// is judged by its end.
    #[track_caller]
    fn end_of(&self, unit: &str) -> End {
        match self.properties(unit, &["ActiveState", "Job", "Result", "ExecMainStatus"]) {
            Some([state, job, result, status]) => End { settled: is_settled(&state, &job), result, status },
            None => self.ends(&[unit]).pop().unwrap_or_default(),
        }
    }

    /// The same for several units, in their order.
    #[track_caller]
    fn ends(&self, units: &[&str]) -> Vec<End> {
        let properties = "ActiveState,Job,Result,ExecMainStatus";
        let shown = self.run(&[&["systemctl", "show", "-p", properties, "--"][..], units].concat()).ok();
        let ends: Vec<End> = shown.split("\n\n").map(End::of).collect();
        assert_eq!(ends.len(), units.len(), "{units:?}: {shown}");
        ends
    }

    /// Waits until several units have ended. Returns their results in the same order.
    #[track_caller]
    pub fn all_settled(&self, units: &[&str]) -> Vec<End> {
        let mut ends = Vec::new();
        wait_until(&format!("{units:?} have come to an end"), || {
            ends = self.ends(units);
            ends.iter().all(|end| end.settled)
        });
        ends
    }

    /// The credential that a consumer received.
    pub fn taken(&self, unit: &str, id: &str) -> Option<Vec<u8>> {
        fs::read(self.out(unit).join(id)).ok()
    }

    /// Removes what a consumer received.
    pub fn forget(&self, unit: &str) {
        let _ = fs::remove_dir_all(self.out(unit));
    }

    /// Where a consumer's credentials are copied to.
    pub fn out(&self, unit: &str) -> PathBuf {
        self.root().join("srv/out").join(unit)
    }

    /// Starts the fake Connect server, or starts it again, with this content.
    pub fn connect_comes(&self, document: &Value) {
        *self.fake() = None; // the port must be free
        *self.fake() = Some(start_connect(&self.machine, document));
    }

    /// Stops the fake Connect server: connections are refused.
    pub fn connect_goes(&self) {
        *self.fake() = None;
    }

    /// Controls the fake Connect server.
    #[track_caller]
    pub fn connect(&self) -> Control {
        self.fake().as_ref().unwrap_or_else(|| panic!("no Connect runs here")).control.clone()
    }

    /// The requests to Connect so far.
    #[track_caller]
    pub fn calls(&self) -> Vec<Seen> {
        self.connect().requests().unwrap_or_else(|error| panic!("{error}"))
    }

    /// Registers the case that owns a consumer. Cases on a shared stage run at the same time, so two cases
    /// must not use the same consumer.
    #[track_caller]
    fn own(&self, unit: &str) {
        let Some(case) = this_case() else { return };
        let mut owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
        let owner = *owners.entry(unit.to_owned()).or_insert(case);
        drop(owners);
        assert_eq!(owner, case, "{unit} is another case's on this stage: take another name");
    }

    fn fake(&self) -> MutexGuard<'_, Option<FakeConnect>> {
        self.connect.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Formats a value for a failed test: values are not secret here, but may be long.
fn say(value: Option<&[u8]>) -> String {
    match value {
        None => "nothing".into(),
        Some(bytes) if bytes.len() > 80 => format!("{} bytes", bytes.len()),
        Some(bytes) => format!("{:?}", String::from_utf8_lossy(bytes)),
    }
}

fn start_connect(machine: &Machine, document: &Value) -> FakeConnect {
    let listen = CONNECT.parse().unwrap_or_else(|error| panic!("{error}"));
    connect_at(machine, &fake_connect::Options { listen, document: document.clone(), ..Default::default() })
}

/// Starts a fake Connect server in a machine's network. If one has just ended there, a process that is being
/// started may still hold its port.
#[track_caller]
pub fn connect_at(machine: &Machine, options: &fake_connect::Options) -> fake_connect::FakeConnect {
    let mut fake = None;
    wait_until("the port of the fake Connect is free", || {
        let start = || fake_connect::FakeConnect::start(options.clone());
        match machine.in_network(start).and_then(|started| started) {
            Ok(started) => fake = Some(started),
            Err(error) if error.kind() == ErrorKind::AddrInUse => {}
            Err(error) => panic!("no fake Connect: {error}"),
        }
        fake.is_some()
    });
    fake.unwrap_or_else(|| panic!("no fake Connect"))
}
