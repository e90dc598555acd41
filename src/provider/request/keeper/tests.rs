use std::io::Read;
use std::os::fd::IntoRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::sync::mpsc;

use super::*;

/// Within this, each of these ends; a break would hang.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection as the keeper finds it, and its reader.
fn pair() -> (Asker, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    theirs.set_read_timeout(Some(PATIENCE)).unwrap();
    (Asker::new(ours.into_raw_fd()), theirs)
}

/// Refuses these in a thread. It says when it is done.
fn refused(open: Vec<Asker>, linger: Duration) -> mpsc::Receiver<()> {
    let (done, is_done) = mpsc::channel();
    std::thread::spawn(move || {
        refuse_all(open, linger);
        let _ = done.send(());
    });
    is_done
}

/// Reads this much, and says how much came: less, where the end came first.
fn read_up_to(mut theirs: &UnixStream, most: u64) -> u64 {
    let (mut read, mut buffer) = (0, vec![0; 1 << 20]);
    while read < most {
        match theirs.read(&mut buffer).unwrap() {
            0 => break,
            n => read += n as u64,
        }
    }
    read
}

#[test]
fn readers_that_buffer_64_mib_and_more_are_ended() {
    let ((ours, theirs), nspawn) = (pair(), 67_174_400);
    let done = refused(vec![ours], PATIENCE * 10);
    assert!(read_up_to(&theirs, nspawn) >= nspawn);
    drop(theirs);
    done.recv_timeout(PATIENCE).unwrap();
}

#[test]
fn a_reader_that_never_hangs_up_is_closed_after_a_while_and_far_over_every_limit() {
    let (ours, theirs) = pair();
    let done = refused(vec![ours], Duration::from_millis(10));
    let read = read_up_to(&theirs, u64::MAX);
    assert!(read >= ENOUGH, "it was closed after {read} bytes");
    done.recv_timeout(PATIENCE).unwrap();
}

#[test]
fn a_reader_that_does_not_read_holds_up_no_other_and_is_not_closed() {
    let ((frozen, stuck), (ours, theirs)) = (pair(), pair());
    let done = refused(vec![frozen, ours], Duration::from_millis(10));
    assert!(read_up_to(&theirs, u64::MAX) >= ENOUGH);
    assert!(done.try_recv().is_err(), "the one that reads nothing was left");
    assert!(read_up_to(&stuck, u64::MAX) >= ENOUGH);
    done.recv_timeout(PATIENCE).unwrap();
}

#[test]
fn who_asks_is_known_by_the_socket_that_took_the_connection() {
    let folder = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(folder.path().join("credential.sock")).unwrap();
    let client = UnixStream::connect(folder.path().join("credential.sock")).unwrap();
    let (accepted, _) = listener.accept().unwrap();
    assert!(is_asker(accepted.as_raw_fd()), "nspawn connects without an address");
    assert!(!is_asker(listener.as_raw_fd()) && !is_asker(client.as_raw_fd()));
    let (end, _other) = UnixStream::pair().unwrap();
    assert!(!is_asker(end.as_raw_fd()));
}

#[test]
fn the_units_that_were_refused_are_listed_by_their_invocations() {
    let listens = SocketAddr::from_abstract_name(format!("{}-asked", std::process::id())).unwrap();
    let listener = UnixListener::bind_addr(&listens).unwrap();
    let mut open = Vec::new();
    for name in ["/unit/app.service/db", "/unit/ended.service/db", "other"] {
        let client = sys_socket();
        let own = UnixAddr::new_abstract(format!("{:x}f{name}", std::process::id()).as_bytes()).unwrap();
        nix::sys::socket::bind(client.as_raw_fd(), &own).unwrap();
        let to = UnixAddr::new_abstract(format!("{}-asked", std::process::id()).as_bytes()).unwrap();
        nix::sys::socket::connect(client.as_raw_fd(), &to).unwrap();
        open.push((listener.accept().unwrap().0, client));
    }
    let fds: Vec<RawFd> = open.iter().map(|(accepted, _)| accepted.as_raw_fd()).collect();
    let current = |unit: &str| (unit == "app.service").then(|| "1".to_owned());
    let app = Unanswered { unit: "app.service".into(), credential: "db".into(), invocation: "1".into() };
    assert_eq!(requests(&fds, current), [app]);
}

#[test]
fn a_claim_is_enough_to_know_who_asks() {
    let address =
        |name: &str| SocketAddr::from_abstract_name(format!("{}-{name}", std::process::id())).unwrap();
    let listener = UnixListener::bind_addr(&address("listens")).unwrap();
    for (name, is_one) in [("/unit/app.service/db", true), ("/unit/app.service", false), ("other", false)] {
        let client = sys_socket();
        let own = UnixAddr::new_abstract(format!("{:x}{name}", std::process::id()).as_bytes()).unwrap();
        nix::sys::socket::bind(client.as_raw_fd(), &own).unwrap();
        let to = UnixAddr::new_abstract(format!("{}-listens", std::process::id()).as_bytes()).unwrap();
        nix::sys::socket::connect(client.as_raw_fd(), &to).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        assert_eq!(is_asker(accepted.as_raw_fd()), is_one, "{name}");
    }
}

fn sys_socket() -> OwnedFd {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
    socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap()
}

#[test]
fn a_peer_has_its_turn_and_no_more_than_all_of_the_filler() {
    for (sent, end) in [(0, TURN), (TURN / 2, TURN + TURN / 2), (ENOUGH - 1, ENOUGH), (ENOUGH, ENOUGH)] {
        assert_eq!(end_of_turn(sent), end, "{sent}");
    }
}

#[test]
fn a_peer_that_has_hung_up_is_left_at_once() {
    let (mut ours, theirs) = pair();
    drop(theirs);
    assert_eq!(ours.refuse(), Outcome::HungUp);
    let mut open = vec![ours];
    assert!(!refuse_some(&mut open) && open.is_empty());
}

#[test]
fn a_reader_that_hangs_up_after_all_of_the_filler_is_noticed() {
    let (mut ours, theirs) = pair();
    ours.sent = ENOUGH;
    let done = refused(vec![ours], PATIENCE * 10);
    drop(theirs);
    done.recv_timeout(PATIENCE).unwrap();
}

#[test]
fn a_reader_with_all_of_the_filler_wakes_nobody_until_it_hangs_up() {
    let (mut ours, _theirs) = pair();
    assert_eq!(ours.wanted(), PollFlags::POLLOUT);
    ours.sent = ENOUGH;
    assert_eq!(ours.refuse(), Outcome::Open);
    assert_eq!(ours.wanted(), PollFlags::empty());
}

#[test]
fn a_peer_that_nothing_can_be_sent_to_now_is_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    // a send to a file fails, as one does without memory
    let file = std::fs::File::create(folder.path().join("file")).unwrap();
    let mut open = vec![Asker::new(file.as_raw_fd())];
    assert_eq!(open[0].refuse(), Outcome::NoMemory);
    assert!(refuse_some(&mut open));
    assert_eq!(open.len(), 1);
}
