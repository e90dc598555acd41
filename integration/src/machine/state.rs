//! What a machine leaves outside its namespaces: a folder, a control group and a process. And how they go away.
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

/// The folder and the control group of one machine, locked for as long as its test process lives.
pub(super) struct State {
    pub(super) name: String,
    pub(super) dir: PathBuf,
    pub(super) cgroup: PathBuf,
    _lock: Flock<File>,
}

impl State {
    pub(super) fn create(suite: super::Suite) -> Result<Self, Fault> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let base = Path::new(BASE);
        fs::create_dir_all(base)?;
        let _one_at_a_time = lock(&base.join("lock"), FlockArg::LockExclusive)?;
        sweep(base);
        let name = format!("{suite}-{}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let dir = base.join(&name);
        for folder in ["work", "seed"] {
            fs::create_dir_all(dir.join(folder))?;
        }
        let cgroup = cgroup_of(&name)?;
        fs::create_dir(&cgroup)?;
        let lock = lock(&dir.join("lock"), FlockArg::LockExclusiveNonblock)?;
        Ok(Self { name, dir, cgroup, _lock: lock })
    }
}

impl Drop for State {
    fn drop(&mut self) {
        remove(&self.dir, &self.cgroup);
    }
}

/// A running machine's process with its state; cleared once, by whoever comes first.
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

    /// The machine's PID 1 as seen from outside, while there is one.
    pub(super) fn init(&self) -> Option<Pid> {
        let unshare = self.supervisor.id();
        let children = fs::read_to_string(format!("/proc/{unshare}/task/{unshare}/children")).ok()?;
        children.split_whitespace().next()?.parse().ok().map(Pid::from_raw)
    }

    pub(super) fn has_ended(&mut self) -> bool {
        !matches!(self.supervisor.try_wait(), Ok(None))
    }

    /// Kills PID 1, and with it all that lives in its namespace, and removes what is left outside.
    pub(super) fn clear(&mut self) {
        let Some(state) = self.state.take() else { return };
        if !self.has_ended() {
            match self.init() {
                Some(init) => drop(kill(init, Signal::SIGKILL)),
                None => drop(self.supervisor.kill()),
            }
            let _ = self.supervisor.wait();
        }
        drop(state);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.clear();
    }
}

static LIVE: Mutex<Vec<Weak<Mutex<Running>>>> = Mutex::new(Vec::new());

/// Makes Ctrl-C and a polite kill clear every machine first. To be called before any other thread is started.
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

/// Removes what a test process left behind that was killed too hard to do it itself: its locks are free.
fn sweep(base: &Path) {
    for dir in fs::read_dir(base).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir()) {
        if let (Ok(_free), Ok(cgroup)) = (
            lock(&dir.path().join("lock"), FlockArg::LockExclusiveNonblock),
            cgroup_of(&dir.file_name().to_string_lossy()),
        ) {
            remove(&dir.path(), &cgroup);
        }
    }
}

fn remove(dir: &Path, cgroup: &Path) {
    // A group is busy until its last process is reaped.
    for _ in 0..500 {
        match remove_groups(cgroup) {
            Err(error) if error.raw_os_error() == Some(Errno::EBUSY as i32) => {
                thread::sleep(Duration::from_millis(10))
            }
            _ => break,
        }
    }
    let _ = fs::remove_dir_all(dir);
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
