//! The facts about a unit and its credential lines, from which verdicts are derived.

use std::fmt;

use crate::cli::common::reach::Reach;
use crate::domain::name::{CredentialId, UnitName};
use crate::host::systemd::unit_type::ExecType;

pub(in crate::cli) use crate::cli::common::sockets::{PLAIN, SEALED};

/// Since this version, the service manager passes settings to a helper process (systemd-executor) as text. In
/// that text, a space in a credential's ID or path is a syntax error, and a backslash is lost.
const EXECUTOR_SINCE: u32 = 255;
/// The first version that connects to sockets in a directory of credentials.
const CONNECTS_IN_DIRECTORIES_SINCE: u32 = 262;

/// The facts about the machine.
#[derive(Debug, Clone, Copy)]
pub(super) struct Machine {
    /// The version of systemd.
    pub(super) systemd: u32,
    /// Whether systemd keeps credentials in a tmpfs, where whole pages count.
    pub(super) tmpfs: bool,
}

impl Machine {
    /// Whether settings pass through systemd-executor.
    pub(super) fn has_executor(self) -> bool {
        self.systemd >= EXECUTOR_SINCE
    }

    /// Whether systemd connects to sockets in a directory of credentials.
    pub(super) fn connects_in_directories(self) -> bool {
        self.systemd >= CONNECTS_IN_DIRECTORIES_SINCE
    }
}

/// Quotation marks. systemd does not remove them from credential lines.
pub(super) const QUOTES: [char; 2] = ['"', '\''];

/// The directive of a line.
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

    /// The socket that delivers this form.
    pub(super) fn socket(self) -> &'static str {
        match self {
            Self::Plain => PLAIN,
            Self::Encrypted => SEALED,
        }
    }
}

/// What a line's path leads to on this machine.
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
    /// A socket to which systemd cannot connect: it has another type than stream, or no program listens.
    DeadSocket,
    /// A directory that contains sockets.
    DirectoryOfSockets,
    /// A directory without sockets.
    Directory,
    /// A file.
    File,
    /// The path does not exist, or a part of it is not a directory.
    Missing,
    /// No path: the name of a credential in systemd's credential stores, and whether it exists.
    Store(bool),
    /// A path that this user cannot examine.
    Unknown,
}

/// A credential line of a unit, as systemd has loaded it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CredentialLine {
    /// The directive.
    pub(super) directive: Directive,
    /// The credential's ID, with specifiers expanded.
    pub(super) id: String,
    /// The path; equal to the ID if the line has no path.
    pub(super) path: String,
    /// What the path leads to.
    pub(super) leads_to: LeadsTo,
    /// Who accepts the connections, if it leads to a socket of onecred for units.
    pub(super) reach: Reach,
    /// Whether systemd derives this credential from an entry of a directory in the line (262 and later).
    pub(super) of_directory: bool,
    /// What it provides if it does not lead to a socket.
    pub(super) content: Content,
}

/// What a line or a setting provides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Content {
    /// Unknown.
    #[default]
    Unknown,
    /// Credentials: IDs and sizes in bytes.
    Credentials(Vec<(String, usize)>),
    /// A failure of the unit, because systemd cannot read or decrypt it, with the reason.
    Fails(String),
}

/// A `SetCredential=` or `SetCredentialEncrypted=` setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Literal {
    /// The credential's ID.
    pub(super) id: String,
    /// What it provides.
    pub(super) content: Content,
}

/// An `ImportCredential=` setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Import {
    /// The pattern, with `:` and a new name if it has one.
    pub(super) text: String,
    /// What it finds in systemd's credential stores; `None` if this user cannot examine them.
    pub(super) found: Option<Vec<Imported>>,
}

/// A credential that an `ImportCredential=` setting finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Imported {
    /// The credential's ID in the unit.
    pub(super) id: String,
    /// The file.
    pub(super) path: String,
    /// What it provides.
    pub(super) content: Content,
}

impl CredentialLine {
    /// The ID without quotation marks around the line or the ID, which systemd treats as part of it.
    pub(super) fn unquoted_id(&self) -> &str {
        self.id.trim_matches(QUOTES)
    }

    /// Whether it has quotation marks that systemd treats as part of the ID or path.
    pub(super) fn is_quoted(&self) -> bool {
        let is_quoted = |text: &str| text.starts_with(QUOTES) || text.ends_with(QUOTES);
        is_quoted(&self.id) || is_quoted(&self.path)
    }

    /// Whether it leads to one of onecred's sockets for units.
    pub(super) fn is_ours(&self) -> bool {
        matches!(self.leads_to, LeadsTo::PlainSocket | LeadsTo::SealedSocket)
    }

    /// The unit of the socket that it leads to.
    pub(super) fn socket_unit(&self) -> &'static str {
        match self.leads_to {
            LeadsTo::SealedSocket => "onecred-sealed.socket",
            _ => "onecred.socket",
        }
    }

    /// Whether its path is the usual one for its directive, so that the line needs no correction.
    pub(super) fn has_right_path(&self) -> bool {
        self.path == self.directive.socket()
    }

    /// Whether its path is one of onecred's, even if nothing exists there.
    pub(super) fn means_onecred(&self) -> bool {
        self.is_ours() || is_below_onecred(&self.path)
    }

    /// The ID in the request to the socket.
    pub(super) fn asked_id(&self, machine: Machine) -> String {
        match machine.has_executor() {
            true => without_escapes(&self.id),
            false => self.id.clone(),
        }
    }
}

impl fmt::Display for CredentialLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path == self.id {
            true => write!(f, "{}={}", self.directive.name(), self.id),
            false => write!(f, "{}={}:{}", self.directive.name(), self.id, self.path),
        }
    }
}

/// Whether a path is in onecred's runtime directory, possibly as `/var/run/onecred`.
pub(super) fn is_below_onecred(path: &str) -> bool {
    let path = path.strip_prefix("/var").unwrap_or(path);
    path == "/run/onecred" || path.starts_with("/run/onecred/")
}

/// A text after systemd-executor has parsed it: each backslash is removed, and the character after it is
/// kept.
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
    /// Its location as `FILE:LINE`.
    pub(super) place: String,
    /// The line.
    pub(super) text: String,
    /// The ID that was probably meant.
    pub(super) id: String,
    /// Why systemd ignores it.
    pub(super) why: String,
    /// The directive that was probably meant.
    pub(super) directive: Directive,
}

/// An `EnvironmentFile=` line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EnvironmentFile {
    /// The path or glob.
    pub(super) path: String,
    /// Whether the file may be missing.
    pub(super) optional: bool,
    /// What it finds on this machine.
    pub(super) found: EnvironmentFiles,
}

/// What an `EnvironmentFile=` line finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum EnvironmentFiles {
    /// Files.
    Files,
    /// Nothing: no file has this name or matches the glob.
    Nothing,
    /// This directory, which systemd cannot read as a file.
    Directory(String),
    /// Unknown, because this user cannot examine it.
    Unknown,
}

/// The state of the unit in systemd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LoadState {
    /// It is loaded.
    Loaded,
    /// The unit does not exist. Contains the most similar name.
    NotFound(Option<String>),
    /// A unit of user managers has this name.
    OfUsers,
    /// It is masked.
    Masked,
    /// It could not be loaded: load state and error.
    Broken(String, String),
    /// It is a template.
    Template,
}

/// Why a unit starts before onecred or the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Early {
    /// What waits for the unit: a unit of onecred, or a target of the network.
    pub(super) target: String,
    /// The unit ordered after this one through which the target waits; `None` if it waits directly.
    pub(super) through: Option<String>,
    /// Whether onecred itself waits.
    pub(super) holds_onecred: bool,
}

/// A unit.
#[derive(Debug, Clone)]
pub(super) struct Unit {
    /// Its canonical name, which its requests contain.
    pub(super) name: UnitName,
    /// The alias that the user gave.
    pub(super) alias: Option<UnitName>,
    /// Its state in systemd.
    pub(super) state: LoadState,
    /// Whether its files have changed since they were loaded.
    pub(super) outdated: bool,
    /// Its loaded lines.
    pub(super) lines: Vec<CredentialLine>,
    /// Its `ImportCredential=` settings.
    pub(super) imports: Vec<Import>,
    /// Its `SetCredential=` and `SetCredentialEncrypted=` settings.
    pub(super) literals: Vec<Literal>,
    /// Its `EnvironmentFile=` lines.
    pub(super) environment: Vec<EnvironmentFile>,
    /// Lines of its files that systemd ignores.
    pub(super) ignored: Vec<Ignored>,
    /// Why it starts before the network, if units ordered after it wait until it has its credentials.
    pub(super) early: Option<Early>,
    /// Why it starts before systemd-creds.socket, if systemd decrypts its credentials through that.
    pub(super) before_decryption: Option<Early>,
    /// The sockets of onecred that it uses and is not ordered after.
    pub(super) unordered: Vec<&'static str>,
    /// The units that it starts, for a timer, path or socket.
    pub(super) triggers: Vec<String>,
}

impl Unit {
    /// A unit of which only the name and the state are known.
    pub(super) fn new(name: UnitName, state: LoadState) -> Self {
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
            before_decryption: None,
            unordered: Vec::new(),
            triggers: Vec::new(),
        }
    }

    /// The unit type, if it has execution settings.
    pub(super) fn exec(&self) -> Option<ExecType> {
        ExecType::of(self.name.suffix())
    }

    /// The line that provides a credential with this ID, in the unit or in the request.
    pub(super) fn line(&self, id: &CredentialId, machine: Machine) -> Option<&CredentialLine> {
        let lines = || self.lines.iter();
        lines()
            .find(|line| line.asked_id(machine) == id.as_str())
            .or_else(|| lines().find(|line| line.id == id.as_str()))
    }
}

/// The predicted answer of onecred to a line's request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::cli) struct Prediction {
    /// Whether the configuration allows it.
    pub(in crate::cli) allowed: bool,
    /// The name of the secret or template, or the place of the rule.
    pub(in crate::cli) name: String,
    /// Its references in 1Password.
    pub(in crate::cli) reference: String,
    /// Why it is allowed, or why not and the remedy.
    pub(in crate::cli) reason: String,
    /// The answer.
    pub(in crate::cli) answer: PredictedAnswer,
    /// The active overrides, such as `db (put)`.
    pub(in crate::cli) overrides: Vec<String>,
    /// The file that it is published to.
    pub(in crate::cli) target: Option<String>,
    /// Whether its value was fetched in this boot.
    pub(in crate::cli) fetched: bool,
    /// Whether its source needs the network.
    pub(in crate::cli) needs_network: bool,
    /// The size of its value in bytes, if known.
    pub(in crate::cli) size: Option<usize>,
}

/// An answer to a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::cli) enum PredictedAnswer {
    /// Unknown without a look-up in 1Password.
    #[default]
    Unknown,
    /// The value, with the reason if it is older than allowed.
    Value(Option<String>),
    /// A refusal: the name of the error, and cause and remedy.
    Refusal(String, String),
}
