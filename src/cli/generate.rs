//! `onecred generate man|completions DIR`: generates the files that `make install` installs besides the
//! binary from the definition of the command line.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{fs, io};

use clap::CommandFactory;

use super::complete;

/// The arguments of `onecred generate`.
#[derive(Debug, Clone, clap::Args)]
pub struct GenerateArgs {
    /// What to generate
    #[arg(value_enum)]
    pub what: What,
    /// The directory to write to; created if it does not exist
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
}

/// What can be generated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum What {
    /// Man pages, one per verb
    Man,
    /// Completions for bash, zsh and fish
    Completions,
}

/// Runs the verb.
pub fn run(args: &GenerateArgs) -> Result<(), Box<dyn Error>> {
    let dir = args.dir.display();
    fs::create_dir_all(&args.dir).map_err(|error| format!("{dir} can't be made: {error}"))?;
    let generated = match args.what {
        What::Man => pages(&args.dir),
        What::Completions => {
            complete::SCRIPTS.iter().try_for_each(|(name, script)| fs::write(args.dir.join(name), script))
        }
    };
    Ok(generated.map_err(|error| format!("{dir} can't be written to: {error}"))?)
}

/// Writes one page for each visible verb.
fn pages(dir: &Path) -> io::Result<()> {
    let mut command = super::Cli::command().disable_help_subcommand(true);
    command.build();
    let mut all = vec![command];
    while let Some(command) = all.pop() {
        all.extend(command.get_subcommands().filter(|verb| !verb.is_hide_set()).cloned());
        let page = clap_mangen::Man::new(command)
            .source(concat!("onecred ", env!("CARGO_PKG_VERSION")))
            .manual("System credentials from 1Password");
        let mut text = Vec::new();
        page.render(&mut text)?;
        // the text after the options of a verb describes its exit codes
        let text = String::from_utf8_lossy(&text).replace(".SH EXTRA\n", ".SH \"EXIT STATUS\"\n");
        // the date is omitted, but its place must be kept, or the words of the footer run together
        let text = text.replacen(" 1  \"onecred ", " 1 \"\" \"onecred ", 1);
        fs::write(dir.join(page.get_filename()), text)?;
    }
    Ok(())
}
