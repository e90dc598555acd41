//! What is said of a request, where people look for it: in the journal of the unit that asked.
//!
//! Equal lines within a minute are counted, and said once more with the count. A unit is named only after it was attested.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::peer::{Peer, Stranger};
use super::refusal::Refusal;
use super::sealer::Unsealed;
use crate::clock::BootTime;
use crate::secret::Wanted;
use crate::wire::Failure;

/// How long equal lines are counted instead of said.
const WINDOW: Duration = Duration::from_secs(60);
/// The most kinds of lines that are counted; above it, each is said.
const KINDS: usize = 1024;

/// Lines that were said lately.
#[derive(Debug, Default)]
pub struct Report(Mutex<HashMap<Line, Said>>);

/// A line, and in whose journal it stands.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Line {
    /// The unit; none for onecred's own journal.
    unit: Option<String>,
    credential: String,
    reference: String,
    kind: &'static str,
    text: String,
}

#[derive(Debug)]
struct Said {
    at: BootTime,
    again: u64,
}

impl Report {
    /// A unit is refused. Gives back the reason in one line.
    pub fn refused(&self, peer: &Peer, refusal: &Refusal) -> String {
        let (unit, credential) = (&peer.claim.unit, &peer.claim.credential);
        let reason = format!("{}; {}", refusal.cause(unit, credential), refusal.remedy(unit, credential));
        self.say(Line {
            unit: Some(unit.to_string()),
            credential: credential.to_string(),
            reference: refusal.reference().map(ToString::to_string).unwrap_or_default(),
            kind: refusal.kind(),
            text: format!("credential {credential} for {unit} refused: {reason}"),
        });
        reason
    }

    /// Somebody is not heard. Said in onecred's own journal: whose unit it is, is just what is not known.
    pub fn not_heard(&self, stranger: &Stranger) -> String {
        let text = format!("a request refused: {stranger}");
        let line =
            Line { unit: None, credential: String::new(), reference: String::new(), kind: "stranger", text };
        self.say(line);
        stranger.to_string()
    }

    /// A unit is kept waiting.
    pub fn waiting(&self, peer: &Peer, wanted: &Wanted, cause: Option<&Failure>) {
        let (unit, credential) = (&peer.claim.unit, &peer.claim.credential);
        let cause = cause.map_or_else(|| "no answer yet".to_owned(), ToString::to_string);
        let (reference, patience) = (wanted.reference.to_string(), wanted.deadline.as_secs());
        self.say(Line {
            unit: Some(unit.to_string()),
            credential: credential.to_string(),
            text: format!("credential {credential} for {unit} is waiting for 1Password: {reference}: {cause} (it is refused {patience} s after it asked)"),
            reference,
            kind: "waiting",
        });
    }

    /// A unit is kept waiting for what its value is to be sealed with.
    pub fn waiting_for_key(&self, peer: &Peer, why: &Unsealed) {
        let (unit, credential) = (&peer.claim.unit, &peer.claim.credential);
        self.say(Line {
            unit: Some(unit.to_string()),
            credential: credential.to_string(),
            reference: String::new(),
            kind: "waiting",
            text: format!("credential {credential} for {unit} is waiting: {why}"),
        });
    }

    /// A unit gets a value that is older than it should be.
    pub fn stale(&self, peer: &Peer, wanted: &Wanted, cause: &Failure) {
        let (unit, credential) = (&peer.claim.unit, &peer.claim.credential);
        let reference = wanted.reference.to_string();
        self.say(Line {
            unit: Some(unit.to_string()),
            credential: credential.to_string(),
            text: format!(
                "credential {credential} for {unit} is served as it was fetched before ({reference}), since it can't be confirmed now: {cause}"
            ),
            reference,
            kind: "stale",
        });
    }

    /// A unit hung up in the middle of a long value.
    pub fn hung_up(&self, peer: &Peer, sent: usize, of: usize) {
        let (unit, credential) = (&peer.claim.unit, &peer.claim.credential);
        self.say(Line {
            unit: Some(unit.to_string()),
            credential: credential.to_string(),
            reference: String::new(),
            kind: "hung-up",
            text: format!(
                "credential {credential} for {unit}: systemd hung up after {sent} of {of} bytes; it takes 1 MiB for all credentials of a unit together"
            ),
        });
    }

    fn say(&self, line: Line) {
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
            Some(Said { again, .. }) if again > 0 => line.write(&more(again)),
            _ => line.write(""),
        }
    }

    /// To be called now and then: says the counts of what was not said. `all` says them before their time, at the end.
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
            line.write(&more(again));
        }
    }
}

fn more(again: u64) -> String {
    format!(" (and {again} times more within a minute)")
}

impl Line {
    fn write(&self, tail: &str) {
        let Self { unit, credential, reference, kind, text } = self;
        match unit {
            // journald takes OBJECT_SYSTEMD_UNIT from root alone, and shows the line in that unit's log
            Some(unit) => tracing::warn!(
                object_systemd_unit = unit.as_str(),
                onecred_unit = unit.as_str(),
                onecred_credential = credential.as_str(),
                onecred_reference = reference.as_str(),
                onecred_result = kind,
                "{text}{tail}"
            ),
            None => tracing::warn!(onecred_result = kind, "{text}{tail}"),
        }
    }
}
