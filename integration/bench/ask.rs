//! Requests credentials as systemd does: binds the address with unit and credential ID, connects, sends
//! nothing, and reads until EOF.

use nix::sys::socket::{
    AddressFamily, Shutdown, SockFlag, SockType, UnixAddr, bind, connect, shutdown, socket,
};
use std::{
    fs::File,
    io::{self, Read},
    os::fd::AsRawFd,
    sync::atomic::{AtomicU32, Ordering},
};

/// The unit of the asking program.
pub const UNIT: &str = "bench";
/// The number of secrets.
pub const SECRETS: usize = 100;
/// The sockets of onecred and of the floor.
pub const SOCKETS: [&str; 2] = ["/run/onecred/credential.sock", "/run/floor/credential.sock"];

/// The name of the nth secret.
pub fn name(n: usize) -> String {
    format!("secret-{n:02}")
}

/// The value of the nth secret.
pub fn value(n: usize) -> String {
    format!("the value of secret {n:02} in 32 bytes")[..32].into()
}

/// Requests secrets in turn from a socket.
pub struct Asker {
    to: UnixAddr,
    questions: Vec<(UnixAddr, Vec<u8>)>,
    next: usize,
    buffer: Vec<u8>,
}

impl Asker {
    /// Requests at this socket. Its addresses differ from those of any other asker.
    pub fn of(path: &str) -> io::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let question = |n: usize| {
            let own = format!("{:x}{number:04x}/unit/{UNIT}.service/{}", std::process::id(), name(n));
            Ok((UnixAddr::new_abstract(own.as_bytes())?, value(n).into_bytes()))
        };
        let questions = (0..SECRETS).map(question).collect::<io::Result<_>>()?;
        Ok(Self { to: UnixAddr::new(path)?, questions, next: 0, buffer: vec![0; 4096] })
    }

    /// Makes the nth secret the next one.
    pub fn skip_to(&mut self, n: usize) {
        self.next = n % self.questions.len();
    }

    /// Requests the next secret. A wrong answer is an error.
    pub fn ask(&mut self) -> io::Result<()> {
        let (own, expected) = &self.questions[self.next];
        self.next = (self.next + 1) % self.questions.len();
        let fd = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
        bind(fd.as_raw_fd(), own)?;
        connect(fd.as_raw_fd(), &self.to)?;
        shutdown(fd.as_raw_fd(), Shutdown::Write)?;
        let (mut socket, mut length) = (File::from(fd), 0);
        loop {
            match socket.read(&mut self.buffer[length..])? {
                0 if self.buffer[..length] == **expected => return Ok(()),
                0 => return Err(io::Error::other(format!("a wrong answer of {length} bytes"))),
                n if length + n == self.buffer.len() => {
                    return Err(io::Error::other(String::from_utf8_lossy(&self.buffer[..200]).into_owned()));
                }
                n => length += n,
            }
        }
    }
}
