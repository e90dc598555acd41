//! Tests the resolver with 1Password's SDK core and the fake service: results, costs and faults.

mod bench;
mod costs;
mod faults;
mod values;
mod worker;

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use libtest_mimic::{Arguments, Trial};

/// A case: its name and its function.
type Case = (&'static str, fn());

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("core-worker") {
        // the resolver under test starts this binary again, as onecred starts itself
        return if onecred::resolver::service_account::run_worker().is_ok() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        };
    }
    let arguments = Arguments::from_args();
    let why_not = if arguments.list { None } else { bench::find_core(core()) };
    if let Some(why) = &why_not {
        eprintln!("skipped: everything with 1Password's core: {why}");
    }
    let cases = [values::CASES, costs::CASES, faults::CASES, worker::CASES].concat();
    let trials = cases.into_iter().map(|(name, case)| {
        Trial::test(name, move || {
            case();
            Ok(())
        })
        .with_ignored_flag(why_not.is_some())
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

/// The SDK core's library in the cache of integration/core; another release with ONECRED_TEST_CORE=VERSION.
fn core() -> Result<PathBuf, String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/core");
    let version = std::env::var("ONECRED_TEST_CORE").ok();
    let got = Command::new(script).args(version).output().map_err(|error| format!("{script}: {error}"))?;
    if !got.status.success() {
        return Err(format!("{script}: {}", String::from_utf8_lossy(&got.stderr).trim()));
    }
    Ok(String::from_utf8_lossy(&got.stdout).trim().into())
}
