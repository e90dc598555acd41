//! Tests of which units are restarted, reloaded or signalled after a change, when, and in which order.
use super::rotation::{edit, lines, on_the_bus, refresh_all, rotating, service, set};
use onecred_integration::{cases, installed::SOCKET, machine::wait_until, stage::Stage, theme::Theme};

pub const THEME: Theme = Theme {
    name: "restarts",
    stage: rotating,
    shared: false,
    cases: cases![
        a_unit_that_has_the_new_value_is_not_restarted,
        a_unit_that_starts_is_restarted_once_it_is_active,
        a_slow_restart_delays_no_other,
        a_template_restarts_units_for_the_references_in_it,
        a_signal_is_sent,
        a_wave_goes_first,
    ],
};

fn invocation(stage: &Stage, unit: &str) -> String {
    wait_until("it has no job", || stage.show(unit, "Job").is_empty());
    stage.show(unit, "InvocationID")
}

fn a_unit_that_has_the_new_value_is_not_restarted(stage: &Stage) {
    let web = service("password", &format!("LoadCredential=conf:{SOCKET}"));
    let units = [("app.service", service("password", "")), ("web.service", web)];
    stage.units(units.each_ref().map(|(name, text)| (*name, text.as_str())));
    edit(stage, |config| {
        config["defaults"]["maxAge"] = serde_json::json!("always");
        config["templates"] =
            serde_json::json!([{ "name": "conf", "content": "{{password}}", "units": ["web"] }]);
    });
    stage.sh("systemctl start app web").ok();
    set(stage, "db", "password", "hunter3");
    // its start finds the change
    stage.sh("systemctl restart app").ok();
    let before = invocation(stage, "app.service");
    stage.waits_for_line("web.service", "was reloaded, since secret password has changed");
    assert_eq!(invocation(stage, "app.service"), before);
    assert_eq!(lines(stage, "app.service.starts"), ["hunter2", "hunter3"]);
    let shown = stage.sh("onecred list").ok();
    let (_, old) = shown.split_once("running with an old value:").expect("a list");
    assert!(old.contains("web.service: version 1") && !old.contains("app.service"), "{shown}");
    assert!(
        old.lines().any(|line| line.starts_with("conf") && line.contains("web.service: version 1")),
        "{shown}"
    );
    let property = stage.sh("busctl get-property org.onecred.Credentials1 /org/onecred/Credentials1/secret/password org.onecred.Credentials1.Secret Outdated").ok();
    assert_eq!(property.trim(), "as 1 \"web.service: version 1\"");
}

/// A service that is ready when a file exists. systemd requests its credentials for `ExecStartPre=` and again
/// for `ExecStart=`, so `.waits` shows that the second request is over.
fn ready_later(unit: &str) -> String {
    service(
        "password",
        &format!(
            "Type=notify\nNotifyAccess=all\nExecStart=\n\
             ExecStart=/bin/sh -c 'touch /srv/out/{unit}.waits; until [ -e /srv/out/{unit}.go ]; do sleep 0.1; done; systemd-notify --ready; exec sleep infinity'"
        ),
    )
}

fn a_unit_that_starts_is_restarted_once_it_is_active(stage: &Stage) {
    let units = [("app.service", ready_later("app")), ("web.service", service("password", ""))];
    stage.units(units.each_ref().map(|(name, text)| (*name, text.as_str())));
    stage.sh("systemctl start web && systemctl start --no-block app").ok();
    wait_until("its main process has its credential", || stage.root().join("srv/out/app.waits").exists());
    set(stage, "db", "password", "hunter3");
    refresh_all(stage);
    stage.waits_for_line("web.service", "was reloaded");
    // the next provider process knows about it
    stage.sh("systemctl restart onecred.service").ok();
    on_the_bus(stage);
    assert_eq!(stage.show("app.service", "ActiveState"), "activating");
    assert_eq!(lines(stage, "app.service.starts"), ["hunter2"]);
    stage.sh("touch /srv/out/app.go").ok();
    wait_until("the unit was restarted", || lines(stage, "app.service.starts") == ["hunter2", "hunter3"]);
    stage.waits_for_line("app.service", "was restarted, since secret password has changed");
}

fn a_slow_restart_delays_no_other(stage: &Stage) {
    let slow = "TimeoutStopSec=120s\nExecStop=/bin/sh -c 'until [ -e /srv/out/slow.go ]; do sleep 0.1; done'";
    let units =
        [("app-slow.service", service("password", slow)), ("app-fast.service", service("password", ""))];
    stage.units(units.each_ref().map(|(name, text)| (*name, text.as_str())));
    stage.sh("systemctl start app-slow app-fast").ok();
    for (value, starts) in [("hunter3", 2), ("hunter4", 3)] {
        set(stage, "db", "password", value);
        refresh_all(stage);
        wait_until("the other unit was restarted", || {
            lines(stage, "app-fast.service.starts").len() == starts
        });
    }
    assert_eq!(stage.show("app-slow.service", "ActiveState"), "deactivating");
    stage.sh("touch /srv/out/slow.go").ok();
    wait_until("the slow one was restarted", || {
        lines(stage, "app-slow.service.starts") == ["hunter2", "hunter4"]
    });
    assert_eq!(lines(stage, "app-fast.service.starts"), ["hunter2", "hunter3", "hunter4"]);
}

fn a_template_restarts_units_for_the_references_in_it(stage: &Stage) {
    edit(stage, |config| {
        config["templates"] = serde_json::json!([{ "name": "conf", "content": "{{op://My Vault/db/username}}",
            "units": ["conf"], "restartUnits": ["conf"], "refresh": "1m" }]);
    });
    stage.units([("conf.service", service("conf", "").as_str())]);
    stage.sh("systemctl start conf").ok();
    let dry = stage.sh("onecred refresh --dry-run conf").ok();
    assert!(dry.contains("conf.service  restart  conf"), "{dry}");
    set(stage, "db", "username", "carol");
    stage.sh("onecred refresh conf").ok();
    wait_until("the unit was restarted", || {
        lines(stage, "conf.service.starts").last().is_some_and(|it| it == "carol")
    });
    stage.waits_for_line("conf.service", "was restarted, since template conf has changed");
}

fn a_signal_is_sent(stage: &Stage) {
    edit(stage, |config| config["secrets"][0]["signalUnits"] = serde_json::json!({ "job*": "SIGUSR1" }));
    let script = "#!/bin/sh\ntrap 'cat /run/secrets/password >>/srv/out/signals; echo >>/srv/out/signals' USR1\n\
                  echo ready >>/srv/out/signals\nwhile :; do sleep infinity & wait $!; done\n";
    stage.write("/srv/signalled", script, 0o755);
    let unit = "[Service]\nType=exec\nReadWritePaths=/srv/out\nExecStart=/srv/signalled\n\
                [Unit]\nRequires=onecred-file@password.service\nAfter=onecred-file@password.service\n";
    stage.units([("job.service", unit)]);
    stage.sh("systemctl start job").ok();
    wait_until("it waits for signals", || lines(stage, "signals") == ["ready"]);
    set(stage, "db", "password", "hunter3");
    refresh_all(stage);
    stage.waits_for_line("job.service", "was sent SIGUSR1, since secret password has changed");
    wait_until("it has read the new value", || lines(stage, "signals") == ["ready", "hunter3"]);
}

fn a_wave_goes_first(stage: &Stage) {
    edit(stage, |config| {
        config["secrets"][0]["wave"] = serde_json::json!({ "units": ["app@1"], "after": "1s" });
    });
    let picky =
        "ExecStartPre=/bin/sh -c '[ %i != 1 ] || ! grep -q hunter3 \"$CREDENTIALS_DIRECTORY/password\"'";
    stage.units([("app@.service", service("password", picky).as_str())]);
    stage.sh("systemctl start app@1 app@2").ok();
    set(stage, "db", "password", "hunter3");
    refresh_all(stage);
    let line = stage.waits_for_line("app@2.service", "is not restarted yet although");
    assert!(line.contains("app@1.service"), "{line}");
    stage.waits_for_line("app@1.service", "could not be restarted");
    stage.sh("systemctl restart onecred.service").ok();
    on_the_bus(stage);
    let shown = || stage.sh("onecred list").ok().split_whitespace().collect::<Vec<_>>().join(" ");
    wait_until("the other one waits", || {
        shown().contains("app@2.service: app@1.service, which came first, is not active")
    });
    assert_eq!(lines(stage, "app@2.service.starts"), ["hunter2"]);
    set(stage, "db", "password", "hunter4");
    refresh_all(stage);
    stage.sh("systemctl start app@1").ok();
    wait_until("the other one was restarted", || {
        lines(stage, "app@2.service.starts") == ["hunter2", "hunter4"]
    });
    assert_eq!(lines(stage, "app@1.service.starts"), ["hunter2", "hunter3", "hunter4"]);
}
