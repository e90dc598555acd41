//! Tests that a unit gets its secret, for every type of service, user, name and value.
use onecred_integration::{
    cases,
    fake_connect::vault::{BIG, long_value},
    machine::Suite,
    setup::{Setup, field, fixture_with},
    stage::{Stage, consumer},
    theme::Theme,
};

pub const THEME: Theme = Theme {
    name: "secrets",
    stage,
    shared: true,
    cases: cases![
        a_oneshot_gets_it,
        a_simple_service_gets_it,
        an_exec_service_gets_it,
        a_notify_service_gets_it,
        a_user_gets_it,
        a_dynamic_user_gets_it,
        a_locked_up_service_gets_it,
        a_transient_unit_gets_it,
        a_template_instance_gets_its_own,
        an_alias_counts_as_the_unit_it_names,
        a_unit_named_like_a_cgroup_file_gets_it,
        a_unit_in_a_slice_of_slices_gets_it,
        a_delegating_unit_gets_it,
        every_exec_line_gets_it,
        twenty_credentials_arrive,
        one_unit_may_call_it_otherwise,
        nuls_and_newlines_arrive_as_they_are,
        nine_hundred_kib_arrive_whole,
        thirty_units_at_once_get_each_its_own,
        a_restart_gets_it_again,
    ],
};

const PASSWORD: (&str, &[u8]) = ("db-password", b"hunter2");
const ODD: &str = "\0one\n\ntwo\r\n\0";

fn stage(suite: Suite) -> Stage {
    let twenty = (0..20).map(|n| field(&format!("f{n}"), &format!("value {n}"))).collect();
    let many = (0..30).map(|n| field(&format!("many-{n}"), &long_value(10_000 + n))).collect();
    let key = |value| vec![field("key", value)];
    let vault = fixture_with([
        ("odd", vec![field("value", ODD)]),
        ("twenty", twenty),
        ("many", many),
        ("a-b", key("of a-b")),
    ]);
    let units = ["get-*", "memory", "_x", "cgroup", "named.service/other-id"];
    Setup::vault(suite)
        .holding(vault)
        .long_values()
        .secret("db-password", "op://My Vault/db/password", &units)
        .secret("odd", "op://My Vault/odd/value", &["get-odd"])
        .secret("big", "op://My Vault/big/value", &["get-big"])
        .rule(&["tpl@*"], &["key"], "op://My Vault/{instance}/{credential}")
        .rule(&["get-twenty"], &["f*"], "op://My Vault/twenty/{credential}")
        .rule(&["many-*"], &["value"], "op://My Vault/many/{prefix}")
        .stage()
}

fn a_oneshot_gets_it(stage: &Stage) {
    stage.gets("get-oneshot.service", "Type=oneshot", &[PASSWORD]);
}

fn a_simple_service_gets_it(stage: &Stage) {
    stage.gets("get-simple.service", "Type=simple", &[PASSWORD]);
}

fn an_exec_service_gets_it(stage: &Stage) {
    stage.gets("get-exec.service", "Type=exec", &[PASSWORD]);
}

fn a_notify_service_gets_it(stage: &Stage) {
    let text = consumer("Type=notify\nNotifyAccess=all", &["db-password"]).replace(
        "ExecStart=",
        "ExecStart=/bin/sh -euc '\"$@\"; systemd-notify --ready; exec sleep infinity' sh ",
    );
    stage.units([("get-notify.service", text.as_str())]);
    stage.run(&["systemctl", "start", "get-notify"]).ok();
    assert_eq!(stage.show("get-notify.service", "ActiveState"), "active");
    assert_eq!(stage.taken("get-notify.service", "db-password").as_deref(), Some(PASSWORD.1));
    stage.run(&["systemctl", "stop", "get-notify"]).ok();
}

fn a_user_gets_it(stage: &Stage) {
    stage.gets("get-user.service", "User=nobody", &[PASSWORD]);
}

fn a_dynamic_user_gets_it(stage: &Stage) {
    stage.gets("get-dynamic.service", "DynamicUser=yes", &[PASSWORD]);
}

fn a_locked_up_service_gets_it(stage: &Stage) {
    let lines = "PrivateUsers=yes\nPrivateNetwork=yes\nPrivateDevices=yes\nProtectSystem=strict\nProtectHome=yes\n\
        ProtectProc=invisible\nProtectControlGroups=yes\nCapabilityBoundingSet=\nRestrictAddressFamilies=none\n\
        NoNewPrivileges=yes\nPrivateTmp=yes\nInaccessiblePaths=/run/onecred";
    stage.gets("get-locked.service", lines, &[PASSWORD]);
}

fn a_transient_unit_gets_it(stage: &Stage) {
    let property = "LoadCredential=db-password:/run/onecred/credential.sock";
    let run = ["systemd-run", "-q", "--wait", "--pipe", "--unit=get-transient", "-p", property, "sh", "-c"];
    let got = stage.run(&[&run[..], &["cat \"${CREDENTIALS_DIRECTORY}/db-password\""]].concat()).ok_bytes();
    assert_eq!(got, PASSWORD.1);
}

fn a_template_instance_gets_its_own(stage: &Stage) {
    stage.units([("tpl@.service", consumer("", &["key"]).as_str())]);
    stage.starts("tpl@a\\x2db.service", &[("key", b"of a-b")]);
    // a placeholder does not pass an escaped slash
    stage.run(&["systemctl", "start", "--", "tpl@a\\x2fb.service"]).fails();
    stage.was_refused("tpl@a\\x2fb.service", "key", &["not allowed"]);
}

fn an_alias_counts_as_the_unit_it_names(stage: &Stage) {
    // otherwise %n is the alias
    let text = consumer("", &["db-password"]).replace("%n", "get-canonical.service");
    stage.units([("get-canonical.service", text.as_str())]);
    stage.sh("ln -s get-canonical.service /run/systemd/system/an-alias.service").ok();
    stage.run(&["systemctl", "start", "an-alias"]).ok();
    stage.got("get-canonical.service", &[PASSWORD]);
}

fn a_unit_named_like_a_cgroup_file_gets_it(stage: &Stage) {
    for unit in ["memory.service", "_x.service", "cgroup.service"] {
        stage.gets(unit, "", &[PASSWORD]);
    }
}

fn a_unit_in_a_slice_of_slices_gets_it(stage: &Stage) {
    stage.gets("get-sliced.service", "Slice=one-two-three.slice", &[PASSWORD]);
}

fn a_delegating_unit_gets_it(stage: &Stage) {
    // a subgroup whose name looks like a unit does not change the unit
    let grow = "Delegate=yes\nExecStartPre=+/bin/sh -euc 'mkdir /sys/fs/cgroup/system.slice/get-delegate.service/other.service'";
    stage.gets("get-delegate.service", grow, &[PASSWORD]);
    if stage.suite.version().is_ok_and(|version| version >= 254) {
        stage.gets("get-subgroup.service", "Delegate=yes\nDelegateSubgroup=other.service", &[PASSWORD]);
    }
}

fn every_exec_line_gets_it(stage: &Stage) {
    let take =
        |line: &str, name: &str| format!("{line}=/usr/local/libexec/onecred-tests/take get-lines-{name}\n");
    let lines = [
        take("ExecStartPre", "pre1"),
        take("ExecStartPre", "pre2"),
        take("ExecStart", "second"),
        take("ExecStart", "third"),
    ];
    stage.gets("get-lines.service", &lines.concat(), &[PASSWORD]);
    for name in ["pre1", "pre2", "second", "third"] {
        let taken = stage.taken(&format!("get-lines-{name}"), "db-password");
        assert_eq!(taken.as_deref(), Some(PASSWORD.1), "{name}");
    }
}

fn twenty_credentials_arrive(stage: &Stage) {
    let values: Vec<_> = (0..20).map(|n| (format!("f{n}"), format!("value {n}"))).collect();
    let values: Vec<_> = values.iter().map(|(id, value)| (id.as_str(), value.as_bytes())).collect();
    stage.gets("get-twenty.service", "", &values);
}

fn one_unit_may_call_it_otherwise(stage: &Stage) {
    stage.gets("named.service", "", &[("other-id", PASSWORD.1)]);
}

fn nuls_and_newlines_arrive_as_they_are(stage: &Stage) {
    stage.gets("get-odd.service", "", &[("odd", ODD.as_bytes())]);
}

fn nine_hundred_kib_arrive_whole(stage: &Stage) {
    stage.gets("get-big.service", "", &[("big", long_value(BIG).as_bytes())]);
}

fn thirty_units_at_once_get_each_its_own(stage: &Stage) {
    let names: Vec<_> = (0..30).map(|n| format!("many-{n}@x.service")).collect();
    let text = consumer("", &["value"]);
    stage.units(names.iter().map(|name| (name.as_str(), text.as_str())));
    let start: Vec<_> =
        ["systemctl", "start", "--"].into_iter().chain(names.iter().map(String::as_str)).collect();
    stage.run(&start).ok();
    for (n, name) in names.iter().enumerate() {
        stage.got(name, &[("value", long_value(10_000 + n).as_bytes())]);
    }
}

fn a_restart_gets_it_again(stage: &Stage) {
    let unit = "get-again.service";
    stage.gets(unit, "", &[PASSWORD]);
    stage.forget(unit);
    stage.run(&["systemctl", "restart", unit]).ok();
    stage.got(unit, &[PASSWORD]);
}
