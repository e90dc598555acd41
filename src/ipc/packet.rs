//! A packet of the protocol: an AF_UNIX SOCK_SEQPACKET message with a fixed greeting, and the contents in
//! sealed memfds (SCM_RIGHTS).
//!
//! A sealed memfd cannot change after it was sent: checked lengths stay valid, and data cannot arrive in
//! part.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use tokio::io::unix::AsyncFd;

use crate::domain::secret::SecretValue;
use crate::host::sys;

/// The start of each packet: the protocol and its version.
const GREETING: &[u8] = b"onecred 1\n";
/// The maximum size in bytes of the metadata in one packet.
pub(crate) const MAX_META: u64 = 4 << 20;
/// The maximum size in bytes of the values in one packet.
pub(crate) const MAX_VALUES: u64 = 16 << 20;

/// The maximum number of descriptors that the kernel passes in one message (SCM_MAX_FD). The buffer has space
/// for all of them, so that each can be closed.
const MOST_FDS: usize = 253;

/// The contents of a packet.
#[derive(Debug)]
pub(crate) struct Packet {
    /// JSON.
    pub(crate) meta: OwnedFd,
    /// The values, one after another; their lengths are in the metadata.
    pub(crate) values: Option<OwnedFd>,
}

fn seals() -> SealFlag {
    SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_SEAL
}

/// Creates a sealed memfd that contains these pieces.
pub(crate) fn sealed<'a>(name: &str, pieces: impl Iterator<Item = &'a [u8]>) -> io::Result<OwnedFd> {
    let fd = memfd_create(name, MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
    let mut file = File::from(fd);
    for piece in pieces {
        file.write_all(piece)?;
    }
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals()))?;
    Ok(file.into())
}

/// The size in bytes of a sealed memfd.
///
/// # Errors
///
/// It is not sealed, or larger than `max`.
pub(crate) fn sealed_size(fd: impl AsFd, max: u64) -> io::Result<u64> {
    let got = SealFlag::from_bits_truncate(fcntl(&fd, FcntlArg::F_GET_SEALS)?);
    if !got.contains(SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK) {
        return Err(invalid("a memfd of the packet is not sealed"));
    }
    let size = u64::try_from(nix::sys::stat::fstat(&fd)?.st_size).map_err(io::Error::other)?;
    if size > max {
        return Err(invalid(&format!("a memfd of the packet has {size} bytes, and the limit is {max}")));
    }
    Ok(size)
}

/// Reads metadata of at most `most` bytes from a sealed memfd.
pub(crate) fn read_meta(fd: OwnedFd, most: u64) -> io::Result<Vec<u8>> {
    let size = sealed_size(&fd, most.min(MAX_META))?;
    let mut bytes = vec![0; usize::try_from(size).map_err(io::Error::other)?];
    File::from(fd).read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// Reads the values from a sealed memfd as one secret.
pub(crate) fn read_values(fd: OwnedFd) -> io::Result<SecretValue> {
    let size = sealed_size(&fd, SecretValue::MAX as u64)?;
    let mut bytes = vec![0; usize::try_from(size).map_err(io::Error::other)?];
    File::from(fd).read_exact_at(&mut bytes, 0)?;
    Ok(SecretValue::new(bytes))
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// Sends one packet.
pub(crate) async fn send(socket: &AsyncFd<OwnedFd>, packet: &Packet) -> io::Result<()> {
    loop {
        let mut guard = socket.writable().await?;
        if let Ok(result) = guard.try_io(|socket| send_now(socket.get_ref(), packet)) {
            return result;
        }
    }
}

fn send_now(socket: &OwnedFd, packet: &Packet) -> io::Result<()> {
    let mut fds = vec![packet.meta.as_raw_fd()];
    fds.extend(packet.values.as_ref().map(AsRawFd::as_raw_fd));
    let rights = [ControlMessage::ScmRights(&fds)];
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(GREETING)], &rights, flags, None)?;
    Ok(())
}

/// Receives one packet, or `None` if the peer closed the connection without sending one.
pub(crate) async fn receive(socket: &AsyncFd<OwnedFd>) -> io::Result<Option<Packet>> {
    loop {
        let mut guard = socket.readable().await?;
        if let Ok(result) = guard.try_io(|socket| receive_now(socket.get_ref())) {
            return result;
        }
    }
}

fn receive_now(socket: &OwnedFd) -> io::Result<Option<Packet>> {
    let mut greeting = [0; GREETING.len() + 1];
    let mut space = nix::cmsg_space!([std::os::fd::RawFd; MOST_FDS]);
    let mut slices = [IoSliceMut::new(&mut greeting)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut space), flags)?;
    let (bytes, truncated) =
        (message.bytes, message.flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC));
    let mut fds = Vec::new();
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(received) = part {
            fds.extend(sys::adopt_received(&received));
        }
    }
    if bytes == 0 && fds.is_empty() {
        return Ok(None);
    }
    if truncated || &greeting[..bytes] != GREETING {
        return Err(invalid(
            "the packet does not begin like packets of this version; do both processes have the same version?",
        ));
    }
    let mut fds = fds.into_iter();
    match (fds.next(), fds.next(), fds.next()) {
        (Some(meta), values, None) => Ok(Some(Packet { meta, values })),
        _ => Err(invalid("the packet does not contain one or two memfds")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

    fn pair() -> (AsyncFd<OwnedFd>, AsyncFd<OwnedFd>) {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let (a, b) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).unwrap();
        (sys::register(a).unwrap(), sys::register(b).unwrap())
    }

    #[tokio::test]
    async fn a_packet_arrives_whole() {
        let (a, b) = pair();
        let meta = sealed("meta", [b"{}".as_slice()].into_iter()).unwrap();
        let values = Some(sealed("values", [b"one".as_slice(), b"two"].into_iter()).unwrap());
        send(&a, &Packet { meta, values }).await.unwrap();
        let packet = receive(&b).await.unwrap().unwrap();
        assert_eq!(read_meta(packet.meta, MAX_META).unwrap(), b"{}");
        assert_eq!(sealed_size(packet.values.unwrap(), 6).unwrap(), 6);
        drop(a);
        assert!(receive(&b).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn what_is_not_sealed_too_large_or_foreign_is_refused() {
        let open = memfd_create("open", MFdFlags::MFD_ALLOW_SEALING).unwrap();
        assert!(read_meta(open, MAX_META).unwrap_err().to_string().contains("not sealed"));
        let meta = sealed("meta", [b"{}".as_slice()].into_iter()).unwrap();
        assert!(sealed_size(&meta, 1).unwrap_err().to_string().contains("2 bytes"));
        let (a, b) = pair();
        sendmsg::<()>(a.get_ref().as_raw_fd(), &[IoSlice::new(GREETING)], &[], MsgFlags::empty(), None)
            .unwrap();
        assert!(receive(&b).await.is_err(), "no memory file");
        let rights = [meta.as_raw_fd()];
        let rights = [ControlMessage::ScmRights(&rights)];
        sendmsg::<()>(
            a.get_ref().as_raw_fd(),
            &[IoSlice::new(b"onecred 2\n")],
            &rights,
            MsgFlags::empty(),
            None,
        )
        .unwrap();
        assert!(receive(&b).await.unwrap_err().to_string().contains("version"));
    }
}
