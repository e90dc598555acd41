//! Tests of published files: units that read paths, handles, owners, and what other users can do to the
//! files.
use onecred_integration::{
    cases,
    fake_connect::vault::long_value,
    installed::LIBEXEC,
    machine::{Plan, Suite, wait_until},
    setup::{Setup, field, fixture_with},
    stage::Stage,
    theme::Theme,
};
use serde_json::{Value, json};

pub const THEME: Theme = Theme {
    name: "publish",
    stage,
    shared: true,
    cases: cases![
        an_environment_file_and_a_credential_file_are_there_at_boot,
        the_target_is_reached_although_one_file_is_missing,
        a_missing_secret_fails_its_own_consumers_alone,
        a_template_is_published_as_a_secret_is,
        a_file_has_its_owner_and_mode,
        a_user_who_is_not_there_is_named_and_may_come_later,
        a_secret_without_a_file_is_refused,
        unprivileged_users_can_do_nothing,
        an_owner_reads_a_file_and_can_neither_change_nor_grow_it,
        a_directory_of_someone_elses_is_not_written_in,
        a_link_needs_a_drop_in_and_stands_only_where_nothing_does,
    ],
};

/// Cases that change the machine for all others.
pub const ALONE: Theme = Theme {
    name: "publish-alone",
    stage,
    shared: false,
    cases: cases![
        what_is_no_longer_configured_goes_at_a_reload,
        what_is_newly_configured_comes_at_a_reload,
        a_provider_that_starts_publishes_from_its_store,
        a_secrets_directory_of_someone_elses_is_left_alone,
        kills_leave_whole_files_of_one_version,
    ],
};

const CONFIG: &str = "/etc/onecred/secrets.json";

pub(super) fn file(name: &str, reference: &str, more: Value) -> Value {
    let mut secret =
        json!({ "name": name, "reference": reference, "target": format!("/run/secrets/{name}") });
    for (key, value) in more.as_object().into_iter().flatten() {
        secret[key] = value.clone();
    }
    secret
}

fn reader(requires: &str, lines: &str) -> String {
    format!(
        "[Unit]\nRequires=onecred-file@{requires}.service\nAfter=onecred-file@{requires}.service\n\
        [Service]\nType=oneshot\n{lines}\n[Install]\nWantedBy=multi-user.target\n"
    )
}

fn takes_environment(requires: &str) -> String {
    reader(
        requires,
        &format!(
            "EnvironmentFile=/run/secrets/{requires}\n\
            ExecStart=/bin/sh -c 'mkdir -p /srv/out/%n; printf %%s \"$TOKEN\" >/srv/out/%n/token'"
        ),
    )
}

fn takes_file(requires: &str) -> String {
    reader(requires, &format!("LoadCredential=key:/run/secrets/{requires}\nExecStart={LIBEXEC}/take %n"))
}

fn document(pair: &str) -> Value {
    fixture_with([
        ("env", vec![field("text", "TOKEN=a token")]),
        ("pair", vec![field("user", &format!("user of {pair}")), field("password", &long_value(pair.len()))]),
    ])
}

pub(super) fn bare(suite: Suite) -> Stage {
    setup(suite).stage()
}

fn setup(suite: Suite) -> Setup {
    let db = "op://My Vault/db/password";
    let files = [
        file("app.env", "op://My Vault/env/text", json!({})),
        file("db-password", db, json!({})),
        file("missing", "op://My Vault/nothing/password", json!({})),
        file(
            "owned",
            db,
            json!({ "target": "/run/secrets/deep/er/owned", "owner": "nobody:adm", "mode": "0440" }),
        ),
        file("own", db, json!({ "owner": "nobody", "mode": "0600" })),
        file("no-user", db, json!({ "owner": "latecomer" })),
        file("theirs", db, json!({ "target": "/run/secrets/theirs/key" })),
        file("linked", db, json!({ "links": ["/etc/linked/key"] })),
        file("deeper", db, json!({ "links": ["/etc/linked/made/key"], "makeDirectories": true })),
        file("of-root", db, json!({ "links": ["/root/keys/key"] })),
        file("other-root", db, json!({ "target": "/run/onecred/files/other" })),
        file("user", "op://My Vault/pair/user", json!({ "target": "/run/secrets/pair/user" })),
        file("password", "op://My Vault/pair/password", json!({ "target": "/run/secrets/pair/password" })),
        json!({ "name": "no-file", "reference": db, "units": ["app"] }),
    ];
    let setup = Setup::vault(suite).holding(document("one")).default("maxAge", "always");
    let template =
        json!({ "name": "tpl.env", "content": "TOKEN={{db-password}}\n", "target": "/run/secrets/tpl.env" });
    files.into_iter().fold(setup, Setup::entry).template(&template)
}

fn stage(suite: Suite) -> Stage {
    let units = |plan: Plan| {
        plan.unit("boot-env.service", &takes_environment("app.env"))
            .unit("boot-key.service", &takes_file("db-password"))
            .prepare("systemctl enable -q boot-env boot-key onecred-publish.target")
            .may_be_degraded()
    };
    let stage = setup(suite).plan(units).stage();
    // what the boot publishes must not interfere
    wait_until("the boot has published", || stage.show("onecred-publish.target", "ActiveState") == "active");
    stage.settled("onecred-publish.service");
    stage
}

pub(super) fn handle(name: &str) -> String {
    format!("onecred-file@{name}.service")
}

pub(super) fn start(stage: &Stage, name: &str) -> bool {
    stage.run(&["systemctl", "restart", &handle(name)]).succeeded()
}

/// Starts a handle that must fail for these reasons, which are in its own journal.
#[track_caller]
pub(super) fn refuses(stage: &Stage, name: &str, words: &[&str]) {
    let unit = handle(name);
    assert!(!start(stage, name), "{unit} has started");
    assert_eq!(stage.show(&unit, "ExecMainStatus"), "243", "{unit}");
    let refused = format!("]: credential file for {unit} refused: ");
    wait_until(&format!("{unit}'s journal has the reason {words:?}"), || {
        let journal = stage.journal(&unit);
        journal.lines().any(|line| line.contains(&refused) && words.iter().all(|word| line.contains(word)))
    });
}

fn stat(stage: &Stage, path: &str) -> String {
    stage.run(&["stat", "-c", "%F %U:%G %a", path]).ok().trim().to_owned()
}

pub(super) fn as_nobody(stage: &Stage, script: &str) -> bool {
    stage
        .run(&["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "sh", "-euc", script])
        .succeeded()
}

fn an_environment_file_and_a_credential_file_are_there_at_boot(stage: &Stage) {
    stage.got("boot-env.service", &[("token", b"a token")]);
    stage.got("boot-key.service", &[("key", b"hunter2")]);
    let said = stage.waits_for_line(&handle("app.env"), "published /run/");
    assert!(said.contains("/run/secrets/app.env"), "{said}");
}

fn the_target_is_reached_although_one_file_is_missing(stage: &Stage) {
    wait_until("the target is reached", || stage.show("onecred-publish.target", "ActiveState") == "active");
    stage.settled("onecred-publish.service");
    let line = stage.waits_for_line("onecred-publish.service", "missing is not published: ");
    assert!(line.contains("op://My Vault/nothing/password"), "{line}");
    stage.waits_for_line("onecred-publish.service", "not everything is published");
    assert_eq!(stage.read("/run/onecred/files/other"), b"hunter2");
}

fn a_missing_secret_fails_its_own_consumers_alone(stage: &Stage) {
    stage.units([
        ("lacks.service", takes_file("missing").as_str()),
        ("has.service", takes_file("db-password").as_str()),
    ]);
    stage.run(&["systemctl", "start", "lacks.service"]).fails();
    assert_eq!(stage.show("lacks.service", "ActiveState"), "inactive");
    assert!(stage.taken("lacks.service", "key").is_none());
    stage.starts("has.service", &[("key", b"hunter2")]);
    refuses(stage, "missing", &["op://My Vault/nothing/password", "not found"]);
}

fn a_template_is_published_as_a_secret_is(stage: &Stage) {
    stage.units([("template.service", takes_environment("tpl.env").as_str())]);
    stage.starts("template.service", &[("token", b"hunter2")]);
}

fn a_file_has_its_owner_and_mode(stage: &Stage) {
    assert!(start(stage, "owned"));
    assert_eq!(stat(stage, "/run/secrets/deep/er/owned"), "regular file nobody:adm 440");
    assert_eq!(stat(stage, "/run/secrets/deep"), "directory root:root 755");
    assert!(as_nobody(stage, "test \"$(cat /run/secrets/deep/er/owned)\" = hunter2"));
    let inode = || stage.run(&["stat", "-c", "%i %z", "/run/secrets/deep/er/owned"]).ok();
    let before = inode();
    assert!(start(stage, "owned"));
    assert_eq!(inode(), before, "an unchanged file was touched");
    assert!(start(stage, "db-password"));
    assert_eq!(stat(stage, "/run/secrets/db-password"), "regular file root:root 400");
    assert_eq!(stage.sh("findmnt -n -o FSTYPE /run/secrets").ok().trim(), "ramfs");
}

fn a_user_who_is_not_there_is_named_and_may_come_later(stage: &Stage) {
    refuses(stage, "no-user", &["no user latecomer", "systemctl restart onecred-file@no-user"]);
    assert!(!stage.run(&["test", "-e", "/run/secrets/no-user"]).succeeded());
    stage.sh("echo 'u latecomer - \"\"' | systemd-sysusers -").ok();
    assert!(start(stage, "no-user"), "{}", stage.journal(&handle("no-user")));
    assert_eq!(stat(stage, "/run/secrets/no-user"), "regular file latecomer:latecomer 400");
}

fn a_secret_without_a_file_is_refused(stage: &Stage) {
    refuses(stage, "no-file", &["\"no-file\" with a \"target\"", "onecred reload"]);
    refuses(stage, "unheard-of", &["\"unheard-of\" with a \"target\""]);
}

fn unprivileged_users_can_do_nothing(stage: &Stage) {
    assert!(start(stage, "db-password") && start(stage, "owned"));
    for script in [
        "cat /run/secrets/db-password",
        "ln -s /etc/passwd /run/secrets/no-user",
        "mkdir /run/secrets/theirs",
        "mv /run/secrets/deep /run/secrets/deeper",
        "rm -f /run/secrets/db-password",
        "echo x >/run/secrets/.onecred-0",
        "chmod 777 /run/secrets/deep/er",
        "ln -s /etc /run/secrets/deep/er/link",
        "echo x >>/run/secrets/deep/er/owned",
    ] {
        assert!(!as_nobody(stage, script), "nobody could: {script}");
    }
}

fn an_owner_reads_a_file_and_can_neither_change_nor_grow_it(stage: &Stage) {
    assert!(start(stage, "own"));
    let own = "/run/secrets/own";
    assert_eq!(stat(stage, own), "regular file nobody:nogroup 600");
    assert!(as_nobody(stage, &format!("test \"$(cat {own})\" = hunter2")));
    let tries = [
        format!("echo x >>{own}"),
        format!("chmod 640 {own}"),
        format!("exec 3<{own}; echo x >>/proc/self/fd/3"),
        format!("truncate -s 1G {own}"),
    ];
    for script in tries {
        let ran = stage.run(&[
            "setpriv",
            "--reuid=nobody",
            "--regid=nogroup",
            "--clear-groups",
            "sh",
            "-euc",
            &script,
        ]);
        assert!(!ran.succeeded() && ran.stderr().contains("Read-only file system"), "{script}: {ran}");
    }
    assert!(!as_nobody(stage, "ls /run/onecred/rw") && !as_nobody(stage, "cat /run/onecred/rw/secrets/own"));
    let before = stage.run(&["stat", "-c", "%i", own]).ok();
    stage.sh("rm /run/onecred/rw/secrets/own").ok();
    assert!(start(stage, "own"));
    assert_ne!(stage.run(&["stat", "-c", "%i", own]).ok(), before, "it was not replaced");
}

/// Makes something with `how`, a script with the path `$made`, and renames it to `path`. The provider may
/// publish a file that is missing at any time, so nothing is removed first and then made at its place.
fn replace(stage: &Stage, path: &str, how: &str) {
    let script = format!(
        "made={path}.made; rm -rf \"$made\"; {how}; until mv -T \"$made\" {path} 2>/dev/null; do rm -rf {path}; done"
    );
    stage.sh(&script).ok();
}

fn a_directory_of_someone_elses_is_not_written_in(stage: &Stage) {
    let theirs = "/run/onecred/rw/secrets/theirs";
    replace(stage, theirs, "install -d -o nobody -m 755 $made; ln -s /etc/shadow $made/key");
    refuses(stage, "theirs", &["/run/secrets/theirs", "belongs to user"]);
    replace(stage, theirs, "ln -s /etc $made");
    refuses(stage, "theirs", &["/run/secrets/theirs is a symbolic link"]);
    stage.sh(&format!("test ! -e /etc/key; rm {theirs}")).ok();
    assert!(start(stage, "theirs"));
}

fn a_link_needs_a_drop_in_and_stands_only_where_nothing_does(stage: &Stage) {
    stage.sh("install -d -m 777 /etc/linked").ok();
    refuses(stage, "linked", &["/etc/linked can be written by others"]);
    stage.sh("chmod 755 /etc/linked").ok();
    refuses(stage, "linked", &["/etc/linked/key can't be linked", "ReadWritePaths=-/etc/linked in it"]);
    refuses(stage, "deeper", &["/etc/linked/made can't be made", "ReadWritePaths=-/etc/linked in it"]);
    refuses(
        stage,
        "of-root",
        &[
            "the link /root/keys/key can't be created",
            "TemporaryFileSystem=/root:ro,mode=0755 and BindPaths=-/root/keys in it",
        ],
    );
}

pub(super) fn change(stage: &Stage, change: impl FnOnce(&mut Value)) {
    let mut config: Value = serde_json::from_slice(&stage.read(CONFIG)).unwrap_or_default();
    change(&mut config);
    stage.write(CONFIG, config.to_string(), 0o644);
    stage.run(&["systemctl", "reload", "onecred"]).ok();
}

fn exists(stage: &Stage, path: &str) -> bool {
    stage.run(&["test", "-e", path]).succeeded()
}

fn what_is_no_longer_configured_goes_at_a_reload(stage: &Stage) {
    stage.write(
        "/run/systemd/system/onecred.service.d/links.conf",
        "[Service]\nReadWritePaths=-/etc/linked\nProtectHome=no\nInaccessiblePaths=-/home -/run/user\n\
         TemporaryFileSystem=/root:ro,mode=0755\nBindPaths=-/root/keys\n",
        0o644,
    );
    stage
        .sh("install -d -m 755 /etc/linked /root/keys; systemctl daemon-reload; systemctl restart onecred")
        .ok();
    for (name, link) in
        [("linked", "/etc/linked/key"), ("deeper", "/etc/linked/made/key"), ("of-root", "/root/keys/key")]
    {
        assert!(start(stage, name), "{}", stage.journal(&handle(name)));
        assert_eq!(stage.run(&["readlink", link]).ok().trim(), format!("/run/secrets/{name}"));
    }
    assert_eq!(stat(stage, "/etc/linked/made"), "directory root:root 755");
    assert!(start(stage, "owned") && start(stage, "db-password"));
    change(stage, |config| {
        let secrets = config["secrets"].as_array_mut().into_iter();
        secrets.for_each(|all| all.retain(|secret| secret["name"] == "db-password"));
    });
    for path in ["/run/secrets/deep", "/run/secrets/linked", "/run/onecred/files/other"] {
        wait_until(&format!("{path} is gone"), || !exists(stage, path));
    }
    stage.sh("test ! -L /etc/linked/key; test ! -L /root/keys/key; test ! -e /etc/linked/made; test -d /etc/linked").ok();
    assert_eq!(stage.read("/run/secrets/db-password"), b"hunter2");
    assert!(!stage.sh("cat /run/onecred/store/published.json").ok().contains("hunter2"));
}

fn what_is_newly_configured_comes_at_a_reload(stage: &Stage) {
    assert!(start(stage, "db-password"));
    let new = file("new", "op://My Vault/Case Item/password", json!({}));
    change(stage, |config| {
        config["secrets"].as_array_mut().into_iter().for_each(|all| all.push(new.clone()))
    });
    wait_until("the new file is there", || exists(stage, "/run/secrets/new"));
}

fn kill(stage: &Stage) {
    let main = stage.show("onecred.service", "MainPID");
    stage.sh(&format!("kill -KILL {main}")); // it may be gone, or not exist yet
}

fn a_provider_that_starts_publishes_from_its_store(stage: &Stage) {
    assert!(start(stage, "db-password"));
    stage
        .sh("rm /run/onecred/rw/secrets/db-password; systemctl stop onecred-resolver.socket onecred-resolver.service")
        .ok();
    stage.sh("touch /run/onecred/rw/secrets/.onecred-5").ok();
    kill(stage);
    wait_until("the file is back", || exists(stage, "/run/secrets/db-password"));
    assert_eq!(stage.read("/run/secrets/db-password"), b"hunter2");
    wait_until("what was unfinished is gone", || !exists(stage, "/run/secrets/.onecred-5"));
}

fn a_secrets_directory_of_someone_elses_is_left_alone(stage: &Stage) {
    assert!(start(stage, "db-password"));
    stage.sh("systemctl stop onecred.service run-secrets.mount; rmdir /run/secrets").ok();
    stage.sh("mkdir /run/secrets; touch /run/secrets/of-others").ok();
    refuses(
        stage,
        "db-password",
        &["/run/secrets is an ordinary directory", "/run/onecred/files", "restart run-secrets.mount"],
    );
    let check = stage.run(&["onecred", "check"]);
    assert!(check.succeeded() && check.stderr().contains("/run/secrets is an ordinary directory"), "{check}");
    stage.sh("rm /run/secrets/of-others; systemctl restart run-secrets.mount onecred").ok();
    assert!(start(stage, "db-password"), "{}", stage.journal(&handle("db-password")));
}

fn kills_leave_whole_files_of_one_version(stage: &Stage) {
    let versions = ["one", "other"].map(|name| document(name).to_string());
    let values = ["one", "other"].map(|name| long_value(name.len()));
    stage.write("/srv/reader", include_str!("reader.pl"), 0o755);
    assert!(start(stage, "user") && start(stage, "password"));
    stage.sh("systemd-run -q --unit=reader /srv/reader").ok();
    wait_until("the reader reads", || exists(stage, "/srv/out/reads"));
    let change_and_kill = format!(
        "install -m 640 -g onecred /dev/stdin /etc/onecred/vault.json; systemctl restart --no-block {} {}; \
         main=$(systemctl show --value -p MainPID onecred.service); [ \"$main\" = 0 ] || kill -KILL \"$main\" || true",
        handle("user"),
        handle("password")
    );
    for round in 0..40 {
        stage.run_with_input(&["sh", "-euc", &change_and_kill], versions[round % 2].as_bytes()).ok();
    }
    stage.settled(&handle("none")); // nothing ever requested this name
    assert!(start(stage, "user") && start(stage, "password"));
    stage.sh("touch /srv/out/enough").ok();
    stage.settled("reader.service");
    let read = String::from_utf8(stage.read("/srv/out/reads")).unwrap_or_default();
    let kinds: std::collections::BTreeSet<&str> = read.lines().collect();
    assert!(kinds.len() > 1, "nothing ever changed: {kinds:?}");
    for kind in kinds {
        let whole = versions
            .iter()
            .zip(["one", "other"])
            .zip(&values)
            .any(|((_, name), value)| kind == format!("user of {name} {value}"));
        assert!(whole, "a reader has read {kind:?}");
    }
    let names = stage.sh("ls -A /run/secrets /run/secrets/pair").ok();
    assert!(!names.contains(".onecred-"), "{names}");
}
