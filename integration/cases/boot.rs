//! Tests of boot and shutdown: a consumer may ask as early as it likes, and onecred delays neither.
use onecred_integration::{
    cases,
    machine::{Plan, Suite},
    setup::Setup,
    stage::{Stage, consumer},
    theme::Theme,
};

pub const THEME: Theme = Theme {
    name: "boot",
    stage,
    shared: true,
    cases: cases![
        a_consumer_before_tmpfiles_gets_its_secret,
        a_second_early_consumer_gets_it_from_the_warm_store,
        an_early_consumer_that_is_refused_holds_up_nothing,
        nothing_is_ordered_in_a_cycle,
        the_store_is_a_ramfs_that_only_root_can_enter,
        the_two_halves_run_after_boot_only_if_asked,
    ],
};

/// Cases that end the machine.
pub const END: Theme = Theme { name: "shutdown", stage, shared: false, cases: cases![a_shutdown_is_clean] };

const PASSWORD: (&str, &[u8]) = ("password", b"hunter2");

fn early(after: &str, id: &str) -> String {
    format!(
        "[Unit]\nDefaultDependencies=no\nBefore=systemd-tmpfiles-setup.service sysinit.target\n{after}\n\
        [Install]\nWantedBy=sysinit.target\n{}",
        consumer("", &[id])
    )
}

fn stage(suite: Suite) -> Stage {
    let units = |plan: Plan| {
        plan.unit("early-one.service", &early("", "password"))
            .unit("early-two.service", &early("After=early-one.service", "password"))
            .unit("early-none.service", &early("", "nobodys"))
            .prepare("systemctl enable -q early-one early-two early-none")
            .may_be_degraded()
    };
    Setup::vault(suite)
        .secret("password", "op://My Vault/db/password", &["early-*", "app"])
        .secret("nobodys", "op://My Vault/db/password", &["nobody"])
        .plan(units)
        .stage()
}

fn a_consumer_before_tmpfiles_gets_its_secret(stage: &Stage) {
    stage.got("early-one.service", &[PASSWORD]);
    let at = |unit: &str, property| stage.show(unit, property).parse::<u64>().unwrap_or_default();
    let got = at("early-one.service", "ExecMainExitTimestampMonotonic");
    let tmpfiles = at("systemd-tmpfiles-setup.service", "ExecMainStartTimestampMonotonic");
    assert!(0 < got && got < tmpfiles, "{got} is not before {tmpfiles}");
}

fn a_second_early_consumer_gets_it_from_the_warm_store(stage: &Stage) {
    stage.got("early-two.service", &[PASSWORD]);
}

fn an_early_consumer_that_is_refused_holds_up_nothing(stage: &Stage) {
    stage.was_refused("early-none.service", "nobodys", &["not allowed"]);
    let failed = stage.run(&["systemctl", "--failed", "--no-legend", "--plain"]).ok();
    assert_eq!(failed.split_whitespace().next(), Some("early-none.service"), "{failed}");
    assert_eq!(failed.lines().count(), 1, "{failed}");
}

fn nothing_is_ordered_in_a_cycle(stage: &Stage) {
    let journal = stage.journal_since("");
    assert!(!journal.contains("ordering cycle"), "{journal}");
}

fn the_store_is_a_ramfs_that_only_root_can_enter(stage: &Stage) {
    assert_eq!(stage.sh("findmnt -n -o FSTYPE /run/onecred/store").ok().trim(), "ramfs");
    let looks = ["setpriv", "--reuid=nobody", "--clear-groups", "ls", "/run/onecred/store"];
    assert!(stage.run(&looks).fails().contains("ermission denied"));
}

fn the_two_halves_run_after_boot_only_if_asked(stage: &Stage) {
    for unit in ["onecred.service", "onecred-resolver.service"] {
        assert_eq!(stage.show(unit, "ActiveState"), "active", "{unit}");
        assert_eq!(stage.show(unit, "NRestarts"), "0", "{unit}");
    }
}

fn a_shutdown_is_clean(stage: &Stage) {
    stage.gets("app.service", "", &[PASSWORD]);
    let said = stage.power_off().unwrap_or_else(|error| panic!("{error}"));
    for unit in ["onecred.service", "onecred-resolver.service"] {
        assert!(
            said.contains(&format!("{unit}: Deactivated successfully")),
            "{unit} did not end well:\n{said}"
        );
        assert!(!said.contains(&format!("{unit}: Failed with result")), "{said}");
    }
}
