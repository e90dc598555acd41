//! A `tracing` layer that writes to the journal in its native protocol
//! (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>).
//!
//! With the field `object_systemd_unit`, a line also appears in the log of that unit. Sending never blocks:
//! lines that journald cannot accept are kept, up to a limit, and sent with the next line. If standard error
//! is not connected to the journal (after a start by hand), lines go to standard error.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::io::{self, Write as _};
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

const SOCKET: &str = "/run/systemd/journal/socket";
/// The maximum length of a field in bytes. Datagrams are limited, and longer lines are hard to read.
const LONGEST: usize = 8 << 10;
/// The maximum size in bytes of the lines that wait for a busy journal.
const KEPT: usize = 8 << 20;
/// How often [`flush`] tries a busy journal again.
const AGAIN: Duration = Duration::from_millis(20);

/// Whether lines wait for a busy journal.
static BEHIND: AtomicBool = AtomicBool::new(false);

/// Whether lines wait for a busy journal. If so, call [`catch_up`] soon.
pub fn is_behind() -> bool {
    BEHIND.load(Ordering::Relaxed)
}

/// Sends the waiting lines, as far as the journal accepts them.
pub fn catch_up() {
    tracing::trace!("any line is an occasion to send those that wait");
}

/// Sends the waiting lines before the process ends. Gives up after this time.
pub fn flush(patience: Duration) {
    let end = Instant::now() + patience;
    while is_behind() && Instant::now() < end {
        thread::sleep(AGAIN);
        catch_up();
    }
}

/// From now on, sends all `tracing` events to the journal, or to standard error if that is not the journal.
/// Omits events below `level`.
pub fn start(identifier: &'static str, level: Level) {
    let journal = libsystemd::logging::connected_to_journal().then(connect).and_then(Result::ok);
    let lines = Lines { identifier, level, journal, waiting: Mutex::default() };
    let _ = tracing_subscriber::registry().with(lines).try_init();
}

fn connect() -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect(SOCKET)?;
    Ok(socket)
}

struct Lines {
    identifier: &'static str,
    level: Level,
    journal: Option<UnixDatagram>,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    lost: u64,
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let level = *event.metadata().level();
        if level > self.level {
            // a filtered event is also an opportunity to send the waiting lines
            return self.journal.iter().for_each(|socket| self.send(socket, None));
        }
        // from libraries, log only warnings and errors
        if level > Level::WARN && !event.metadata().target().starts_with("onecred") {
            return;
        }
        let mut line = Line::new(priority(level), self.identifier);
        event.record(&mut line);
        match &self.journal {
            Some(socket) => self.send(socket, Some(line.entry())),
            None => {
                let _ = writeln!(io::stderr(), "{}", line.message);
            }
        }
    }
}

fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

impl Lines {
    /// Sends the waiting lines, and this one if given.
    fn send(&self, socket: &UnixDatagram, entry: Option<Vec<u8>>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        match entry {
            Some(entry) if waiting.bytes + entry.len() <= KEPT => waiting.push(entry),
            Some(_) => waiting.lost += 1,
            None => {}
        }
        waiting.send(socket, self.identifier);
        BEHIND.store(!waiting.lines.is_empty(), Ordering::Relaxed);
    }
}

impl Waiting {
    fn push(&mut self, entry: Vec<u8>) {
        self.bytes += entry.len();
        self.lines.push_back(entry);
    }

    /// Sends the waiting lines in order, as far as the journal accepts them.
    fn send(&mut self, socket: &UnixDatagram, identifier: &str) {
        while let Some(first) = self.lines.front() {
            match socket.send(first) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // journald was restarted and has a new socket
                Err(_) if socket.connect(SOCKET).is_err() => return,
                Err(_) => match socket.send(first) {
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                    Err(_) => self.lost += 1, // this line can never be sent, but the lines after it can
                },
            }
            self.bytes -= first.len();
            self.lines.pop_front();
        }
        if self.lost > 0 {
            let mut line = Line::new(4, identifier);
            line.message = format!("{} lines were lost while the journal was busy", self.lost);
            if socket.send(&line.entry()).is_ok() {
                self.lost = 0;
            }
        }
    }
}

/// A line to send: the message, and the entry with its fields.
struct Line {
    message: String,
    entry: Vec<u8>,
}

impl Line {
    fn new(priority: u8, identifier: &str) -> Self {
        let mut line = Self { message: String::new(), entry: Vec::with_capacity(512) };
        line.put("PRIORITY", &priority.to_string());
        line.put("SYSLOG_IDENTIFIER", identifier);
        line
    }

    /// Appends a field: `NAME=value\n`, or if the value contains a line break, the name, the length in 8
    /// little-endian bytes, and the value.
    fn put(&mut self, name: &str, value: &str) {
        let value = &value[..value.floor_char_boundary(LONGEST)];
        self.entry.extend_from_slice(name.as_bytes());
        if value.contains('\n') {
            self.entry.push(b'\n');
            self.entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
        } else {
            self.entry.push(b'=');
        }
        self.entry.extend_from_slice(value.as_bytes());
        self.entry.push(b'\n');
    }

    fn entry(mut self) -> Vec<u8> {
        let message = std::mem::take(&mut self.message);
        self.put("MESSAGE", &message);
        self.entry
    }

    fn field(&mut self, field: &Field, value: &str) {
        let name = field.name().to_ascii_uppercase().replace('.', "_");
        match name.as_str() {
            "MESSAGE" => self.message.push_str(value),
            "OBJECT_SYSTEMD_UNIT" | "MESSAGE_ID" => self.put(&name, value),
            name if name.starts_with("LOG_") => {} // added by the bridge from the `log` crate
            name if name.starts_with("ONECRED_") => self.put(name, value),
            name => self.put(&format!("ONECRED_{name}"), value),
        }
    }
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.field(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = String::new();
        let _ = write!(text, "{value:?}");
        self.field(field, &text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_in_the_native_protocol() {
        let mut line = Line::new(4, "onecred");
        line.put("ONECRED_UNIT", "app.service");
        line.message = "two\nlines".into();
        let expected = b"PRIORITY=4\nSYSLOG_IDENTIFIER=onecred\nONECRED_UNIT=app.service\nMESSAGE\n\x09\0\0\0\0\0\0\0two\nlines\n";
        assert_eq!(line.entry(), expected);
    }

    #[test]
    fn a_storm_waits_for_a_journal_that_is_busy_and_none_is_lost() {
        let (socket, journal) = UnixDatagram::pair().unwrap();
        socket.set_nonblocking(true).unwrap();
        journal.set_nonblocking(true).unwrap();
        let lines =
            Lines { identifier: "onecred", level: Level::INFO, journal: None, waiting: Mutex::default() };
        for n in 0..5000 {
            lines.send(&socket, Some(format!("MESSAGE={n:0>500}\n").into_bytes()));
        }
        assert!(!lines.waiting.lock().unwrap().lines.is_empty(), "the journal is not busy");
        let (mut seen, mut buffer) = (0, [0; 1024]);
        while !lines.waiting.lock().unwrap().lines.is_empty() || seen < 5000 {
            let Ok(len) = journal.recv(&mut buffer) else {
                lines.send(&socket, None);
                continue;
            };
            assert_eq!(buffer[..len], *format!("MESSAGE={seen:0>500}\n").as_bytes());
            seen += 1;
        }
        let waiting = lines.waiting.lock().unwrap();
        assert_eq!((seen, waiting.bytes, waiting.lost), (5000, 0, 0));
    }

    #[test]
    fn what_is_too_much_is_counted() {
        let (socket, _journal) = UnixDatagram::pair().unwrap();
        socket.set_nonblocking(true).unwrap();
        let lines =
            Lines { identifier: "onecred", level: Level::INFO, journal: None, waiting: Mutex::default() };
        for _ in 0..KEPT / 4096 * 2 {
            lines.send(&socket, Some(vec![b'a'; 4096]));
        }
        let waiting = lines.waiting.lock().unwrap();
        assert!(waiting.bytes <= KEPT && waiting.lost > 0);
    }
}
