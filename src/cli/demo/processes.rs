//! The two processes of the demo: this program on sockets and files in a temporary directory. They end with
//! the demo.

use std::error::Error;
use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::fstat;

const VAULT: &str = include_str!("vault.json");
/// With `always`, the demo does not have to wait until a value is compared with the vault again.
const SECRETS: &str = r#"{
  "source": { "kind": "file", "path": "VAULT" },
  "defaults": { "maxAge": "always" },
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
        let name = format!("onecred-demo-{:08x}", fastrand::u32(..));
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
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Where the provider logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Log {
    /// To a file in the directory.
    File,
    /// To the journal of the system.
    Journal,
}

/// The running processes.
pub(super) struct Processes {
    provider: Process,
    resolver: Process,
    socket: PathBuf,
    /// The socket of a resolver that does not answer.
    silent_resolver: Option<UnixListener>,
    folder: Folder,
}

impl Processes {
    pub(super) fn start(log: Log) -> Result<Self, Box<dyn Error>> {
        let folder = Folder::new()?;
        let file = |name: &str| folder.0.join(name);
        fs::write(file("vault.json"), VAULT)?;
        fs::write(file("secrets.json"), SECRETS.replace("VAULT", &file("vault.json").to_string_lossy()))?;
        fs::DirBuilder::new().mode(0o700).create(file("store"))?;
        let resolver = start(&folder, "resolve", &[("--socket", file("resolver.sock"))], Log::File)?;
        let sockets = [
            ("--socket", file("credential.sock")),
            ("--store", file("store")),
            ("--resolver", file("resolver.sock")),
        ];
        let provider = start(&folder, "serve", &sockets, log)?;
        Ok(Self { provider, resolver, socket: file("credential.sock"), silent_resolver: None, folder })
    }

    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Replaces the password in the vault, as an edit of the item would.
    pub(super) fn change_password(&self, from: &str, to: &str) -> io::Result<()> {
        let vault = VAULT.replace(from, to).replace("ersion\": 1", "ersion\": 2");
        let (path, new) = (self.folder.0.join("vault.json"), self.folder.0.join("vault.json.new"));
        fs::write(&new, vault)?;
        fs::rename(new, path)
    }

    /// Replaces the resolver by a socket that never answers.
    pub(super) fn stop_resolver(&mut self) -> io::Result<()> {
        self.resolver.0.kill()?;
        self.resolver.0.wait()?;
        let path = self.folder.0.join("resolver.sock");
        fs::remove_file(&path)?;
        let listener =
            crate::host::systemd::activation::bound_at(&path, nix::sys::socket::SockType::SeqPacket)?;
        let listener = UnixListener::from(listener);
        listener.set_nonblocking(false)?;
        self.silent_resolver = Some(listener);
        Ok(())
    }

    /// Waits until the provider has asked the resolver, which does not answer.
    pub(super) fn wait_until_asked(&self) -> io::Result<()> {
        if let Some(resolver) = &self.silent_resolver {
            let mut asked = [PollFd::new(resolver.as_fd(), PollFlags::POLLIN)];
            if poll(&mut asked, PollTimeout::from(20_000u16))? == 0 {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the provider did not ask the resolver"));
            }
            std::mem::forget(resolver.accept()?); // remains open: EOF would be an answer
        }
        Ok(())
    }

    /// Kills the provider, but not its keeper.
    pub(super) fn kill_provider(&mut self) -> io::Result<()> {
        self.provider.0.kill()?;
        self.provider.0.wait().map(drop)
    }
}

fn start(
    folder: &Folder,
    verb: &str,
    paths: &[(&str, PathBuf)],
    log: Log,
) -> Result<Process, Box<dyn Error>> {
    let ready = folder.0.join(format!("{verb}.ready"));
    let notifications = UnixDatagram::bind(&ready)?;
    notifications.set_read_timeout(Some(STARTING))?;
    let file = folder.0.join(format!("{verb}.log"));
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(verb).arg("--development").arg("--config").arg(&folder.0);
    for (option, path) in paths {
        command.arg(option).arg(path);
    }
    for variable in ["LISTEN_FDS", "LISTEN_PID", "JOURNAL_STREAM", "WATCHDOG_USEC"] {
        command.env_remove(variable);
    }
    command.env("NOTIFY_SOCKET", &ready).stdin(Stdio::null()).stdout(Stdio::null());
    match log {
        Log::File => command.stderr(fs::File::create(&file)?),
        Log::Journal => {
            let stream = journal_stream()?;
            let stat = fstat(&stream)?;
            command.env("JOURNAL_STREAM", format!("{}:{}", stat.st_dev, stat.st_ino));
            command.stderr(OwnedFd::from(stream))
        }
    };
    let process = Process(command.spawn()?);
    let mut message = [0; 4096];
    loop {
        let said = notifications.recv(&mut message).map_err(|_| {
            let log = fs::read_to_string(&file).unwrap_or_default();
            format!("onecred {verb} does not start: {}", log.trim())
        })?;
        if message[..said].split(|&byte| byte == b'\n').any(|line| line == b"READY=1") {
            return Ok(process);
        }
    }
}

/// A stream to the journal, as systemd connects it to a service's standard error: a header of seven lines
/// (identifier, unit, priority, four flags), then text.
fn journal_stream() -> io::Result<UnixStream> {
    let mut stream = UnixStream::connect("/run/systemd/journal/stdout")?;
    stream.write_all(b"onecred\n\n6\n0\n0\n0\n0\n")?;
    Ok(stream)
}
