//! Tests of a compromised resolver: whatever it sends, the provider stays up, uses little memory, and gives
//! units only what the resolver returned for their own request, or nothing.
use onecred_integration::{
    cases,
    installed::LIBEXEC,
    machine::{Suite, wait_until},
    setup::Setup,
    stage::Stage,
    theme::Theme,
};
use serde_json::json;
use std::{fs, path::Path};

pub const THEME: Theme = Theme {
    name: "liar",
    stage,
    shared: false,
    cases: cases![whatever_the_resolver_says_the_provider_stays],
};

/// What the resolver sends, and what the unit's journal then says.
const WORDS: [(&str, &str); 13] = [
    ("half", "answer is invalid"),
    ("bare", "answer is invalid"),
    ("crowd", "answer is invalid"),
    ("endless", "answer is invalid"),
    ("large-words", "answer is invalid"),
    ("vast-words", "answer is invalid"),
    ("vast-values", "answer is invalid"),
    ("large-values", "answer is invalid"),
    ("many-fields", "answer is invalid"),
    ("deep", "answer is invalid"),
    ("other-kind", "answer is invalid"),
    ("wrong-item", "answer is invalid"),
    ("long-failure", "answer is invalid"),
];

/// The maximum memory that the provider may ever use: twice its memory with one answer of 16 MiB.
const MOST_KIB: u64 = 64 << 10;

fn stage(suite: Suite) -> Stage {
    let stage = Setup::vault(suite)
        .default("maxAge", "always")
        .secret("password", "op://My Vault/db/password", &["app*", "asks-*"])
        // temporary failures are waited for until the deadline
        .entry(json!({ "name": "username", "reference": "op://My Vault/multi/Dev/token", "units": ["other-*"], "deadline": "3s" }))
        .stage();
    let liar = fs::read(Path::new(env!("CARGO_BIN_EXE_liar"))).unwrap_or_default();
    stage.write(&format!("{LIBEXEC}/liar"), liar, 0o755);
    let drop_in = format!("[Service]\nExecStart=\nExecStart={LIBEXEC}/liar /run/liar\n");
    stage.write("/run/systemd/system/onecred-resolver.service.d/liar.conf", drop_in, 0o644);
    stage.sh("systemctl daemon-reload; systemctl stop onecred-resolver.service; systemctl start dbus.socket onecred.service").ok();
    stage
}

fn says(stage: &Stage, word: &str) {
    stage.write("/run/liar", word, 0o644);
}

fn whatever_the_resolver_says_the_provider_stays(stage: &Stage) {
    let provider = stage.show("onecred.service", "MainPID");
    for (word, reason) in WORDS {
        says(stage, word);
        stage.refuses(&format!("asks-{word}.service"), "", "password", &[reason]);
    }
    says(stage, "short-failure");
    stage.refuses("asks-short.service", "", "password", &["denied: no May 01 host app[1]: forged"]);
    assert!(
        stage.sh("ls -A /run/onecred/store | grep -vF .json || true").ok().is_empty(),
        "something was kept"
    );

    // a lie that fits the question is believed: the resolver decides about this item's value, for the units
    // that may have it
    says(stage, "good");
    stage.gets("app.service", "", &[("password", b"a lie")]);
    stage.refuses("stranger.service", "", "password", &["not allowed"]);
    says(stage, "twice");
    stage.gets("app-again.service", "", &[("password", b"a lie")]);

    says(stage, "statuses");
    let metrics = stage.sh("onecred metrics").ok();
    assert!(
        metrics.contains("onecred_resolver_answers 1") && !metrics.contains("outcome=\"ok1"),
        "{metrics}"
    );

    says(stage, "nothing");
    stage.refuses("other-1.service", "", "username", &["ended without an answer"]);
    says(stage, "never");
    stage.refuses("other-2.service", "", "username", &["multi/Dev/token: away: "]);

    assert_eq!(stage.show("onecred.service", "MainPID"), provider, "it was started anew");
    let status = stage.sh(&format!("cat /proc/{provider}/status")).ok();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
    let peak: u64 = peak.and_then(|peak| peak.parse().ok()).unwrap_or(u64::MAX);
    assert!(peak < MOST_KIB, "the provider once had {peak} KiB");
    let left = stage.sh("find /run/onecred /run/secrets /etc/onecred /tmp /var/tmp -newer /usr/local/libexec/onecred-tests/liar -type f").ok();
    let others: Vec<&str> = left.lines().filter(|file| !file.starts_with("/run/onecred/store/")).collect();
    assert!(others.is_empty(), "{others:?}");
    // the real resolver returns, and everything works
    stage.sh("rm -r /run/systemd/system/onecred-resolver.service.d; systemctl daemon-reload; systemctl restart onecred-resolver").ok();
    // the invented values are served only during the outage
    wait_until("the good one is asked", || stage.sh("onecred refresh --force password").succeeded());
    stage.gets("app-last.service", "", &[("password", b"hunter2")]);
}
