//! Tests of mounts in the place of published files: of other programs, of an earlier version, and of an
//! administrator.
use super::publish::{as_nobody, bare, change, file, handle, refuses, start};
use onecred_integration::{cases, machine::wait_until, stage::Stage, theme::Theme};
use serde_json::json;

/// /run/secrets belongs to another program before anything starts.
pub const THEME: Theme = Theme {
    name: "publish-taken",
    stage: bare,
    shared: false,
    cases: cases![
        a_symbolic_link_is_left_alone_and_the_other_root_named,
        a_foreign_mount_is_left_alone_and_the_other_root_named,
        the_mount_is_its_own_when_started_again,
        a_mount_that_comes_late_reaches_the_provider,
        the_mount_of_an_earlier_version_is_used_until_it_is_replaced,
        a_root_of_an_admin_can_be_a_read_only_view,
    ],
};

fn a_symbolic_link_is_left_alone_and_the_other_root_named(stage: &Stage) {
    stage.sh("mkdir /run/secrets.d; ln -s secrets.d /run/secrets").ok();
    refuses(stage, "db-password", &["/run/secrets is a symbolic link", "/run/onecred/files"]);
    assert!(start(stage, "other-root"), "{}", stage.journal(&handle("other-root")));
    assert_eq!(stage.read("/run/onecred/files/other"), b"hunter2");
    stage.sh("test -L /run/secrets; test -z \"$(ls -A /run/secrets.d)\"").ok();
    let check = stage.run(&["onecred", "check"]);
    assert!(check.succeeded() && check.stderr().contains("/run/secrets is a symbolic link"), "{check}");
}

fn a_foreign_mount_is_left_alone_and_the_other_root_named(stage: &Stage) {
    stage.sh("mkdir /run/secrets; mount -t ramfs -o mode=0755 theirs /run/secrets").ok();
    refuses(stage, "db-password", &["/run/secrets is a mount of another program", "/run/onecred/files"]);
    assert!(start(stage, "other-root"));
    stage.sh("test -z \"$(ls -A /run/secrets)\"; test \"$(findmnt -n /run/secrets | wc -l)\" = 1").ok();
    let check = stage.run(&["onecred", "check"]);
    assert!(check.succeeded() && check.stderr().contains("a mount of another program"), "{check}");
}

fn the_mount_is_its_own_when_started_again(stage: &Stage) {
    assert!(start(stage, "db-password"));
    stage.sh("systemctl daemon-reload; systemctl start run-secrets.mount; systemctl restart onecred").ok();
    assert!(start(stage, "db-password"));
    assert_eq!(stage.sh("findmnt -n /run/secrets | wc -l").ok().trim(), "1");
    assert_eq!(stage.read("/run/secrets/db-password"), b"hunter2");
    let check = stage.run(&["onecred", "check"]);
    assert!(check.succeeded() && !check.stderr().contains("another program"), "{check}");
}

fn a_mount_that_comes_late_reaches_the_provider(stage: &Stage) {
    stage.run(&["systemctl", "mask", "--runtime", "run-secrets.mount"]).ok();
    refuses(stage, "db-password", &["/run/secrets is not there", "systemctl start run-secrets.mount"]);
    let main = stage.show("onecred.service", "MainPID");
    stage.sh("systemctl unmask --runtime run-secrets.mount; systemctl start run-secrets.mount").ok();
    assert!(start(stage, "db-password"), "{}", stage.journal(&handle("db-password")));
    assert_eq!(stage.show("onecred.service", "MainPID"), main);
    assert_eq!(stage.read("/run/secrets/db-password"), b"hunter2");
}

fn the_mount_of_an_earlier_version_is_used_until_it_is_replaced(stage: &Stage) {
    stage.sh("mkdir /run/secrets; mount -t ramfs -o mode=0755,nosuid,nodev,noexec onecred /run/secrets").ok();
    let old = "/run/secrets is still the writable mount of an earlier version";
    let status = || {
        let told = stage.sh("onecred status || true").stdout();
        told.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert!(start(stage, "db-password") && start(stage, "other-root"));
    stage.sh("systemctl start dbus.socket; systemctl restart onecred").ok();
    wait_until("status says so", || status().contains(old));
    let check = stage.run(&["onecred", "check"]);
    assert!(check.succeeded() && check.stderr().contains(old), "{check}");
    assert!(start(stage, "db-password"));
    assert_eq!(stage.read("/run/secrets/db-password"), b"hunter2");
    assert_eq!(stage.sh("findmnt -n -o FSROOT /run/secrets").ok().trim(), "/");
    stage.sh("echo x >/run/secrets/writable; rm /run/secrets/writable").ok();
    // as the next boot does
    stage.sh("systemctl stop onecred run-secrets.mount; systemctl start run-secrets.mount onecred").ok();
    assert!(start(stage, "db-password"), "{}", stage.journal(&handle("db-password")));
    assert_eq!(stage.sh("findmnt -n -o FSROOT /run/secrets").ok().trim(), "/secrets");
    assert_eq!(stage.read("/run/secrets/db-password"), b"hunter2");
    wait_until("status has nothing to say", || status().contains("secrets") && !status().contains(old));
}

fn a_root_of_an_admin_can_be_a_read_only_view(stage: &Stage) {
    let app = file(
        "app",
        "op://My Vault/db/password",
        json!({ "target": "/run/app-secrets/key", "owner": "nobody" }),
    );
    let drop_in = "/run/systemd/system/onecred.service.d/roots.conf";
    stage.write(drop_in, "[Service]\nReadWritePaths=-/run/app-secrets\n", 0o644);
    stage.sh("mkdir /run/app-secrets; mount -t ramfs -o mode=0755 app /run/app-secrets; systemctl daemon-reload; systemctl start onecred").ok();
    change(stage, |config| {
        config["publish"] = json!({ "roots": ["/run/app-secrets"] });
        config["secrets"].as_array_mut().into_iter().for_each(|all| all.push(app.clone()));
    });
    let warns = || stage.run(&["onecred", "check"]).stderr().contains("/run/app-secrets is mounted writable");
    assert!(start(stage, "app") && warns());
    stage.sh("systemctl stop onecred; umount /run/app-secrets").ok();
    // systemd knows the mount until it has read the kernel's list again
    let mount = "run-app\\x2dsecrets.mount";
    wait_until("systemd has seen the end of the mount", || stage.show(mount, "ActiveState") == "inactive");
    let view = "[Mount]\nWhat=/run/onecred/rw/app-secrets\nWhere=/run/app-secrets\nType=none\n\
                Options=bind,ro,nosuid,nodev,noexec\nDirectoryMode=0755\n";
    stage.units([("run-app\\x2dsecrets.mount", view)]);
    stage.sh("systemctl start 'run-app\\x2dsecrets.mount' onecred").ok();
    assert!(start(stage, "app"), "{}", stage.journal(&handle("app")));
    assert_eq!(
        stage.sh("findmnt -n -o FSROOT,OPTIONS /run/app-secrets").ok().split_whitespace().next(),
        Some("/app-secrets")
    );
    assert_eq!(stage.read("/run/app-secrets/key"), b"hunter2");
    assert!(!warns());
    assert!(!as_nobody(stage, "echo x >>/run/app-secrets/key"));
}
