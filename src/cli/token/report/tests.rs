//! Tests of the text about a token.

use super::*;
use crate::cli::token::Where;
use crate::ipc::Spent;

fn shown(now: u64, probed: &Probed) -> (String, String) {
    let config = tempfile::tempdir().unwrap();
    let place = Where {
        source: None,
        config: config.path().into(),
        socket: "/nonexistent".into(),
        development: false,
    };
    let chosen = Chosen::find(&place).unwrap();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    show_at(now, &chosen, probed, &mut out, &mut err).unwrap();
    (String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

#[test]
fn what_is_unknown_is_said_to_be_so() {
    let vault = |name: &str, items| ProbedVault { name: name.into(), id: "id".into(), items };
    let vaults = vec![vault("Servers", Some(12)), vault("Infra", Some(1)), vault("Other", None)];
    let probed = Probed { at: "my.1password.com".into(), vaults, ..Probed::default() };
    let (out, err) = shown(0, &probed);
    assert_eq!(
        out,
        "source   default (service account)\nat       my.1password.com\n\
         vaults   Infra (1 item), Other, Servers (12 items)\nwrites   unknown\nexpires  unknown\n"
    );
    assert_eq!(err, "");
    let spent = Some(Spent { hour: 6, day: 40, budget: 800 });
    let known = Probed { writes: Some(true), expires: Some(1_790_208_000), spent, ..probed };
    let (out, err) = shown(1_790_208_000 - 20 * 86_400, &known);
    assert!(out.contains("writes   yes\nexpires  2026-09-24, in 20 days\n"), "{out}");
    assert!(out.ends_with("calls    6 in the last hour, 40 in the last day; 760 of 800 left\n"), "{out}");
    assert_eq!(err.lines().count(), 1, "{err}");
    let (out, err) = shown(1_790_208_000 - 3_600, &known);
    assert!(out.contains("in 1 hours") && err.contains("the token expires soon"), "{out}{err}");
    assert!(shown(1_790_208_001, &known).0.contains("which is past"));
}
