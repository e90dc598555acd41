//! Reads a token or a value from standard input. On a terminal, turns echo off, and restores it however the
//! program ends. Otherwise reads until EOF.

use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcgetattr, tcsetattr};
use nix::unistd::read;
use zeroize::{Zeroize, Zeroizing};

use crate::domain::secret::SecretValue;

/// The maximum length in bytes of a token, or of a line on a terminal.
const MOST: usize = 1 << 16;

/// Signals that end or stop a program. They are delivered only after echo was restored.
const ENDING: [Signal; 5] =
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGTSTP];

/// Reads a token and removes surrounding whitespace.
pub(super) fn token(prompt: &str, err: &mut dyn Write) -> Result<SecretValue, String> {
    let text = read_in(prompt, MOST, err).map_err(|error| format!("the token can't be read: {error}"))?;
    if text.len() > MOST {
        return Err(format!("the input has over {MOST} bytes, more than any token; paste only the token"));
    }
    // exposed: to remove surrounding whitespace
    Ok(SecretValue::new(text.trim_ascii().to_vec()))
}

/// Reads the value of a secret: a line on a terminal, or the unchanged content of a pipe or file.
pub(in crate::cli) fn value(prompt: &str, err: &mut dyn Write) -> Result<SecretValue, String> {
    let most = SecretValue::MAX;
    let mut text = read_in(prompt, most, err).map_err(|error| format!("the value can't be read: {error}"))?;
    if text.len() > most {
        return Err(format!("the value has over {most} bytes, which is the limit"));
    }
    Ok(SecretValue::new(std::mem::take(&mut *text)))
}

fn read_in(prompt: &str, most: usize, err: &mut dyn Write) -> io::Result<Zeroizing<Vec<u8>>> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return from_pipe(stdin.lock(), most);
    }
    let mut ask = || drop(write!(err, "{prompt}").and_then(|()| err.flush()));
    let line = from_terminal(stdin.as_fd(), &mut ask);
    let _ = writeln!(err);
    line
}

/// Reads everything, or one byte more than the maximum.
fn from_pipe(pipe: impl Read, most: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    // never grows, so that no copy is left behind
    let mut text = Zeroizing::new(Vec::with_capacity(most + 2));
    pipe.take(most as u64 + 1).read_to_end(&mut text)?;
    Ok(text)
}

/// Reads one line byte by byte: a terminal's own lines are limited to 4096 bytes, and tokens may be longer.
fn from_terminal(terminal: BorrowedFd<'_>, ask: &mut dyn FnMut()) -> io::Result<Zeroizing<Vec<u8>>> {
    let ending: SigSet = ENDING.into_iter().collect();
    let before = ending.thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_BLOCK)?;
    let outcome = Quiet::new(terminal).and_then(|quiet| {
        let signals = SignalFd::with_flags(&ending, SfdFlags::SFD_CLOEXEC)?;
        ask(); // only after echo is off, because the user may type at once
        let line = line(terminal, &signals);
        drop(quiet);
        line
    });
    let outcome = match outcome {
        Ok(Line::Read(text)) => Ok(text),
        Ok(Line::Signal(signal)) => {
            let _ = raise(signal); // delivered after the signal mask is restored
            Err(io::Error::other("interrupted"))
        }
        Err(error) => Err(error),
    };
    before.thread_set_mask()?;
    outcome
}

enum Line {
    Read(Zeroizing<Vec<u8>>),
    Signal(Signal),
}

fn line(terminal: BorrowedFd<'_>, signals: &SignalFd) -> io::Result<Line> {
    let mut text = Zeroizing::new(Vec::with_capacity(MOST + 512));
    let mut piece = Zeroizing::new([0; 256]);
    loop {
        let mut fds =
            [PollFd::new(terminal, PollFlags::POLLIN), PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::NONE)?;
        if fds[1].any() == Some(true) {
            let signal = signals.read_signal()?.and_then(|info| Signal::try_from(info.ssi_signo as i32).ok());
            return Ok(Line::Signal(signal.unwrap_or(Signal::SIGTERM)));
        }
        let count = read(terminal, piece.as_mut_slice())?;
        for &byte in &piece[..count] {
            match byte {
                b'\n' | b'\r' | 4 => return Ok(Line::Read(text)), // 4: Ctrl-D
                8 | 127 => drop(text.pop()),
                21 => text.zeroize(), // Ctrl-U: start again
                byte => text.push(byte),
            }
        }
        if count == 0 || text.len() > MOST {
            return Ok(Line::Read(text));
        }
    }
}

/// Turns the echo of a terminal off until it is dropped.
struct Quiet<'a> {
    terminal: BorrowedFd<'a>,
    before: Termios,
}

impl<'a> Quiet<'a> {
    fn new(terminal: BorrowedFd<'a>) -> io::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut silent = before.clone();
        silent.local_flags.remove(LocalFlags::ECHO | LocalFlags::ECHONL | LocalFlags::ICANON);
        silent.control_chars[SpecialCharacterIndices::VMIN as usize] = 1;
        silent.control_chars[SpecialCharacterIndices::VTIME as usize] = 0;
        tcsetattr(terminal, SetArg::TCSAFLUSH, &silent)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        // also discards the rest of a paste
        let _ = tcsetattr(self.terminal, SetArg::TCSAFLUSH, &self.before);
    }
}

#[cfg(test)]
mod tests;
