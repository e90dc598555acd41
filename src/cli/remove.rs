//! `onecred remove NAME`: removes what `onecred add` wrote, and nothing else.
//!
//! Units stop requesting the secret before it is removed. So an interruption leaves nothing that fails, and
//! the next call continues.

use std::error::Error;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::add::{MARK, pattern};
use super::core::Draft;
use super::nixos;
use super::unit_lines::{PLAIN, SEALED};
use crate::config::{self, Paths};
use crate::domain::name::{SecretName, UnitName};
use crate::domain::nearest::nearest;
use crate::domain::unit_pattern::UnitPattern;

/// The arguments of `onecred remove`.
#[derive(Debug, Clone, clap::Args)]
pub struct RemoveArgs {
    /// The secret
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Remove it only from this unit; may be given several times. The secret is removed with its last unit
    #[arg(long = "unit", value_name = "UNIT")]
    pub units: Vec<String>,
    /// Show what would be removed, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// The configuration's directory, with secrets.json and secrets.d
    #[arg(long, value_name = "DIR", default_value = "/etc/onecred")]
    pub config: PathBuf,
    /// The directory of drop-ins for units
    #[arg(long, value_name = "DIR", default_value = "/etc/systemd/system", hide = true)]
    pub drop_ins: PathBuf,
}

/// A change to a file.
#[derive(Debug, PartialEq, Eq)]
struct Change {
    path: PathBuf,
    /// Its new text; `None` if it is removed.
    text: Option<String>,
}

/// Removes the secret.
pub fn run(args: &RemoveArgs, out: &mut dyn Write, err: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    let name = SecretName::parse(&args.name)?;
    let units = args.units.iter().map(|unit| UnitName::parse_lenient(unit));
    let units = units.collect::<Result<Vec<_>, _>>()?;
    let file = args.config.join("secrets.d").join(format!("{name}.json"));
    let written = read(&file)?;
    let definition =
        written.as_deref().map(|text| definition::without(text, &name, &units, &file)).transpose()?;
    let definition = definition.flatten();
    if definition.is_none() {
        refuse_what_others_wrote(&name, &units, args)?;
    }
    let is_whole = definition.as_ref().is_none_or(|change| change.is_whole);
    let mut changes = drop_ins(&name, if is_whole { &[] } else { &units }, &args.drop_ins, err)?;
    if definition.is_none() && changes.is_empty() {
        return Err(unknown(&name, &units, args).into());
    }
    if let Some(definition) = definition {
        changes.extend(definitions(&file, definition.text, args, err)?);
    }
    if let Some(change) = changes.iter().find(|change| change.path.parent().is_some_and(nixos::is_read_only))
    {
        return Err(format!(
            "nothing was removed: {} is on a read-only file system; remove the secret where this machine's configuration is defined",
            change.path.display()
        )
        .into());
    }
    for change in &changes {
        match args.dry_run {
            true => writeln!(out, "would {}", change.words())?,
            false => {
                change.apply()?;
                writeln!(out, "{}", change.done())?;
            }
        }
    }
    say_what_to_do(&name, &changes, out)
}

/// Refuses a secret that is declared elsewhere, because `onecred add` did not write it.
fn refuse_what_others_wrote(name: &SecretName, units: &[UnitName], args: &RemoveArgs) -> Result<(), String> {
    let loaded = config::load_if_any(&Paths { dir: args.config.clone() }).map_err(|report| {
        format!(
            "nothing was removed: the configuration has errors: {report}; fix them first, see: onecred check"
        )
    })?;
    let policy = &loaded.settings.policy;
    if let Some(secret) = policy.secrets().find(|secret| secret.name == *name) {
        let at = &secret.declared_at;
        return Err(match units {
            [] => format!(
                "{name} is declared in {at}, which onecred add did not write; remove it there, then: onecred reload"
            ),
            _ => format!(
                "{name} is declared in {at}, which onecred add did not write; change its units there, then: onecred reload"
            ),
        });
    }
    match loaded.settings.templates.iter().find(|template| template.name == *name) {
        Some(template) => Err(format!(
            "{name} is a template, declared in {}, which onecred add did not write; remove it there, then: onecred reload",
            template.declared_at
        )),
        None => Ok(()),
    }
}

fn unknown(name: &SecretName, units: &[UnitName], args: &RemoveArgs) -> String {
    let loaded = config::load(&Paths { dir: args.config.clone() }).ok();
    let names =
        loaded.iter().flat_map(|loaded| loaded.settings.policy.secrets().map(|secret| secret.name.as_str()));
    let hint = match nearest(name.as_str(), names) {
        Some(near) => format!("did you mean {near}?"),
        None => "see: onecred list".to_owned(),
    };
    let of = match units {
        [] => String::new(),
        _ => format!(" for {}", units.iter().map(UnitName::as_str).collect::<Vec<_>>().join(", ")),
    };
    format!(
        "nothing to remove: no secret is called {name:?}, and no drop-in of onecred add loads it{of}; {hint}"
    )
}

/// The changes to the configuration, which must be valid afterwards.
fn definitions(
    file: &Path,
    text: Option<String>,
    args: &RemoveArgs,
    err: &mut dyn Write,
) -> Result<Vec<Change>, Box<dyn Error>> {
    let paths = Paths { dir: args.config.clone() };
    let main = args.config.join("secrets.json");
    let is_last = text.is_none() && config::is_only_file(&paths, file);
    let mut changes = Vec::new();
    if is_last {
        // a reload without any configuration would fail
        changes.push(Change { path: main, text: Some("{}\n".to_owned()) });
    } else if let Err(report) = config::load_changed(&paths, file, text.as_deref()) {
        report.problems.iter().try_for_each(|problem| writeln!(err, "{problem}"))?;
        return Err(
            "nothing was removed: without it the configuration would have these errors; fix them first"
                .into(),
        );
    }
    changes.push(Change { path: file.to_owned(), text });
    Ok(changes)
}

/// The drop-ins that `onecred add` wrote for a secret: for these units, or for all.
fn drop_ins(
    name: &SecretName,
    units: &[UnitName],
    dir: &Path,
    err: &mut dyn Write,
) -> Result<Vec<Change>, Box<dyn Error>> {
    let mut folders: Vec<PathBuf> = match units {
        [] => match fs::read_dir(dir) {
            Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(format!("{} can't be read: {error}", dir.display()).into()),
        },
        _ => units.iter().map(|unit| dir.join(format!("{unit}.d"))).collect(),
    };
    folders.sort();
    let mut changes = Vec::new();
    for folder in folders.iter().filter(|folder| folder.extension().is_some_and(|ending| ending == "d")) {
        let path = folder.join(format!("50-onecred-{name}.conf"));
        let Some(text) = read(&path)? else { continue };
        match without_line(&text, name) {
            Some(text) => changes.push(Change { path, text: Some(text).filter(|text| !text.is_empty()) }),
            None => writeln!(err, "warning: {} is kept: onecred add did not write it", path.display())?,
        }
    }
    Ok(changes)
}

/// A drop-in without what `onecred add` wrote to it; empty if it has no other content. `None` if `onecred
/// add` did not write it.
fn without_line(text: &str, name: &SecretName) -> Option<String> {
    let mark = format!("# written by onecred add {name}");
    let asks = |line: &str| {
        let entry =
            line.strip_prefix("LoadCredential=").or_else(|| line.strip_prefix("LoadCredentialEncrypted="));
        entry.and_then(|entry| entry.split_once(':')).is_some_and(|(_, path)| [PLAIN, SEALED].contains(&path))
    };
    let lines: Vec<&str> = text.lines().collect();
    let marked = lines.iter().position(|line| *line == mark)?;
    let line = lines[marked..].iter().position(|line| asks(line)).map(|after| marked + after);
    let rest = lines.iter().enumerate().filter(|(at, _)| *at != marked && Some(*at) != line);
    let rest: Vec<&str> = rest.map(|(_, line)| *line).collect();
    let is_empty = rest.iter().all(|line| line.trim().is_empty() || line.starts_with('['));
    Some(if is_empty { String::new() } else { rest.join("\n") + "\n" })
}

impl Change {
    fn words(&self) -> String {
        match &self.text {
            None => format!("remove {}", self.path.display()),
            Some(text) => format!("write {}:\n{}", self.path.display(), text.trim_end()),
        }
    }

    fn done(&self) -> String {
        let what = if self.text.is_some() { "changed" } else { "removed" };
        format!("{what}: {}", self.path.display())
    }

    fn apply(&self) -> Result<(), String> {
        let (Some(dir), Some(name)) =
            (self.path.parent(), self.path.file_name().and_then(|name| name.to_str()))
        else {
            return Err(format!("{} is not a file", self.path.display()));
        };
        match &self.text {
            Some(text) => {
                let mode = fs::metadata(&self.path).map_or(0o644, |about| about.permissions().mode() & 0o777);
                Draft::with_mode(dir, name, text.as_bytes(), mode)?.publish()?;
            }
            None => {
                fs::remove_file(&self.path).map_err(|error| {
                    let remedy = match error.kind() {
                        io::ErrorKind::PermissionDenied => "; run it as root",
                        _ => "",
                    };
                    format!("{} can't be removed: {error}{remedy}", self.path.display())
                })?;
                // fails if the directory has other files
                if dir.extension().is_some_and(|ending| ending == "d") && !dir.ends_with("secrets.d") {
                    let _ = fs::remove_dir(dir);
                }
            }
        }
        Ok(())
    }
}

fn say_what_to_do(name: &SecretName, changes: &[Change], out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    let drop_ins: Vec<&Change> = changes
        .iter()
        .filter(|change| change.path.extension().is_some_and(|ending| ending == "conf"))
        .collect();
    writeln!(out, "now run:")?;
    if !drop_ins.is_empty() {
        writeln!(out, "  systemctl daemon-reload")?;
    }
    if changes.len() > drop_ins.len() {
        writeln!(out, "  onecred reload")?;
    }
    let folders = drop_ins.iter().filter_map(|change| change.path.parent()?.file_stem()?.to_str());
    let units: Vec<String> = folders.map(|unit| unit.replace("@.", "@*.")).collect();
    if !units.is_empty() {
        let quoted =
            units.iter().map(|unit| if unit.contains('*') { format!("'{unit}'") } else { unit.clone() });
        let quoted: Vec<String> = quoted.collect();
        writeln!(out, "running units keep {name} until: systemctl restart {}", quoted.join(" "))?;
    }
    Ok(out.flush()?)
}

/// The text of a file, if it exists.
fn read(path: &Path) -> Result<Option<String>, String> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("{} can't be read: {error}", path.display())),
    }
}

/// The file that declares the secret.
mod definition {
    use super::*;

    /// The file without the secret.
    #[derive(Debug, PartialEq, Eq)]
    pub(super) struct Rest {
        /// The remaining text; `None` if the file is removed.
        pub(super) text: Option<String>,
        /// Whether the secret is removed, not only some of its units.
        pub(super) is_whole: bool,
    }

    /// Removes a secret or some of its units from a file. `None` if the file does not declare it.
    pub(super) fn without(
        text: &str,
        name: &SecretName,
        units: &[UnitName],
        file: &Path,
    ) -> Result<Option<Rest>, String> {
        let unreadable = |why: &dyn std::fmt::Display| {
            format!("{} can't be changed: {why}; see: onecred check", file.display())
        };
        let mut document: Value = serde_json::from_str(text).map_err(|error| unreadable(&error))?;
        let is_plain = text == format!("{document:#}\n") && is_plain(&document);
        let Some(secrets) = document.get_mut("secrets").and_then(Value::as_array_mut) else {
            return Ok(None);
        };
        let is_written =
            |secret: &Value| secret["name"] == name.as_str() && (secret["//"] == MARK || is_plain);
        let Some(at) = secrets.iter().position(is_written) else { return Ok(None) };
        let mut is_whole = units.is_empty();
        if !is_whole {
            let entries = secrets[at]["units"].as_array_mut();
            let entries = entries.ok_or_else(|| unreadable(&"\"units\" is not a list"))?;
            for unit in units {
                let before = entries.len();
                entries.retain(|entry| !entry.as_str().is_some_and(|entry| is_of(entry, unit)));
                if entries.len() == before {
                    let has: Vec<&str> = entries.iter().filter_map(Value::as_str).collect();
                    return Err(format!(
                        "nothing was removed: {unit} is not in the units of {name} ({}): {}",
                        file.display(),
                        has.join(", ")
                    ));
                }
            }
            is_whole = entries.is_empty();
        }
        if is_whole {
            secrets.remove(at);
        }
        let is_empty = document["secrets"].as_array().is_some_and(Vec::is_empty)
            && document.as_object().is_some_and(|members| {
                members.keys().all(|key| ["secrets", "$schema", "//"].contains(&key.as_str()))
            });
        Ok(Some(Rest { text: (!is_empty).then(|| format!("{document:#}\n")), is_whole }))
    }

    /// Whether a file has the form that `onecred add` wrote before it added a mark.
    fn is_plain(document: &Value) -> bool {
        let secret = |secret: &Value| {
            secret.as_object().is_some_and(|members| {
                members.keys().all(|key| ["name", "reference", "source", "units"].contains(&key.as_str()))
            })
        };
        let secrets = document["secrets"].as_array();
        document.as_object().is_some_and(|members| members.len() == 1)
            && secrets.is_some_and(|secrets| secrets.len() == 1 && secrets.iter().all(secret))
    }

    /// Whether an entry of `units` is for this unit, with any credential ID.
    fn is_of(entry: &str, unit: &UnitName) -> bool {
        let entry = entry.split_once('/').map_or(entry, |(unit, _)| unit);
        UnitPattern::parse(entry).is_ok_and(|entry| entry.glob().as_str() == pattern(unit))
    }
}

#[cfg(test)]
mod tests;
