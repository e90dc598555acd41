//! Tests of refusals: a unit that may not have its secret, or whose secret is not available, does not start,
//! and its journal gives the reason.
use onecred_integration::{
    cases,
    installed::SOCKET,
    machine::Suite,
    setup::{Setup, field, fixture_with},
    stage::{Stage, consumer},
    theme::Theme,
};

pub const THEME: Theme = Theme {
    name: "refusals",
    stage,
    shared: true,
    cases: cases![
        a_unit_that_is_not_named,
        a_credential_that_nobody_declared,
        a_missing_item,
        a_missing_field,
        a_missing_vault,
        two_items_of_one_name,
        a_deleted_item,
        a_field_without_a_value,
        a_value_that_systemd_would_not_take,
        a_simple_service,
        a_dynamic_user,
        a_user,
        nspawn_is_refused_and_ends,
        a_unit_named_like_a_cgroup_file,
        one_of_two_credentials,
        a_default_never_stands_in_for_a_refusal,
        a_default_does_not_hide_the_secret,
        the_same_refusal_again_is_counted_and_not_repeated,
        no_value_is_in_any_journal,
    ],
};

const VALUE: &[u8] = b"seen by nobody";

fn stage(suite: Suite) -> Stage {
    Setup::vault(suite)
        .holding(fixture_with([("private", vec![field("value", "seen by nobody")])]))
        .long_values()
        .secret("password", "op://My Vault/private/value", &["may-have-it", "may-*"])
        .secret("no-item", "op://My Vault/nowhere/password", &["no-*"])
        .secret("no-field", "op://My Vault/db/nothing", &["no-*"])
        .secret("no-vault", "op://Your Vault/db/password", &["no-*"])
        .secret("twin", "op://My Vault/twin/password", &["no-*"])
        .secret("deleted", "op://My Vault/gone/password", &["no-*"])
        .secret("valueless", "op://My Vault/db-2/password", &["no-*"])
        .secret("huge", "op://My Vault/huge/value", &["no-*"])
        .stage()
}

fn a_unit_that_is_not_named(stage: &Stage) {
    stage.refuses(
        "other.service",
        "",
        "password",
        &["not allowed", "add \"other.service\" to the units of password"],
    );
}

fn a_credential_that_nobody_declared(stage: &Stage) {
    stage.refuses(
        "may-undeclared.service",
        "",
        "pasword",
        &["not allowed", "declare it in /etc/onecred/secrets.json"],
    );
}

fn a_missing_item(stage: &Stage) {
    stage.refuses("no-item.service", "", "no-item", &["no item", "op://My Vault/nowhere/password"]);
}

fn a_missing_field(stage: &Stage) {
    stage.refuses("no-field.service", "", "no-field", &["op://My Vault/db/nothing: not found: no field \"nothing\" in item \"db\", which has \"username\", \"password\";"]);
}

fn a_missing_vault(stage: &Stage) {
    stage.refuses("no-vault.service", "", "no-vault", &["no vault", "op://Your Vault/db/password"]);
}

fn two_items_of_one_name(stage: &Stage) {
    stage.refuses("no-twin.service", "", "twin", &["several", "op://My Vault/twin/password"]);
}

fn a_deleted_item(stage: &Stage) {
    stage.refuses("no-deleted.service", "", "deleted", &["no item", "op://My Vault/gone/password"]);
}

fn a_field_without_a_value(stage: &Stage) {
    stage.refuses("no-value.service", "", "valueless", &["op://My Vault/db-2/password"]);
}

fn a_value_that_systemd_would_not_take(stage: &Stage) {
    stage.refuses("no-huge.service", "", "huge", &["too large", "op://My Vault/huge/value"]);
}

fn a_simple_service(stage: &Stage) {
    stage.refuses("not-simple.service", "Type=simple", "password", &["not allowed"]);
}

fn a_dynamic_user(stage: &Stage) {
    stage.refuses("not-dynamic.service", "DynamicUser=yes", "password", &["not allowed"]);
}

fn a_user(stage: &Stage) {
    stage.refuses("not-user.service", "User=nobody", "password", &["not allowed"]);
}

fn a_unit_named_like_a_cgroup_file(stage: &Stage) {
    stage.refuses("memory.service", "", "password", &["not allowed"]);
}

fn one_of_two_credentials(stage: &Stage) {
    let both = consumer("", &["password", "no-item"]);
    stage.units([("may-half.service", both.as_str())]);
    stage.run(&["systemctl", "start", "may-half"]).fails();
    stage.was_refused("may-half.service", "no-item", &["not allowed"]);
}

fn a_default_never_stands_in_for_a_refusal(stage: &Stage) {
    let with_default = "SetCredential=password:a-default";
    stage.refuses("not-by-default.service", with_default, "password", &["not allowed"]);
}

fn a_default_does_not_hide_the_secret(stage: &Stage) {
    stage.gets("may-default.service", "SetCredential=password:a-default", &[("password", VALUE)]);
}

fn the_same_refusal_again_is_counted_and_not_repeated(stage: &Stage) {
    let unit = "not-again.service";
    stage.refuses(unit, "", "password", &["not allowed"]);
    for _ in 0..10 {
        stage.run(&["systemctl", "start", unit]).fails();
        stage.run(&["systemctl", "reset-failed", unit]).ok();
    }
    let journal = stage.journal(unit);
    let said = journal.lines().filter(|line| line.contains("]: credential password")).count();
    assert!(said < 5, "11 refusals made {said} lines:\n{journal}");
}

fn no_value_is_in_any_journal(stage: &Stage) {
    stage.gets("may-have-it.service", "", &[("password", VALUE)]);
    stage.refuses("not-logged.service", "", "password", &["not allowed"]);
    // as text, and as systemd would show bytes that are not text
    let journal = stage.run(&["journalctl", "--no-pager", "-a", "-o", "verbose"]).stdout();
    assert!(!journal.contains("seen by nobody"), "the value is in the journal");
    assert!(journal.contains("not-logged.service"), "the journal shows nothing of this");
    assert!(stage.sh(&format!("test -S {SOCKET}")).succeeded());
}

/// nspawn reads a credential from a socket as systemd does, but buffers slightly more than 64 MiB before it
/// fails.
fn nspawn_is_refused_and_ends(stage: &Stage) {
    let nspawn = "systemd-nspawn --quiet --register=no --keep-unit --directory=/ --load-credential=db:/run/onecred/credential.sock true";
    if !stage.sh("command -v systemd-nspawn").succeeded() {
        return;
    }
    let ran = stage.sh(&format!("exec timeout 100 {nspawn}"));
    assert_eq!(ran.code(), Some(1), "{ran}");
    assert!(ran.stderr().contains("Failed to read credential"), "{ran}");
    let line = stage.waits_for_line("onecred.service", "a request refused: ");
    assert!(line.contains("refused"), "{line}");
}
