//! `onecred metrics`: writes onecred's metrics as OpenMetrics text to standard output, or to a file for
//! node_exporter.

use std::error::Error;
use std::ffi::OsStr;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use super::bus;
use super::core::Draft;
use crate::host::directory::open_without_foreign_links;

/// The arguments of `onecred metrics`.
#[derive(Debug, Clone, clap::Args)]
pub struct MetricsArgs {
    /// Write to this file, which is replaced atomically
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Prints or writes the metrics.
pub fn run(args: &MetricsArgs, out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    let text = bus::talk(async |bus| Ok(bus.manager().await?.metrics().await?))?;
    match &args.output {
        Some(file) => write(file, &text)?,
        None => out.write_all(text.as_bytes())?,
    }
    Ok(out.flush()?)
}

fn write(file: &Path, text: &str) -> Result<(), String> {
    let name = file.file_name().and_then(OsStr::to_str);
    let name = name.ok_or_else(|| format!("{} does not name a file", file.display()))?;
    let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !dir.is_dir() {
        // no exporter reads a directory that is created here
        return Err(format!(
            "{} does not exist: is it the directory that the exporter reads? (--collector.textfile.directory)",
            dir.display()
        ));
    }
    // the directory may belong to the exporter's user, who must not redirect a write of root by a link
    let absolute = std::path::absolute(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    let opened = open_without_foreign_links(&absolute).map_err(|refusal| refusal.to_string())?;
    let handle = PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd()));
    let in_words = |error: String| error.replace(&handle.display().to_string(), &dir.display().to_string());
    let written = Draft::write(&handle, name, text.as_bytes()).and_then(Draft::publish);
    written.map(drop).map_err(in_words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("onecred.prom");
        std::fs::write(&file, "old").unwrap();
        let open = std::fs::File::open(&file).unwrap();
        write(&file, "# EOF\n").unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "# EOF\n");
        assert_eq!(std::io::read_to_string(open).unwrap(), "old", "a reader keeps what it has opened");
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn a_link_of_another_user_is_not_followed() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let [exporters, target] = ["exporters", "target"].map(|name| dir.path().join(name));
        std::fs::create_dir(&exporters).unwrap();
        std::fs::create_dir(&target).unwrap();
        std::os::unix::fs::chown(&exporters, Some(1234), None).unwrap();
        write(&exporters.join("onecred.prom"), "# EOF\n").unwrap();
        std::os::unix::fs::symlink(&target, exporters.join("textfile")).unwrap();
        let said = write(&exporters.join("textfile/onecred.prom"), "").unwrap_err();
        assert!(said.contains("textfile is a symbolic link"), "{said}");
        assert_eq!(std::fs::read_dir(&target).unwrap().count(), 0);
    }

    #[test]
    fn a_directory_is_never_made() {
        let dir = tempfile::tempdir().unwrap();
        let said = write(&dir.path().join("nowhere/onecred.prom"), "").unwrap_err();
        assert!(said.contains("nowhere does not exist"), "{said}");
        assert!(write(Path::new("/"), "").unwrap_err().contains("does not name a file"));
    }
}
