//! The cases: onecred installed on booted machines, one theme a file.
mod machine;

use libtest_mimic::Arguments;
use onecred_integration::{
    machine::{Suite, clear_on_signals},
    theme::{keep_panics_for_reports, trials},
};
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let suites = match Suite::chosen() {
        Ok(suites) => suites,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    if let Err(error) = clear_on_signals() {
        eprintln!("can't watch for signals: {error}");
        return ExitCode::FAILURE;
    }
    keep_panics_for_reports();
    libtest_mimic::run(&arguments, trials(&[&machine::THEME], &suites)).exit_code()
}
