//! `onecred core install FILE…`: installs 1Password's SDK core where the resolver finds it, if it is a known
//! release.

mod bounded;
mod candidates;
mod place;
mod sdist;
mod wheel;

use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

use crate::cli::common::systemd;
use crate::resolver::service_account::install::{self, LIBRARY};
use candidates::{Candidate, Choice, Unused};
pub(in crate::cli) use place::Draft;

/// How to get the SDK core if no package contains it.
const GET_IT: &str = "get the wheel or the source archive of onepassword-sdk 0.4.2, for example by: pip download --no-deps onepassword-sdk==0.4.2";

/// The verbs of `onecred core`.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum CoreVerb {
    /// Install 1Password's SDK core, which service accounts need
    ///
    /// Installed only if its SHA-256 matches a known release for this machine's architecture. Of several files, the newest known release
    /// is installed.
    #[command(
        after_help = "Exit codes: 0 installed, 1 refused or failed (nothing was installed), 2 wrong command line"
    )]
    Install(InstallArgs),
}

/// The arguments of `onecred core install`.
#[derive(Debug, Clone, clap::Args)]
pub struct InstallArgs {
    /// Wheels (.whl) or source archives (.tar.gz) of onepassword-sdk from the Python package index, or libop_uniffi_core.so itself
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// The directory to install it to
    #[arg(long, value_name = "DIR", default_value = "/usr/lib/onecred")]
    pub to: PathBuf,
    /// Install a library that is not a known release if it has this SHA-256
    #[arg(long, value_name = "HEX")]
    pub allow_unknown_sha256: Option<String>,
}

/// Runs one of the verbs.
pub fn run(verb: &CoreVerb, out: &mut dyn Write, err: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    let CoreVerb::Install(args) = verb;
    let (candidates, unfit) = inspect(&args.files)?;
    let vouched = args.allow_unknown_sha256.as_deref();
    let Choice { chosen, others } = candidates::choose(candidates, vouched, |one| unknown(one, vouched))?;
    let Candidate { library, sum, .. } = chosen;
    let version = match sum.version {
        Some(version) => version.to_owned(),
        None => format!("of unknown version (SHA-256 {})", sum.sha256),
    };
    let draft = Draft::write(&args.to, LIBRARY, &library)?;
    match install::try_out(draft.path(), &sum.sha256) {
        Ok(()) => {}
        Err(install::Trial::Refused(why)) => {
            return Err(format!("nothing was installed: {why}; {GET_IT}").into());
        }
        Err(install::Trial::NotTried(why)) => {
            writeln!(err, "warning: the library was not tested: {why}; the resolver will check it again")?;
        }
    }
    let path = draft.publish()?;
    for (file, why) in others.iter().chain(&unfit) {
        writeln!(out, "not used: {}: {why}", file.display())?;
    }
    writeln!(out, "installed 1Password's SDK core {version}: {}", path.display())?;
    if !geteuid().is_root() {
        writeln!(err, "warning: the resolver uses only a library that root owns; install it as root")?;
    }
    if !install::is_looked_for_in(&args.to) {
        let path = path.display();
        writeln!(
            err,
            "warning: the resolver does not search this directory; configure the path: {{ \"source\": {{ \"library\": \"{path}\" }} }}"
        )?;
    }
    take_up(&args.to, out, err)
}

/// Restarts the resolver, which may have another SDK core loaded, or none.
fn take_up(to: &Path, out: &mut dyn Write, err: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    if !geteuid().is_root() || !systemd::runs() || !install::is_looked_for_in(to) {
        return Ok(writeln!(out, "to use it in a running resolver: systemctl restart onecred-resolver")?);
    }
    match systemd::systemctl(&["try-restart", "onecred-resolver.service"]) {
        Ok(()) => Ok(writeln!(out, "restarted, if it ran: onecred-resolver.service")?),
        Err(why) => Ok(writeln!(
            err,
            "warning: the core is installed, but the resolver can't be restarted: {why}; see: journalctl -u onecred-resolver"
        )?),
    }
}

/// The files with a library for this machine, and the others, each with the reason. Fails if no file has a
/// library.
fn inspect(files: &[PathBuf]) -> Result<(Vec<Candidate>, Vec<Unused>), String> {
    let (mut candidates, mut unfit) = (Vec::new(), Vec::new());
    for path in files {
        let looked = wheel::library(path).and_then(|library| {
            let sum = install::sum(&library)
                .map_err(|why| format!("its library is not for this machine: {why}"))?;
            Ok(Candidate { path: path.clone(), library, sum })
        });
        match looked {
            Ok(candidate) => candidates.push(candidate),
            Err(why) => unfit.push((path.clone(), why)),
        }
    }
    if candidates.is_empty() {
        let each: Vec<String> =
            unfit.iter().map(|(file, why)| format!("{} can't be installed: {why}", file.display())).collect();
        return Err(format!("{}; {GET_IT}", each.join("\n")));
    }
    Ok((candidates, unfit))
}

/// Why a library that is not a known release is not installed.
fn unknown(candidate: &Candidate, vouched: Option<&str>) -> String {
    let (file, sha256) = (candidate.path.display(), &candidate.sum.sha256);
    match vouched {
        Some(_) => format!(
            "{file} does not have the SHA-256 of --allow-unknown-sha256: it has {sha256}; check that it is the right file"
        ),
        None => format!(
            "{file} is not a known release of 1Password's SDK core: its SHA-256 is {sha256}; {GET_IT}; \
             or, if you trust its origin, add: --allow-unknown-sha256 {sha256}"
        ),
    }
}

#[cfg(test)]
mod tests;
