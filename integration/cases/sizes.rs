//! What does not fit what systemd takes is refused with the reason, and every tool reports it.
use onecred_integration::{
    cases,
    fake_connect::vault::long_value,
    installed::{SEALED, SOCKET},
    machine::Suite,
    setup::{Setup, field, fixture_with},
    stage::{Stage, consumer},
    theme::Theme,
};

pub const THEME: Theme = Theme {
    name: "sizes",
    stage,
    shared: true,
    cases: cases![
        two_credentials_that_exceed_the_total,
        two_credentials_that_just_fit,
        one_large_credential_and_several_exec_lines,
    ],
};

/// Two of these exceed what systemd takes for a unit.
const LARGE: usize = 600_000;
/// What is left beside one of them, with both IDs.
const REST: usize = (1 << 20) - LARGE - "large-1".len() - "rest".len();

fn stage(suite: Suite) -> Stage {
    let items = [("large", LARGE), ("rest", REST)];
    Setup::vault(suite)
        .default("maxAge", "session")
        .holding(fixture_with(items.map(|(title, size)| (title, vec![field("value", &long_value(size))]))))
        .secret("large-1", "op://My Vault/large/value", &["app*"])
        .secret("large-2", "op://My Vault/large/value", &["app*"])
        .secret("rest", "op://My Vault/rest/value", &["app*"])
        .stage()
}

/// A unit with these directives and IDs.
fn unit(lines: &str, asks: &[(&str, &str)]) -> String {
    let asks: String = asks
        .iter()
        .map(|(directive, id)| {
            let socket = if *directive == "LoadCredential" { SOCKET } else { SEALED };
            format!("{directive}={id}:{socket}\n")
        })
        .collect();
    consumer(&format!("{asks}{lines}"), &[])
}

const PLAIN: &str = "LoadCredential";
const ENCRYPTED: &str = "LoadCredentialEncrypted";

fn two_credentials_that_exceed_the_total(stage: &Stage) {
    for (name, one, other) in [
        ("app-plain.service", PLAIN, PLAIN),
        ("app-sealed.service", ENCRYPTED, ENCRYPTED),
        ("app-mixed.service", PLAIN, ENCRYPTED),
    ] {
        stage.units([(name, unit("", &[(one, "large-1"), (other, "large-2")]).as_str())]);
        stage.run(&["systemctl", "start", "--", name]).fails();
        stage.ended_243(name);
        // which of the two systemd asks for first differs
        let line = stage.waits_for_line(name, &format!(" for {name} refused: "));
        for words in
            ["too large beside the unit's other credentials", "600000 bytes", "op://My Vault/large/value"]
        {
            assert!(line.contains(words), "{words:?} is not in the reason: {line}");
        }
    }
}

fn two_credentials_that_just_fit(stage: &Stage) {
    let (large, rest) = (long_value(LARGE), long_value(REST));
    let values = [("large-1", large.as_bytes()), ("rest", rest.as_bytes())];
    for (name, directive) in [("app-fit-plain.service", PLAIN), ("app-fit-sealed.service", ENCRYPTED)] {
        stage.units([(name, unit("", &[(directive, "large-1"), (directive, "rest")]).as_str())]);
        stage.starts(name, &values);
    }
}

/// systemd asks again for each Exec line, each time by another process.
fn one_large_credential_and_several_exec_lines(stage: &Stage) {
    let lines = "ExecStartPre=/bin/true\nExecStartPre=/bin/true\nExecStartPost=/bin/true\n";
    let name = "app-lines.service";
    stage.units([(name, unit(lines, &[(PLAIN, "large-1")]).as_str())]);
    stage.starts(name, &[("large-1", long_value(LARGE).as_bytes())]);
    stage.starts(name, &[("large-1", long_value(LARGE).as_bytes())]);
}
