//! The configuration: as it was written, merged from its files, and checked into what both halves work with.

mod at;
mod checked;
mod files;
mod json;
mod merged;
mod op_env;
mod opnix;
mod problem;
mod schema;
mod shape;
mod source_keys;
mod texts;
mod written;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::domain::name::{CredentialId, SecretName, SourceName};
use crate::domain::policy::Policy;
use crate::domain::secret::{Grant, Rotation, Target};
use crate::domain::template::Filling;

pub use checked::ServiceAccount;
pub(crate) use checked::is_local_name;
pub use files::Paths;
pub use op_env::import_op_env;
pub(crate) use opnix::FOLDER as OPNIX_FOLDER;
pub use opnix::{Imported, import_opnix};
pub use problem::{Position, Problem, Report, Severity};
pub use schema::schema;
pub use texts::Texts;
pub use written::Audit;

use files::Origin;
use problem::{Place, Problems};
use written::Written;

/// A configuration that can be used.
#[derive(Debug)]
pub struct Loaded {
    /// What it says.
    pub settings: Settings,
    /// What is probably not as it was meant.
    pub warnings: Vec<Problem>,
    /// The texts it was loaded from.
    pub texts: Texts,
}

/// Loads the configuration of this machine: `secrets.json`, and `secrets.d/*.json` in the order of their names.
pub fn load(paths: &Paths) -> Result<Loaded, Report> {
    let mut problems = Problems::default();
    let files = files::find(paths, &mut problems);
    load_files(&files, Origin::Installed, problems)
}

/// The same, where a machine without any configuration yet has what an empty one means: a service account.
pub fn load_if_any(paths: &Paths) -> Result<Loaded, Report> {
    if files::are_none(paths) { from_text(&paths.dir.join("secrets.json"), "{}") } else { load(paths) }
}

/// The same as [`load`] with one more file, which need not be written yet.
pub fn load_with(paths: &Paths, file: &Path, text: &str) -> Result<Loaded, Report> {
    if files::are_none(paths) {
        return from_text(file, text);
    }
    load_changed(paths, file, Some(text))
}

/// The same as [`load`] as if one of the files had another text, or, with `None`, were gone.
pub fn load_changed(paths: &Paths, changed: &Path, text: Option<&str>) -> Result<Loaded, Report> {
    let mut problems = Problems::default();
    let mut written = Vec::new();
    for file in files::find(paths, &mut problems).iter().filter(|file| *file != changed) {
        if let Some(number) = files::read(file, Origin::Installed, &mut problems) {
            written.extend(read(number, &mut problems));
        }
    }
    if let Some(text) = text {
        let number = problems.add_file(changed, text.to_owned());
        written.extend(read(number, &mut problems));
    }
    finish(written, problems)
}

/// Whether a file is all of this machine's configuration.
pub fn is_only_file(paths: &Paths, file: &Path) -> bool {
    files::find(paths, &mut Problems::default()) == [file]
}

/// Loads files as one configuration, from wherever they are: what others may do to them is warned of, not refused.
pub fn check_files(files: &[PathBuf]) -> Result<Loaded, Report> {
    load_files(files, Origin::Given, Problems::default())
}

/// Reads the files of this machine's configuration, without a look at what they say.
pub fn read_texts(paths: &Paths) -> Result<Texts, Report> {
    let mut problems = Problems::default();
    for file in files::find(paths, &mut problems) {
        files::read(&file, Origin::Installed, &mut problems);
    }
    match problems.errors() {
        0 => Ok(problems.into_texts()),
        _ => Err(Report { problems: problems.take_list() }),
    }
}

/// Loads texts that were read before.
pub fn from_texts(texts: &Texts) -> Result<Loaded, Report> {
    let mut problems = Problems::default();
    let mut written = Vec::new();
    for (file, text) in &texts.0 {
        let number = problems.add_file(file, text.clone());
        written.extend(read(number, &mut problems));
    }
    finish(written, problems)
}

/// Whether there is no configuration at all, rather than one that can't be used.
pub fn is_missing(paths: &Paths) -> bool {
    files::are_none(paths)
}

/// Loads one file's text. The name is for messages.
pub fn from_text(file: &Path, text: &str) -> Result<Loaded, Report> {
    let mut problems = Problems::default();
    let number = problems.add_file(file, text.to_owned());
    let written = read(number, &mut problems);
    finish(written.into_iter().collect(), problems)
}

fn load_files(files: &[PathBuf], origin: Origin, mut problems: Problems) -> Result<Loaded, Report> {
    let mut written = Vec::new();
    for file in files {
        if let Some(number) = files::read(file, origin, &mut problems) {
            written.extend(read(number, &mut problems));
        }
    }
    finish(written, problems)
}

fn read(number: usize, problems: &mut Problems) -> Option<Written> {
    match json::parse(problems.text(number)) {
        Ok(tree) => match opnix::convert(&tree) {
            Some(converted) => {
                opnix_is_told(number, &tree, &converted, problems);
                shape::read(number, &converted.tree, problems)
            }
            None => shape::read(number, &tree, problems),
        },
        Err(json::Mistake { byte, what, remedy }) => {
            problems.error(Place { file: number, byte }, what, remedy);
            None
        }
    }
}

/// Says that OpNix's file was understood, and what of it was not.
fn opnix_is_told(file: usize, tree: &json::Node, converted: &opnix::Converted, problems: &mut Problems) {
    let what = "this is OpNix's file, and is read as what onecred import opnix makes of it";
    let remedy = "make it one of onecred's: onecred import opnix FILE --output NEW";
    problems.warn(Place { file, byte: tree.byte }, what, remedy);
    for (byte, what, why) in &converted.notes {
        problems.warn(Place { file, byte: *byte }, format!("not as it was: {what}"), why);
    }
}

fn finish(written: Vec<Written>, mut problems: Problems) -> Result<Loaded, Report> {
    let merged = merged::merge(written, &mut problems);
    if merged.is_empty() {
        problems.warn_of_nothing();
    }
    let settings = checked::check(merged, &mut problems);
    let failed = problems.errors() > 0;
    let list = problems.take_list();
    match failed {
        true => Err(Report { problems: list }),
        false => Ok(Loaded { settings, warnings: list, texts: problems.into_texts() }),
    }
}

/// The checked configuration: whatever is in it can be worked with as it stands.
#[derive(Debug)]
pub struct Settings {
    /// Where secrets come from, by name.
    pub sources: BTreeMap<SourceName, Source>,
    /// The secrets and rules, arranged to be asked.
    pub policy: Policy,
    /// Files put together from secrets.
    pub templates: Vec<Template>,
    /// What the provider allows itself.
    pub limits: Limits,
    /// The directories that files may be published in.
    pub roots: Vec<PathBuf>,
    /// Whether units that failed because 1Password was away are started again when it is back.
    pub recover: bool,
    /// What is written to the journal of a unit that asks.
    pub audit: Audit,
    /// Whether a restart with files that can't be used refuses every unit, instead of using the last valid configuration.
    pub strict: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            sources: BTreeMap::new(),
            policy: Policy::default(),
            templates: Vec::new(),
            limits: Limits::default(),
            roots: checked::ROOTS.iter().map(PathBuf::from).collect(),
            recover: true,
            audit: Audit::default(),
            strict: false,
        }
    }
}

/// A file put together from secrets.
#[derive(Debug, Clone)]
pub struct Template {
    /// Its name.
    pub name: SecretName,
    /// Its text, with what its placeholders stand for.
    pub filling: Arc<Filling>,
    /// The file to publish it to, if any.
    pub target: Option<Target>,
    /// Who may have it as a credential.
    pub grants: Vec<Grant>,
    /// What happens when one of its values changes.
    pub rotation: Rotation,
    /// Where it was declared, as `FILE:LINE`.
    pub declared_at: String,
}

/// A source of secrets. The provider passes it to the resolver as JSON, with each question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// What it is.
    pub kind: SourceKind,
    /// The systemd credential of the resolver's unit that holds its token.
    pub token: CredentialId,
    /// Where it was declared, as `FILE:LINE`.
    pub declared_at: String,
}

impl Source {
    /// Whether its secrets come over the network. A Connect server counts also where it runs on this machine: it needs the network itself.
    pub fn needs_network(&self) -> bool {
        !matches!(self.kind, SourceKind::File { .. })
    }

    /// A fingerprint of the definition: what was fetched from another account or server under the same name is not of this source.
    pub fn print(&self) -> String {
        let digest = ring::digest::digest(&ring::digest::SHA256, format!("{:?}", self.kind).as_bytes());
        digest.as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The kinds of sources.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SourceKind {
    /// A service account, through 1Password's own core.
    ServiceAccount(ServiceAccount),
    /// A Connect server.
    Connect {
        /// Its base URL, without `/v1`.
        url: String,
        /// Whether plain http may leave this host, and whether on this host nobody checks who answers.
        insecure: bool,
        /// The users besides root who may run a server on this host: names or numeric IDs.
        users: Vec<String>,
        /// A PEM file of certificate authorities to trust instead of the system's.
        ca_file: Option<PathBuf>,
    },
    /// A development vault: a JSON file in Connect's shapes.
    File {
        /// The file.
        path: PathBuf,
    },
}

impl SourceKind {
    /// The kind as the configuration writes it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::ServiceAccount(_) => "service-account",
            Self::Connect { .. } => "connect",
            Self::File { .. } => "file",
        }
    }
}

/// What the provider allows itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most bytes that snapshots may take in the store.
    pub store_bytes: u64,
    /// The most connections that are served at once; further ones wait in the listen queue.
    pub connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { store_bytes: 64 << 20, connections: 512 }
    }
}

#[cfg(test)]
mod document_tests;
#[cfg(any(test, fuzzing))]
#[path = "../../fuzz/rules/config.rs"]
pub(crate) mod fuzz;
#[cfg(test)]
mod tests;
