//! Holds connections without reading from them, until it is stopped.

use super::{
    asker::{Asker, Form},
    out::{OUT, keep},
    outcome::Counts,
};
use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    sys::socket::{SockFlag, UnixAddr, connect},
};
use serde::{Deserialize, Serialize};
use std::{
    fs::File,
    io,
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
    thread,
    time::Duration,
};

/// Its progress.
#[derive(Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct Holding {
    /// Connections that the kernel has accepted.
    pub connected: usize,
    /// Sockets that wait for a place in the listen queue.
    pub waiting: usize,
}

/// Holds the connections, and writes its progress to a file.
pub fn inside(unit: &str, id: &str, count: usize) -> io::Result<()> {
    let mut asker = Asker::of(unit, Form::Plain)?;
    let mut waiting =
        (0..count).map(|_| asker.bound(id, SockFlag::SOCK_NONBLOCK)).collect::<io::Result<Vec<_>>>()?;
    let mut held: Vec<OwnedFd> = Vec::with_capacity(count);
    while !Path::new(OUT).join("enough").exists() {
        connect_some(&mut waiting, &mut held)?;
        keep(unit, &serde_json::to_vec(&Holding { connected: held.len(), waiting: waiting.len() })?)?;
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Connects as many sockets as possible.
fn connect_some(waiting: &mut Vec<OwnedFd>, connected: &mut Vec<OwnedFd>) -> io::Result<()> {
    let to = UnixAddr::new(Form::Plain.socket())?;
    while let Some(socket) = waiting.pop() {
        match connect(socket.as_raw_fd(), &to) {
            Ok(()) => connected.push(socket),
            Err(Errno::EAGAIN) => {
                waiting.push(socket);
                break;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Makes this many requests at once: all connect before any reads. Writes the results to a file.
pub fn at_once(unit: &str, id: &str, count: usize) -> io::Result<()> {
    let mut asker = Asker::of(unit, Form::Plain)?;
    let mut waiting =
        (0..count).map(|_| asker.bound(id, SockFlag::SOCK_NONBLOCK)).collect::<io::Result<Vec<_>>>()?;
    let (mut connected, mut counts) = (Vec::with_capacity(count), Counts::default());
    while !waiting.is_empty() {
        connect_some(&mut waiting, &mut connected)?;
        thread::sleep(Duration::from_millis(1));
    }
    for socket in connected {
        fcntl(&socket, FcntlArg::F_SETFL(OFlag::empty()))?; // from now on it may block
        let (mut socket, mut got) = (File::from(socket), Vec::new());
        asker.read(&mut socket, &mut got, usize::MAX)?;
        counts.note(asker.judge(&got, id, 0).0);
    }
    keep(unit, &serde_json::to_vec(&counts)?)
}
