//! A case that hangs, one after it, and one that fails unless it is alone on its machine. They run only if `ONECRED_THEMES` names them: `integration/self-test`
//! does, and checks the report.
use onecred_integration::{cases, machine::Plan, stage::Stage, theme::Theme};
use std::thread;

pub const THEME: Theme = Theme {
    name: "hangs",
    stage: |suite| Stage::of(&Plan::new(suite)),
    shared: false,
    cases: cases![forever, not_at_all],
};

/// One that other cases on its machine disturb.
pub const DISTURBED: Theme = Theme {
    name: "hangs-not",
    stage: |suite| Stage::of(&Plan::new(suite)),
    shared: true,
    cases: cases![the_first_on_its_machine, the_first_on_its_machine_too],
};

fn the_first_on_its_machine(stage: &Stage) {
    stage.run(&["mkdir", "/run/first"]).ok();
}

fn the_first_on_its_machine_too(stage: &Stage) {
    the_first_on_its_machine(stage);
}

fn forever(stage: &Stage) {
    stage.sh("echo the last words | systemd-cat -t hangs").ok();
    loop {
        thread::park();
    }
}

fn not_at_all(stage: &Stage) {
    stage.run(&["true"]).ok();
}
