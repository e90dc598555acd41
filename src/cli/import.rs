//! `onecred import opnix`: converts OpNix's secrets.json, and reports the files that OpNix leaves behind.
//! `onecred import op-env`: converts an environment file with references into a template.

use std::error::Error;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::config::{self, Imported, Severity};

/// What can be imported.
#[derive(Debug, clap::Subcommand)]
pub enum ImportVerb {
    /// Convert OpNix's secrets.json into a configuration, and report what cannot be converted
    ///
    /// If the result would have errors, such as an invalid reference, they are reported with their place in
    /// OpNix's file, and nothing is written.
    #[command(after_help = "Exit codes: 0 imported, 1 nothing was imported, 2 wrong command line")]
    Opnix(OpnixArgs),
    /// Convert an environment file with secret references, as `op run --env-file` reads it, into a template
    ///
    /// Each KEY=op://… becomes KEY={{op://…}}. Variables such as ${ENV} and other lines that cannot be
    /// converted are reported and become comments.
    #[command(after_help = "Exit codes: 0 imported, 1 nothing was imported, 2 wrong command line")]
    OpEnv(OpEnvArgs),
}

/// The arguments of `onecred import op-env`.
#[derive(Debug, Clone, clap::Args)]
pub struct OpEnvArgs {
    /// The environment file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Write the configuration to this file instead of standard output
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Overwrite the output file if it exists
    #[arg(long, requires = "output")]
    pub force: bool,
}

/// The arguments of `onecred import opnix`.
#[derive(Debug, Clone, clap::Args)]
pub struct OpnixArgs {
    /// OpNix's file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Write the configuration to this file instead of standard output
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Overwrite the output file if it exists
    #[arg(long, requires = "output")]
    pub force: bool,
    /// The directory of OpNix's secrets
    #[arg(long, value_name = "DIR", default_value = config::OPNIX_FOLDER)]
    pub left_in: PathBuf,
}

/// The maximum number of files that are listed.
const NAMED: usize = 20;

/// Runs the verb.
pub fn run(verb: &ImportVerb, out: &mut dyn Write, err: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    match verb {
        ImportVerb::Opnix(args) => opnix(args, out, err),
        ImportVerb::OpEnv(args) => op_env(args, out, err),
    }
}

fn op_env(args: &OpEnvArgs, out: &mut dyn Write, err: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    let file = args.file.display();
    let text = fs::read_to_string(&args.file).map_err(|error| format!("{file} can't be read: {error}"))?;
    let Imported { json, notes } = config::import_op_env(&args.file, &text);
    match &args.output {
        None => out.write_all(json.as_bytes())?,
        Some(output) => write(output, &json, args.force)?,
    }
    Ok(notes.iter().try_for_each(|note| writeln!(err, "{file}: {note}"))?)
}

fn opnix(args: &OpnixArgs, out: &mut dyn Write, err: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    let file = args.file.display();
    let text = fs::read_to_string(&args.file).map_err(|error| format!("{file} can't be read: {error}"))?;
    let Imported { json, notes } = config::import_opnix(&text).map_err(|error| format!("{file}: {error}"))?;
    if let Err(report) = config::from_text(&args.file, &text) {
        let errors: Vec<_> = report.problems.iter().filter(|p| p.severity == Severity::Error).collect();
        errors.iter().try_for_each(|error| writeln!(err, "{error}"))?;
        return Err(format!("nothing was imported; correct {file}, then import it again").into());
    }
    match &args.output {
        None => out.write_all(json.as_bytes())?,
        Some(output) => write(output, &json, args.force)?,
    }
    for note in notes {
        writeln!(err, "not converted exactly: {file}: {note}")?;
    }
    tell_left(&args.left_in, err)?;
    Ok(())
}

fn write(output: &Path, json: &str, force: bool) -> Result<(), Box<dyn Error>> {
    let mut options = OpenOptions::new();
    let options = options.write(true).mode(0o644).truncate(force).create(force).create_new(!force);
    let opened = options.open(output).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            format!("{} exists; use --force to overwrite it", output.display())
        }
        _ => format!("{} can't be written: {error}", output.display()),
    });
    Ok(opened?.write_all(json.as_bytes())?)
}

/// Lists the secrets that OpNix has left in plain text.
fn tell_left(folder: &Path, err: &mut dyn Write) -> io::Result<()> {
    let shown = folder.display();
    let files = match files(folder) {
        Ok(files) => files,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            return writeln!(
                err,
                "can't check whether secrets are left in {shown}: {error}; try again as root"
            );
        }
    };
    if files.is_empty() {
        return Ok(());
    }
    writeln!(err, "{} files in plain text are left in {shown}:", files.len())?;
    for file in files.iter().take(NAMED) {
        writeln!(err, "  {}", file.display())?;
    }
    if files.len() > NAMED {
        writeln!(err, "  and {} more", files.len() - NAMED)?;
    }
    writeln!(err, "when nothing reads them any more, run: find '{shown}' -type f -exec shred -u -- {{}} +")
}

/// The files below a directory, without following links.
fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str =
        r#"{ "secrets": [ { "path": "a", "reference": "op://v/i/f", "symlinks": ["/etc/a"] } ] }"#;

    #[test]
    fn prints_or_writes_and_tells_what_is_left() {
        let folder = tempfile::tempdir().expect("a directory");
        let at = |name: &str| folder.path().join(name);
        fs::write(at("opnix.json"), FILE).expect("written");
        fs::create_dir_all(at("left/deep")).expect("made");
        fs::write(at("left/deep/api-key"), "hunter2").expect("written");
        let mut args = OpnixArgs { file: at("opnix.json"), output: None, force: false, left_in: at("left") };
        let run = |args: &OpnixArgs| {
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let result = run(&ImportVerb::Opnix(args.clone()), &mut out, &mut err);
            let text = |bytes| String::from_utf8(bytes).expect("text");
            (result.map_err(|error| error.to_string()), text(out), text(err))
        };
        let (result, printed, err) = run(&args);
        assert_eq!(result, Ok(()));
        assert!(printed.contains(r#""target": "/run/secrets/a""#), "{printed}");
        assert!(err.contains("the link /etc/a of a: ") && err.contains("left/deep/api-key\n"), "{err}");
        assert!(
            err.contains("1 files in plain text") && err.contains("shred -u") && !err.contains("hunter2"),
            "{err}"
        );
        let wrong = FILE.replace("op://v/i/f", "op://My%20Vault/i/f");
        fs::write(at("wrong.json"), wrong).expect("written");
        let bad = OpnixArgs { file: at("wrong.json"), output: Some(at("none.json")), ..args.clone() };
        let (result, out, err) = run(&bad);
        assert!(result.expect_err("a bad reference").contains("nothing was imported; correct "));
        let place = format!(
            "{}:1:44: error: \"op://My%20Vault/i/f\" is not a secret reference: ",
            at("wrong.json").display()
        );
        assert!(err.starts_with(&place) && err.contains("write \"op://My Vault/i/f\""), "{err}");
        assert!(out.is_empty() && !at("none.json").exists(), "{out}");
        args.output = Some(at("secrets.json"));
        args.left_in = at("nothing");
        assert_eq!(run(&args).0, Ok(()));
        assert_eq!(fs::read_to_string(at("secrets.json")).expect("there"), printed);
        assert!(run(&args).0.expect_err("there").contains("use --force"));
        args.force = true;
        assert_eq!(run(&args).0, Ok(()));
    }

    #[test]
    fn an_environment_file_becomes_a_template() {
        let folder = tempfile::tempdir().expect("a directory");
        let at = |name: &str| folder.path().join(name);
        fs::write(at("prod.env"), "A=op://v/i/f\nB=op://$ENV/i/f\n").expect("written");
        let args = OpEnvArgs { file: at("prod.env"), output: Some(at("secrets.json")), force: false };
        let run = || {
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let result = run(&ImportVerb::OpEnv(args.clone()), &mut out, &mut err);
            (result.map_err(|error| error.to_string()), String::from_utf8(err).expect("text"))
        };
        let (result, err) = run();
        assert_eq!(result, Ok(()));
        assert!(err.contains("prod.env: line 2: B: the reference has the variable $ENV"), "{err}");
        let made = fs::read_to_string(at("secrets.json")).expect("there");
        assert!(made.contains(r#""content": "A={{op://v/i/f}}\n# B={{\"op://\"}}$ENV/i/f\n""#), "{made}");
        assert!(config::from_text(&at("secrets.json"), &made).is_ok());
        assert!(run().0.expect_err("there").contains("use --force"));
    }
}
