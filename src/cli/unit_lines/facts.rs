//! What is known of a unit and the lines by which it loads credentials: plain facts, from which verdicts are made.

use std::fmt;

use crate::domain::name::{CredentialId, UnitName};
use crate::host::systemd::unit_type::ExecType;

/// The socket that answers with values as they are.
pub(in crate::cli) const PLAIN: &str = "/run/onecred/credential.sock";
/// The socket that answers with encrypted values.
pub(in crate::cli) const SEALED: &str = "/run/onecred/sealed.sock";

/// Since this version the service manager hands settings to a helper process (systemd-executor) as text, in which a space in a
/// credential's ID or path is a syntax error, and a backslash is lost.
const EXECUTOR_SINCE: u32 = 255;

/// What is known of the machine.
#[derive(Debug, Clone, Copy)]
pub(super) struct Machine {
    /// The version of systemd.
    pub(super) systemd: u32,
    /// Whether onecred.socket is active.
    pub(super) plain_listens: bool,
    /// Whether onecred-sealed.socket is active.
    pub(super) sealed_listens: bool,
    /// Whether systemd keeps credentials in a tmpfs, where whole pages count.
    pub(super) tmpfs: bool,
}

impl Machine {
    /// Whether settings go through systemd-executor.
    pub(super) fn has_executor(self) -> bool {
        self.systemd >= EXECUTOR_SINCE
    }
}

/// What people quote with. systemd does not remove it from the lines of credentials.
pub(super) const QUOTES: [char; 2] = ['"', '\''];

/// How a line loads a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Directive {
    /// `LoadCredential=`.
    Plain,
    /// `LoadCredentialEncrypted=`.
    Encrypted,
}

impl Directive {
    /// Both.
    pub(super) const ALL: [Self; 2] = [Self::Plain, Self::Encrypted];

    /// Its name in unit files and on D-Bus.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Plain => "LoadCredential",
            Self::Encrypted => "LoadCredentialEncrypted",
        }
    }

    /// The socket that answers in this form.
    pub(super) fn socket(self) -> &'static str {
        match self {
            Self::Plain => PLAIN,
            Self::Encrypted => SEALED,
        }
    }
}

/// What a line's path is on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LeadsTo {
    /// onecred's plain socket, by this path or another.
    PlainSocket,
    /// onecred's sealed socket.
    SealedSocket,
    /// The socket between the provider and the resolver.
    ResolverSocket,
    /// A socket of another program.
    OtherSocket,
    /// A socket to which systemd cannot connect: it is not of the stream type, or no program listens.
    DeadSocket,
    /// A directory that holds sockets.
    DirectoryOfSockets,
    /// A directory without sockets.
    Directory,
    /// A file.
    File,
    /// The path does not exist, or a part of it is not a directory.
    Missing,
    /// No path: the name of a credential in systemd's credential stores; whether one exists.
    Store(bool),
    /// The path cannot be examined by this user.
    Unknown,
}

/// A line by which a unit loads a credential, as systemd has it loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// The directive.
    pub(super) directive: Directive,
    /// The credential's ID, with specifiers expanded.
    pub(super) id: String,
    /// The path; equal to the ID if the line has no path.
    pub(super) path: String,
    /// What the path is.
    pub(super) leads_to: LeadsTo,
    /// Whether systemd makes this credential of an entry of a directory that the line names (262 and later).
    pub(super) of_directory: bool,
    /// What it brings if it does not lead to a socket.
    pub(super) content: Content,
}

/// What a line or a setting brings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Content {
    /// It is not known.
    #[default]
    Unknown,
    /// Credentials: the ID of each, and its size in bytes.
    Credentials(Vec<(String, usize)>),
    /// A failure of the unit, since systemd cannot read or decrypt it: what it cannot.
    Fails(String),
}

/// A `SetCredential=` or `SetCredentialEncrypted=` setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Literal {
    /// The credential's ID.
    pub(super) id: String,
    /// What it brings.
    pub(super) content: Content,
}

/// An `ImportCredential=` setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Import {
    /// The pattern, with `:` and a new name if it has one.
    pub(super) text: String,
    /// What it finds in systemd's credential stores; none if this user cannot examine them.
    pub(super) found: Option<Vec<Imported>>,
}

/// A credential that an `ImportCredential=` setting finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Imported {
    /// The credential's ID in the unit.
    pub(super) id: String,
    /// The file.
    pub(super) path: String,
    /// What it brings.
    pub(super) content: Content,
}

impl Line {
    /// The ID without quotation marks around the line or the ID, which systemd takes as a part of it.
    pub(super) fn unquoted_id(&self) -> &str {
        self.id.trim_matches(QUOTES)
    }

    /// Whether it has quotation marks that systemd takes as a part of the ID or path.
    pub(super) fn is_quoted(&self) -> bool {
        let is_quoted = |text: &str| text.starts_with(QUOTES) || text.ends_with(QUOTES);
        is_quoted(&self.id) || is_quoted(&self.path)
    }

    /// Whether it leads to one of onecred's sockets for units.
    pub(super) fn is_ours(&self) -> bool {
        matches!(self.leads_to, LeadsTo::PlainSocket | LeadsTo::SealedSocket)
    }

    /// Whether its path is one of onecred's, whatever is there.
    pub(super) fn means_onecred(&self) -> bool {
        self.is_ours() || is_below_onecred(&self.path)
    }

    /// The ID that the socket is asked for.
    pub(super) fn asked_id(&self, machine: Machine) -> String {
        match machine.has_executor() {
            true => without_escapes(&self.id),
            false => self.id.clone(),
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path == self.id {
            true => write!(f, "{}={}", self.directive.name(), self.id),
            false => write!(f, "{}={}:{}", self.directive.name(), self.id, self.path),
        }
    }
}

/// Whether a path is in onecred's runtime directory, also as `/var/run/onecred`.
pub(super) fn is_below_onecred(path: &str) -> bool {
    let path = path.strip_prefix("/var").unwrap_or(path);
    path == "/run/onecred" || path.starts_with("/run/onecred/")
}

/// A text after systemd-executor has read it: each backslash is dropped and the character after it kept.
fn without_escapes(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        out.extend(if c == '\\' { rest.next() } else { Some(c) });
    }
    out
}

/// A line in a unit's files that systemd ignores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ignored {
    /// Where it is, as `FILE:LINE`.
    pub(super) place: String,
    /// The line.
    pub(super) text: String,
    /// The ID that it probably means.
    pub(super) id: String,
    /// Why systemd ignores it.
    pub(super) why: String,
    /// The directive that it probably means.
    pub(super) directive: Directive,
}

/// An `EnvironmentFile=` line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EnvironmentFile {
    /// The path, or a glob.
    pub(super) path: String,
    /// Whether it may be missing.
    pub(super) optional: bool,
    /// What it is on this machine.
    pub(super) found: Found,
}

/// What an `EnvironmentFile=` line finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// Files.
    Files,
    /// Nothing: no file of this name, or none that the glob matches.
    Nothing,
    /// This directory, which systemd cannot read as a file.
    Directory(String),
    /// It cannot be examined by this user.
    Unknown,
}

/// Whether systemd has the unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// It is loaded.
    Loaded,
    /// There is none of this name; the nearest name.
    NotFound(Option<String>),
    /// A unit of user managers has this name.
    OfUsers,
    /// It is masked.
    Masked,
    /// It could not be loaded: the load state and the error.
    Broken(String, String),
    /// It is a template.
    Template,
}

/// Why a unit starts before onecred or the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Early {
    /// What waits for the unit: a unit of onecred, or a target of the network.
    pub(super) target: String,
    /// The unit ordered after this one through which the target waits, unless directly.
    pub(super) through: Option<String>,
    /// Whether it is onecred that waits.
    pub(super) holds_onecred: bool,
}

/// A unit.
#[derive(Debug, Clone)]
pub(super) struct Unit {
    /// Its canonical name, by which it asks.
    pub(super) name: UnitName,
    /// The alias by which it was named.
    pub(super) alias: Option<UnitName>,
    /// Whether systemd has it.
    pub(super) state: State,
    /// Whether its files have changed since they were loaded.
    pub(super) outdated: bool,
    /// Its lines, as loaded.
    pub(super) lines: Vec<Line>,
    /// Its `ImportCredential=` settings.
    pub(super) imports: Vec<Import>,
    /// Its `SetCredential=` and `SetCredentialEncrypted=`.
    pub(super) literals: Vec<Literal>,
    /// Its `EnvironmentFile=` lines.
    pub(super) environment: Vec<EnvironmentFile>,
    /// Lines of its files that systemd ignores.
    pub(super) ignored: Vec<Ignored>,
    /// Why it starts before the network, if units after it wait until it has its credentials.
    pub(super) early: Option<Early>,
    /// The units that it starts, for a timer, path or socket.
    pub(super) triggers: Vec<String>,
}

impl Unit {
    /// A unit of which only the name and the state are known.
    pub(super) fn new(name: UnitName, state: State) -> Self {
        Self {
            name,
            alias: None,
            state,
            outdated: false,
            lines: Vec::new(),
            imports: Vec::new(),
            literals: Vec::new(),
            environment: Vec::new(),
            ignored: Vec::new(),
            early: None,
            triggers: Vec::new(),
        }
    }

    /// The type, unless it has no execution settings.
    pub(super) fn exec(&self) -> Option<ExecType> {
        ExecType::of(self.name.suffix())
    }

    /// The line that gives a credential of this ID, by the ID in the unit or the one that is asked for.
    pub(super) fn line(&self, id: &CredentialId, machine: Machine) -> Option<&Line> {
        let lines = || self.lines.iter();
        lines()
            .find(|line| line.asked_id(machine) == id.as_str())
            .or_else(|| lines().find(|line| line.id == id.as_str()))
    }
}

/// What onecred would answer a line's request with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::cli) struct Prediction {
    /// Whether the configuration allows it.
    pub(in crate::cli) allowed: bool,
    /// The name of the secret or template, or the place of the rule.
    pub(in crate::cli) name: String,
    /// What it refers to in 1Password.
    pub(in crate::cli) reference: String,
    /// Why it is allowed, or why not and what to do.
    pub(in crate::cli) reason: String,
    /// The answer.
    pub(in crate::cli) answer: Answer,
    /// The overrides that are active, such as `db (put)`.
    pub(in crate::cli) overrides: Vec<String>,
    /// The file that it is published to.
    pub(in crate::cli) target: Option<String>,
    /// Whether its value was fetched this boot.
    pub(in crate::cli) fetched: bool,
    /// Whether its source needs the network.
    pub(in crate::cli) needs_network: bool,
    /// The size of its value in bytes, if it is known.
    pub(in crate::cli) size: Option<usize>,
}

/// An answer to a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::cli) enum Answer {
    /// It is not known without a lookup in 1Password.
    #[default]
    Unknown,
    /// The value; why it is older than it should be.
    Value(Option<String>),
    /// A refusal: the error's name, and the cause with the remedy.
    Refusal(String, String),
}
