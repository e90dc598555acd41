//! Tests of fields that an item lacks: what they cost, and when they are looked up again.

use super::tests::{Rig, fresh, gone, settings};
use super::*;
use crate::config::from_text;
use crate::domain::reference::Reference;
use crate::ipc::ItemState;

#[tokio::test(start_paused = true)]
async fn a_missing_field_is_refused_without_a_call_until_its_pause_ends() {
    let rig = Rig::new("1h");
    rig.script.fetch_gives(1, &[Ok(b"hunter2"), Err(gone())]);
    assert_eq!(rig.get(1, "user").await, Err(gone()));
    rig.script.asked();
    for process in 2..20 {
        let failure = rig.get(process, "user").await.unwrap_err();
        assert!(
            failure.retry_after.is_some() && failure.remedy.contains("onecred refresh user"),
            "{failure}"
        );
    }
    assert_eq!(rig.get(20, "pass").await, fresh("hunter2"));
    assert_eq!(rig.script.asked(), [""; 0]);
    crate::host::clock::simulated::pass(Duration::from_secs(5));
    rig.script.fetch_gives(1, &[Ok(b"hunter2"), Ok(b"bob")]);
    assert_eq!(rig.get(21, "user").await, fresh("bob"));
}

/// Three things end the pause of a missing field: an administrator's request, a reload, and another version
/// of the item.
#[tokio::test(start_paused = true)]
async fn a_missing_field_is_looked_up_at_once_for_an_administrator_and_after_a_reload() {
    let rig = Rig::new("1h");
    let wanted = rig.config.get().secret("user").unwrap().wanted.clone();
    let lacks_user = || rig.script.fetch_gives(1, &[Ok(b"hunter2"), Err(gone())]);
    lacks_user();
    assert_eq!(rig.get(1, "user").await, Err(gone()));
    let refresh = async |asker: Asker| {
        rig.broker.refresh(&wanted, Thoroughness::Values, rig.broker.ask(&wanted), &asker).await
    };
    rig.script.asked();
    assert_eq!(refresh(Asker::BusUser(1000)).await.unwrap_err().class, Class::NotFound);
    assert_eq!(rig.script.asked(), [""; 0]);
    lacks_user();
    assert_eq!(refresh(Asker::Admin).await, Err(gone()));
    rig.broker.activate(ActiveConfig::new(settings("1h", "one")));
    lacks_user();
    assert_eq!(rig.get(2, "user").await, Err(gone()));
    assert_eq!(rig.script.asked().len(), 2);
    rig.script.check_gives(Ok(ItemState::Changed));
    let source = SourceName::default_source();
    rig.broker.checked(&source, Instant::now() + Duration::from_secs(9), &Asker::Onecred).await.unwrap();
    rig.script.fetch_gives(2, &[Ok(b"hunter2"), Ok(b"bob")]);
    assert_eq!(rig.get(3, "user").await, fresh("bob"));
}

/// A rule may give a unit any number of fields that its item lacks.
#[tokio::test(start_paused = true)]
async fn a_field_that_nothing_configures_is_not_kept_if_it_fails_and_stays_refused() {
    let rig = Rig::new("1h");
    let configured = rig.config.get().secret("user").unwrap().wanted.clone();
    let get = async |field: &str| {
        let reference = Reference::parse(&format!("op://v/i/{field}")).unwrap();
        let wanted = Arc::new(Wanted { reference, label: field.to_owned(), ..configured.clone() });
        let order =
            Order { wanted, process: ProcessId::nobody(), arrived: BootTime::now(), asker: Asker::Onecred };
        rig.broker.get(&order).await.map(drop)
    };
    for field in ["invented", "other"] {
        rig.script.fetch_gives(1, &[Ok(b"hunter2"), Ok(b"bob"), Err(gone())]);
        assert_eq!(get(field).await, Err(gone()));
        assert_eq!(rig.script.asked(), [format!("fetch i password,username,{field}")]);
    }
    crate::host::clock::simulated::pass(Duration::from_secs(1));
    let failure = get("invented").await.unwrap_err();
    assert!(failure.class == gone().class && failure.retry_after.is_some(), "{failure}");
    assert_eq!(rig.script.asked(), [""; 0]);
}

/// A vault file costs nothing, so it is read each time.
#[tokio::test(start_paused = true)]
async fn a_field_that_a_vault_file_lacks_is_not_remembered() {
    let text = r#"{ "source": { "kind": "file", "path": "/v.json" }, "defaults": { "maxAge": "1h" },
        "secrets": [ { "name": "pass", "reference": "op://v/i/password", "units": ["app"] } ] }"#;
    let rig = Rig::of(from_text(std::path::Path::new("test.json"), text).unwrap().settings);
    rig.script.fetch_gives(1, &[Err(gone())]);
    assert_eq!(rig.get(1, "pass").await, Err(gone()));
    rig.script.fetch_gives(1, &[Ok(b"hunter2")]);
    assert_eq!(rig.get(2, "pass").await, fresh("hunter2"));
}
