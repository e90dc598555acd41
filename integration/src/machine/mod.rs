//! A real systemd as PID 1 of separate namespaces, without a container engine.
mod inside;
mod manager;
mod plan;
mod ran;
mod spawn;
mod state;
mod suite;

pub use plan::Plan;
pub use ran::Ran;
pub use state::{Layer, clear_on_signals};
pub use suite::Suite;

use inside::Inside;
use nix::{
    sched::{CloneFlags, setns},
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use state::Running;
use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::{Duration, Instant, SystemTime},
};

/// How long a command inside may take before it counts as hung.
const HUNG: Duration = Duration::from_secs(180);
/// How long one that hangs may take to end after SIGTERM.
const ENDING: Duration = Duration::from_secs(5);

/// Why a machine could not be started.
#[derive(Debug)]
pub struct Fault(String);

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<String> for Fault {
    fn from(what: String) -> Self {
        Self(what)
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A booted machine. It ends when this is dropped or the test process ends.
pub struct Machine {
    /// Its systemd.
    pub suite: Suite,
    running: Arc<Mutex<Running>>,
    init: i32,
    inside: Inside,
}

impl Machine {
    /// Runs a command inside as root and waits for its end.
    pub fn run<S: AsRef<str>>(&self, command: &[S]) -> Ran {
        self.run_with_input(command, b"")
    }

    /// Runs a command inside as root, with `input` as its standard input.
    pub fn run_with_input<S: AsRef<str>>(&self, command: &[S], input: &[u8]) -> Ran {
        let words: Vec<String> = command.iter().map(|word| word.as_ref().to_owned()).collect();
        let said = words.join(" ");
        let spawned = self.inside.spawn(&words, |command| {
            environment(command).process_group(0);
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        });
        let mut child =
            spawned.unwrap_or_else(|error| panic!("can't start `{said}` in the machine: {error}"));
        let stdin = child.stdin.take();
        let group = Pid::from_raw(i32::try_from(child.id()).unwrap_or_default());
        let (ended, end) = mpsc::channel::<()>();
        let output = thread::scope(|scope| {
            scope.spawn(move || end_what_hangs(group, &end));
            scope.spawn(|| stdin.map(|mut pipe| pipe.write_all(input)));
            let output = child.wait_with_output();
            drop(ended);
            output
        });
        Ran::new(said, output.unwrap_or_else(|error| panic!("lost a command in the machine: {error}")))
    }

    /// Runs a shell script inside as root.
    pub fn sh(&self, script: &str) -> Ran {
        self.run(&["sh", "-euc", script])
    }

    /// A command that will run inside, for callers that control it themselves.
    pub fn inside(&self) -> Command {
        let mut command = Command::new("/usr/bin/nsenter");
        command.args(["-t", &self.init.to_string(), "-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w", "--"]);
        environment(&mut command);
        command
    }

    /// Writes a new file inside in place of what is there, as install(1) does. Creates its directories.
    #[track_caller]
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>, mode: u32) {
        let written = self.inside.write(path, content.as_ref(), mode);
        written.unwrap_or_else(|error| panic!("can't write {path} in the machine: {error}"));
    }

    /// Reads a file inside.
    #[track_caller]
    pub fn read(&self, path: &str) -> Vec<u8> {
        self.inside.read(path).unwrap_or_else(|error| panic!("can't read {path} in the machine: {error}"))
    }

    /// Writes unit files that systemd has not seen yet. systemd finds new ones without a daemon-reload, which
    /// would disturb other cases on the machine (on 252 it breaks transient units). Writes from outside,
    /// because processes in the machine cost more.
    #[track_caller]
    pub fn units<'a>(&self, units: impl IntoIterator<Item = (&'a str, &'a str)>) {
        let folder = self.root().join("run/systemd/system");
        for (name, text) in units {
            let file = folder.join(name);
            let written =
                fs::create_dir_all(file.parent().unwrap_or(&folder)).and_then(|()| fs::write(&file, text));
            written.unwrap_or_else(|error| panic!("can't write {}: {error}", file.display()));
        }
    }

    /// The output of `journalctl -u UNIT`.
    pub fn journal(&self, unit: &str) -> String {
        self.run(&["journalctl", "--sync"]);
        self.journal_so_far(unit)
    }

    /// The same without what journald has received and not yet written, for callers that wait for a line.
    pub fn journal_so_far(&self, unit: &str) -> String {
        self.run(&["journalctl", "--no-pager", "-u", unit]).stdout()
    }

    /// The current end of the journal.
    pub fn journal_cursor(&self) -> String {
        let shown = self.run(&["journalctl", "--no-pager", "-n", "0", "--show-cursor"]).stdout();
        shown.lines().find_map(|line| line.strip_prefix("-- cursor: ")).unwrap_or_default().into()
    }

    /// The whole journal from a cursor on; from the start if it is empty.
    pub fn journal_since(&self, cursor: &str) -> String {
        let after = format!("--after-cursor={cursor}");
        self.whole_journal((!cursor.is_empty()).then_some(after.as_str()))
    }

    /// The whole journal from a time on.
    pub fn journal_from(&self, time: SystemTime) -> String {
        let passed = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.whole_journal(Some(&format!("--since=@{}.{:06}", passed.as_secs(), passed.subsec_micros())))
    }

    fn whole_journal(&self, part: Option<&str>) -> String {
        self.run(&["journalctl", "--sync"]);
        let mut command = vec!["journalctl", "--no-pager", "-o", "short-precise", "--no-hostname"];
        command.extend(part);
        self.run(&command).stdout()
    }

    /// A property of a unit.
    pub fn show(&self, unit: &str, property: &str) -> String {
        match self.properties(unit, &[property]) {
            Some([value]) => value,
            None => {
                self.run(&["systemctl", "show", "--value", "-p", property, "--", unit]).ok().trim().into()
            }
        }
    }

    /// Properties of a unit without another process; `None` if only systemctl can read them, which also waits
    /// while systemd reloads.
    pub fn properties<const N: usize>(&self, unit: &str, names: &[&str; N]) -> Option<[String; N]> {
        let (unit, names) = (unit.to_owned(), names.map(str::to_owned));
        let read = move || manager::properties(&unit, &names.each_ref().map(String::as_str));
        self.inside.run(read).ok()??.try_into().ok()
    }

    /// Runs `work` in the machine's network: what it binds can be reached from inside on `lo`.
    pub fn in_network<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        let network = File::open(format!("/proc/{}/ns/net", self.init))?;
        thread::scope(|scope| {
            let entered = scope.spawn(move || setns(network, CloneFlags::CLONE_NEWNET).map(|()| work()));
            entered
                .join()
                .map_err(|_| io::Error::other("panicked in the machine's network"))?
                .map_err(io::Error::from)
        })
    }

    /// The machine's root as seen from outside. Do not follow absolute links inside it, which lead outside.
    pub fn root(&self) -> std::path::PathBuf {
        Path::new("/proc").join(self.init.to_string()).join("root")
    }

    /// Shuts the machine down, waits until it is off, and returns the messages of its journal.
    pub fn power_off(&self) -> io::Result<String> {
        // It is not a process of the machine's PID namespace, so the shutdown does not end it, and it keeps
        // the file systems.
        let mut keeper = spawn::bound_to_this_process("nsenter", |command| {
            command.args(["-t", &self.init.to_string(), "-m", "-r", "-w", "--", "sleep", "infinity"]);
        })?;
        let of_keeper = |what| format!("/proc/{}/{what}", keeper.id());
        wait_until("the keeper is in", || fs::read(of_keeper("comm")).is_ok_and(|name| name == b"sleep\n"));
        self.run(&["systemctl", "poweroff", "--no-block"]);
        wait_until("the machine is off", || self.lock().has_ended());
        // Read from outside: /proc is no longer mounted inside, and journalctl needs it.
        let journal = format!("--root={}", of_keeper("root"));
        let journal = Command::new("journalctl").args([&journal, "--no-pager", "-o", "cat"]).output();
        keeper.kill()?;
        keeper.wait()?;
        Ok(String::from_utf8_lossy(&journal?.stdout).into_owned())
    }

    /// The processor time that everything in the machine has used.
    pub fn processor_time(&self) -> Option<Duration> {
        let group = self.lock().cgroup()?;
        let stat = fs::read_to_string(group.join("cpu.stat")).ok()?;
        let usec = stat.lines().find_map(|line| line.strip_prefix("usage_usec "))?;
        usec.parse().ok().map(Duration::from_micros)
    }

    /// Kills everything in the machine at once.
    pub fn switch_off(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.lock().clear();
    }
}

/// Sets the environment of a command that runs inside.
fn environment(command: &mut Command) -> &mut Command {
    command.env_clear().envs([
        ("PATH", inside::PATH),
        ("HOME", "/root"),
        ("LANG", "C.UTF-8"),
        ("TERM", "dumb"),
        ("SYSTEMD_PAGER", "cat"),
        ("SYSTEMD_COLORS", "0"),
        // messages are not wrapped, so that a case finds their words
        ("COLUMNS", "10000"),
    ])
}

/// Ends a process group that is still there after a long time. Ends as soon as the channel closes. Not timeout(1): it is another process for each
/// command.
fn end_what_hangs(group: Pid, end: &mpsc::Receiver<()>) {
    for (patience, signal) in [(HUNG, Signal::SIGTERM), (ENDING, Signal::SIGKILL)] {
        if end.recv_timeout(patience) != Err(mpsc::RecvTimeoutError::Timeout) {
            return;
        }
        let _ = killpg(group, signal);
    }
}

/// Waits for something that announces itself in no better way. Panics after two minutes.
///
/// The pauses grow with the elapsed time, up to half a second, because most checks start processes in the
/// machine.
pub fn wait_until(what: &str, is_so: impl FnMut() -> bool) {
    wait(what, is_so, |passed| (passed / 8).clamp(Duration::from_millis(20), Duration::from_millis(500)));
}

/// The same without long pauses, for cheap checks whose result is needed at once.
pub fn watch_until(what: &str, is_so: impl FnMut() -> bool) {
    wait(what, is_so, |_| Duration::from_millis(5));
}

fn wait(what: &str, mut is_so: impl FnMut() -> bool, pause: impl Fn(Duration) -> Duration) {
    let start = Instant::now();
    while !is_so() {
        let passed = start.elapsed();
        assert!(passed < Duration::from_secs(120), "waited two minutes in vain until {what}");
        thread::sleep(pause(passed));
    }
}
