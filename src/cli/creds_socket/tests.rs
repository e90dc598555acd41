use super::*;

/// The socket with the drop-in.
fn installed() -> State {
    State {
        version: 262,
        load: "loaded".into(),
        active: "active".into(),
        per_user: PER_USER,
        total: TOTAL,
        addresses: vec![ADDRESS.into()],
        reach: Some(Reach::Listens),
        service: Service { load: "loaded".into(), programs: vec!["/usr/bin/systemd-creds".into()] },
        trigger_limit: None,
        poll_limit: Some(POLL_LIMIT),
        fragment: "/usr/lib/systemd/system/systemd-creds.socket".into(),
        drop_ins: vec!["/usr/lib/systemd/system/systemd-creds.socket.d/10-onecred.conf".into()],
        outdated: false,
    }
}

fn with(change: impl FnOnce(&mut State)) -> State {
    let mut state = installed();
    change(&mut state);
    state
}

/// The level and message of a finding.
fn told(state: &State) -> (Option<Level>, String) {
    judge(state).map_or((None, String::new()), |finding| (Some(finding.level), finding.message))
}

#[test]
fn the_drop_in_is_what_is_judged_good() {
    let file = include_str!("../../../units/systemd/systemd-creds.socket.d/10-onecred.conf");
    for line in [
        format!("MaxConnectionsPerSource={PER_USER}"),
        format!("MaxConnections={TOTAL}"),
        "TriggerLimitIntervalSec=0".to_owned(),
    ] {
        assert!(file.lines().any(|one| one == line), "{line}");
    }
    assert_eq!(judge(&installed()), None);
}

#[test]
fn limits() {
    let of = |per_user, total| with(|state| (state.per_user, state.total) = (per_user, total));
    for (per_user, total) in [(512, 4096), (256, 4096), (256, 8192), (1024, 8192)] {
        assert_eq!(judge(&of(per_user, total)), None, "{per_user} of {total}");
    }
    let table = [
        (16, 64, "too few connections (16 for each user, 64 in all)"),
        (16, 64, "4 users can stop them all"),
        (255, 4096, "too few connections"),
        (256, 4095, "too few connections"),
        (0, 4096, "MaxConnectionsPerSource=0): one user can hold all 4096 connections"),
        (0, 64, "MaxConnectionsPerSource=0): one user can hold all 64 connections"),
        (4096, 4096, "4096 connections for each user and 4096 in total: 1 user can hold all"),
        (1024, 4096, "1024 connections for each user and 4096 in total: 4 users can hold all"),
    ];
    for (per_user, total, words) in table {
        let (level, message) = told(&of(per_user, total));
        assert_eq!(level, Some(Level::Warning), "{per_user} of {total}");
        assert!(message.contains(words), "{words:?} is not in {message:?}");
        assert!(message.ends_with("then run systemctl daemon-reload"), "{message}");
    }
}

#[test]
fn before_258_there_is_nothing_to_say() {
    for change in [
        |state: &mut State| (state.version, state.per_user) = (257, 0),
        |state: &mut State| (state.version, state.load) = (252, "not-found".into()),
        |state: &mut State| (state.version, state.active) = (257, "failed".into()),
    ] {
        assert_eq!(judge(&with(change)), None);
    }
    assert!(judge(&with(|state| (state.version, state.per_user) = (258, 0))).is_some());
}

#[test]
fn a_socket_that_cannot_be_reached_is_an_error() {
    let table = [
        ("masked", "inactive", "is masked", "systemctl unmask systemd-creds.socket"),
        ("loaded", "inactive", "is not active", "systemctl start systemd-creds.socket"),
        ("loaded", "failed", "has failed", "systemctl start systemd-creds.socket"),
        ("not-found", "inactive", "does not exist", "reinstall systemd"),
        ("bad-setting", "inactive", "cannot be loaded", "systemctl status systemd-creds.socket"),
        // it was masked while it was active, and will be inactive after the next boot
        ("masked", "active", "is masked", "systemctl unmask systemd-creds.socket"),
    ];
    for (load, active, is, remedy) in table {
        let (level, message) = told(&with(|state| (state.load, state.active) = (load.into(), active.into())));
        assert_eq!(level, Some(Level::Error), "{load} {active}");
        assert!(message.contains(is) && message.contains(remedy), "{message}");
        assert!(!message.contains("restart"), "{message}");
    }
}

#[test]
fn the_trigger_limit() {
    let (level, message) = told(&with(|state| state.trigger_limit = Some(200)));
    assert_eq!(level, Some(Level::Warning));
    assert!(
        message.starts_with("systemd-creds.socket stops listening when a user connects more than 200 times"),
        "{message}"
    );
    let (_, message) = told(&with(|state| (state.trigger_limit, state.per_user) = (Some(200), 16)));
    assert!(
        message.contains("16 for each user") && message.contains("; it also stops listening"),
        "{message}"
    );
}

#[test]
fn the_remedy_names_the_cause() {
    let small = |change: fn(&mut State)| {
        told(&with(|state| {
            state.per_user = 16;
            change(state);
        }))
        .1
    };
    let missing = small(|state| state.drop_ins.clear());
    assert!(missing.contains("10-onecred.conf is missing") && missing.contains("make install"), "{missing}");
    assert!(
        missing.contains("remove a link of this name in /etc/systemd/system/systemd-creds.socket.d"),
        "{missing}"
    );
    let path = "/etc/systemd/system/systemd-creds.socket.d/override.conf";
    let overridden = small(|state| {
        state.drop_ins.push("/etc/systemd/system/systemd-creds.socket.d/override.conf".into());
    });
    assert!(overridden.contains(path) && overridden.contains("MaxConnectionsPerSource=256"), "{overridden}");
    let outdated = small(|state| state.outdated = true);
    assert!(outdated.ends_with("; its files have changed: run systemctl daemon-reload"), "{outdated}");
}

#[test]
fn an_active_socket_to_which_units_cannot_connect() {
    let addresses = |all: &[&str]| {
        let all = all.iter().map(|&address| address.to_owned()).collect();
        with(|state| state.addresses = all)
    };
    assert_eq!(judge(&addresses(&["/run/x", ADDRESS])), None);
    assert_eq!(judge(&with(|state| state.reach = None)), None, "the kernel does not say");
    let of = |reach| with(|state| state.reach = Some(reach));
    for (state, words) in [
        (addresses(&["/run/x"]), "does not have its address /run/systemd/io.systemd.Credentials"),
        (of(Reach::Removed), "its socket was removed (/run/systemd/io.systemd.Credentials)"),
        (of(Reach::Replaced), "was replaced by something else"),
        (of(Reach::Foreign), "another program"),
        (of(Reach::Closed), "does not accept connections"),
    ] {
        let (level, message) = told(&state);
        assert_eq!(level, Some(Level::Error), "{message}");
        assert!(message.contains(words) && message.contains("cannot start"), "{message}");
        assert!(message.ends_with("systemctl restart systemd-creds.socket"), "{message}");
    }
}

#[test]
fn a_service_that_does_not_decrypt() {
    let service = |load: &str, programs: &[&str]| {
        let programs = programs.iter().map(|&path| path.to_owned()).collect();
        with(|state| state.service = Service { load: load.into(), programs })
    };
    assert_eq!(judge(&service("loaded", &["/nix/store/x-systemd-262/bin/systemd-creds"])), None);
    for (state, is, remedy) in [
        (service("masked", &[]), "is masked", "systemctl unmask systemd-creds@.service"),
        (service("not-found", &[]), "does not exist", "reinstall systemd"),
        (service("bad-setting", &[]), "cannot be loaded", "systemd-analyze verify"),
        (
            service("loaded", &["/bin/true"]),
            "runs /bin/true instead of systemd-creds",
            "systemctl cat systemd-creds@.service",
        ),
    ] {
        let (level, message) = told(&state);
        assert_eq!(level, Some(Level::Error), "{message}");
        assert!(message.starts_with(&format!("systemd-creds@.service {is}: ")), "{message}");
        assert!(message.contains(remedy), "{message}");
    }
}

#[test]
fn the_poll_limit() {
    let of = |limit| with(|state| state.poll_limit = limit);
    for limit in [None, Some((150, 2.0)), Some((1, 0.001)), Some((10_000, 60.0))] {
        assert_eq!(judge(&of(limit)), None, "{limit:?}");
    }
    for limit in [(1, 2.0), (149, 2.0), (150, 60.0)] {
        let (level, message) = told(&of(Some(limit)));
        assert_eq!(level, Some(Level::Warning));
        let words = format!("systemd-creds.socket accepts only {} connection", limit.0);
        assert!(message.contains(&format!(" in {} s (PollLimitBurst=", limit.1)), "{message}");
        assert!(message.starts_with(&words), "{message}");
        // onecred's drop-in is loaded, and there is no other
        assert!(message.contains("PollLimitBurst=150") && !message.contains("missing"), "{message}");
        assert!(message.contains("in /usr/lib/systemd/system/systemd-creds.socket, which"), "{message}");
    }
}
