//! The configuration: read from files, merged, and checked. The result is what both processes use.

mod at;
mod checked;
mod files;
mod json;
pub(crate) mod memory;
mod merged;
mod names;
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
use crate::host::memory as host_memory;

pub use checked::ServiceAccount;
pub(crate) use checked::is_local_name;
pub use files::{Paths, STORE};
pub(crate) use names::names;
pub use op_env::import_op_env;
pub(crate) use opnix::FOLDER as OPNIX_FOLDER;
pub use opnix::{Imported, import_opnix};
pub use problem::{Position, Problem, Report, Severity};
pub use schema::schema;
pub use texts::Texts;
pub use written::Audit;

use files::Origin;
use problem::{Offset, Problems};
use written::Written;

/// A valid configuration.
#[derive(Debug)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// Warnings about probable mistakes.
    pub warnings: Vec<Problem>,
    /// The texts from which it was loaded.
    pub texts: Texts,
}

/// Loads the configuration of this machine: `secrets.json`, and `secrets.d/*.json` in the order of their
/// names.
pub fn load(paths: &Paths) -> Result<Loaded, Report> {
    let mut problems = Problems::default();
    let files = files::find(paths, &mut problems);
    load_files(&files, Origin::Installed, problems)
}

/// Like [`load`], but a machine without a configuration gets an empty one, whose source is a service account.
pub fn load_if_any(paths: &Paths) -> Result<Loaded, Report> {
    if files::are_none(paths) { from_text(&paths.dir.join("secrets.json"), "{}") } else { load(paths) }
}

/// Like [`load`], with one more file, which need not exist.
pub fn load_with(paths: &Paths, file: &Path, text: &str) -> Result<Loaded, Report> {
    if files::are_none(paths) {
        return from_text(file, text);
    }
    load_changed(paths, file, Some(text))
}

/// Like [`load`], as if one of the files had another text or, with `None`, did not exist.
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
    finish(written, host_memory::of_services(), problems)
}

/// Whether a file is the whole configuration of this machine.
pub fn is_only_file(paths: &Paths, file: &Path) -> bool {
    files::find(paths, &mut Problems::default()) == [file]
}

/// Loads files from any place as one configuration. Files that other users can change cause a warning, not an
/// error.
pub fn check_files(files: &[PathBuf]) -> Result<Loaded, Report> {
    load_files(files, Origin::Given, Problems::default())
}

/// Reads the files of this machine's configuration without parsing them.
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
    finish(written, None, problems)
}

/// Whether no configuration exists, in contrast to an invalid one.
pub fn is_missing(paths: &Paths) -> bool {
    files::are_none(paths)
}

/// Loads the text of one file. The name is for messages.
pub fn from_text(file: &Path, text: &str) -> Result<Loaded, Report> {
    let mut problems = Problems::default();
    let number = problems.add_file(file, text.to_owned());
    let written = read(number, &mut problems);
    finish(written.into_iter().collect(), None, problems)
}

fn load_files(files: &[PathBuf], origin: Origin, mut problems: Problems) -> Result<Loaded, Report> {
    let mut written = Vec::new();
    for file in files {
        if let Some(number) = files::read(file, origin, &mut problems) {
            written.extend(read(number, &mut problems));
        }
    }
    let memory = match origin {
        Origin::Installed => host_memory::of_services(),
        Origin::Given => None, // it may be for another machine
    };
    finish(written, memory, problems)
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
            problems.error(Offset { file: number, byte }, what, remedy);
            None
        }
    }
}

/// Reports that OpNix's file was recognised, and which parts of it were not converted.
fn opnix_is_told(file: usize, tree: &json::Node, converted: &opnix::Converted, problems: &mut Problems) {
    let what = "this is an OpNix file; onecred reads it as onecred import opnix would convert it";
    let remedy = "convert it: onecred import opnix FILE --output NEW";
    problems.warn(Offset { file, byte: tree.byte }, what, remedy);
    for (byte, what, why) in &converted.notes {
        problems.warn(Offset { file, byte: *byte }, format!("not converted exactly: {what}"), why);
    }
}

/// Checks what was read. `memory` is what services of this machine can have, in bytes, if the configuration is for
/// this machine.
fn finish(written: Vec<Written>, memory: Option<u64>, mut problems: Problems) -> Result<Loaded, Report> {
    let merged = merged::merge(written, &mut problems);
    if merged.is_empty() {
        problems.warn_of_nothing();
    }
    let mut settings = checked::check(merged, memory, &mut problems);
    let failed = problems.errors() > 0;
    let list = problems.take_list();
    match failed {
        true => Err(Report { problems: list }),
        false => {
            let texts = problems.into_texts();
            settings.policy.set_by_nixos(files::are_of_nixos(texts.0.iter().map(|(file, _)| file.as_path())));
            Ok(Loaded { settings, warnings: list, texts })
        }
    }
}

/// The checked configuration. All of it is valid.
#[derive(Debug)]
pub struct Settings {
    /// The sources, by name.
    pub sources: BTreeMap<SourceName, Source>,
    /// The secrets and rules.
    pub policy: Policy,
    /// The templates.
    pub templates: Vec<Template>,
    /// Limits of the provider.
    pub limits: Limits,
    /// The directories for published files.
    pub roots: Vec<PathBuf>,
    /// Whether units that failed because 1Password was unreachable are started again.
    pub recover: bool,
    /// Which requests are logged to the journal of the unit.
    pub audit: Audit,
    /// Whether a restart with invalid files refuses all units, instead of using the last valid configuration.
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

/// A file that contains secrets.
#[derive(Debug, Clone)]
pub struct Template {
    /// Its name.
    pub name: SecretName,
    /// Its text with the parsed placeholders.
    pub filling: Arc<Filling>,
    /// The file to which it is published, if any.
    pub target: Option<Target>,
    /// The units that may load it as a credential.
    pub grants: Vec<Grant>,
    /// What happens when one of its values changes.
    pub rotation: Rotation,
    /// Where it was declared, as `FILE:LINE`.
    pub declared_at: String,
}

/// A source of secrets. The provider passes it to the resolver as JSON with each request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The type of the source and its settings.
    pub kind: SourceKind,
    /// The systemd credential of the resolver's unit with the token.
    pub token: CredentialId,
    /// Where it was declared, as `FILE:LINE`.
    pub declared_at: String,
}

impl Source {
    /// Whether it needs the network. A Connect server counts even if it runs on this machine, because the
    /// server needs the network.
    pub fn needs_network(&self) -> bool {
        !matches!(self.kind, SourceKind::File { .. })
    }

    /// A fingerprint of the definition. Values that were fetched with another definition do not belong to
    /// this source.
    pub fn print(&self) -> String {
        let digest = ring::digest::digest(&ring::digest::SHA256, format!("{:?}", self.kind).as_bytes());
        digest.as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The types of sources.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SourceKind {
    /// A service account, through 1Password's SDK core.
    ServiceAccount(ServiceAccount),
    /// A Connect server.
    Connect {
        /// Its base URL, without `/v1`.
        url: String,
        /// Whether plain http to other hosts is allowed, and the user of a server on this host is not
        /// checked.
        insecure: bool,
        /// The users besides root that may run a server on this host: names or numeric IDs.
        users: Vec<String>,
        /// A PEM file of certificate authorities to trust instead of the system's.
        ca_file: Option<PathBuf>,
    },
    /// A development vault: a JSON file in the format of Connect.
    File {
        /// The path of the file.
        path: PathBuf,
    },
}

impl SourceKind {
    /// The name of the type in the configuration.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::ServiceAccount(_) => "service-account",
            Self::Connect { .. } => "connect",
            Self::File { .. } => "file",
        }
    }
}

/// Limits of the provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The maximum size of all snapshots in the store, in bytes.
    pub store_bytes: u64,
    /// How many connections are served at the same time. Further ones wait in the listen queue.
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
