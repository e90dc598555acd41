//! Connects to a credential socket like an untrusted process: with any peer name, and reading at any speed.
//!
//! `probe SOCKET NAME [LENGTH FIFO]` binds `\0<hex>/NAME` (nothing if NAME is `-`), connects, and writes what
//! it receives to standard output, but at most one byte more than systemd accepts. With LENGTH it stops
//! reading after that many bytes, sends READY=1, and continues when someone opens FIFO for writing.
//!
//! `probe storm SOCKET UNIT COUNT` requests that many credentials one after another (id-1, id-2, …) and hangs
//! up at the first byte of each.
use nix::sys::socket::{
    AddressFamily, Shutdown, SockFlag, SockType, UnixAddr, bind, connect, shutdown, socket,
};
use std::{
    env,
    error::Error,
    fs::File,
    io::{self, Read, Write},
    os::{
        fd::AsRawFd,
        unix::net::{UnixDatagram, UnixStream},
    },
    process,
};

/// The total size that systemd accepts for the credentials of a unit.
const TAKEN: u64 = 1 << 20;

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = env::args().skip(1).collect();
    let (path, name, pause) = match &words[..] {
        [path, name] => (path, name, None),
        [storm, path, unit, count] if storm == "storm" => {
            for n in 1..=count.parse::<u32>()? {
                let _ = connected(path, &format!("unit/{unit}/id-{n}"))?.read(&mut [0])?;
            }
            return Ok(());
        }
        [path, name, length, fifo] => (path, name, Some((length.parse()?, fifo))),
        _ => return Err("usage: probe SOCKET NAME [LENGTH FIFO], or probe storm SOCKET UNIT COUNT".into()),
    };
    let stream = connected(path, name)?;
    let mut read = 0;
    let mut out = io::stdout().lock();
    if let Some((length, fifo)) = pause {
        read = io::copy(&mut (&stream).take(length), &mut out)?;
        if let Some(manager) = env::var_os("NOTIFY_SOCKET") {
            UnixDatagram::unbound()?.send_to(b"READY=1", manager)?;
        }
        File::open(fifo)?.read_to_end(&mut Vec::new())?;
    }
    io::copy(&mut stream.take(TAKEN + 1 - read), &mut out)?;
    Ok(out.flush()?)
}

fn connected(path: &str, name: &str) -> Result<UnixStream, Box<dyn Error>> {
    let fd = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    if name != "-" {
        let address = format!("{:x}/{name}", process::id());
        bind(fd.as_raw_fd(), &UnixAddr::new_abstract(address.as_bytes())?)?;
    }
    connect(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    shutdown(fd.as_raw_fd(), Shutdown::Write)?;
    Ok(UnixStream::from(fd))
}
