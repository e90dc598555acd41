//! Tests that any user can run the demo: without root, and with or without a service manager.
use onecred_integration::{
    cases,
    installed::repository,
    machine::Suite,
    recording::{output_of, svg, without_what_differs},
    setup::Setup,
    stage::Stage,
    theme::Theme,
};
use std::fs;

pub const THEME: Theme = Theme {
    name: "demo",
    stage,
    shared: true,
    cases: cases![
        without_root_or_a_service_manager,
        the_recording_is_current,
        with_real_units_of_a_user,
        with_real_units_of_the_system,
        without_a_reader_it_just_ends
    ],
};

const NOBODY: &str = "setpriv --reuid=65534 --regid=65534 --clear-groups";
const NONE: &str = "No service manager is available to this user, so the demo starts no real units.";

fn stage(suite: Suite) -> Stage {
    Setup::vault(suite).stage()
}

/// What every demo shows, each line within 80 columns.
#[track_caller]
fn shows_the_main_job(said: &str) {
    let wide: Vec<_> = said.lines().filter(|line| line.chars().count() > 80).collect();
    assert!(wide.is_empty(), "more than 80 columns: {wide:?}");
    let words: Vec<_> = said.split_whitespace().collect();
    let said = words.join(" ");
    for words in [
        "LoadCredential=db-password:/run/onecred/credential.sock",
        "the unit gets the value: \"correct horse battery staple\", 28 bytes",
        "so it gets the value from memory: \"correct horse battery staple\", 28 bytes",
        "gets the new value: \"a new password\", 14 bytes",
        "does not name web.service in its units",
        "op://Demo/openai/api key: not found: no item \"openai\"",
        "it gets neither an empty value nor a part of one.",
    ] {
        assert!(said.contains(words), "the demo does not show {words:?}:\n{said}");
    }
}

fn without_root_or_a_service_manager(stage: &Stage) {
    // other cases run the demo at the same time in other directories
    let folder = "/tmp/no-manager";
    stage.sh(&format!("install -d -o nobody {folder}")).ok();
    let said = stage.sh(&format!("env -u XDG_RUNTIME_DIR TMPDIR={folder} {NOBODY} onecred demo")).ok();
    shows_the_main_job(&said);
    assert!(said.contains(NONE) && !said.contains("ournal"), "{said}");
    stage
        .sh(&format!(
            "! ls -d {folder}/onecred-demo-* && ! pgrep -f 'onecred (serve|resolve) --development.*{folder}'"
        ))
        .ok();
}

/// `UPDATE_EXPECTED=1` records it again.
fn the_recording_is_current(stage: &Stage) {
    let said = stage.sh(&format!("env -u XDG_RUNTIME_DIR {NOBODY} onecred demo")).ok();
    let path = repository().join("docs/demo.svg");
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        fs::write(&path, svg("onecred demo", &said)).expect("the recording is written");
    }
    let recorded = output_of(&fs::read_to_string(&path).unwrap_or_default());
    assert!(
        without_what_differs(&recorded) == without_what_differs(&said),
        "{} does not show this; UPDATE_EXPECTED=1 records it again:\n{said}",
        path.display()
    );
}

fn with_real_units_of_a_user(stage: &Stage) {
    stage.sh("systemctl start user@65534.service").ok();
    let said = stage.sh(&format!("XDG_RUNTIME_DIR=/run/user/65534 {NOBODY} onecred demo")).ok();
    shows_the_main_job(&said);
    let words = match stage
        .sh("test -S /run/user/65534/bus || systemctl --version | grep -q '^systemd 252'")
        .succeeded()
    {
        true => "✓ Started by your service manager, onecred-demo-gets-",
        // later versions need a user bus, which this root does not have
        false => "systemd-run finds no bus of this user, so the demo starts no real units.",
    };
    assert!(said.contains(words), "{said}");
}

fn with_real_units_of_the_system(stage: &Stage) {
    let said = stage.sh("onecred demo").ok();
    shows_the_main_job(&said);
    let (_, real) = said.split_once("✓ Started by the system's service manager, ").expect("real units");
    let (_, journal) = real.split_once("  Its journal:\n").expect("a journal");
    let words: Vec<_> = journal.split_whitespace().collect();
    let journal = words.join(" ");
    assert!(journal.contains(": credential api-key for onecred-demo-refused-"), "{said}");
    assert!(journal.contains("not allowed"), "{said}");
}

fn without_a_reader_it_just_ends(stage: &Stage) {
    let said = stage.sh("onecred demo | head -n 1; onecred schema | head -n 1");
    assert_eq!(said.stderr(), "", "a pipe that is closed is no error to speak of");
}
