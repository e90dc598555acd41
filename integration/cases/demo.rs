//! Tests that any user can run the demo: without root, and with or without a user service manager.
use onecred_integration::{cases, machine::Suite, setup::Setup, stage::Stage, theme::Theme};

pub const THEME: Theme = Theme {
    name: "demo",
    stage,
    shared: true,
    cases: cases![
        without_root_or_a_service_manager,
        with_a_real_unit_of_the_users_own,
        without_a_reader_it_just_ends
    ],
};

const NOBODY: &str = "setpriv --reuid=65534 --regid=65534 --clear-groups";

fn stage(suite: Suite) -> Stage {
    Setup::vault(suite).stage()
}

/// What every demo shows.
#[track_caller]
fn shows_the_main_job(said: &str) {
    for words in [
        "cold: the resolver looks op://Demo/database/password up)\n  -> \"correct horse battery staple\", 28 bytes",
        "warm: the store has it)\n  -> \"correct horse battery staple\", 28 bytes",
        "does not name web.service in its units",
        "op://Demo/openai/api key: not found: no item \"openai\"",
        "-> refused by the keeper: neither an empty secret nor a part of one",
    ] {
        assert!(said.contains(words), "the demonstration does not show {words:?}:\n{said}");
    }
}

fn without_root_or_a_service_manager(stage: &Stage) {
    // other cases run the demo at the same time in other directories
    let folder = "/tmp/without-a-service-manager";
    stage.sh(&format!("install -d -o nobody {folder}")).ok();
    let said = stage.sh(&format!("env -u XDG_RUNTIME_DIR TMPDIR={folder} {NOBODY} onecred demo")).ok();
    shows_the_main_job(&said);
    assert!(
        said.contains("(This user has no service manager running, so no real unit was started.)"),
        "{said}"
    );
    stage
        .sh(&format!(
            "! ls -d {folder}/onecred-demo-* && ! pgrep -f 'onecred (serve|resolve) --development.*{folder}'"
        ))
        .ok();
}

fn with_a_real_unit_of_the_users_own(stage: &Stage) {
    stage.sh("systemctl start user@65534.service").ok();
    let said = stage.sh(&format!("XDG_RUNTIME_DIR=/run/user/65534 {NOBODY} onecred demo")).ok();
    shows_the_main_job(&said);
    let (_, real) = said.split_once("A real unit of this user's service manager:").expect("a real unit");
    let words = match stage
        .sh("test -S /run/user/65534/bus || systemctl --version | grep -q '^systemd 252'")
        .succeeded()
    {
        true => "-> \"correct horse battery staple\", 28 bytes",
        // later versions need a user bus, which this root does not have
        false => "-> systemd-run finds no bus of this user's, so no real unit was started",
    };
    assert!(real.contains(words), "{said}");
}

fn without_a_reader_it_just_ends(stage: &Stage) {
    let said = stage.sh("onecred demo | head -n 1; onecred schema | head -n 1");
    assert_eq!(said.stderr(), "", "a pipe that is closed is no error to speak of");
}
