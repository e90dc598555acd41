//! A token or a value from standard input: from a terminal without an echo, which is there again whatever ends it; or to the end of a pipe.

use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcgetattr, tcsetattr};
use nix::unistd::read;
use zeroize::{Zeroize, Zeroizing};

use crate::domain::secret::SecretValue;

/// The most bytes that a token, or a line of a terminal, may have.
const MOST: usize = 1 << 16;

/// Signals that end a program, or stop it: not before the echo is there again.
const ENDING: [Signal; 5] =
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGTSTP];

/// Reads a token, without the white space around it.
pub(super) fn token(prompt: &str, err: &mut dyn Write) -> Result<SecretValue, String> {
    let text = read_in(prompt, MOST, err).map_err(|error| format!("the token can't be read: {error}"))?;
    if text.len() > MOST {
        return Err(format!("the token has over {MOST} bytes, which no token has; paste the token alone"));
    }
    // exposed: to cut off the white space around it
    Ok(SecretValue::new(text.trim_ascii().to_vec()))
}

/// Reads a secret's value: a line of a terminal, or all of a pipe or file as it is.
pub(in crate::cli) fn value(prompt: &str, err: &mut dyn Write) -> Result<SecretValue, String> {
    let most = SecretValue::MAX;
    let mut text = read_in(prompt, most, err).map_err(|error| format!("the value can't be read: {error}"))?;
    if text.len() > most {
        return Err(format!("the value has over {most} bytes, which are the most"));
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

/// All of it, or one byte over the most.
fn from_pipe(pipe: impl Read, most: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut text = Zeroizing::new(Vec::with_capacity(most + 2)); // never grown, so that no copy is left behind
    pipe.take(most as u64 + 1).read_to_end(&mut text)?;
    Ok(text)
}

/// One line. It is taken byte by byte: a terminal's own lines end at 4096 bytes, which a token can have more of.
fn from_terminal(terminal: BorrowedFd<'_>, ask: &mut dyn FnMut()) -> io::Result<Zeroizing<Vec<u8>>> {
    let ending: SigSet = ENDING.into_iter().collect();
    let before = ending.thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_BLOCK)?;
    let outcome = Quiet::new(terminal).and_then(|quiet| {
        let signals = SignalFd::with_flags(&ending, SfdFlags::SFD_CLOEXEC)?;
        ask(); // not before the echo is off: whoever is asked may be quick
        let line = line(terminal, &signals);
        drop(quiet);
        line
    });
    let outcome = match outcome {
        Ok(Line::Read(text)) => Ok(text),
        Ok(Line::Signal(signal)) => {
            let _ = raise(signal); // it comes when the mask is as before
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
                21 => text.zeroize(), // Ctrl-U: from the beginning
                byte => text.push(byte),
            }
        }
        if count == 0 || text.len() > MOST {
            return Ok(Line::Read(text));
        }
    }
}

/// A terminal that shows nothing of what is typed, until this is dropped.
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
        let _ = tcsetattr(self.terminal, SetArg::TCSAFLUSH, &self.before); // and forgets what is left of a paste
    }
}

#[cfg(test)]
mod tests;
