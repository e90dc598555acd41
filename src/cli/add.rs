//! `onecred add NAME op://… --unit UNIT`: declares a secret, and makes units request it. It never changes
//! what others have written.

use std::error::Error;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::core::Draft;
use super::nixos;
use super::unit_lines::{PLAIN, SEALED};
use crate::config::{self, Paths};
use crate::domain::name::{CredentialId, SecretName, SourceName, UnitName};
use crate::domain::reference::Reference;
use crate::host::systemd::unit_type::ExecType;
use crate::provider::fetch::unit_files::UnitFiles;

/// The comment that marks what `onecred add` writes. `onecred remove` removes nothing else.
pub(super) const MARK: &str = "written by onecred add";

/// The arguments of `onecred add`.
#[derive(Debug, Clone, clap::Args)]
pub struct AddArgs {
    /// The name of the secret
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Its reference in 1Password: op://vault/item/field
    #[arg(value_name = "REFERENCE")]
    pub reference: String,
    /// A unit that is allowed to load it; may be given several times. app means app.service, app@ all
    /// instances of that template
    #[arg(long = "unit", value_name = "UNIT", required = true)]
    pub units: Vec<String>,
    /// The credential's ID, if it is not the secret's name
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,
    /// Its source, if there are several
    #[arg(long, value_name = "NAME")]
    pub source: Option<String>,
    /// Let the units use the plain socket, with LoadCredential=: for values above 860 KiB, or if there is no
    /// host key
    #[arg(long)]
    pub plain: bool,
    /// Show what would be written, and write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// The configuration's directory, with secrets.json and secrets.d
    #[arg(long, value_name = "DIR", default_value = "/etc/onecred")]
    pub config: PathBuf,
    /// The directory of drop-ins for units
    #[arg(long, value_name = "DIR", default_value = "/etc/systemd/system", hide = true)]
    pub drop_ins: PathBuf,
    /// The path of the host key
    #[arg(long, value_name = "FILE", default_value = "/var/lib/systemd/credential.secret", hide = true)]
    pub host_key: PathBuf,
}

/// What to add.
struct Addition {
    name: SecretName,
    reference: Reference,
    units: Vec<UnitName>,
    id: CredentialId,
    source: Option<SourceName>,
    plain: bool,
}

/// A file that must exist with this content.
struct Wish {
    dir: PathBuf,
    name: String,
    text: String,
}

/// Adds the secret.
pub fn run(args: &AddArgs, out: &mut dyn Write, err: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    let addition = Addition::parse(args)?;
    let definition = addition.definition(&args.config);
    let mut wishes = match addition.is_declared(&args.config)? {
        true => Vec::new(),
        false => {
            addition.check(&definition, &args.config, err)?;
            vec![definition]
        }
    };
    for unit in &addition.units {
        wishes.push(addition.drop_in(unit, &args.drop_ins)?);
    }
    // before anything is written, so that all or nothing is written
    let missing =
        wishes.into_iter().filter_map(|wish| wish.is_there().map(|is| (!is).then_some(wish)).transpose());
    let missing: Vec<Wish> = missing.collect::<Result<_, _>>()?;
    if args.dry_run {
        for wish in &missing {
            writeln!(out, "would write {}:\n{}", wish.path().display(), wish.text)?;
        }
    } else {
        addition.can_be_written(&missing)?;
        let drafts: Result<Vec<Draft>, String> = missing.iter().map(Wish::draft).collect();
        for draft in drafts? {
            writeln!(out, "written: {}", draft.publish_new()?.display())?;
        }
    }
    if missing.is_empty() {
        writeln!(out, "everything exists already")?;
    }
    addition.warn_of_unknown_units(&UnitFiles::read(), err)?;
    addition.tell_what_to_do(&args.host_key, out)
}

impl Addition {
    fn parse(args: &AddArgs) -> Result<Self, Box<dyn Error>> {
        let name = SecretName::parse(&args.name)?;
        let id = args.id.as_deref().map(CredentialId::parse).transpose()?;
        let id = id.unwrap_or_else(|| name.to_credential());
        if id.as_str().contains([' ', '"', '\'', '\\', '%', ',']) {
            return Err(format!(
                "{id:?} needs quotes in a unit file; choose an ID of letters, digits and any of ._@-"
            )
            .into());
        }
        let units =
            args.units.iter().map(|unit| UnitName::parse_lenient(unit)).collect::<Result<Vec<_>, _>>()?;
        for unit in &units {
            section(unit)?;
        }
        let reference = Reference::parse(&args.reference)?;
        let source = args.source.as_deref().map(SourceName::parse).transpose()?;
        Ok(Self { name, reference, units, id, source, plain: args.plain })
    }

    /// Whether the configuration already contains exactly this. A different declaration with the same name is
    /// an error.
    fn is_declared(&self, dir: &Path) -> Result<bool, String> {
        // reported later
        let Ok(loaded) = config::load(&Paths { dir: dir.to_owned() }) else { return Ok(false) };
        let mut secrets = loaded.settings.policy.secrets();
        let Some(secret) = secrets.find(|secret| secret.name == self.name) else { return Ok(false) };
        let (name, at) = (&self.name, &secret.declared_at);
        if secret.wanted.reference != self.reference
            || self.source.as_ref().is_some_and(|source| *source != secret.wanted.source)
        {
            let reference = &secret.wanted.reference;
            return Err(format!(
                "{name} is declared already, as {reference} ({at}); take another name, or change it there"
            ));
        }
        let granted = |entry: &String| {
            let pattern = |grant: &crate::domain::secret::Grant| {
                entry == grant.units.glob().as_str() && grant.credential == self.id
            };
            secret.grants.iter().any(pattern)
        };
        match self.units.iter().map(pattern).find(|entry| !granted(entry)) {
            None => Ok(true),
            Some(_) => {
                let entries: Vec<String> =
                    self.units.iter().map(|unit| format!("{:?}", self.entry(unit))).collect();
                Err(format!(
                    "{name} is declared already ({at}); add {} to its units there",
                    entries.join(", ")
                ))
            }
        }
    }

    fn definition(&self, config: &Path) -> Wish {
        let units: Vec<String> = self.units.iter().map(|unit| self.entry(unit)).collect();
        let mut secret = serde_json::json!({
            "//": MARK, "name": self.name.as_str(), "reference": self.reference.to_string(), "units": units,
        });
        if let Some(source) = &self.source {
            secret["source"] = source.as_str().into();
        }
        let text = format!("{:#}\n", serde_json::json!({ "secrets": [secret] }));
        Wish { dir: config.join("secrets.d"), name: format!("{}.json", self.name), text }
    }

    /// The entry for a unit in `units`.
    fn entry(&self, unit: &UnitName) -> String {
        match self.id == self.name.to_credential() {
            true => pattern(unit),
            false => format!("{}/{}", pattern(unit), self.id),
        }
    }

    fn drop_in(&self, unit: &UnitName, dir: &Path) -> Result<Wish, String> {
        let section = section(unit)?;
        let (name, id) = (&self.name, &self.id);
        let line = match self.plain {
            true => format!("LoadCredential={id}:{PLAIN}"),
            false => format!("LoadCredentialEncrypted={id}:{SEALED}"),
        };
        let text = format!("# written by onecred add {name}\n[{section}]\n{line}\n");
        Ok(Wish { dir: dir.join(format!("{unit}.d")), name: format!("50-onecred-{name}.conf"), text })
    }

    /// Checks that the configuration would be valid with the addition, and would grant the units exactly this
    /// secret.
    fn check(&self, definition: &Wish, config: &Path, err: &mut dyn Write) -> Result<(), Box<dyn Error>> {
        let paths = Paths { dir: config.to_owned() };
        let loaded = match config::load_with(&paths, &definition.path(), &definition.text) {
            Ok(loaded) => loaded,
            Err(report) => {
                report.problems.iter().try_for_each(|problem| writeln!(err, "{problem}"))?;
                return Err("nothing was written: the configuration would have errors".into());
            }
        };
        let of_it = loaded.warnings.iter().filter(|warning| warning.file == definition.path());
        of_it.cloned().try_for_each(|warning| writeln!(err, "{warning}"))?;
        for unit in self.units.iter().filter(|unit| !is_template(unit)) {
            if let Err(denial) = loaded.settings.policy.judge(unit, &self.id) {
                let (cause, remedy) = (denial.cause(unit, &self.id), denial.remedy(unit, &self.id));
                return Err(format!("nothing was written: {unit} would not get it: {cause}; {remedy}").into());
            }
        }
        Ok(())
    }

    /// Warns about unknown units, because a drop-in of a unit that does not exist is never read. The name may
    /// be misspelt.
    fn warn_of_unknown_units(&self, files: &UnitFiles, err: &mut dyn Write) -> io::Result<()> {
        for unit in self.units.iter().filter(|unit| !files.has(unit)) {
            match files.nearest(unit) {
                Some(near) => {
                    writeln!(err, "warning: {unit} does not exist on this host; did you mean {near}?")?
                }
                None => writeln!(
                    err,
                    "warning: {unit} does not exist on this host; it gets {} once it exists",
                    self.name
                )?,
            }
        }
        Ok(())
    }

    /// Checks that the directories of all files are writable. On NixOS those of units are not.
    fn can_be_written(&self, files: &[Wish]) -> Result<(), String> {
        let Some(file) = files.iter().find(|file| nixos::is_read_only(&file.dir)) else { return Ok(()) };
        let Self { name, reference, units, id, source, plain } = self;
        let lines =
            nixos::Lines { name, reference, units, id, source: source.as_ref(), plain: *plain }.text();
        Err(format!(
            "nothing was written: {} is on a file system that is read-only; add the lines where this machine's units are defined. On NixOS in configuration.nix:\n{}",
            file.dir.parent().unwrap_or(&file.dir).display(),
            lines.trim_end()
        ))
    }

    fn tell_what_to_do(&self, host_key: &Path, out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
        let units: Vec<String> = self.units.iter().map(|unit| format!("'{}'", pattern(unit))).collect();
        let units = units.join(" ").replace('\'', if self.units.iter().any(is_template) { "'" } else { "" });
        writeln!(out, "now run:")?;
        if !self.plain && !host_key.exists() {
            writeln!(out, "  systemd-creds setup")?; // otherwise the sealed socket refuses all requests
        }
        writeln!(out, "  systemctl daemon-reload\n  onecred reload\n  systemctl restart {units}")?;
        writeln!(out, "the program finds it in the file $CREDENTIALS_DIRECTORY/{}", self.id)?;
        Ok(out.flush()?)
    }
}

/// The section of the unit file that contains credential settings.
fn section(unit: &UnitName) -> Result<&'static str, String> {
    match ExecType::of(unit.suffix()) {
        Some(exec @ (ExecType::Service | ExecType::Mount)) => Ok(exec.section()),
        _ => Err(format!(
            "{unit} cannot load credentials: only services can, and mounts on systemd {} and later; name the service that needs the secret",
            ExecType::MOUNTS_SINCE
        )),
    }
}

fn is_template(unit: &UnitName) -> bool {
    unit.as_str().contains("@.")
}

/// The form of a unit in `units`: for a template, all its instances.
pub(super) fn pattern(unit: &UnitName) -> String {
    unit.as_str().replace("@.", "@*.")
}

impl Wish {
    fn path(&self) -> PathBuf {
        self.dir.join(&self.name)
    }

    /// Whether the file exists with the wanted content. Fails if it has other content.
    fn is_there(&self) -> Result<bool, String> {
        match fs::read(self.path()) {
            Ok(there) if there == self.text.as_bytes() => Ok(true),
            Ok(_) => Err(format!(
                "{} exists with other content; nothing was written: change it by hand, or remove it",
                self.path().display()
            )),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(format!("{} can't be read: {error}", self.path().display())),
        }
    }

    fn draft(&self) -> Result<Draft, String> {
        Draft::write(&self.dir, &self.name, self.text.as_bytes())
    }
}

#[cfg(test)]
mod tests;
