use super::super::facts::{
    Content, Directive, Early, EnvironmentFile, EnvironmentFiles, Ignored, LeadsTo, PLAIN, SEALED,
};
use super::*;
use crate::cli::common::reach::Reach;

const MACHINE: Machine = Machine { systemd: 252, tmpfs: false };

fn policy() -> Settings {
    let text = r#"{ "source": { "kind": "connect", "url": "http://127.0.0.1:8080" }, "secrets": [
        { "name": "db", "reference": "op://v/i/f", "units": ["app", "acme-*", "sock.socket", "gone", "other/key"] } ] }"#;
    crate::config::from_text(std::path::Path::new("/s.json"), text).unwrap().settings
}

fn unit(name: &str, lines: &[(Directive, &str, &str, LeadsTo)]) -> Unit {
    let lines = lines.iter().map(|(directive, id, path, leads_to)| CredentialLine {
        directive: *directive,
        id: (*id).into(),
        path: (*path).into(),
        leads_to: leads_to.clone(),
        reach: Reach::Listens,
        of_directory: false,
        content: Content::Unknown,
    });
    Unit { lines: lines.collect(), ..Unit::new(UnitName::parse(name).unwrap(), LoadState::Loaded) }
}

fn answer(answer: PredictedAnswer) -> Prediction {
    Prediction { allowed: true, name: "db".into(), answer, needs_network: true, ..Prediction::default() }
}

fn found(unit: &Unit, prediction: &Prediction, failing: &[&str]) -> Findings {
    let settings = policy();
    let failing = failing.iter().map(|name| (*name).to_owned()).collect();
    let of_line = |line: &CredentialLine| line.is_ours().then(|| prediction.clone());
    judge_all(MACHINE, unit, &Grants(&settings.policy), &of_line, &failing)
}

#[track_caller]
fn says(unit: &Unit, problems: &[&str], warnings: &[&str]) {
    let found = found(unit, &answer(PredictedAnswer::Value(None)), &[]);
    for (texts, expected) in [(&found.problems, problems), (&found.warnings, warnings)] {
        assert_eq!(texts.len(), expected.len(), "{found:?}");
        for (text, start) in texts.iter().zip(expected) {
            assert!(text.starts_with(start), "{start:?}: {text}");
        }
    }
}

#[test]
fn all_lines_of_a_unit() {
    use Directive::{Encrypted, Plain};
    says(&unit("app.service", &[(Plain, "db", PLAIN, LeadsTo::PlainSocket)]), &[], &[]);
    says(&unit("app.service", &[(Encrypted, "db", SEALED, LeadsTo::SealedSocket)]), &[], &[]);
    // lines that are unrelated to onecred are ignored
    let foreign = (Plain, "other", "/etc/none", LeadsTo::Missing);
    says(&unit("acme-x.service", std::slice::from_ref(&foreign)), &[], &[]);
    says(
        &unit("acme-x.service", &[(Plain, "db", SEALED, LeadsTo::SealedSocket), foreign]),
        &[
            "acme-x.service: LoadCredential=db:/run/onecred/sealed.sock: ",
            "acme-x.service: LoadCredential=other:/etc/none: /etc/none does not exist",
        ],
        &[],
    );
    // without a path, but meant for onecred, because the configuration grants it
    says(
        &unit("app.service", &[(Plain, "db", "db", LeadsTo::Store(false))]),
        &["app.service: LoadCredential=db: without a path"],
        &[],
    );
    says(&unit("acme-x.service", &[(Plain, "else", "else", LeadsTo::Store(false))]), &[], &[]);
    says(
        &unit("stranger.service", &[(Plain, "x", "/run/onecred/credentials.sock", LeadsTo::Missing)]),
        &["stranger.service: LoadCredential=x:/run/onecred/credentials.sock: "],
        &[],
    );
    says(&unit("app.service", &[]), &[], &["app.service does not load db: "]);
    says(&unit("acme-x.service", &[]), &[], &[]);
}

#[test]
fn lines_that_are_ignored() {
    let ignored = |id: &str, text: &str| Ignored {
        place: "/f:1".into(),
        text: text.into(),
        id: id.into(),
        why: "why".into(),
        directive: Directive::Plain,
    };
    let with = |name: &str, line: Ignored| Unit { ignored: vec![line], ..unit(name, &[]) };
    let expected = "app.service: systemd ignores the line LoadCredential=db=/x (/f:1): why; write LoadCredential=db:/run/onecred/credential.sock, then: systemctl daemon-reload";
    says(&with("app.service", ignored("db", "LoadCredential=db=/x")), &[expected], &[]);
    let expected = "acme-x.service: systemd ignores the line LoadCredential=y=/run/onecred/x";
    says(&with("acme-x.service", ignored("y", "LoadCredential=y=/run/onecred/x")), &[expected], &[]);
    says(&with("acme-x.service", ignored("y", "LoadCredential=y=/x")), &[], &[]);
}

#[test]
fn units_that_cannot_ask() {
    let line = (Directive::Plain, "db", PLAIN, LeadsTo::PlainSocket);
    says(
        &unit("sock.socket", std::slice::from_ref(&line)),
        &["sock.socket: LoadCredential=db:/run/onecred/credential.sock: systemd ignores"],
        &[],
    );
    says(&unit("sock.socket", &[]), &[], &["sock.socket cannot get its credentials: systemd ignores"]);
    says(&unit("quiet.socket", &[]), &[], &[]);
    let broken = LoadState::Broken("bad-setting".into(), "x".into());
    says(&Unit { state: broken, ..unit("app.service", &[]) }, &["systemd could not load app.service"], &[]);
    says(&Unit { state: LoadState::Masked, ..unit("app.service", &[]) }, &[], &["app.service cannot get"]);
}

#[test]
fn environment_and_ordering() {
    let line = (Directive::Plain, "db", PLAIN, LeadsTo::PlainSocket);
    let path = "/run/credentials/app.service/db".to_owned();
    let file = EnvironmentFile { path, optional: false, found: EnvironmentFiles::Files };
    let with = Unit { environment: vec![file.clone()], ..unit("app.service", std::slice::from_ref(&line)) };
    says(&with, &["app.service: EnvironmentFile=/run/credentials/app.service/db is read before"], &[]);
    says(&Unit { environment: vec![file], ..unit("acme-x.service", &[]) }, &[], &[]);
    let early = Some(Early { target: "network-pre.target".into(), through: None, holds_onecred: false });
    let with = Unit { early, ..unit("app.service", &[line]) };
    says(&with, &["at boot app.service and the network, which 1Password needs, wait for each other"], &[]);
    let local = Prediction { needs_network: false, ..answer(PredictedAnswer::Value(None)) };
    assert_eq!(found(&with, &local, &[]), Findings::default());
}

#[test]
fn what_a_secret_lacks_is_reported_once() {
    let unit = unit("app.service", &[(Directive::Plain, "db", PLAIN, LeadsTo::PlainSocket)]);
    let refusal =
        answer(PredictedAnswer::Refusal("org.onecred.Error.NotFound".into(), "not found: x; y".into()));
    assert_eq!(found(&unit, &refusal, &["db"]), Findings::default());
    assert_eq!(
        found(&unit, &refusal, &[]).problems,
        ["app.service: LoadCredential=db:/run/onecred/credential.sock: not found: x; y"]
    );
    let denied = Prediction { reason: "not allowed: x".into(), ..Prediction::default() };
    assert_eq!(found(&unit, &denied, &[""]).problems.len(), 1);
    assert_eq!(found(&unit, &answer(PredictedAnswer::Unknown), &[]), Findings::default());
}
