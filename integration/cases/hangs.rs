//! A case that hangs, and one after it. They run only if `ONECRED_THEMES` names them: `integration/self-test`
//! does, and checks the report.
use onecred_integration::{cases, machine::Plan, stage::Stage, theme::Theme};
use std::thread;

pub const THEME: Theme = Theme {
    name: "hangs",
    stage: |suite| Stage::of(&Plan::new(suite)),
    shared: false,
    cases: cases![forever, not_at_all],
};

fn forever(stage: &Stage) {
    stage.sh("echo the last words | systemd-cat -t hangs").ok();
    loop {
        thread::park();
    }
}

fn not_at_all(stage: &Stage) {
    stage.run(&["true"]).ok();
}
