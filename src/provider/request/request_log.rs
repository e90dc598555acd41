//! Logs what happens to requests in the journal of the unit that asked, where people look for it.
//!
//! Repeated lines within a minute are counted, and logged once with the count. A unit is named only after it
//! was attested.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::domain::secret::Wanted;
use crate::host::clock::BootTime;
use crate::host::systemd::message_id;
use crate::ipc::Failure;
use crate::provider::base::peer::Peer;
use crate::provider::base::refusal::Refusal;
use crate::provider::base::seal_error::Unsealed;
use crate::provider::observe::counters::STRANGER;
use crate::provider::request::attestation::Stranger;

/// How long repeated lines are counted instead of logged.
const WINDOW: Duration = Duration::from_secs(60);
/// The maximum number of different lines that are counted. Further ones are logged each time.
const KINDS: usize = 1024;

/// Lines that were logged recently.
#[derive(Debug, Default)]
pub struct Report(Mutex<HashMap<Line, Said>>);

/// A request, as log lines describe it.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The peer and its claim.
    pub peer: &'a Peer,
    /// Its name in the configuration, if known.
    pub secret: Option<&'a str>,
    /// When it arrived.
    pub arrived: BootTime,
}

/// A line, and the journal that it belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Line {
    /// Its message ID, for `journalctl -x`.
    id: &'static str,
    /// The unit; `None` for onecred's own journal.
    unit: Option<String>,
    credential: Option<String>,
    secret: Option<String>,
    reference: Option<String>,
    kind: &'static str,
    text: String,
}

#[derive(Debug)]
struct Said {
    at: BootTime,
    again: u64,
}

impl Report {
    /// Logs that a unit is refused. Returns the reason as one line.
    pub fn refused(&self, asked: Asked<'_>, refusal: &Refusal, reference: Option<String>) -> String {
        let (unit, credential) = (&asked.peer.claim.unit, &asked.peer.claim.credential);
        let reason = format!("{}; {}", refusal.cause(unit, credential), refusal.remedy(unit, credential));
        let text = format!("credential {credential} for {unit} refused: {reason}");
        let line = Line::of(asked, refusal.message_id(), refusal.kind(), text);
        self.say(Line { reference, ..line }, Some(asked.arrived));
        reason
    }

    /// Logs a rejected peer in onecred's own journal, because its unit is not certain.
    pub fn not_heard(&self, stranger: &Stranger) -> String {
        let line = Line {
            id: message_id::STRANGER,
            unit: None,
            credential: None,
            secret: None,
            reference: None,
            kind: STRANGER,
            text: format!("a request refused: {stranger}"),
        };
        self.say(line, None);
        stranger.to_string()
    }

    /// Logs that a unit is kept waiting. `there` is whether an older value is available.
    pub fn waiting(&self, asked: Asked<'_>, wanted: &Wanted, cause: Option<&Failure>, there: bool) {
        let (unit, credential) = (&asked.peer.claim.unit, &asked.peer.claim.credential);
        let cause = cause.map_or_else(|| "no answer yet".to_owned(), ToString::to_string);
        let (reference, patience) = (wanted.reference.to_string(), wanted.deadline.as_secs());
        let then = if there {
            "the cached value is served if no answer arrives".to_owned()
        } else {
            format!("the unit is refused after {patience} s")
        };
        let text = format!(
            "credential {credential} for {unit} is waiting for 1Password: {reference}: {cause} ({then})"
        );
        let line = Line::of(asked, message_id::WAITING, "waiting", text);
        self.say(Line { reference: Some(reference), ..line }, Some(asked.arrived));
    }

    /// Logs that a unit is kept waiting for the key that encrypts its value.
    pub fn waiting_for_key(&self, asked: Asked<'_>, why: &Unsealed) {
        let (unit, credential) = (&asked.peer.claim.unit, &asked.peer.claim.credential);
        let text = format!("credential {credential} for {unit} is waiting: {why}");
        self.say(Line::of(asked, message_id::WAITING, "waiting", text), Some(asked.arrived));
    }

    /// Logs that a unit is kept waiting until systemd has decrypted the credentials of other units.
    pub fn waiting_for_decryption(&self, asked: Asked<'_>) {
        let (unit, credential) = (&asked.peer.claim.unit, &asked.peer.claim.credential);
        let text = format!(
            "credential {credential} for {unit} is still waiting after its deadline, until systemd-creds.socket has decrypted those of other units"
        );
        self.say(Line::of(asked, message_id::WAITING, "waiting", text), Some(asked.arrived));
    }

    /// Logs that a unit receives a value that is older than allowed.
    pub fn stale(&self, asked: Asked<'_>, wanted: &Wanted, cause: &Failure) {
        let (unit, credential) = (&asked.peer.claim.unit, &asked.peer.claim.credential);
        let reference = wanted.reference.to_string();
        let text = format!(
            "credential {credential} for {unit} is served from the cache ({reference}), because it can't be confirmed now: {cause}"
        );
        let line = Line::of(asked, message_id::STALE, "stale", text);
        self.say(Line { reference: Some(reference), ..line }, Some(asked.arrived));
    }

    /// Logs that a unit hung up in the middle of a long value.
    pub fn hung_up(&self, asked: Asked<'_>, sent: usize, of: usize) {
        let (unit, credential) = (&asked.peer.claim.unit, &asked.peer.claim.credential);
        let text = format!(
            "credential {credential} for {unit}: systemd closed the connection after {sent} of {of} bytes: the unit was stopped, or its credentials, including those from other sources, exceed the 1 MiB that systemd accepts"
        );
        self.say(Line::of(asked, message_id::HUNG_UP, "hung-up", text), Some(asked.arrived));
    }

    /// Logs that a unit received its credential. Such lines are never counted instead.
    pub fn granted(&self, asked: Asked<'_>, references: String) {
        let (unit, credential) = (&asked.peer.claim.unit, &asked.peer.claim.credential);
        let text = format!("credential {credential} for {unit} granted: {references}");
        let line = Line::of(asked, message_id::GRANTED, "granted", text);
        Line { reference: Some(references), ..line }.write("", Some(asked.arrived));
    }

    fn say(&self, line: Line, arrived: Option<BootTime>) {
        let now = BootTime::now();
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = said.get_mut(&line).filter(|before| before.at.age(now) < WINDOW) {
            before.again += 1;
            return;
        }
        let mut before = None;
        if said.len() < KINDS || said.contains_key(&line) {
            before = said.insert(line.clone(), Said { at: now, again: 0 });
        }
        drop(said);
        match before {
            Some(Said { again, .. }) if again > 0 => line.write(&more(again), arrived),
            _ => line.write("", arrived),
        }
    }

    /// Logs the counts of suppressed lines. Call it periodically. With `all`, logs them before their time, at
    /// the end of the process.
    pub fn sweep(&self, all: bool) {
        let now = BootTime::now();
        let mut over = Vec::new();
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        said.retain(|line, said| {
            let keep = !all && said.at.age(now) < WINDOW;
            if !keep && said.again > 0 {
                over.push((line.clone(), said.again));
            }
            keep
        });
        drop(said);
        for (line, again) in over {
            line.write(&more(again), None);
        }
    }
}

fn more(again: u64) -> String {
    match again {
        1 => " (and 1 more time within a minute)".to_owned(),
        again => format!(" (and {again} more times within a minute)"),
    }
}

impl Line {
    fn of(asked: Asked<'_>, id: &'static str, kind: &'static str, text: String) -> Self {
        let claim = &asked.peer.claim;
        Self {
            id,
            unit: Some(claim.unit.to_string()),
            credential: Some(claim.credential.to_string()),
            secret: asked.secret.map(str::to_owned),
            reference: None,
            kind,
            text,
        }
    }

    /// Writes the line, with the duration of the request so far.
    fn write(&self, tail: &str, arrived: Option<BootTime>) {
        let Self { id, unit, credential, secret, reference, kind, text } = self;
        let took = arrived.map(|arrived| arrived.age(BootTime::now()).as_micros());
        macro_rules! line {
            ($level:ident) => {
                // journald accepts OBJECT_SYSTEMD_UNIT only from root, and shows the line in the log of that
                // unit
                tracing::$level!(
                    message_id = id,
                    object_systemd_unit = unit.as_deref(),
                    onecred_unit = unit.as_deref(),
                    onecred_credential = credential.as_deref(),
                    onecred_secret = secret.as_deref(),
                    onecred_reference = reference.as_deref(),
                    onecred_result = kind,
                    onecred_latency_usec = took,
                    "{text}{tail}"
                )
            };
        }
        if *id == message_id::GRANTED { line!(info) } else { line!(warn) }
    }
}
