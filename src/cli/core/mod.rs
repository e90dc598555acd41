//! `onecred core install FILE`: puts 1Password's SDK core where the resolver finds it, once it is known to be that.

mod place;
mod wheel;

use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

use crate::resolver::service_account::install::{self, LIBRARY, Sum};
pub(in crate::cli) use place::Draft;

/// How the core is had where no package brings it.
const GET_IT: &str = "get it by: pip download --no-deps onepassword-sdk==0.4.2";

/// What `onecred core` can do.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum CoreVerb {
    /// Install 1Password's SDK core, which service accounts need
    ///
    /// The library is taken only if its SHA-256 is that of a released version of the official SDK for this machine's architecture.
    #[command(
        after_help = "Exit codes: 0 installed, 1 refused or failed (nothing was installed), 2 wrong command line"
    )]
    Install(InstallArgs),
}

/// What `onecred core install` is told.
#[derive(Debug, Clone, clap::Args)]
pub struct InstallArgs {
    /// The wheel of onepassword-sdk as PyPI has it, or libop_uniffi_core.so itself
    #[arg(value_name = "WHEEL|SO")]
    pub file: PathBuf,
    /// The directory to install it to
    #[arg(long, value_name = "DIR", default_value = "/usr/lib/onecred")]
    pub to: PathBuf,
    /// Take a library of no version known here, if it has this SHA-256
    #[arg(long, value_name = "HEX")]
    pub allow_unknown_sha256: Option<String>,
}

/// Runs one of them.
pub fn run(verb: &CoreVerb, out: &mut dyn Write, err: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    let CoreVerb::Install(args) = verb;
    let library = read(&args.file)?;
    let sum = install::sum(&library).map_err(|why| {
        format!(
            "{} is no library for this machine: {why}; {GET_IT}, on a machine like this",
            args.file.display()
        )
    })?;
    let version = judge(&sum, args.allow_unknown_sha256.as_deref(), &args.file)?;
    let draft = Draft::write(&args.to, LIBRARY, &library)?;
    match install::try_out(draft.path(), &sum.sha256) {
        Ok(()) => {}
        Err(install::Trial::Refused(why)) => {
            return Err(format!("nothing was installed: {why}; {GET_IT}").into());
        }
        Err(install::Trial::NotTried(why)) => {
            writeln!(err, "warning: the library was not tried out: {why}; the resolver looks at it again")?;
        }
    }
    let path = draft.publish()?;
    writeln!(out, "installed 1Password's SDK core {version}: {}", path.display())?;
    if !geteuid().is_root() {
        writeln!(err, "warning: the resolver takes a library of root's only; install it as root")?;
    }
    if !install::is_looked_for_in(&args.to) {
        let path = path.display();
        writeln!(
            err,
            "warning: it is not looked for there; name it: {{ \"source\": {{ \"library\": \"{path}\" }} }}"
        )?;
    }
    Ok(writeln!(
        out,
        "a resolver that has another one loaded takes it up by: systemctl restart onecred-resolver"
    )?)
}

fn read(file: &Path) -> Result<Vec<u8>, Box<dyn Error>> {
    let failed = |why: String| format!("{} can't be installed: {why}; {GET_IT}", file.display());
    Ok(wheel::library(file).map_err(failed)?)
}

/// The version that a library is, or what stands for it where the administrator vouches for it.
fn judge(sum: &Sum, vouched: Option<&str>, file: &Path) -> Result<String, String> {
    if let Some(version) = sum.version {
        return Ok(version.to_owned());
    }
    let sha256 = &sum.sha256;
    match vouched {
        Some(hex) if hex.eq_ignore_ascii_case(sha256) => Ok(format!("of unknown version (SHA-256 {sha256})")),
        Some(_) => Err(format!(
            "{} is not the library that --allow-unknown-sha256 names: its SHA-256 is {sha256}; \
             see that the file is the one you mean",
            file.display()
        )),
        None => Err(format!(
            "{} holds no version of 1Password's SDK core that is known here: its SHA-256 is {sha256}; {GET_IT}, \
             or, if you know where it comes from, say: --allow-unknown-sha256 {sha256}",
            file.display()
        )),
    }
}
