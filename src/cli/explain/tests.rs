use super::*;
use crate::cli::creds_socket::{Finding, Level};
use crate::cli::unit_lines::{Judgement, Prediction};

fn explained(effect: Effect, problems: &[&str], answer: PredictedAnswer) -> Explained {
    Explained {
        unit: UnitName::parse("app.service").unwrap(),
        prediction: Prediction {
            allowed: true,
            name: "db".into(),
            reference: "op://v/i/f".into(),
            reason: "secret db (/etc/onecred/secrets.json:3) names it".into(),
            answer,
            ..Prediction::default()
        },
        judgement: Judgement {
            effect,
            asks: "LoadCredential=db:/x".into(),
            problems: problems.iter().map(|problem| (*problem).to_owned()).collect(),
            notes: Vec::new(),
        },
    }
}

fn shown(explained: Explained) -> (bool, String) {
    let decision = decide(explained, &CredentialId::parse("db").unwrap());
    (decision.gets, lines(&decision, Paint::NONE))
}

const ROWS: &str = "\
secret     db
reference  op://v/i/f
because    secret db (/etc/onecred/secrets.json:3) names it
asks       LoadCredential=db:/x
";

#[test]
fn a_unit_that_gets_it() {
    let mut it = explained(Effect::Gets, &[], PredictedAnswer::Value(None));
    assert_eq!(
        shown(explained(Effect::Gets, &[], PredictedAnswer::Value(None))),
        (true, format!("app.service gets db\n{ROWS}"))
    );
    it.prediction.overrides = vec!["db (put)".into()];
    it.judgement.notes = vec!["n".into()];
    let more = "override   db (put); remove it: onecred release db\nnote       n\n";
    assert_eq!(shown(it), (true, format!("app.service gets db\n{ROWS}{more}")));
}

#[test]
fn every_other_effect_is_a_failure() {
    let refusal = PredictedAnswer::Refusal("org.onecred.Error.NotFound".into(), "not found: x; do y".into());
    for (effect, answer, headline) in [
        (Effect::Fails, refusal, "app.service does not start: db is not available"),
        (Effect::Fails, PredictedAnswer::Value(None), "app.service does not start with db"),
        (Effect::Without, PredictedAnswer::Value(None), "app.service starts without db"),
        (
            Effect::Other,
            PredictedAnswer::Value(None),
            "app.service starts, but not with onecred's value for db",
        ),
        (
            Effect::Unknown,
            PredictedAnswer::Unknown,
            "app.service is allowed to load db, but whether a start would succeed is unknown",
        ),
    ] {
        let (gets, text) = shown(explained(effect, &["p; do q"], answer));
        assert_eq!((gets, text), (false, format!("{headline}\n{ROWS}problem    p; do q\n")));
    }
}

#[test]
fn what_is_wrong_with_the_socket_for_decryption() {
    let with = |level| {
        let mut it = explained(Effect::Gets, &[], PredictedAnswer::Value(None));
        it.add(Finding { level, message: "w".into() });
        shown(it)
    };
    assert_eq!(with(Level::Warning), (true, format!("app.service gets db\n{ROWS}note       w\n")));
    let fails = format!("app.service does not start with db\n{ROWS}problem    w\n");
    assert_eq!(with(Level::Error), (false, fails));
}

#[test]
fn a_refusal_is_told_once() {
    let mut it = explained(
        Effect::Fails,
        &["not allowed: x; do y", "because of its line L: z"],
        PredictedAnswer::Unknown,
    );
    it.prediction = Prediction { reason: "not allowed: x; do y".into(), ..Prediction::default() };
    let expected = "\
app.service is refused db
because  not allowed: x; do y
asks     LoadCredential=db:/x
problem  because of its line L: z
";
    assert_eq!(shown(it), (false, expected.to_owned()));
}
