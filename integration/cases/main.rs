//! The cases: onecred installed on booted machines, one theme per file.
mod account;
mod attackers;
mod boot;
mod bus;
mod bus_objects;
mod cli;
mod cli_alone;
mod clocks;
mod connect;
mod connect_local;
mod corrections;
mod creds_socket;
mod death;
mod demo;
mod docs;
mod explain;
mod explain_alone;
mod explain_live;
mod explain_sockets;
mod faults;
mod forged;
mod frozen;
mod greedy;
mod handles;
mod hangs;
mod host_key;
mod hung_disk;
mod journal;
mod last_valid;
mod leftovers;
mod liar;
mod machine;
mod memory;
mod metrics;
mod morning;
mod operation;
mod publish;
mod publish_mounts;
mod refusals;
mod resolver_token;
mod restarts;
mod rotation;
mod sandbox;
mod sealed;
mod sealed_crowd;
mod secrets;
mod sizes;
mod sockets;
mod storm;
mod templates;
mod traces;
mod vault_access;
mod withheld;

use libtest_mimic::Arguments;
use onecred_integration::{
    machine::{Suite, clear_on_signals},
    setup::{forget_installations, probe_is_at},
    theme::{Theme, keep_panics_for_reports, trials},
};
use std::process::ExitCode;

const THEMES: &[&Theme] = &[
    &machine::THEME,
    &secrets::THEME,
    &templates::THEME,
    &refusals::THEME,
    &sizes::THEME,
    &sizes::STORE,
    &forged::THEME,
    &connect::THEME,
    &connect::IMPATIENT,
    &connect::WARM,
    &connect_local::THEME,
    &faults::THEME,
    &clocks::THEME,
    &boot::THEME,
    &bus::THEME,
    &bus::ALONE,
    &bus_objects::THEME,
    &boot::END,
    &death::THEME,
    &death::CROWD,
    &frozen::THEME,
    &host_key::THEME,
    &host_key::KEPT,
    &hung_disk::THEME,
    &hung_disk::CONFIGURATION,
    &cli::THEME,
    &cli_alone::THEME,
    &demo::THEME,
    &docs::THEME,
    &docs::PAGES,
    &explain::THEME,
    &explain_alone::THEME,
    &explain_live::THEME,
    &explain_sockets::THEME,
    &journal::THEME,
    &journal::AUDIT,
    &memory::THEME,
    &metrics::THEME,
    &sealed::THEME,
    &sealed::ALONE,
    &creds_socket::THEME,
    &rotation::THEME,
    &restarts::THEME,
    &rotation::RECOVERY,
    &morning::THEME,
    &morning::TOKEN,
    &corrections::THEME,
    &last_valid::THEME,
    &last_valid::STRICT,
    &leftovers::THEME,
    &storm::KILLS,
    &storm::CHANGES,
    &storm::CHECK,
    &operation::THEME,
    &operation::LOOK,
    &handles::THEME,
    &publish::THEME,
    &publish::ALONE,
    &publish_mounts::THEME,
    &resolver_token::THEME,
    &sandbox::THEME,
    &sockets::THEME,
    &traces::THEME,
    &vault_access::THEME,
    &withheld::THEME,
    &attackers::THEME,
    &attackers::FLOOD,
    &liar::THEME,
    &hangs::THEME,
    &hangs::DISTURBED,
    &greedy::THEME,
];

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
    probe_is_at(env!("CARGO_BIN_EXE_probe"));
    let mut all = trials(&wanted(&[THEMES, &account::THEMES].concat()), &suites);
    // installed on the host itself, it would become the bus of the host
    let bare: Vec<_> = suites.iter().copied().filter(|suite| *suite != Suite::Host).collect();
    all.extend(trials(&wanted(BARE), &bare));
    // before 258, systemd decrypts without the socket
    let newest: Vec<_> = suites.into_iter().filter(|suite| *suite == Suite::Sid).collect();
    all.extend(trials(&wanted(NEWEST), &newest));
    let conclusion = libtest_mimic::run(&arguments, all);
    forget_installations();
    conclusion.exit_code()
}

/// Themes for suites other than the host's.
const BARE: &[&Theme] = &[&bus::BROKER];
/// Themes for systemd 258 and later.
const NEWEST: &[&Theme] = &[&sealed_crowd::THEME, &sealed_crowd::RECOVERY];

/// The themes in `ONECRED_THEMES` (comma-separated), or all except those that test the test run itself.
fn wanted(themes: &[&'static Theme]) -> Vec<&'static Theme> {
    let named = std::env::var("ONECRED_THEMES").unwrap_or_default();
    let is_named = |theme: &Theme| match named.is_empty() {
        true => [hangs::THEME.name, hangs::DISTURBED.name].iter().all(|name| theme.name != *name),
        false => named.split(',').any(|name| name == theme.name),
    };
    themes.iter().copied().filter(|theme| is_named(theme)).collect()
}

/// All themes, whichever suites play them.
fn every_theme() -> impl Iterator<Item = &'static Theme> {
    THEMES.iter().chain(&account::THEMES).chain(BARE).chain(NEWEST).copied()
}
