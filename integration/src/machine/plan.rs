//! A machine before it boots: the content of its root, and the commands that run first.
use super::{Fault, Machine, Running, Suite, inside::Inside, spawn, state::State};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use std::{
    fs::{self, File},
    io,
    os::unix::{
        fs::{PermissionsExt, symlink},
        net::UnixDatagram,
    },
    path::{Path, PathBuf},
    sync::PoisonError,
    time::{Duration, Instant},
};

const BOOT: &str = include_str!("boot.sh");
/// A new one with each reading.
const UUID: &str = "/proc/sys/kernel/random/uuid";
/// These need a kernel, a console or a network of their own, or only cost time.
const MASKED: [&str; 13] = [
    "console-getty.service",
    "ldconfig.service",
    "systemd-firstboot.service",
    "systemd-networkd.service",
    "systemd-resolved.service",
    "systemd-timesyncd.service",
    "systemd-journal-catalog-update.service",
    "dev-hugepages.mount",
    "dev-mqueue.mount",
    "sys-fs-fuse-connections.mount",
    "systemd-update-utmp.service",
    "systemd-update-utmp-runlevel.service",
    "systemd-user-sessions.service",
];
const PATIENCE: Duration = Duration::from_secs(120);

/// Files and commands for a machine's root.
#[derive(Clone)]
pub struct Plan {
    suite: Suite,
    layers: Vec<PathBuf>,
    files: Vec<(String, Vec<u8>, u32)>,
    prepare: Vec<String>,
    environment: Vec<String>,
    may_be_degraded: bool,
}

impl Plan {
    /// A bare machine of this suite.
    pub fn new(suite: Suite) -> Self {
        Self {
            suite,
            layers: Vec::new(),
            files: Vec::new(),
            prepare: Vec::new(),
            environment: Vec::new(),
            may_be_degraded: false,
        }
    }

    /// The suite that it will run.
    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// Overlays a directory on the root, as if its files were installed there. The directory is not written
    /// to.
    #[must_use]
    pub fn layer(mut self, folder: impl Into<PathBuf>) -> Self {
        self.layers.push(folder.into());
        self
    }

    /// Adds a file to the root.
    #[must_use]
    pub fn file(mut self, path: &str, content: impl AsRef<[u8]>, mode: u32) -> Self {
        self.files.push((path.into(), content.as_ref().into(), mode));
        self
    }

    /// Adds a unit to the root, which exists from the start of the boot.
    #[must_use]
    pub fn unit(self, name: &str, text: &str) -> Self {
        self.file(&format!("/etc/systemd/system/{name}"), text, 0o644)
    }

    /// Runs a shell command in the root before its systemd starts, as an installer would.
    #[must_use]
    pub fn prepare(mut self, command: &str) -> Self {
        self.prepare.push(command.into());
        self
    }

    /// Sets a variable in the environment of its PID 1, which units do not see. It must not contain
    /// whitespace.
    #[must_use]
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push(format!("{name}={value}"));
        self
    }

    /// Allows failed units after the boot; the test checks them itself.
    #[must_use]
    pub fn may_be_degraded(mut self) -> Self {
        self.may_be_degraded = true;
        self
    }

    /// Boots the machine, and returns when systemd reports the end of the boot.
    pub fn boot(&self) -> Result<Machine, Fault> {
        let state = State::create(self.suite)?;
        let (name, dir, cgroup) = (state.name.clone(), state.dir.clone(), state.cgroup.clone());
        self.seed(&dir.join("seed"), &name)?;
        devices(&dir.join("dev"))?;
        let root = self.suite.root()?;
        let seed = dir.join("seed");
        let layers = self.layers.iter().chain([&seed]).map(|layer| layer.display().to_string());
        let layers = layers.collect::<Vec<_>>().join("\n");
        let notify = UnixDatagram::bind(dir.join("notify"))?;
        notify.set_read_timeout(Some(Duration::from_millis(100)))?;
        let console = File::create(dir.join("console"))?;
        let errors = console.try_clone()?;

        let supervisor = spawn::bound_to_this_process("sh", |command| {
            command
                .args(["-euc", "echo $$ >\"$CGROUP/cgroup.procs\"; exec \"$@\"", "sh"])
                .args(
                    "unshare --mount --propagation private --cgroup --pid --net --uts --ipc --fork"
                        .split(' '),
                )
                .args(["--kill-child=KILL", "bash", "-c", BOOT, "boot"])
                .env("CGROUP", &cgroup)
                .env("STATE", &dir)
                .env("NAME", &name)
                .env("LOWER", &root)
                .env("LAYERS", &layers)
                .env("PREPARE", self.prepare.join("\n"))
                .env("ENVIRONMENT", self.environment.join(" "))
                .stdin(std::process::Stdio::null())
                .stdout(console)
                .stderr(errors);
            // Not in this process's group: Ctrl-C is for the test process, which then cleans up.
            std::os::unix::process::CommandExt::process_group(command, 0);
        })?;
        let running = Running::new(supervisor, state);

        let start = Instant::now();
        let lock = || running.lock().unwrap_or_else(PoisonError::into_inner);
        while !says_ready(&notify)? {
            if lock().has_ended() || start.elapsed() > PATIENCE {
                let console = fs::read_to_string(dir.join("console")).unwrap_or_default();
                return Err(Fault(format!("machine {name} did not boot:\n{console}")));
            }
        }
        let init = lock().init();
        let init = init.ok_or_else(|| Fault(format!("machine {name} has no PID 1")))?.as_raw();
        let inside = Inside::enter(init)?;
        let machine = Machine { suite: self.suite, running, init, inside };
        let is = machine.run(&["systemctl", "is-system-running", "--wait"]).stdout();
        if is.trim() != "running" && !self.may_be_degraded {
            let failed = machine.run(&["systemctl", "--failed", "--no-legend"]).stdout();
            return Err(Fault(format!("machine {name} is {is}{failed}{}", machine.journal_since(""))));
        }
        Ok(machine)
    }

    fn seed(&self, seed: &Path, name: &str) -> io::Result<()> {
        let units = seed.join("etc/systemd/system");
        fs::create_dir_all(&units)?;
        symlink("/usr/lib/systemd/system/multi-user.target", units.join("default.target"))?;
        for unit in MASKED {
            symlink("/dev/null", units.join(unit))?;
        }
        fs::write(seed.join("etc/machine-id"), fs::read_to_string(UUID)?.replace('-', ""))?;
        fs::write(seed.join("etc/hostname"), format!("{name}\n"))?;
        for (path, content, mode) in &self.files {
            let path = seed.join(path.trim_start_matches('/'));
            fs::create_dir_all(path.parent().unwrap_or(seed))?;
            fs::write(&path, content)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(*mode))?;
        }
        Ok(())
    }
}

/// Fills the /dev of a machine.
fn devices(dev: &Path) -> io::Result<()> {
    for folder in ["mqueue", "hugepages"] {
        fs::create_dir_all(dev.join(folder))?;
    }
    let nodes =
        [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
    for (name, major, minor) in nodes {
        let path = dev.join(name);
        mknod(&path, SFlag::S_IFCHR, Mode::empty(), makedev(major, minor))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666))?; // whatever the umask is
    }
    let links = [
        ("ptmx", "pts/ptmx"),
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ];
    links.iter().try_for_each(|(name, target)| symlink(target, dev.join(name)))
}

fn says_ready(notify: &UnixDatagram) -> io::Result<bool> {
    let mut message = [0; 4096];
    match notify.recv(&mut message) {
        Ok(length) => Ok(message[..length].split(|&byte| byte == b'\n').any(|line| line == b"READY=1")),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}
