//! Finds the sockets that listen at a path, by the kernel's list of Unix sockets (sock_diag(7)).
//!
//! A path shows only that a socket was bound there once. The kernel's list shows whether a program still
//! listens at that file, and the descriptors of a process show whether it is that program.

use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket, sockopt,
};
use nix::sys::stat::{major, minor};
use nix::sys::time::{TimeVal, TimeValLike};

/// The service manager listens here in every network namespace that it runs in.
const OF_MANAGER: &[u8] = b"/run/systemd/private";
/// The maximum time that the kernel may take for a part of its list.
const PATIENCE: i64 = 2;

/// `SOCK_DIAG_BY_FAMILY` in linux/sock_diag.h.
const BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST | NLM_F_DUMP` in linux/netlink.h.
const REQUEST_ALL: u16 = 0x301;
/// `NLMSG_ERROR` and `NLMSG_DONE` in linux/netlink.h.
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// `1 << TCP_LISTEN`: sockets that listen.
const LISTENING: u32 = 1 << 10;
/// `UDIAG_SHOW_NAME | UDIAG_SHOW_VFS` in linux/unix_diag.h, and the numbers of these attributes.
const SHOW: u32 = 3;
const NAME: u16 = 0;
const VFS: u16 = 1;
/// The size of `struct nlmsghdr`, and of `struct unix_diag_msg`.
const HEADER: usize = 16;
const MESSAGE: usize = 16;

/// A socket that listens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Listener {
    /// The number of the socket, as in links of /proc/PID/fd.
    number: u64,
    /// The path to which it was bound, in the mount namespace of the program that bound it.
    path: Vec<u8>,
    /// The lower 32 bits of the inode of its file, and the file system in the kernel's notation.
    file: Option<(u32, u32)>,
}

/// The Unix sockets that listen in this network namespace.
#[derive(Debug, Clone, Default)]
pub struct Listeners(Vec<Listener>);

impl Listeners {
    /// Asks the kernel. `None` if it does not answer, or if this process is not in the network namespace of
    /// the service manager.
    pub fn read() -> Option<Self> {
        let all = ask_twice().ok()?;
        all.iter().any(|one| one.path == OF_MANAGER).then_some(Self(all))
    }

    /// The numbers of the sockets that listen at this file.
    pub fn at(&self, file: &Metadata) -> BTreeSet<u64> {
        let file = (low(file.ino()), kernel_device(file.dev()));
        self.0.iter().filter(|one| one.file == Some(file)).map(|one| one.number).collect()
    }
}

/// The numbers of the sockets that a process has open. An error without the privilege to trace the process.
pub fn sockets_of(process: u32) -> io::Result<BTreeSet<u64>> {
    let links = fs::read_dir(format!("/proc/{process}/fd"))?.flatten();
    Ok(links.filter_map(|link| number(fs::read_link(link.path()).ok()?.to_str()?)).collect())
}

/// The number in `socket:[123]`.
fn number(link: &str) -> Option<u64> {
    link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// The lower 32 bits, because the kernel's list has no more.
fn low(number: u64) -> u32 {
    u32::try_from(number & u64::from(u32::MAX)).unwrap_or_default()
}

/// A device number as the kernel keeps it (`MKDEV` in linux/kdev_t.h).
fn kernel_device(device: u64) -> u32 {
    low(major(device) << 20 | minor(device))
}

/// The kernel's list, read twice. If sockets are opened or closed while the kernel lists them, it can omit others
/// or list them twice.
fn ask_twice() -> io::Result<Vec<Listener>> {
    let mut all = ask()?;
    all.extend(ask()?);
    Ok(all)
}

fn ask() -> io::Result<Vec<Listener>> {
    let kernel = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        Some(SockProtocol::NetlinkSockDiag),
    )?;
    setsockopt(&kernel, sockopt::ReceiveTimeout, &TimeVal::seconds(PATIENCE))?;
    send(kernel.as_raw_fd(), &request(), MsgFlags::empty())?;
    let (mut all, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
    loop {
        let read = match recv(kernel.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            Err(nix::Error::EINTR) => continue,
            read => read?,
        };
        let part = buffer.get(..read).filter(|part| !part.is_empty()).ok_or(ErrorKind::UnexpectedEof)?;
        if parse(part, &mut all)? == Then::Ends {
            return Ok(all);
        }
    }
}

/// The request for all listening Unix sockets: `struct nlmsghdr`, `struct unix_diag_req`.
fn request() -> Vec<u8> {
    const FAMILY: u8 = 1; // AF_UNIX
    let length: u32 = 40;
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend([BY_FAMILY, REQUEST_ALL].iter().flat_map(|word| word.to_ne_bytes()));
    bytes.extend([1_u32, 0].iter().flat_map(|word| word.to_ne_bytes()));
    bytes.extend([FAMILY, 0, 0, 0]);
    bytes.extend([LISTENING, 0, SHOW, 0, 0].iter().flat_map(|word| word.to_ne_bytes()));
    bytes
}

/// Whether the kernel sends more.
#[derive(Debug, PartialEq, Eq)]
enum Then {
    Continues,
    Ends,
}

/// Reads the messages of one packet.
fn parse(mut packet: &[u8], all: &mut Vec<Listener>) -> io::Result<Then> {
    while packet.len() >= HEADER {
        let length = word(packet, 0).and_then(|length| usize::try_from(length).ok());
        let message = length.and_then(|length| packet.get(..length)).filter(|it| it.len() >= HEADER);
        let message = message.ok_or(ErrorKind::InvalidData)?;
        match half(message, 4) {
            Some(DONE) => return Ok(Then::Ends),
            Some(ERROR) => return Err(ErrorKind::Unsupported.into()),
            _ => all.extend(listener(&message[HEADER..])),
        }
        packet = packet.get(aligned(message.len())..).unwrap_or_default();
    }
    Ok(Then::Continues)
}

/// Reads `struct unix_diag_msg` and its attributes.
fn listener(message: &[u8]) -> Option<Listener> {
    let mut one = Listener { number: word(message, 4)?.into(), ..Listener::default() };
    let mut rest = message.get(MESSAGE..)?;
    while let (Some(length), Some(kind)) = (half(rest, 0), half(rest, 2)) {
        let value = rest.get(4..usize::from(length))?;
        match kind {
            NAME => one.path = value.strip_suffix(&[0]).unwrap_or(value).to_vec(),
            VFS => one.file = word(value, 0).zip(word(value, 4)),
            _ => {}
        }
        rest = rest.get(aligned(usize::from(length))..).unwrap_or_default();
    }
    Some(one)
}

/// The beginning of the next message or attribute.
fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixDatagram, UnixListener};

    use super::*;

    #[test]
    fn who_listens_at_a_file() {
        let place = tempfile::tempdir().unwrap();
        let path = |name: &str| place.path().join(name);
        let at = |name: &str| Listeners(ask_twice().unwrap()).at(&fs::metadata(path(name)).unwrap());
        let own = || sockets_of(std::process::id()).unwrap();
        let first = UnixListener::bind(path("a")).unwrap();
        let _datagrams = UnixDatagram::bind(path("datagrams")).unwrap();
        assert!(at("a").len() == 1 && at("a").is_subset(&own()));
        assert!(at("datagrams").is_empty());
        // another socket at the same path, and the first one at another
        fs::rename(path("a"), path("b")).unwrap();
        let second = UnixListener::bind(path("a")).unwrap();
        let (at_a, at_b) = (at("a"), at("b"));
        assert!(at_a.len() == 1 && at_b.len() == 1 && at_a != at_b);
        drop(second);
        assert!(at("a").is_empty() && at("b") == at_b);
        drop(first);
        assert!(at("b").is_empty() && at_b.is_disjoint(&own()));
    }

    #[test]
    fn long_lists_are_read_whole() {
        let place = tempfile::tempdir().unwrap();
        let all: Vec<_> =
            (0..1500).map(|n| UnixListener::bind(place.path().join(n.to_string())).unwrap()).collect();
        let found = ask_twice().unwrap();
        let below = place.path().to_str().unwrap().as_bytes();
        let paths = found.iter().map(|one| &one.path).filter(|path| path.starts_with(below));
        assert_eq!(paths.collect::<BTreeSet<_>>().len(), all.len());
    }

    #[test]
    fn what_the_kernel_says() {
        let attribute = |kind: u16, value: &[u8]| {
            let mut bytes = u16::try_from(4 + value.len()).unwrap().to_ne_bytes().to_vec();
            bytes.extend(kind.to_ne_bytes());
            bytes.extend(value);
            bytes.resize(aligned(bytes.len()), 0);
            bytes
        };
        let words = |all: &[u32]| all.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<_>>();
        let message = |kind: u16, body: &[u8]| {
            let mut bytes = words(&[u32::try_from(HEADER + body.len()).unwrap()]);
            bytes.extend([kind, 2].iter().flat_map(|word| word.to_ne_bytes()));
            bytes.extend(words(&[1, 0]));
            bytes.extend(body);
            bytes
        };
        let body = [
            words(&[0, 7, 0, 0]),
            attribute(NAME, b"/run/a\0"),
            attribute(9, b"x"),
            attribute(VFS, &words(&[5, 6])),
        ]
        .concat();
        let abstract_one = [words(&[0, 8, 0, 0]), attribute(NAME, b"\0x")].concat();
        let two = [message(BY_FAMILY, &body), message(BY_FAMILY, &abstract_one)].concat();
        let mut all = Vec::new();
        assert_eq!(parse(&two, &mut all).unwrap(), Then::Continues);
        assert_eq!(parse(&message(DONE, &[0; 4]), &mut all).unwrap(), Then::Ends);
        let named = Listener { number: 7, path: b"/run/a".to_vec(), file: Some((5, 6)) };
        let unnamed = Listener { number: 8, path: b"\0x".to_vec(), file: None };
        assert_eq!(all, [named, unnamed]);
        assert!(parse(&message(ERROR, &[0; 4]), &mut all).is_err());
        for end in HEADER + MESSAGE..two.len() {
            let mut cut = two[..end].to_vec();
            let _ = parse(&cut, &mut Vec::new()); // no panic, no endless loop
            cut[HEADER + MESSAGE..].fill(0);
            let _ = parse(&cut, &mut Vec::new());
        }
        assert_eq!((number("socket:[12]"), number("/dev/null")), (Some(12), None));
    }
}
