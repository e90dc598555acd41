use std::io::Read;
use std::os::fd::IntoRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
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
