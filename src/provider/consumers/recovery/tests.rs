use std::path::Path;

use tokio::time::timeout;

use super::*;
use crate::config::from_text;
use crate::domain::name::{CredentialId, UnitName};
use crate::domain::reference::Reference;
use crate::ipc::{Class, Failure};
use crate::provider::base::active_config::ActiveConfig;
use crate::provider::base::peer::Peer;
use crate::provider::base::process_id::ProcessId;
use crate::provider::base::seal_error::Unsealed;
use crate::provider::store::{Kind, testing, unanswered};

fn recovery(store: &Store, recover: bool) -> Recovery {
    let settings =
        from_text(Path::new("test.json"), &format!(r#"{{ "recover": {recover} }}"#)).unwrap().settings;
    let sealer = Arc::new(Sealer::new(Path::new("/nonexistent")));
    Recovery::new(CurrentConfig::new(ActiveConfig::new(settings)), sealer, store)
}

fn claim(unit: &str) -> Claim {
    Claim { unit: UnitName::parse(unit).unwrap(), credential: CredentialId::parse("db").unwrap() }
}

fn failed(class: Class) -> Refusal {
    let reference = Reference::parse("op://v/i/f").unwrap();
    Refusal::Failed { reference, failure: Failure::new(class, "cause", "remedy") }
}

/// Whether `notify` has been notified.
async fn is_notified(notify: &Notify) -> bool {
    timeout(Duration::from_secs(1), notify.notified()).await.is_ok()
}

#[tokio::test(start_paused = true)]
async fn units_are_noted_whose_refusal_can_end() {
    for (case, recover, refusal, expected) in [
        ("1Password does not answer", true, failed(Class::Away), Some(None)),
        ("onecred is being stopped", true, Refusal::Stopping, Some(None)),
        ("the token is not allowed to", true, failed(Class::Denied), Some(Some("denied"))),
        (
            "there is no host key",
            true,
            Refusal::Unsealed(Unsealed::NoKey("key".into())),
            Some(Some("unsealed")),
        ),
        ("the item does not exist", true, failed(Class::NotFound), None),
        ("recovery is switched off", false, failed(Class::Away), None),
    ] {
        let recovery = recovery(&Store::none(), recover);
        recovery.note(&claim("app.service"), &refusal);
        let noted = recovery.units().get("app.service").cloned();
        let correction = noted.as_ref().map(|unit| unit.awaits_correction.as_deref());
        assert_eq!(correction, expected, "{case}");
        if let Some(noted) = &noted {
            assert!(noted.since > BootTime::default() && !noted.why.is_empty(), "{case}: {noted:?}");
        }
        let credential = noted.as_ref().and_then(|unit| unit.credential.as_deref());
        assert_eq!(credential, expected.map(|_| "db"), "{case}");
        assert!(is_notified(&recovery.news).await, "{case}: the list is to be written");
        for notify in [&recovery.refused, &recovery.begun] {
            assert_eq!(is_notified(notify).await, expected.is_some(), "{case}");
        }
    }
}

#[test]
fn a_unit_that_is_refused_for_a_cause_that_stays_is_not_started_again() {
    let recovery = recovery(&Store::none(), true);
    recovery.note(&claim("app.service"), &failed(Class::Away));
    recovery.note(&claim("app.service"), &failed(Class::NotFound));
    assert_eq!(recovery.progress(), (0, 0));
}

#[test]
fn the_units_that_failed_for_a_refused_unit_are_noted_with_it() {
    let recovery = recovery(&Store::none(), true);
    // its first credential was answered, and systemd could not decrypt it
    let claim = claim("app.service");
    recovery.sealed.answered(&Peer { claim: claim.clone(), process: ProcessId::testing(1) });
    recovery.sealed.note_dependent("web.service".to_owned(), vec!["app.service".to_owned()]);
    recovery.note(&claim, &failed(Class::Away));
    let needs = recovery.units().get("web.service").map(|unit| unit.needs.clone());
    assert_eq!(needs, Some(["app.service".to_owned()].into()));
}

#[test]
fn progress_is_counted_for_one_outage() {
    let recovery = recovery(&Store::none(), true);
    recovery.started.store(5, Ordering::Relaxed);
    recovery.note(&claim("app.service"), &failed(Class::Away));
    assert_eq!(recovery.progress(), (1, 0), "the outage before is over");
    recovery.started.store(5, Ordering::Relaxed);
    recovery.note(&claim("web.service"), &failed(Class::Away));
    assert_eq!(recovery.progress(), (2, 5));
    assert!(recovery.will_start("web.service") && !recovery.will_start("other.service"));
}

#[test]
fn the_next_provider_continues_with_the_list() {
    let folder = testing::folder();
    let store = Store::open(folder.path(), Kind::Anything, 1 << 20).unwrap();
    let first = recovery(&store, true);
    first.note(&claim("app.service"), &failed(Class::Away));
    first.keep(&store);
    assert!(recovery(&store, true).will_start("app.service"));
    first.note(&claim("app.service"), &failed(Class::NotFound));
    first.keep(&store);
    assert!(!recovery(&store, true).will_start("app.service"));
}

#[test]
fn units_that_a_keeper_refused_are_in_the_list() {
    let folder = testing::folder();
    let store = Store::open(folder.path(), Kind::Anything, 1 << 20).unwrap();
    let request = |unit: &str| Unanswered {
        unit: unit.to_owned(),
        credential: "db".to_owned(),
        invocation: "1".to_owned(),
    };
    unanswered::write(folder.path(), 1, &[request("app.service")]).unwrap();
    assert!(!recovery(&store, false).will_start("app.service"), "recovery is switched off");
    assert!(!recovery(&store, true).will_start("app.service"), "the list was for the provider before");
    unanswered::write(folder.path(), 1, &[request("app.service")]).unwrap();
    let recovery = recovery(&store, true);
    recovery.note(&claim("web.service"), &failed(Class::Denied));
    unanswered::write(folder.path(), 2, &[request("late.service"), request("web.service")]).unwrap();
    recovery.take_unanswered(&store);
    let units = recovery.units();
    for unit in ["app.service", "late.service"] {
        let noted = units.get(unit).map(|unit| (unit.credential.as_deref(), unit.invocation.as_deref()));
        assert_eq!(noted, Some((Some("db"), Some("1"))), "{unit}");
        let noted = units.get(unit).map(|unit| (unit.since > BootTime::default(), unit.why.as_str()));
        assert_eq!(noted, Some((true, "onecred was killed before it had the value")), "{unit}");
    }
    let correction = units.get("web.service").and_then(|unit| unit.awaits_correction.as_deref());
    assert_eq!(correction, Some("denied"), "its cause was known");
}
