//! `onecred complete -- WORD…`: lists what a shell can insert for the last word. The completions that `onecred
//! generate` writes call it.
//!
//! Each line is a word, with its description after a tab. The lines `:files`, `:directories` and `:commands` ask
//! the shell to complete paths or commands itself.

mod cursor;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::process::Command;

use clap::CommandFactory;

use super::common::systemd;
use crate::config::{self, Paths};
use cursor::{Known, Names};

/// The completions for each shell, with the names of their files.
pub(super) const SCRIPTS: [(&str, &str); 3] = [
    ("onecred.bash", include_str!("onecred.bash")),
    ("_onecred", include_str!("_onecred")),
    ("onecred.fish", include_str!("onecred.fish")),
];

/// The arguments of `onecred complete`.
#[derive(Debug, Clone, clap::Args)]
pub struct CompleteArgs {
    /// The words after the program's name, up to the cursor
    #[arg(value_name = "WORD", last = true)]
    pub words: Vec<OsString>,
}

/// Runs the verb.
pub fn run(args: &CompleteArgs, out: &mut dyn Write) -> io::Result<()> {
    let words: Vec<String> = args.words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let mut command = super::Cli::command();
    command.build();
    out.write_all(cursor::complete(&command, &words, &mut Machine).as_bytes())
}

/// The names of this machine.
struct Machine;

impl Known for Machine {
    fn names(&mut self, names: Names, config: Option<&Path>) -> Vec<String> {
        let configured = || {
            let paths = config.map_or_else(Paths::default, |dir| Paths { dir: dir.into() });
            config::names(&paths)
        };
        match names {
            Names::Secrets => texts(&configured().secrets),
            Names::SecretsAndTemplates => {
                let configured = configured();
                [texts(&configured.secrets), texts(&configured.templates)].concat()
            }
            Names::Sources => texts(&configured().sources),
            Names::Units => {
                let loaded = units(&["list-units", "--all", "--plain"]);
                let installed = units(&["list-unit-files"]);
                [loaded, installed].concat()
            }
        }
    }
}

fn texts<'n>(names: impl IntoIterator<Item = &'n (impl ToString + 'n)>) -> Vec<String> {
    names.into_iter().map(ToString::to_string).collect()
}

/// The units that can load credentials, as systemctl lists them.
fn units(list: &[&str]) -> Vec<String> {
    let mut systemctl = Command::new("systemctl");
    systemctl.args(list).args(["--no-legend", "--no-pager", "--full", "--type=service,mount,socket,swap"]);
    let listed = systemd::said(&mut systemctl, None).unwrap_or_default();
    let lines = String::from_utf8_lossy(&listed).into_owned();
    lines.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests;
