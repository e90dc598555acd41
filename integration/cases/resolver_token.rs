//! Tests of the resolver's own token as an encrypted credential. On systemd 258 and later
//! systemd-creds.socket decrypts it, because the unit has PrivateDevices=.
use onecred_integration::{
    cases,
    installed::SEALED,
    machine::{Suite, wait_until},
    setup::Setup,
    size::Size,
    stage::{Stage, consumer},
    theme::Theme,
};

pub const THEME: Theme = Theme {
    name: "resolver_token",
    stage,
    shared: false,
    cases: cases![
        an_encrypted_token_is_there_in_early_boot,
        a_socket_that_refuses_is_waited_for_and_named,
        a_crowd_of_sealed_units_keeps_no_token_away,
        a_crowd_and_the_token_are_decrypted_at_the_same_time,
    ],
};

const PASSWORD: (&str, &[u8]) = ("password", b"hunter2");
const RESOLVER: &str = "onecred-resolver.service";
/// Since this version of systemd, a socket decrypts the credentials of hardened units.
const BY_SOCKET: u32 = 258;
/// The maximum number of connections to that socket on these machines.
const MOST: usize = 8;
/// Occupies all of them.
const HOLD: &str = "use Socket; for (1..$ARGV[0]) { socket(my $s, PF_UNIX, SOCK_STREAM, 0) or die; \
    connect($s, sockaddr_un('/run/systemd/io.systemd.Credentials')) or die; push @held, $s } sleep";

fn stage(suite: Suite) -> Stage {
    let early = format!(
        "[Unit]\nDefaultDependencies=no\nBefore=systemd-tmpfiles-setup.service sysinit.target\n[Install]\nWantedBy=sysinit.target\n{}",
        consumer("", &["password"])
    );
    // of two drop-ins, the one with the later name takes precedence
    let few = format!("[Socket]\nMaxConnections={MOST}\nMaxConnectionsPerSource={MOST}\n");
    let token = "[Service]\nLoadCredentialEncrypted=token:/etc/onecred/token.cred\n";
    let encrypt = "for key in null tpm2-absent; do \
        ! printf token | systemd-creds encrypt --with-key=$key --name=token - /etc/onecred/token.cred || break; done; test -s /etc/onecred/token.cred";
    Setup::vault(suite)
        .default("deadline", "60s")
        .default("maxAge", "session")
        .secret("password", "op://My Vault/db/password", &["early", "app*"])
        .entry(serde_json::json!({ "name": "soon", "reference": "op://My Vault/db/password",
            "units": ["app*"], "deadline": "6s" }))
        .plan(|plan| {
            plan.unit("early.service", &early)
                .unit("onecred-resolver.service.d/50-token.conf", token)
                .unit("systemd-creds.socket.d/99-few.conf", &few)
                .prepare(encrypt)
                .prepare("systemctl enable -q early.service")
        })
        .stage()
}

fn by_socket(stage: &Stage) -> bool {
    stage.suite.version().is_ok_and(|version| version >= BY_SOCKET)
}

/// Stops the resolver and empties the store.
fn forget(stage: &Stage) {
    stage.sh("systemctl stop onecred.service onecred-resolver.service; rm -rf /run/onecred/store/*").ok();
}

fn an_encrypted_token_is_there_in_early_boot(stage: &Stage) {
    stage.got("early.service", &[PASSWORD]);
    assert_eq!(stage.show(RESOLVER, "NRestarts"), "0", "{}", stage.journal(RESOLVER));
    let after = stage.show(RESOLVER, "After");
    assert!(after.contains("systemd-creds.socket"), "{after}");
    // a systemd without that socket logs nothing about it
    let journal = stage.journal_since("");
    assert!(
        !journal.contains("ordering cycle") && !journal.contains("systemd-creds.socket not found"),
        "{journal}"
    );
}

/// An unprivileged user occupies every connection of the socket that decrypts.
fn hold(stage: &Stage) {
    stage.write("/srv/hold.pl", HOLD, 0o644);
    let text = format!("[Service]\nUser=nobody\nExecStart=perl /srv/hold.pl {MOST}\n");
    stage.units([("holder.service", text.as_str())]);
    stage.run(&["systemctl", "start", "holder.service"]).ok();
    wait_until("all connections are held", || {
        stage.show("systemd-creds.socket", "NConnections") == MOST.to_string()
    });
}

fn restarts(stage: &Stage) -> u32 {
    stage.show(RESOLVER, "NRestarts").parse().unwrap_or_default()
}

fn a_socket_that_refuses_is_waited_for_and_named(stage: &Stage) {
    if !by_socket(stage) {
        return;
    }
    stage.sh("systemctl start dbus.socket").ok();
    forget(stage);
    hold(stage);
    stage.units([("app-waits.service", consumer("", &["password"]).as_str())]);
    stage.run(&["systemctl", "start", "--no-block", "app-waits.service"]).ok();
    wait_until("the resolver has failed and is started again", || restarts(stage) > 1);
    stage.refuses(
        "app-soon.service",
        "",
        "soon",
        &["can't load or decrypt its token", "journalctl -u onecred-resolver"],
    );
    stage.run(&["systemctl", "stop", "holder.service"]).ok();
    stage.got("app-waits.service", &[PASSWORD]);
    wait_until("the resolver runs", || stage.show(RESOLVER, "ActiveState") == "active");

    // a socket that was stopped or failed is started again with the resolver
    forget(stage);
    stage.sh("systemctl stop systemd-creds.socket").ok();
    stage.gets("app-again.service", "", &[PASSWORD]);
}

fn a_crowd_of_sealed_units_keeps_no_token_away(stage: &Stage) {
    let text = format!(
        "[Service]\nType=oneshot\nPrivateDevices=yes\nLoadCredentialEncrypted=password:{SEALED}\nExecStart=/bin/true\n"
    );
    let names: Vec<String> = (0..40).map(|n| format!("app-{n}.service")).collect();
    stage.units(names.iter().map(|name| (name.as_str(), text.as_str())));
    forget(stage);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    stage.run(&[&["systemctl", "start", "--no-block"][..], &names].concat()).ok();
    stage.gets("app-plain.service", "", &[PASSWORD]);
    stage.all_settled(&names);
    assert_eq!(stage.show(RESOLVER, "ActiveState"), "active", "{}", stage.journal(RESOLVER));
}

/// How many units start at once while the resolver tries repeatedly to load its token.
const CROWD: Size = Size { short: 64, full: 200 };
/// How many are started if nothing limits them.
const FEW: usize = 20;

/// With systemd's default limits: 16 connections for root, which units and the resolver share.
fn a_crowd_and_the_token_are_decrypted_at_the_same_time(stage: &Stage) {
    stage
        .sh("find /etc /usr/lib /usr/local/lib -path '*/systemd-creds.socket.d/*' -delete; systemctl daemon-reload")
        .ok();
    let units = if by_socket(stage) {
        assert_eq!(stage.show("systemd-creds.socket", "MaxConnectionsPerSource"), "16");
        CROWD.now()
    } else {
        FEW // each decrypts its own credentials
    };
    let text = format!(
        "[Service]\nType=oneshot\nPrivateDevices=yes\nLoadCredentialEncrypted=password:{SEALED}\n\
         ExecStart=/bin/grep -qx hunter2 %d/password\n"
    );
    stage.units([("app-crowd@.service", text.as_str())]);
    forget(stage); // so that the first units need the token
    let crowd = stage.sh(&format!(
        "touch /run/crowd; {{ n=0; while [ -e /run/crowd ]; do systemctl restart {RESOLVER} && n=$((n+1)); done; echo $n; }} &
         systemctl start $(seq -f app-crowd@%g.service {units}); failed=$?; rm /run/crowd; wait; exit $failed"
    ));
    let crowd = crowd.ok();
    let loaded: u32 = crowd.trim().parse().unwrap_or_default();
    assert!(loaded > 1, "the resolver loaded its token {crowd:?} times while the units started");
    let journal = stage.journal_since("");
    assert!(!journal.contains("systemd could not decrypt"), "a unit only started again");
    wait_until("the resolver runs", || stage.show(RESOLVER, "ActiveState") == "active");
}
