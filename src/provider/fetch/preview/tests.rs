use super::*;
use crate::config::from_text;
use crate::domain::reference::Reference;
use crate::provider::base::active_config::ActiveConfig;
use crate::provider::fetch::broker::tests::Rig;
use crate::provider::store::testing;

/// Secrets, a template and a rule for one item with these values of `password` and `username`.
async fn rig(password: &[u8], username: &[u8]) -> Rig {
    let rig = Rig::with_store("1h", 16 << 20);
    let text = r#"{ "source": { "kind": "connect", "url": "https://one" }, "defaults": { "maxAge": "1h" },
        "secrets": [ { "name": "pass", "reference": "op://v/i/password", "units": ["app"] },
                     { "name": "user", "reference": "op://v/i/username" } ],
        "templates": [ { "name": "app.env", "content": "P={{pass}}\nU={{user}}", "units": ["app"] },
                       { "name": "conf", "content": "P={{pass}}\nU={{user}}", "units": ["app"] } ],
        "rules": [ { "units": ["web@*"], "credentials": ["*"], "reference": "op://v/i/password" } ] }"#;
    rig.broker
        .activate(ActiveConfig::new(from_text(std::path::Path::new("test.json"), text).unwrap().settings));
    rig.script.fetch_gives(1, &[Ok(password), Ok(username)]);
    let _ = rig.broker.try_once(&rig.config.get().secret("pass").unwrap().wanted, &Asker::Onecred).await;
    rig
}

fn preview(rig: &Rig, unit: &str, id: &str, form: Form) -> (SecretState, Option<Kind>, String) {
    let (unit, id) =
        (crate::domain::name::UnitName::parse_lenient(unit).unwrap(), CredentialId::parse(id).unwrap());
    let what = rig.config.get().settings.policy.judge(&unit, &id).unwrap();
    let Preview { state, refusal, .. } = of(&rig.broker, &what, form, &[id]);
    let text = refusal.as_ref().map(|why| why.text.clone()).unwrap_or_default();
    (state, refusal.map(|why| why.kind), text)
}

#[tokio::test(start_paused = true)]
async fn secrets_templates_and_rules_are_judged_as_a_request_would_be() {
    use Form::{Plain, Sealed};
    let large = vec![b'v'; 900_000];
    let huge = vec![b'v'; 1_048_570];
    let (empty, good, dollar) = (&b""[..], &b"hunter2"[..], &b"a\0b"[..]);
    for (password, unit, id, form, kind, words) in [
        (good, "app", "pass", Sealed, None, ""),
        (good, "app", "app.env", Sealed, None, ""),
        (empty, "app", "pass", Plain, Some(Kind::Empty), "op://v/i/password: empty: the field is empty"),
        (empty, "web@1", "x", Plain, Some(Kind::Empty), "op://v/i/password: empty"),
        (empty, "app", "app.env", Plain, Some(Kind::Empty), "template app.env: op://v/i/password: empty"),
        (&large, "app", "pass", Plain, None, ""),
        (&large, "app", "pass", Sealed, Some(Kind::TooLarge), "900000 bytes"),
        (&large, "web@1", "x", Sealed, Some(Kind::TooLarge), "too large for the sealed socket"),
        (&large, "app", "conf", Plain, None, ""),
        (
            &large,
            "app",
            "conf",
            Sealed,
            Some(Kind::TooLarge),
            "template conf: the whole: too large for the sealed",
        ),
        (&huge, "app", "pass", Plain, None, ""),
        (
            &huge,
            "app",
            "conf",
            Plain,
            Some(Kind::TooLarge),
            "template conf: the whole: too large: the value has",
        ),
        (dollar, "app", "pass", Plain, None, ""),
        (
            dollar,
            "app",
            "app.env",
            Plain,
            Some(Kind::Unfit),
            "op://v/i/password: the value can't be used in this template",
        ),
    ] {
        let rig = rig(password, b"bob").await;
        let (state, found, text) = preview(&rig, unit, id, form);
        assert_eq!(found, kind, "{} bytes for {unit} {id} {form:?}: {text}", password.len());
        assert!(text.contains(words), "{words:?} is not in {text:?}");
        assert_eq!(state == SecretState::Failing, kind.is_some(), "{unit} {id} {form:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_template_is_as_its_worst_part() {
    let rig = rig(b"hunter2", b"bob").await;
    assert_eq!(preview(&rig, "app", "app.env", Form::Plain).0, SecretState::Fresh);
    let place = (&testing::key("i"), &Reference::parse("op://v/i/username").unwrap().field);
    let value = crate::domain::secret::SecretValue::new(b"eve".to_vec());
    rig.broker.store().hold("user", crate::provider::store::Origin::Put, place, 0, value).unwrap();
    assert_eq!(preview(&rig, "app", "app.env", Form::Plain).0, SecretState::Held);
    rig.broker.store().remove(&testing::key("i"));
    assert_eq!(
        preview(&rig, "app", "app.env", Form::Plain),
        (SecretState::NeverFetched, None, String::new())
    );
    let _ = rig.broker.try_once(&rig.config.get().secret("pass").unwrap().wanted, &Asker::Onecred).await;
    assert_eq!(preview(&rig, "app", "app.env", Form::Plain).1, Some(Kind::Failed(Class::Away)));
}
