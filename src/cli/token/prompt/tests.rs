//! Tests of reading a token.

use std::fs::File;
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use nix::pty::openpty;
use nix::sys::signal::pthread_sigmask;

use super::*;

fn shows(terminal: BorrowedFd<'_>) -> bool {
    tcgetattr(terminal).unwrap().local_flags.contains(LocalFlags::ECHO | LocalFlags::ICANON)
}

fn until(what: &str, done: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < end, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_terminal_shows_nothing_while_a_token_is_typed() {
    let pty = openpty(None, None).unwrap();
    let mut keys = File::from(pty.master);
    let long = "x".repeat(6_000);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut ask = || assert!(!shows(pty.slave.as_fd()), "asked before the echo is off");
            from_terminal(pty.slave.as_fd(), &mut ask).unwrap()
        });
        until("no echo", || !shows(pty.slave.as_fd()));
        keys.write_all(b"wrong\x15canarx\x7fy ").unwrap();
        for piece in long.as_bytes().chunks(1_000) {
            keys.write_all(piece).unwrap();
        }
        keys.write_all(b"\r").unwrap();
        assert_eq!(reader.join().unwrap().as_slice(), format!("canary {long}").as_bytes());
    });
    assert!(shows(pty.slave.as_fd()), "the echo is there again");
    drop(pty.slave);
    let mut seen = Vec::new();
    let _ = keys.read_to_end(&mut seen); // EIO at the end
    assert_eq!(String::from_utf8_lossy(&seen), "");
}

#[test]
fn a_signal_ends_it_and_brings_the_echo_back() {
    let pty = openpty(None, None).unwrap();
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut mask = SigSet::empty();
            pthread_sigmask(nix::sys::signal::SigmaskHow::SIG_BLOCK, None, Some(&mut mask)).unwrap();
            let (quiet, signals) = (Quiet::new(pty.slave.as_fd()).unwrap(), SigSet::from_iter(ENDING));
            signals.thread_block().unwrap();
            let signals = SignalFd::new(&signals).unwrap();
            raise(Signal::SIGTERM).unwrap();
            let outcome = line(pty.slave.as_fd(), &signals).unwrap();
            drop(quiet);
            matches!(outcome, Line::Signal(Signal::SIGTERM))
        });
        assert!(reader.join().unwrap());
    });
    assert!(shows(pty.slave.as_fd()));
}

#[test]
fn a_pipe_is_read_to_its_end() {
    assert_eq!(from_pipe(&b"one\ntwo\n"[..], MOST).unwrap().as_slice(), b"one\ntwo\n");
    assert_eq!(
        from_pipe(io::repeat(7), MOST).unwrap().len(),
        MOST + 1,
        "and no further than can be told to be too much"
    );
}
