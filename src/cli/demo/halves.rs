//! The two processes of the demo: this program on sockets and files in a temporary directory. They end with
//! it.

use std::error::Error;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

const VAULT: &str = include_str!("vault.json");
const SECRETS: &str = r#"{
  "source": { "kind": "file", "path": "VAULT" },
  "secrets": [
    { "name": "db-password", "reference": "op://Demo/database/password", "units": ["app", "onecred-demo-*"] },
    { "name": "api-key", "reference": "op://Demo/openai/api key", "units": ["app"] }
  ],
  "rules": [ { "units": ["batch@*"], "reference": "op://Demo/{instance}/{credential}" } ]
}
"#;

/// How long a process may take to start.
const STARTING: Duration = Duration::from_secs(20);

/// A directory that is removed when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> io::Result<Self> {
        let parent = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|dir| dir.is_dir());
        let name = format!("onecred-demo-{}-{:08x}", std::process::id(), fastrand::u32(..));
        let path = parent.unwrap_or_else(std::env::temp_dir).join(name);
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A process that is killed when dropped.
struct Half(Child);

impl Drop for Half {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The running processes.
pub(super) struct Halves {
    provider: Half,
    resolver: Half,
    socket: PathBuf,
    stand_in: Option<std::os::unix::net::UnixListener>,
    folder: Folder,
}

impl Halves {
    pub(super) fn start() -> Result<Self, Box<dyn Error>> {
        let folder = Folder::new()?;
        let file = |name: &str| folder.0.join(name);
        fs::write(file("vault.json"), VAULT)?;
        fs::write(file("secrets.json"), SECRETS.replace("VAULT", &file("vault.json").to_string_lossy()))?;
        fs::DirBuilder::new().mode(0o700).create(file("store"))?;
        let resolver = start(&folder, "resolve", &[("--socket", file("resolver.sock"))])?;
        let sockets = [
            ("--socket", file("credential.sock")),
            ("--store", file("store")),
            ("--resolver", file("resolver.sock")),
        ];
        let provider = start(&folder, "serve", &sockets)?;
        Ok(Self { provider, resolver, socket: file("credential.sock"), stand_in: None, folder })
    }

    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    pub(super) fn provider(&self) -> u32 {
        self.provider.0.id()
    }

    pub(super) fn resolver(&self) -> u32 {
        self.resolver.0.id()
    }

    /// Replaces the resolver by a socket that never answers.
    pub(super) fn stop_resolver(&mut self) -> io::Result<()> {
        self.resolver.0.kill()?;
        self.resolver.0.wait()?;
        let path = self.folder.0.join("resolver.sock");
        fs::remove_file(&path)?;
        let listener =
            crate::host::systemd::activation::bound_at(&path, nix::sys::socket::SockType::SeqPacket)?;
        let listener = std::os::unix::net::UnixListener::from(listener);
        listener.set_nonblocking(false)?;
        self.stand_in = Some(listener);
        Ok(())
    }

    /// Waits until the provider has asked the resolver, which does not answer.
    pub(super) fn wait_until_asked(&self) -> io::Result<()> {
        if let Some(stand_in) = &self.stand_in {
            let mut asked = [PollFd::new(stand_in.as_fd(), PollFlags::POLLIN)];
            if poll(&mut asked, PollTimeout::from(20_000u16))? == 0 {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the provider did not ask the resolver"));
            }
            std::mem::forget(stand_in.accept()?); // remains open: EOF would be an answer
        }
        Ok(())
    }

    /// Kills the provider, but not its keeper.
    pub(super) fn kill_provider(&mut self) -> io::Result<()> {
        self.provider.0.kill()?;
        self.provider.0.wait().map(drop)
    }
}

fn start(folder: &Folder, verb: &str, paths: &[(&str, PathBuf)]) -> Result<Half, Box<dyn Error>> {
    let ready = folder.0.join(format!("{verb}.ready"));
    let notifications = UnixDatagram::bind(&ready)?;
    notifications.set_read_timeout(Some(STARTING))?;
    let log = folder.0.join(format!("{verb}.log"));
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(verb).arg("--development").arg("--config").arg(&folder.0);
    for (option, path) in paths {
        command.arg(option).arg(path);
    }
    for variable in ["LISTEN_FDS", "LISTEN_PID", "JOURNAL_STREAM", "WATCHDOG_USEC"] {
        command.env_remove(variable);
    }
    let command = command.env("NOTIFY_SOCKET", &ready).stdin(Stdio::null()).stdout(Stdio::null());
    let half = Half(command.stderr(fs::File::create(&log)?).spawn()?);
    let mut message = [0; 4096];
    loop {
        let said = notifications.recv(&mut message).map_err(|_| {
            format!("onecred {verb} does not start: {}", fs::read_to_string(&log).unwrap_or_default().trim())
        })?;
        if message[..said].split(|&byte| byte == b'\n').any(|line| line == b"READY=1") {
            return Ok(half);
        }
    }
}
