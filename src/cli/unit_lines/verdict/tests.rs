use super::super::facts::{
    Content, Early, EnvironmentFile, EnvironmentFiles, Ignored, Import, Imported, LeadsTo, Literal,
    LoadState, PLAIN, SEALED,
};
use super::*;
use crate::cli::common::reach::Reach;
use crate::domain::name::UnitName;

/// systemd 252.
const OLD: Machine = Machine { systemd: 252, tmpfs: false };
/// systemd 262.
const NEW: Machine = Machine { systemd: 262, ..OLD };

fn unit(name: &str, lines: &[CredentialLine]) -> Unit {
    let name = UnitName::parse(name).expect("valid");
    Unit { lines: lines.to_vec(), ..Unit::new(name, LoadState::Loaded) }
}

fn line(directive: Directive, id: &str, path: &str, leads_to: LeadsTo) -> CredentialLine {
    CredentialLine {
        directive,
        id: id.into(),
        path: path.into(),
        leads_to,
        reach: Reach::Listens,
        of_directory: false,
        content: Content::Unknown,
    }
}

fn plain(path: &str, leads_to: LeadsTo) -> CredentialLine {
    line(Directive::Plain, "db", path, leads_to)
}

fn credentials(all: &[(&str, usize)]) -> Content {
    Content::Credentials(all.iter().map(|(id, size)| ((*id).to_owned(), *size)).collect())
}

fn literal(id: &str, size: usize) -> Literal {
    Literal { id: id.into(), content: credentials(&[(id, size)]) }
}

fn imported(id: &str, size: usize) -> Imported {
    Imported { id: id.into(), path: format!("/etc/credstore/{id}"), content: credentials(&[(id, size)]) }
}

fn right() -> CredentialLine {
    plain(PLAIN, LeadsTo::PlainSocket)
}

fn allowed(answer: PredictedAnswer) -> Prediction {
    Prediction { allowed: true, name: "db".into(), answer, fetched: true, ..Prediction::default() }
}

fn value() -> Prediction {
    allowed(PredictedAnswer::Value(None))
}

fn refused() -> Prediction {
    Prediction { reason: "not allowed: why; do this".into(), ..Prediction::default() }
}

#[track_caller]
fn is(verdict: &LineVerdict, effect: Effect, words: &[&str]) {
    assert_eq!(verdict.effect, effect, "{verdict:?}");
    let problem = verdict.problem.as_deref().unwrap_or_default();
    assert_eq!(problem.is_empty(), effect == Effect::Gets, "{problem}");
    for word in words {
        assert!(problem.contains(word), "{word:?}: {problem}");
    }
    assert!(!problem.contains(" gets db"), "{problem}");
}

#[test]
fn what_comes_of_a_line() {
    use Directive::{Encrypted, Plain};
    use Effect::{Fails, Gets, Other, Unknown, Without};
    let sealed = |leads_to, path| line(Encrypted, "db", path, leads_to);
    let rows: [(CredentialLine, Effect, &[&str]); 23] = [
        (right(), Gets, &[]),
        (sealed(LeadsTo::SealedSocket, SEALED), Gets, &[]),
        // by a symbolic or hard link, or below /var/run
        (plain("/srv/link", LeadsTo::PlainSocket), Gets, &[]),
        (
            plain(SEALED, LeadsTo::SealedSocket),
            Other,
            &[
                "encrypted values",
                "write LoadCredentialEncrypted=db:/run/onecred/sealed.sock, then: systemctl daemon-reload",
            ],
        ),
        (
            sealed(LeadsTo::PlainSocket, PLAIN),
            Fails,
            &["not encrypted", "write LoadCredentialEncrypted=db:/run/onecred/sealed.sock"],
        ),
        (
            plain("/run/onecred/credentials.sock", LeadsTo::Missing),
            Fails,
            &["does not exist", "243/CREDENTIALS", "write LoadCredential=db:/run/onecred/credential.sock"],
        ),
        (plain("/run/onecred/credential.sock/", LeadsTo::Missing), Fails, &["does not exist"]),
        (
            sealed(LeadsTo::Missing, "/run/onecred/seal.sock"),
            Fails,
            &["write LoadCredentialEncrypted=db:/run/onecred/sealed.sock"],
        ),
        (plain("/run/onecred/resolver.sock", LeadsTo::ResolverSocket), Fails, &["not for units"]),
        (
            plain("/run/onecred/", LeadsTo::DirectoryOfSockets),
            Fails,
            &["directory of sockets", "systemd 252"],
        ),
        (plain("/srv/files", LeadsTo::Directory), Without, &["db_NAME", "none called db"]),
        (plain("/run/other.sock", LeadsTo::OtherSocket), Other, &["another program"]),
        (plain("/run/systemd/notify", LeadsTo::DeadSocket), Fails, &["cannot connect", "243/CREDENTIALS"]),
        (plain("/etc/db", LeadsTo::File), Other, &["content of the file /etc/db"]),
        (plain("/run/secrets/db", LeadsTo::File), Gets, &[]),
        (
            plain("db", LeadsTo::Store(false)),
            Without,
            &[
                "without a path",
                "starts the unit without",
                "write LoadCredential=db:/run/onecred/credential.sock",
            ],
        ),
        (plain("other", LeadsTo::Store(true)), Other, &["loads other from its credential stores"]),
        (plain("/root/x", LeadsTo::Unknown), Unknown, &["examine /root/x", "as root"]),
        (line(Plain, "literal", "/run/onecred/nope", LeadsTo::Missing), Other, &["SetCredential="]),
        (line(Plain, "literal", "literal", LeadsTo::Store(false)), Other, &["SetCredential="]),
        (line(Plain, "literal", "literal", LeadsTo::Store(true)), Other, &["credential stores"]),
        (line(Plain, "literal", PLAIN, LeadsTo::PlainSocket), Gets, &[]),
        (line(Plain, "a b", PLAIN, LeadsTo::PlainSocket), Gets, &[]),
    ];
    let mut unit = unit("app.service", &[]);
    unit.literals = vec![literal("literal", 1)];
    let prediction = Prediction { target: Some("/run/secrets/db".into()), ..value() };
    for (line, effect, words) in rows {
        is(&judge_line(OLD, &unit, &line, Some(&prediction), Purpose::Asks), effect, words);
    }
}

#[test]
fn what_depends_on_the_version() {
    let unit = unit("app.service", &[]);
    let directory = plain("/run/onecred", LeadsTo::DirectoryOfSockets);
    is(&judge_line(NEW, &unit, &directory, None, Purpose::Asks), Effect::Without, &["db_NAME"]);
    for (id, path) in [("a b", PLAIN), ("db", "/srv/a b")] {
        let line = line(Directive::Plain, id, path, LeadsTo::PlainSocket);
        is(&judge_line(OLD, &unit, &line, Some(&value()), Purpose::Asks), Effect::Gets, &[]);
        is(
            &judge_line(NEW, &unit, &line, Some(&value()), Purpose::Asks),
            Effect::Fails,
            &["systemd 262", "space"],
        );
    }
    let escaped = line(Directive::Plain, r"db-a\x2fb", PLAIN, LeadsTo::PlainSocket);
    assert_eq!((escaped.asked_id(OLD).as_str(), escaped.asked_id(NEW).as_str()), (r"db-a\x2fb", "db-ax2fb"));
}

#[test]
fn what_is_too_long_is_never_asked() {
    let unit = unit(&format!("{}.service", "a".repeat(72)), &[]);
    for (id, effect) in [("idx", Effect::Gets), ("idxy", Effect::Fails)] {
        let line = line(Directive::Plain, id, PLAIN, LeadsTo::PlainSocket);
        let words: &[&str] =
            if effect == Effect::Fails { &["84 bytes", "83 at most", "1 byte shorter"] } else { &[] };
        is(&judge_line(NEW, &unit, &line, Some(&value()), Purpose::Asks), effect, words);
    }
}

#[test]
fn a_socket_that_is_not_active_fails_units() {
    let unit = unit("app.service", &[]);
    let sealed = line(Directive::Encrypted, "db", SEALED, LeadsTo::SealedSocket);
    for (line, start) in
        [(right(), "systemctl enable --now onecred.socket"), (sealed, "systemctl restart onecred.socket")]
    {
        let of = |reach| CredentialLine { reach, ..line.clone() };
        let judged = |reach| judge_line(OLD, &unit, &of(reach), Some(&value()), Purpose::Asks);
        is(&judged(Reach::Stopped), Effect::Fails, &["is not active", start]);
        is(&judged(Reach::Closed), Effect::Fails, &["no program accepts connections at", "onecred status"]);
        is(&judged(Reach::ProviderOnly), Effect::Gets, &[]);
        let with = Unit { lines: vec![of(Reach::ProviderOnly)], ..unit.clone() };
        assert!(notes(&with, &value())[0].contains("only until onecred.service ends"));
    }
}

#[test]
fn onecred_cannot_wait_for_itself() {
    let own = unit("onecred.service", &[right()]);
    judged(&own, Effect::Fails, &["would wait for its own answer"]);
}

#[test]
fn a_unit_that_may_start_before_a_socket_is_warned() {
    let unit = Unit { unordered: vec!["onecred.socket"], ..unit("app.service", &[right()]) };
    judged(&unit, Effect::Gets, &[]);
    let expected = "at the next boot app.service may start before onecred.socket, and then fails with 243/CREDENTIALS; add After=onecred.socket to it";
    assert_eq!(notes(&unit, &value()), [expected]);
    let early = Some(Early { target: "onecred.socket".into(), through: None, holds_onecred: true });
    let unit = Unit { early, ..unit };
    assert_eq!(notes(&unit, &Prediction { fetched: false, ..value() }), Vec::<String>::new());
}

#[test]
fn a_correct_line_whose_socket_is_not_there_needs_no_correction() {
    let sealed = |leads_to| line(Directive::Encrypted, "db", SEALED, leads_to);
    for (line, effect) in [
        (plain(PLAIN, LeadsTo::Missing), Effect::Fails),
        (plain(PLAIN, LeadsTo::File), Effect::Other),
        (plain(PLAIN, LeadsTo::OtherSocket), Effect::Other),
        (sealed(LeadsTo::OtherSocket), Effect::Fails),
        (sealed(LeadsTo::Missing), Effect::Fails),
    ] {
        let unit = unit("app.service", std::slice::from_ref(&line));
        let verdict = judge_line(OLD, &unit, &line, Some(&value()), Purpose::Asks);
        is(&verdict, effect, &["the line is correct; to restore the socket, see: onecred status"]);
    }
}

#[test]
fn a_unit_before_the_socket_for_decryption_fails_at_boot() {
    let through = Some("early.target".into());
    let before_decryption =
        Some(Early { target: "systemd-creds.socket".into(), through, holds_onecred: false });
    let unit = Unit { before_decryption, ..unit("app.service", &[right()]) };
    judged(&unit, Effect::Gets, &[]);
    let note = notes(&unit, &value()).join("\n");
    let expected = "at the next boot app.service fails with 243/CREDENTIALS: it is ordered before systemd-creds.socket, through early.target";
    assert!(note.starts_with(expected), "{note}");
}

#[test]
fn what_onecred_answers() {
    let unit = unit("app.service", &[]);
    let failing =
        allowed(PredictedAnswer::Refusal("org.onecred.Error.NotFound".into(), "not found: x; do y".into()));
    for (prediction, effect, words) in [
        (value(), Effect::Gets, ""),
        (allowed(PredictedAnswer::Value(Some("away".into()))), Effect::Gets, ""),
        (failing.clone(), Effect::Fails, "not found: x; do y"),
        (refused(), Effect::Fails, "not allowed: why; do this"),
        (allowed(PredictedAnswer::Unknown), Effect::Unknown, "must look up the value first"),
    ] {
        is(&judge_line(OLD, &unit, &right(), Some(&prediction), Purpose::Asks), effect, &[words]);
    }
    // it is refused before its form matters
    let wrong = plain(SEALED, LeadsTo::SealedSocket);
    is(&judge_line(OLD, &unit, &wrong, Some(&failing), Purpose::Asks), Effect::Fails, &["encrypted values"]);
}

#[test]
fn units_that_cannot_run_or_ask() {
    let state = |name: &str, state: LoadState| Unit { state, ..unit(name, &[right()]) };
    let broken =
        LoadState::Broken("bad-setting".into(), "Unit a.service has a bad unit file setting.".into());
    let triggers = |name: &str| Unit { triggers: vec!["a.service".into()], ..unit(name, &[]) };
    let rows: [(Machine, Unit, Effect, &[&str]); 16] = [
        (
            OLD,
            state("a.service", LoadState::NotFound(None)),
            Effect::Fails,
            &["this machine has no unit a.service"],
        ),
        (
            OLD,
            state("a.service", LoadState::NotFound(Some("b.service".into()))),
            Effect::Fails,
            &["did you mean b.service?"],
        ),
        (OLD, state("a.service", LoadState::OfUsers), Effect::Fails, &["user managers", "system unit"]),
        (OLD, state("a.service", LoadState::Masked), Effect::Fails, &["systemctl unmask a.service"]),
        (
            OLD,
            state("a.service", broken),
            Effect::Fails,
            &["(bad-setting)", "has a bad unit file setting; see"],
        ),
        (OLD, state("a@.service", LoadState::Template), Effect::Fails, &["is a template", "a@NAME.service"]),
        (
            OLD,
            unit("srv.mount", &[right()]),
            Effect::Without,
            &["since systemd 258", "systemd 252", "\"target\""],
        ),
        (Machine { systemd: 257, ..OLD }, unit("srv.mount", &[right()]), Effect::Without, &["systemd 257"]),
        (NEW, unit("a.socket", &[right()]), Effect::Without, &["ignores LoadCredential= in socket units"]),
        (NEW, triggers("a.socket"), Effect::Without, &["move the line to a.service"]),
        (NEW, unit("dev-sda.swap", &[right()]), Effect::Without, &["swap units"]),
        (
            NEW,
            triggers("a.timer"),
            Effect::Without,
            &["a timer unit cannot have credentials", "belongs in a.service"],
        ),
        (
            NEW,
            unit("a.target", &[]),
            Effect::Without,
            &["a target unit cannot", "the service that needs the secret"],
        ),
        (NEW, unit("a.slice", &[]), Effect::Without, &["a slice unit cannot"]),
        (NEW, unit("a.automount", &[]), Effect::Without, &["an automount unit cannot"]),
        (NEW, unit("a.scope", &[]), Effect::Without, &["a scope unit cannot"]),
    ];
    for (machine, unit, effect, words) in rows {
        is(&judge_unit(machine, &unit).expect("a verdict"), effect, words);
        let judgement = judge(machine, &unit, &id("db"), &value(), &|_| Some(value()));
        assert_eq!((judgement.effect, judgement.problems.len()), (effect, 1), "{judgement:?}");
        assert!(!judgement.problems[0].contains("onecred add"), "{judgement:?}");
    }
    for (machine, unit) in
        [(OLD, unit("a.service", &[])), (Machine { systemd: 258, ..OLD }, unit("srv.mount", &[]))]
    {
        assert_eq!(judge_unit(machine, &unit), None);
    }
}

fn id(text: &str) -> CredentialId {
    CredentialId::parse(text).expect("valid")
}

#[track_caller]
fn judged(unit: &Unit, effect: Effect, words: &[&str]) {
    let judgement = judge(OLD, unit, &id("db"), &value(), &|line| line.is_ours().then(value));
    assert_eq!(judgement.effect, effect, "{judgement:?}");
    let problems = judgement.problems.join("\n");
    assert_eq!(problems.is_empty(), effect == Effect::Gets, "{problems}");
    for word in words {
        assert!(problems.contains(word), "{word:?}: {problems}");
    }
}

#[test]
fn a_unit_without_a_line_is_told_why() {
    let ignored = |text: &str| Ignored {
        place: "/a.service:7".into(),
        text: text.into(),
        id: "db".into(),
        why: "a : stands between ID and path".into(),
        directive: Directive::Plain,
    };
    let none = unit("app.service", &[line(Directive::Plain, "dbpass", PLAIN, LeadsTo::PlainSocket)]);
    judged(
        &none,
        Effect::Without,
        &["no LoadCredential= line for it is loaded in", "(it loads dbpass from onecred)", "onecred add"],
    );
    judged(
        &Unit { outdated: true, ..none.clone() },
        Effect::Without,
        &["have changed since", "daemon-reload"],
    );
    judged(
        &Unit { ignored: vec![ignored("LoadCredential=db=/run/x")], ..none.clone() },
        Effect::Without,
        &[
            "systemd ignores the line LoadCredential=db=/run/x (/a.service:7): a : stands",
            "; write LoadCredential=db:/run/onecred/credential.sock, then",
        ],
    );
    let import =
        |text: &str, found| Unit { imports: vec![Import { text: text.into(), found }], ..none.clone() };
    for text in ["db", "d*", "x:db", "x*:d"] {
        judged(&import(text, Some(vec![])), Effect::Without, &[&format!("ImportCredential={text} searches")]);
        judged(&import(text, Some(vec![imported("db", 1)])), Effect::Other, &["loads /etc/credstore/db"]);
        judged(&import(text, None), Effect::Unknown, &["run this as root"]);
    }
    for text in ["x", "db:x", "x*"] {
        judged(
            &import(text, Some(vec![])),
            Effect::Without,
            &["no LoadCredential= line for it is loaded in"],
        );
    }
    judged(&Unit { literals: vec![literal("db", 1)], ..none }, Effect::Other, &["SetCredential="]);
}

#[test]
fn other_lines_of_the_unit_count() {
    let other = |path: &str, leads_to| line(Directive::Plain, "other", path, leads_to);
    judged(&unit("app.service", &[right()]), Effect::Gets, &[]);
    let missing = other("/etc/none", LeadsTo::Missing);
    judged(
        &unit("app.service", &[right(), missing]),
        Effect::Fails,
        &["because of its line LoadCredential=other:/etc/none: /etc/none does not exist"],
    );
    // a unit that can start without another credential starts
    judged(&unit("app.service", &[right(), other("other", LeadsTo::Store(false))]), Effect::Gets, &[]);
    judged(&unit("app.service", &[right(), other("/etc/hostname", LeadsTo::File)]), Effect::Gets, &[]);
    let both = unit("app.service", &[right(), other(PLAIN, LeadsTo::PlainSocket)]);
    let of_line = |line: &CredentialLine| Some(if line.id == "other" { refused() } else { value() });
    let judgement = judge(OLD, &both, &id("db"), &value(), &of_line);
    assert_eq!(judgement.effect, Effect::Fails);
    assert_eq!(
        judgement.problems,
        ["because of its line LoadCredential=other:/run/onecred/credential.sock: not allowed: why; do this"]
    );
}

#[test]
fn environment_files() {
    let with = |path: &str, optional, exists| Unit {
        environment: vec![EnvironmentFile {
            path: path.into(),
            optional,
            found: if exists { EnvironmentFiles::Files } else { EnvironmentFiles::Nothing },
        }],
        ..unit("app.service", &[right()])
    };
    let own = "/run/credentials/app.service/db";
    judged(
        &with(own, false, false),
        Effect::Fails,
        &["is read before systemd sets up credentials", "onecred run"],
    );
    // while the unit runs, the directory exists
    judged(&with(own, false, true), Effect::Fails, &["is read before"]);
    judged(&with("/etc/none", false, false), Effect::Fails, &["EnvironmentFile=/etc/none does not exist"]);
    judged(&with("/etc/none", true, false), Effect::Gets, &[]);
    judged(&with("/etc/app.env", false, true), Effect::Gets, &[]);
    judged(&with("/run/credentials/app.service.d/x", false, true), Effect::Gets, &[]);
    let skipped = with(own, true, false);
    judged(&skipped, Effect::Gets, &[]);
    assert!(notes(&skipped, &value())[0].contains("is skipped"));
}

#[test]
fn environment_files_that_systemd_cannot_read() {
    let with = |path: &str, optional, found| Unit {
        environment: vec![EnvironmentFile { path: path.into(), optional, found }],
        ..unit("app.service", &[right()])
    };
    let directory = || EnvironmentFiles::Directory("/etc/app.d".into());
    for (path, optional, found, effect, words) in [
        (
            "/etc/*.env",
            false,
            EnvironmentFiles::Nothing,
            Effect::Fails,
            "matches no file, and the unit fails; create one, or, if the file is optional, write EnvironmentFile=-/etc/*.env",
        ),
        ("/etc/*.env", true, EnvironmentFiles::Nothing, Effect::Gets, ""),
        ("/etc/*.env", false, EnvironmentFiles::Files, Effect::Gets, ""),
        ("/etc/app.d", false, directory(), Effect::Fails, "/etc/app.d is a directory, and the unit fails"),
        ("/etc/app.d", true, directory(), Effect::Gets, ""),
        ("/root/x", false, EnvironmentFiles::Unknown, Effect::Unknown, "run this as root"),
    ] {
        judged(&with(path, optional, found), effect, &[words]);
    }
}

#[test]
fn what_fails_beside_a_right_line() {
    use Directive::{Encrypted, Plain};
    let file =
        |directive, content| CredentialLine { content, ..line(directive, "x", "/etc/x", LeadsTo::File) };
    let bad = || Content::Fails("systemd cannot decrypt /etc/x (Bad message)".into());
    for (other, effect, words) in [
        (file(Plain, credentials(&[("x", 9)])), Effect::Gets, ""),
        (file(Plain, credentials(&[("x", 1 << 20)])), Effect::Fails, "/etc/x has 1048576 bytes"),
        // together with the value of 7 bytes from onecred
        (file(Plain, credentials(&[("x", (1 << 20) - 11)])), Effect::Gets, ""),
        (
            file(Plain, credentials(&[("x", (1 << 20) - 9)])),
            Effect::Fails,
            "too large together: x (1048567 bytes), db (7 bytes) have",
        ),
        (file(Encrypted, credentials(&[("x", 9)])), Effect::Gets, ""),
        (
            file(Encrypted, bad()),
            Effect::Fails,
            "systemd cannot decrypt /etc/x (Bad message), and the unit fails",
        ),
        (line(Plain, "x", "/etc/none", LeadsTo::Missing), Effect::Fails, "/etc/none does not exist"),
        (line(Encrypted, "x", "/etc/none", LeadsTo::Missing), Effect::Fails, "/etc/none does not exist"),
        (line(Plain, "x", "x", LeadsTo::Store(false)), Effect::Gets, ""),
        (line(Plain, "x", "/run/n", LeadsTo::DeadSocket), Effect::Fails, "cannot connect"),
    ] {
        let unit = unit("app.service", &[right(), other.clone()]);
        let sized = || Prediction { size: Some(7), ..value() };
        let judgement = judge(OLD, &unit, &id("db"), &sized(), &|line| line.is_ours().then(sized));
        let problems = judgement.problems.join("\n");
        assert_eq!(judgement.effect, effect, "{other}: {problems}");
        assert!(problems.contains(words) && problems.is_empty() == words.is_empty(), "{other}: {problems}");
        assert!(!problems.contains("/run/onecred"), "it is not meant for onecred: {problems}");
    }
}

#[test]
fn settings_beside_a_right_line() {
    let undecryptable =
        |id: &str| Literal { id: id.into(), content: Content::Fails(format!("cannot decrypt {id}")) };
    let large = literal("x", 1 << 20);
    let unknown = Literal { id: "x".into(), content: Content::Unknown };
    for (literal, effect, words) in [
        (literal("x", 9), Effect::Gets, ""),
        (unknown, Effect::Unknown, "only root can find out"),
        (large, Effect::Fails, ""),
        (undecryptable("x"), Effect::Fails, "cannot decrypt x, and the unit fails"),
        // a line with the same ID precedes it
        (undecryptable("db"), Effect::Gets, ""),
    ] {
        let with = Unit { literals: vec![literal], ..unit("app.service", &[right()]) };
        let judgement = judge(OLD, &with, &id("db"), &value(), &|_| Some(value()));
        assert_eq!(judgement.effect, effect, "{judgement:?}");
        assert!(judgement.problems.join("\n").contains(words), "{judgement:?}");
    }
}

#[test]
fn pages_count_in_a_tmpfs() {
    let file = |id: &str, size| CredentialLine {
        content: credentials(&[(id, size)]),
        ..line(Directive::Plain, id, "/x", LeadsTo::File)
    };
    // 147 pages, 108 or 109 pages, and one for the value of 7 bytes
    for (size, tmpfs, effect) in [
        (440_001, false, Effect::Gets),
        (440_001, true, Effect::Gets),
        (446_000, false, Effect::Gets),
        (446_000, true, Effect::Fails),
    ] {
        let unit = unit("app.service", &[right(), file("x", 600_001), file("y", size)]);
        let sized = || Prediction { size: Some(7), ..value() };
        let judgement =
            judge(Machine { tmpfs, ..NEW }, &unit, &id("db"), &sized(), &|line| line.is_ours().then(sized));
        assert_eq!(judgement.effect, effect, "{size} {tmpfs}: {judgement:?}");
    }
}

#[test]
fn quotation_marks_are_a_part_of_the_line() {
    let fix = "write LoadCredential=db:/run/onecred/credential.sock, then";
    for (id, path, leads_to) in [
        ("\"db", "/run/onecred/credential.sock\"", LeadsTo::Missing),
        ("\"db\"", PLAIN, LeadsTo::PlainSocket),
        ("'db'", "'db'", LeadsTo::Store(false)),
    ] {
        let line = line(Directive::Plain, id, path, leads_to);
        let with = unit("app.service", std::slice::from_ref(&line));
        let judgement = judge(OLD, &with, &self::id("db"), &value(), &|_| Some(refused()));
        assert!(
            judgement.problems[0].contains("quotation marks") && judgement.problems[0].contains(fix),
            "{judgement:?}"
        );
        let verdict = judge_line(OLD, &with, &line, Some(&refused()), Purpose::Asks);
        let problem = verdict.problem.unwrap_or_default();
        assert!(problem.contains("quotation marks"), "{problem}");
    }
}

#[test]
fn a_unit_before_the_network_waits_for_itself() {
    let early = |target: &str, holds_onecred| {
        let through = Some("nftables.service".into());
        Unit {
            early: Some(Early { target: target.into(), through, holds_onecred }),
            ..unit("app.service", &[right()])
        }
    };
    let before_onecred = early("onecred.socket", true);
    for (fetched, effect) in [(false, Effect::Fails), (true, Effect::Gets)] {
        let own = Prediction { needs_network: false, fetched, ..allowed(PredictedAnswer::Value(None)) };
        let judgement = judge(OLD, &before_onecred, &id("db"), &own, &|_| Some(own.clone()));
        assert_eq!(judgement.effect, effect, "{judgement:?}");
        let said = [judgement.problems, judgement.notes].concat().join("\n");
        let expected = "app.service and onecred wait for each other: app.service is ordered before onecred.socket, through nftables.service";
        assert!(said.contains(expected), "{said}");
    }
    let unit = early("network-pre.target", false);
    for (needs_network, fetched, effect) in
        [(true, false, Effect::Fails), (true, true, Effect::Gets), (false, false, Effect::Gets)]
    {
        let own = Prediction { needs_network, fetched, ..allowed(PredictedAnswer::Value(None)) };
        let judgement = judge(OLD, &unit, &id("db"), &own, &|_| Some(own.clone()));
        assert_eq!(judgement.effect, effect, "{judgement:?}");
        let said = [judgement.problems, judgement.notes].concat().join("\n");
        assert_eq!(
            said.contains("ordered before network-pre.target, through nftables.service"),
            needs_network,
            "{said}"
        );
    }
}

#[test]
fn notes_tell_what_is_unusual() {
    let own = Prediction { answer: PredictedAnswer::Value(Some("away: x; y".into())), ..value() };
    let unit = Unit {
        alias: Some(UnitName::parse("old.service").expect("valid")),
        outdated: true,
        ..unit("app.service", &[right()])
    };
    let judgement = judge(OLD, &unit, &id("db"), &own, &|_| Some(own.clone()));
    assert_eq!(judgement.effect, Effect::Gets);
    let expected = [
        "old.service is an alias: systemd requests its credentials as app.service",
        OUTDATED,
        "the value in memory may be out of date: away: x; y",
    ];
    assert_eq!(judgement.notes, expected);
}

#[test]
fn what_imports_bring_beside_a_right_line() {
    let fails = Imported { content: Content::Fails("systemd cannot decrypt it".into()), ..imported("x", 0) };
    let unknown = Imported { content: Content::Unknown, ..imported("x", 0) };
    let of_ours = Imported { id: "db".into(), ..fails.clone() };
    let rows: [(Option<Vec<Imported>>, Effect, &str); 8] = [
        (Some(vec![]), Effect::Gets, ""),
        (Some(vec![imported("x", 9)]), Effect::Gets, ""),
        (Some(vec![imported("x", 1 << 20)]), Effect::Fails, "too large together: x (1048576 bytes)"),
        (Some(vec![imported("x", 600_000), imported("y", 600_000)]), Effect::Fails, "too large together"),
        (Some(vec![fails]), Effect::Fails, "systemd cannot decrypt it, and the unit fails"),
        (Some(vec![unknown]), Effect::Unknown, "examine /etc/credstore/x; run this as root"),
        (None, Effect::Unknown, "credential stores"),
        // a line with the same ID precedes it
        (Some(vec![of_ours]), Effect::Gets, ""),
    ];
    for (found, effect, words) in rows {
        let imports = vec![Import { text: "*".into(), found }];
        let with = Unit { imports, ..unit("app.service", &[right()]) };
        let judgement = judge(NEW, &with, &id("db"), &value(), &|_| Some(value()));
        assert_eq!(judgement.effect, effect, "{judgement:?}");
        assert!(judgement.problems.join("\n").contains(words), "{judgement:?}");
    }
    // an import precedes a setting with the same ID
    let imports = vec![Import { text: "x".into(), found: Some(vec![imported("x", 1)]) }];
    let literals = vec![literal("x", 1 << 20)];
    let with = Unit { imports, literals, ..unit("app.service", &[right()]) };
    assert_eq!(judge(NEW, &with, &id("db"), &value(), &|_| Some(value())).effect, Effect::Gets);
}

#[test]
fn what_this_user_cannot_examine_is_not_known() {
    let other = |path: &str, leads_to| line(Directive::Plain, "x", path, leads_to);
    for line in [
        other("/etc/hidden/x", LeadsTo::Unknown),
        other("x", LeadsTo::Unknown),
        other("/etc/half-hidden", LeadsTo::Directory),
        line(Directive::Encrypted, "x", "/etc/x.cred", LeadsTo::File),
        line(Directive::Encrypted, "x", "x", LeadsTo::Store(true)),
    ] {
        let beside = unit("app.service", &[right(), line.clone()]);
        judged(&beside, Effect::Unknown, &["because of its line", "root"]);
    }
    let environment = vec![EnvironmentFile {
        path: "/etc/hidden/*.env".into(),
        optional: false,
        found: EnvironmentFiles::Unknown,
    }];
    let with = Unit { environment, ..unit("app.service", &[right()]) };
    judged(&with, Effect::Unknown, &["EnvironmentFile=/etc/hidden/*.env", "run this as root"]);
}
