//! Tests the check of a real 1Password with the fakes, without faults and with each fault that it should
//! notice.

mod account;
mod connect;
mod vault;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output, Stdio};
use std::sync::OnceLock;

use libtest_mimic::{Arguments, Trial};

/// A case: its name and its function.
type Case = (&'static str, fn());

static CORE: OnceLock<PathBuf> = OnceLock::new();

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let core = if arguments.list { Ok(PathBuf::new()) } else { core() };
    let why_not = core.map(|path| drop(CORE.set(path))).err();
    if let Some(why) = &why_not {
        eprintln!("skipped: the check of a service account: {why}");
    }
    let trial = |needs_core: bool| {
        let is_ignored = needs_core && why_not.is_some();
        move |&(name, case): &Case| {
            let run = move || {
                case();
                Ok(())
            };
            Trial::test(name, run).with_ignored_flag(is_ignored)
        }
    };
    let trials = connect::CASES.iter().map(trial(false)).chain(account::CASES.iter().map(trial(true)));
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

/// 1Password's SDK core, in the cache of integration/core.
fn core() -> Result<PathBuf, String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/core");
    let got = Command::new(script).output().map_err(|error| format!("{script}: {error}"))?;
    if !got.status.success() {
        return Err(format!("{script}: {}", String::from_utf8_lossy(&got.stderr).trim()));
    }
    Ok(String::from_utf8_lossy(&got.stdout).trim().into())
}

/// The output of a run, and its exit status.
struct Ran {
    code: i32,
    report: String,
    log: String,
}

impl Ran {
    fn of(output: Output) -> Ran {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        Ran {
            code: output.status.code().expect("an exit status"),
            report: text(output.stdout),
            log: text(output.stderr),
        }
    }

    /// The lines of the report about an expectation, with details.
    fn about(&self, name: &str) -> String {
        let start = format!(" {name}: ");
        let mut lines = self.report.lines().skip_while(|line| !line.contains(&start));
        let first =
            lines.next().unwrap_or_else(|| panic!("nothing about {name}: {}{}", self.report, self.log));
        let details = lines.take_while(|line| line.starts_with("             - "));
        std::iter::once(first).chain(details).collect::<Vec<_>>().join("\n")
    }

    /// Fails unless this expectation differs with this detail, and the exit status reports a difference.
    fn differs(&self, name: &str, detail: &str) {
        let about = self.about(name);
        assert!(about.starts_with("differs ") && about.contains(detail), "{about}\n{}", self.report);
        assert_eq!(self.code, 1, "{}{}", self.report, self.log);
    }

    /// Fails unless everything that was observed is as expected.
    fn is_as_expected(&self) {
        assert!(!self.report.contains("\ndiffers "), "{}", self.report);
        assert_eq!(self.code, 0, "{}{}", self.report, self.log);
    }

    fn calls(&self) -> usize {
        let line =
            self.report.lines().find_map(|line| line.strip_prefix("calls: ")).expect("a number of calls");
        line.split(' ').next().and_then(|number| number.parse().ok()).expect("a number")
    }

    /// Fails if the output contains one of the texts.
    fn hides(&self, secrets: &[String]) {
        let all = format!("{}\n{}", self.report, self.log).to_lowercase();
        for secret in secrets {
            assert!(!all.contains(&secret.to_lowercase()), "{secret:?} is in the report: {all}");
        }
    }
}

/// Runs the program with the token in a file.
fn run(token: &str, arguments: &[&str]) -> Ran {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("token");
    fs::write(&file, format!("{token}\n")).expect("a file for the token");
    let file = file.to_str().expect("UTF-8");
    Ran::of(program(&[&["--token-file", file], arguments].concat()).output().expect("the program runs"))
}

fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_real"));
    command.args(arguments).env_remove("CREDENTIALS_DIRECTORY").stdin(Stdio::null());
    command
}

fn path(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}
