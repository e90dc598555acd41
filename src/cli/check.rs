//! `onecred check`: checks a configuration and reports all problems. With `--live`, also checks that
//! everything it refers to exists.

use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};

use super::check_report::Configuration;
use crate::cli::common::show;
use crate::cli::creds_socket::{Finding, Level};
use crate::cli::source_files;
use crate::config::{self, Loaded, Paths, Report, Severity};
use crate::domain::secret::Target;
use crate::host::systemd::{journal, message_id};

/// The directory of the installed configuration.
const INSTALLED: &str = "/etc/onecred";
/// The unit whose reload root checks.
const PROVIDER: &str = "onecred.service";
/// How long the errors of a reload wait for a busy journal.
const JOURNAL_PATIENCE: Duration = Duration::from_secs(5);

/// The arguments of `onecred check`.
#[derive(Debug, Clone, clap::Args)]
pub struct CheckArgs {
    /// The configuration's directory, with secrets.json and secrets.d
    #[arg(long, value_name = "DIR", default_value = INSTALLED)]
    pub config: PathBuf,
    /// Files to check as one configuration, instead of those in the directory. They may be for another
    /// machine: vault files are not checked
    #[arg(value_name = "FILE", conflicts_with = "config")]
    pub files: Vec<PathBuf>,
    /// Print errors only
    #[arg(long, short)]
    pub quiet: bool,
    /// Also look up every secret in 1Password, and check the credential lines of all units
    #[arg(long, conflicts_with_all = ["files", "config"])]
    pub live: bool,
    /// Print JSON, for programs
    #[arg(long)]
    pub json: bool,
    /// Make this process load the configuration, if it is valid: used by the units' ExecReload=
    #[arg(long, value_name = "PID", hide = true)]
    pub then_reload: Option<i32>,
    /// Log errors to the journal: used by the unit's ExecReload= on systemd 253 and later
    #[arg(long, hide = true)]
    pub for_reload: bool,
}

/// Checks the configuration. Writes problems to `err` and a summary to `out`. Returns the exit code: 0 valid,
/// 1 errors found.
pub fn run(args: &CheckArgs, out: &mut dyn Write, err: &mut dyn Write) -> Result<u8, Box<dyn Error>> {
    let loaded = match args.files.as_slice() {
        [] => config::load(&Paths { dir: args.config.clone() }),
        files => config::check_files(files),
    };
    // named files may be for another machine, and the result of a reload must not depend on what the sandbox
    // hides
    let is_reload = args.for_reload || args.then_reload.is_some();
    let loaded = match args.files.is_empty() && !is_reload {
        true => loaded.and_then(source_files::checked),
        false => loaded,
    };
    match loaded {
        Ok(loaded) => {
            let objections = if args.files.is_empty() { objections(&loaded, args) } else { Vec::new() };
            let is_error = |(severity, _): &(Severity, String)| *severity == Severity::Error;
            let code = u8::from(objections.iter().any(is_error));
            let json = args.json.then(|| as_asked(Configuration::valid(&loaded, &objections), args));
            if !args.quiet && !args.json {
                objections
                    .iter()
                    .try_for_each(|(severity, what)| writeln!(err, "{}: {what}", severity.as_str()))?;
                loaded.warnings.iter().try_for_each(|warning| writeln!(err, "{warning}"))?;
                let verdict = match (code, args.live) {
                    (0, false) => "fine",
                    (0, true) => "valid",
                    _ => "not fine",
                };
                writeln!(out, "{}", summary(&loaded, verdict))?;
            }
            if let Some(pid) = args.then_reload {
                reload(pid)?;
            }
            if args.live {
                return super::live::run(&loaded.settings, json, out, err).map(|live| live.max(code));
            }
            if let Some(configuration) = json {
                show::json(out, &configuration)?;
            }
            Ok(code)
        }
        Err(report) if is_reload => {
            match args.then_reload.filter(|_| !geteuid().is_root()) {
                Some(pid) => reload(pid)?,
                None => log_failed_reload(&report),
            }
            Ok(1)
        }
        Err(Report { problems }) if args.json => {
            let configuration = as_asked(Configuration::invalid(&problems), args);
            match args.live {
                true => super::live::show_invalid(configuration, out)?,
                false => show::json(out, &configuration)?,
            }
            Ok(1)
        }
        Err(Report { problems }) => {
            let errors = problems.iter().filter(|p| p.severity == Severity::Error).count();
            for problem in problems.iter().filter(|p| !args.quiet || p.severity == Severity::Error) {
                writeln!(err, "{problem}")?;
            }
            if !args.quiet {
                let found = [(errors, "error"), (problems.len() - errors, "warning")];
                writeln!(err, "{}", counted(&found).join(", "))?;
            }
            Ok(1)
        }
    }
}

/// Makes a process load the configuration.
fn reload(pid: i32) -> nix::Result<()> {
    if pid > 1 { kill(Pid::from_raw(pid), Signal::SIGHUP) } else { Ok(()) }
}

/// Logs the errors of a reload to the journal of the provider, which logs those of a start there. This process
/// often ends before journald looks for its unit, so each line names the unit. journald accepts that only from
/// root. The resolver therefore loads the configuration although it has errors, and logs them itself.
fn log_failed_reload(report: &Report) {
    journal::start("onecred", tracing::Level::INFO);
    for problem in report.problems.iter().filter(|problem| problem.severity == Severity::Error) {
        tracing::error!(object_systemd_unit = PROVIDER, "{problem}");
    }
    tracing::error!(
        message_id = message_id::CONFIGURATION_REJECTED,
        object_systemd_unit = PROVIDER,
        "the configuration has errors or cannot be read, so it was not loaded, and the old configuration stays active; see: onecred check"
    );
    journal::flush(JOURNAL_PATIENCE);
}

fn as_asked(configuration: Configuration, args: &CheckArgs) -> Configuration {
    if args.quiet { configuration.errors_only() } else { configuration }
}

/// What is wrong with this machine for the configuration: the directories of published files, and systemd's
/// own socket.
fn objections(Loaded { settings, .. }: &Loaded, args: &CheckArgs) -> Vec<(Severity, String)> {
    let targets = || {
        let secrets = settings.policy.secrets().filter_map(|secret| secret.target.as_ref());
        secrets.chain(settings.templates.iter().filter_map(|template| template.target.as_ref()))
    };
    let below =
        |root: &Path| targets().filter(move |target| target.path.starts_with(root)).collect::<Vec<_>>();
    let used = settings.roots.iter().map(|root| (root, below(root))).filter(|(_, below)| !below.is_empty());
    let has_owners =
        |below: &[&Target]| below.iter().any(|target| !["root", "0"].contains(&target.user.as_str()));
    let mut all: Vec<_> = used
        .filter_map(|(root, below)| crate::provider::publish::objection(root, has_owners(&below)))
        .map(|what| (Severity::Warning, what))
        .collect();
    // a reload checks with --quiet, and must not depend on D-Bus
    if !args.quiet && args.config == Path::new(INSTALLED) {
        let finding = super::bus::talk(async |bus| Ok(bus.creds_socket().await)).ok().flatten();
        all.extend(finding.map(|Finding { level, message }| match level {
            Level::Warning => (Severity::Warning, message),
            Level::Error => (Severity::Error, message),
        }));
    }
    all
}

/// A summary in one line. The files have no errors here, but this machine may have a problem.
fn summary(Loaded { settings, warnings, .. }: &Loaded, verdict: &str) -> String {
    let contents = [
        (settings.policy.secrets().count(), "secret"),
        (settings.templates.len(), "template"),
        (settings.policy.rules().len(), "rule"),
        (settings.sources.len(), "source"),
    ];
    let contents = counted(&contents).join(", ");
    match counted(&[(warnings.len(), "warning")]).first() {
        None => format!("{contents}: {verdict}"),
        Some(warnings) => format!("{contents}: {verdict}, with {warnings}"),
    }
}

/// Formats counts such as `3 secrets` and `1 rule`, omitting zeros.
fn counted(things: &[(usize, &str)]) -> Vec<String> {
    let some = things.iter().filter(|(count, _)| *count > 0);
    some.map(|(count, thing)| format!("{count} {thing}{}", if *count == 1 { "" } else { "s" })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, quiet: bool) -> (u8, String, String) {
        run_with(text, quiet, false)
    }

    fn run_with(text: &str, quiet: bool, json: bool) -> (u8, String, String) {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("a.json");
        std::fs::write(&file, text).expect("written");
        let files = vec![file];
        let args = CheckArgs {
            config: PathBuf::new(),
            files,
            quiet,
            live: false,
            json,
            then_reload: None,
            for_reload: false,
        };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = run(&args, &mut out, &mut err).expect("printed");
        let text =
            |bytes| String::from_utf8(bytes).expect("text").replace(dir.path().to_str().expect("text"), "");
        (code, text(out), text(err))
    }

    #[test]
    fn programs_get_json_whether_it_is_valid_or_not() {
        let json = |text: &str, quiet| {
            let (code, out, err) = run_with(text, quiet, true);
            assert_eq!(err, "", "all of it is in the JSON");
            (code, serde_json::from_str::<serde_json::Value>(&out).expect("JSON"))
        };
        let warned = r#"{ "secrets": [ { "name": "a", "reference": "op://v/i/f" } ] }"#;
        let (code, shown) = json(warned, false);
        assert_eq!((code, &shown["valid"]), (0, &true.into()));
        let summary = serde_json::json!({
            "secrets": 1, "templates": 0, "rules": 0, "sources": 1, "errors": 0, "warnings": 1,
        });
        assert_eq!(shown["summary"], summary);
        let problem = &shown["problems"][0];
        assert_eq!(
            (&problem["severity"], &problem["file"], &problem["line"], &problem["column"]),
            (&"warning".into(), &"/a.json".into(), &1.into(), &16.into())
        );
        assert!(problem["message"].is_string() && problem["fix"].is_string(), "{problem}");
        let (code, shown) = json(warned, true);
        assert_eq!(
            (code, &shown["problems"], &shown["summary"]["warnings"]),
            (0, &serde_json::json!([]), &1.into())
        );
        let (code, shown) = json("{ \"secrets\": 1,", false);
        assert_eq!((code, &shown["valid"], &shown["summary"]["errors"]), (1, &false.into(), &1.into()));
        assert_eq!(
            (&shown["summary"]["secrets"], &shown["problems"][0]["severity"]),
            (&serde_json::Value::Null, &"error".into())
        );
    }

    #[test]
    fn a_vault_file_that_is_missing_or_of_no_use_is_an_error_on_this_machine() {
        let dir = tempfile::tempdir().expect("a directory");
        let vault = dir.path().join("vault.json");
        let text = format!(
            r#"{{ "source": {{ "kind": "file", "path": {vault:?} }}, "secrets": [ {{ "name": "a", "reference": "op://v/i/f", "units": ["a"] }} ] }}"#
        );
        std::fs::write(dir.path().join("secrets.json"), text).expect("written");
        let check = |files: Vec<PathBuf>, quiet| {
            let config = dir.path().to_owned();
            let args = CheckArgs {
                config,
                files,
                quiet,
                live: false,
                json: false,
                then_reload: None,
                for_reload: false,
            };
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let code = run(&args, &mut out, &mut err).expect("printed");
            (
                code,
                String::from_utf8([out, err].concat())
                    .expect("text")
                    .replace(dir.path().to_str().expect("text"), ""),
            )
        };
        let missing = "/secrets.json:1:1: error: source default: the vault file /vault.json does not exist; correct the file, or the path of its source\n";
        assert_eq!(check(Vec::new(), true), (1, missing.into()));
        assert_eq!(check(Vec::new(), false), (1, format!("{missing}1 error\n")));
        assert_eq!(
            check(vec![dir.path().join("secrets.json")], true),
            (0, String::new()),
            "it may be for another machine"
        );
        std::fs::write(&vault, r#"{"vaults": [{"name": "canary"}]}"#).expect("written");
        assert!(check(Vec::new(), true).1.contains(r#"vaults[0] has no "id" (line 1, column 30); add it"#));
        std::fs::write(&vault, r#"{"vaults": []}"#).expect("written");
        assert_eq!(check(Vec::new(), false), (0, "1 secret, 1 source: fine\n".into()));
    }

    #[test]
    fn tells_a_summary_or_all_problems() {
        let fine = r#"{ "secrets": [ { "name": "a", "reference": "op://v/i/f", "units": ["a"] }, { "name": "b", "reference": "op://v/i/f", "units": ["a"] } ],
            "rules": [ { "units": ["x@*"], "reference": "op://v/{instance}/f" } ] }"#;
        assert_eq!(check(fine, false), (0, "2 secrets, 1 rule, 1 source: fine\n".into(), String::new()));
        assert_eq!(check(fine, true), (0, String::new(), String::new()));
        let warned = r#"{ "secrets": [ { "name": "a", "reference": "op://v/i/f" } ] }"#;
        let (code, out, err) = check(warned, false);
        assert_eq!((code, out.as_str()), (0, "1 secret, 1 source: fine, with 1 warning\n"));
        assert!(err.starts_with("/a.json:1:16: warning: no unit or file gets secret a"), "{err}");
        assert_eq!(check(warned, true), (0, String::new(), String::new()));
        let wrong =
            r#"{ "secrets": [ { "name": "a", "reference": "op://v/f", "mode": "0400" } ], "rule": [] }"#;
        let (code, out, err) = check(wrong, false);
        assert_eq!((code, out.as_str(), err.lines().count()), (1, "", 5), "{err}");
        assert!(err.ends_with("2 errors, 2 warnings\n"), "{err}");
        assert_eq!(check(wrong, true).2.lines().count(), 2);
    }
}
