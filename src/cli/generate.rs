//! `onecred generate man|completions DIR`: writes the files that `make install` installs besides the binary and
//! the units. The pages of the manual go to `DIR/man1`, `DIR/man5` and `DIR/man8`.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{fs, io};

use super::{complete, manual};

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
    /// The pages of the manual, in directories for their sections
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

/// Writes each page to the directory of its section.
fn pages(dir: &Path) -> io::Result<()> {
    for page in manual::pages()? {
        let section = dir.join(format!("man{}", page.section));
        fs::create_dir_all(&section)?;
        fs::write(section.join(format!("{}.{}", page.name, page.section)), page.text)?;
    }
    Ok(())
}
