//! Holds connections and never reads from them, until it is told that it is enough.

use super::{
    asker::{Asker, Form},
    inside::{OUT, keep},
};
use nix::{
    errno::Errno,
    sys::socket::{SockFlag, UnixAddr, connect},
};
use serde::{Deserialize, Serialize};
use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
    thread,
    time::Duration,
};

/// How far it is.
#[derive(Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct Holding {
    /// Connections that the kernel has taken.
    pub connected: usize,
    /// Sockets that wait for a place in the listen queue.
    pub waiting: usize,
}

/// Does it, and keeps in a file how far it is.
pub fn inside(unit: &str, id: &str, count: usize) -> io::Result<()> {
    let mut asker = Asker::of(unit, Form::Plain)?;
    let to = UnixAddr::new(Form::Plain.socket())?;
    let mut waiting =
        (0..count).map(|_| asker.bound(id, SockFlag::SOCK_NONBLOCK)).collect::<io::Result<Vec<_>>>()?;
    let mut held: Vec<OwnedFd> = Vec::with_capacity(count);
    while !Path::new(OUT).join("enough").exists() {
        while let Some(socket) = waiting.pop() {
            match connect(socket.as_raw_fd(), &to) {
                Ok(()) => held.push(socket),
                Err(Errno::EAGAIN) => {
                    waiting.push(socket);
                    break;
                }
                Err(error) => return Err(error.into()),
            }
        }
        keep(unit, &serde_json::to_vec(&Holding { connected: held.len(), waiting: waiting.len() })?)?;
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
