//! The state of a machine outside its namespaces (a directory, a control group and a process), and how it is
//! removed.
use super::Fault;
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    sys::signal::{SigSet, Signal, kill},
    unistd::Pid,
};
use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{self, Child},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

const BASE: &str = "/run/onecred-integration";

/// A directory of this test process, locked while the process runs.
pub struct Layer {
    dir: PathBuf,
    _lock: Flock<File>,
}

impl Layer {
    /// Creates an empty directory. It is removed when dropped, or else by the next test process.
    pub fn create(purpose: &str) -> io::Result<Self> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let base = Path::new(BASE);
        fs::create_dir_all(base)?;
        let _one_at_a_time = lock(&base.join("lock"), FlockArg::LockExclusive)?;
        sweep(base);
        let dir = base.join(format!("{purpose}-{}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir(&dir)?;
        let lock = lock(&dir.with_extension("lock"), FlockArg::LockExclusiveNonblock)?;
        Ok(Self { dir, _lock: lock })
    }

    /// The path.
    pub fn path(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Layer {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
        let _ = fs::remove_file(self.dir.with_extension("lock"));
    }
}

/// The directory and the control group of a machine.
pub(super) struct State {
    pub(super) name: String,
    pub(super) dir: PathBuf,
    pub(super) cgroup: PathBuf,
    _layer: Layer,
}

impl State {
    pub(super) fn create(suite: super::Suite) -> Result<Self, Fault> {
        let layer = Layer::create(&suite.to_string())?;
        let dir = layer.path().to_path_buf();
        for folder in ["work", "seed"] {
            fs::create_dir(dir.join(folder))?;
        }
        let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let cgroup = cgroup_of(&name)?;
        fs::create_dir(&cgroup)?;
        Ok(Self { name, dir, cgroup, _layer: layer })
    }
}

impl Drop for State {
    fn drop(&mut self) {
        remove_group(&self.cgroup);
    }
}

/// The process of a running machine, and its state. Cleared once, by the first caller.
pub(super) struct Running {
    supervisor: Child,
    state: Option<State>,
}

impl Running {
    pub(super) fn new(supervisor: Child, state: State) -> Arc<Mutex<Self>> {
        let running = Arc::new(Mutex::new(Self { supervisor, state: Some(state) }));
        let mut live = LIVE.lock().unwrap_or_else(PoisonError::into_inner);
        live.retain(|machine| machine.strong_count() > 0);
        live.push(Arc::downgrade(&running));
        running
    }

    /// The machine's PID 1 as seen from outside, while it runs.
    pub(super) fn init(&self) -> Option<Pid> {
        let unshare = self.supervisor.id();
        let children = fs::read_to_string(format!("/proc/{unshare}/task/{unshare}/children")).ok()?;
        children.split_whitespace().next()?.parse().ok().map(Pid::from_raw)
    }

    /// The machine's control group, until it is cleared.
    pub(super) fn cgroup(&self) -> Option<PathBuf> {
        self.state.as_ref().map(|state| state.cgroup.clone())
    }

    pub(super) fn has_ended(&mut self) -> bool {
        !matches!(self.supervisor.try_wait(), Ok(None))
    }

    /// Kills PID 1 and thereby everything in its namespace, and removes the state outside.
    pub(super) fn clear(&mut self) {
        let Some(state) = self.state.take() else { return };
        if !self.has_ended() {
            match self.init() {
                Some(init) => drop(kill(init, Signal::SIGKILL)),
                None => drop(self.supervisor.kill()),
            }
            self.wait_or_kill();
        }
        drop(state);
    }
}

impl Running {
    /// Waits for PID 1, which ends only when the last process of its namespace is reaped, including those
    /// that entered from outside.
    fn wait_or_kill(&mut self) {
        for _ in 0..1000 {
            if self.has_ended() {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        let _ = self.supervisor.kill();
        let _ = self.supervisor.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.clear();
    }
}

static LIVE: Mutex<Vec<Weak<Mutex<Running>>>> = Mutex::new(Vec::new());

/// Makes SIGINT and SIGTERM clear every machine first. Call it before any other thread starts.
pub fn clear_on_signals() -> nix::Result<()> {
    let mut signals = SigSet::empty();
    signals.extend([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
    signals.thread_block()?;
    thread::spawn(move || {
        let signal = signals.wait().unwrap_or(Signal::SIGTERM);
        let live = LIVE.lock().unwrap_or_else(PoisonError::into_inner);
        for machine in live.iter().filter_map(Weak::upgrade) {
            machine.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
        process::exit(128 + signal as i32);
    });
    Ok(())
}

fn lock(path: &Path, how: FlockArg) -> io::Result<Flock<File>> {
    let file = File::options().create(true).append(true).open(path)?;
    Flock::lock(file, how).map_err(|(_, errno)| errno.into())
}

/// Removes the state of test processes that were killed before they could do it: their locks are free.
fn sweep(base: &Path) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir()) {
        let dir = entry.path();
        if let Ok(free) = lock(&dir.with_extension("lock"), FlockArg::LockExclusiveNonblock) {
            if let Ok(cgroup) = cgroup_of(&entry.file_name().to_string_lossy()) {
                remove_group(&cgroup);
            }
            drop(Layer { dir, _lock: free });
        }
    }
}

/// Removes a control group, which is busy until its last process is reaped.
fn remove_group(cgroup: &Path) {
    for _ in 0..500 {
        match remove_groups(cgroup) {
            Err(error) if error.raw_os_error() == Some(Errno::EBUSY as i32) => {
                thread::sleep(Duration::from_millis(10));
            }
            _ => break,
        }
    }
}

fn remove_groups(group: &Path) -> io::Result<()> {
    for below in fs::read_dir(group)?.flatten().filter(|entry| entry.path().is_dir()) {
        remove_groups(&below.path())?;
    }
    fs::remove_dir(group)
}

fn cgroup_of(name: &str) -> Result<PathBuf, Fault> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    mounts
        .lines()
        .find_map(|line| {
            let (mount, kind) = line.split_once(" - ")?;
            let point = mount.split(' ').nth(4)?;
            kind.starts_with("cgroup2 ").then(|| Path::new(point).join(format!("onecred-{name}")))
        })
        .ok_or_else(|| Fault("no cgroup2 is mounted; mount one: mount -t cgroup2 none /sys/fs/cgroup".into()))
}
