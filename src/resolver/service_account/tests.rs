//! Tests with fake libraries, built by the C compiler: whatever a library does, the resolver survives and
//! reports what is wrong.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::token::tests::token;
use super::*;
use crate::domain::name::SourceName;
use crate::domain::reference::Reference;
use crate::ipc::ItemState;

const SOURCE: &str = include_str!("../../../integration/fixtures/counterfeit-core.c");
/// The environment variable that makes this test binary a worker.
const WORKER: &str = "ONECRED_TEST_WORKER";

/// Not a test: the entry point of the workers, for which other tests start this binary.
#[test]
fn as_a_worker() {
    if std::env::var_os(WORKER).is_some() {
        worker::run().unwrap();
        std::process::exit(0);
    }
}

fn launch() -> Launch {
    Launch {
        program: "/proc/self/exe".into(),
        arguments: ["--exact", "resolver::service_account::tests::as_a_worker"].map(OsString::from).into(),
        environment: vec![(WORKER.into(), "1".into())],
        hang: Duration::from_millis(1_500),
        silence: Duration::from_secs(60),
    }
}

/// Builds a fake library with these macros.
fn counterfeit(folder: &Path, macros: &[&str]) -> PathBuf {
    let library = folder.join(LIBRARY);
    let (source, output) = (folder.join("core.c"), library.as_os_str());
    std::fs::write(&source, SOURCE).unwrap();
    let cc = Command::new("cc")
        .args(["-shared", "-fPIC", "-w", "-o"])
        .arg(output)
        .args(macros)
        .arg(&source)
        .status();
    assert!(cc.expect("these tests need a C compiler, cc").success());
    std::fs::set_permissions(&library, std::fs::Permissions::from_mode(0o755)).unwrap();
    library
}

fn account(library: &Path, launch: Launch) -> ServiceAccount {
    let configured = Configured { library: Some(library.into()), ..Configured::default() };
    configured_account(&configured, launch).unwrap_or_else(|failure| panic!("{failure}"))
}

fn configured_account(configured: &Configured, launch: Launch) -> Result<ServiceAccount, Failure> {
    let leniency = Leniency { owner: Some(nix::unistd::geteuid().as_raw()), ..Leniency::default() };
    let surroundings = Surroundings { leniency, ..Surroundings::default() };
    ServiceAccount::with(
        "test",
        configured,
        &token("https://my.1password.com"),
        &surroundings,
        Arc::default(),
        launch,
    )
}

fn fetch(patience: Duration) -> Fetch {
    let reference = Reference::parse("op://v/i/password").unwrap();
    let source = SourceName::parse("test").unwrap();
    Fetch {
        source,
        print: String::new(),
        definition: None,
        item: reference.item,
        known: None,
        version: None,
        fields: vec![reference.field],
        look_again: None,
        asker: Default::default(),
        patience,
    }
}

async fn failure(account: &ServiceAccount, patience: Duration) -> Failure {
    account.fetch(fetch(patience)).await.unwrap_err()
}

#[tokio::test]
async fn a_value_comes_by_the_abi() {
    let folder = tempfile::tempdir().unwrap();
    let account = account(&counterfeit(folder.path(), &[]), launch());
    let fetched =
        account.fetch(fetch(Duration::from_secs(10))).await.unwrap_or_else(|failure| panic!("{failure}"));
    let value = fetched.fields.into_iter().next().unwrap().unwrap();
    assert_eq!(value.value.expose(), b"hunter2");
    assert_eq!(fetched.vault_version, Some(7));
    let known = crate::ipc::Known {
        item: fetch(Duration::ZERO).item,
        id: fetched.id,
        version: fetched.version,
        vault_version: Some(6), // so that the item itself is fetched
    };
    let check = Check {
        print: String::new(),
        definition: None,
        source: SourceName::parse("test").unwrap(),
        items: vec![known],
        asker: Default::default(),
        patience: Duration::from_secs(10),
    };
    let checked = account.check(check).await.unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(checked.items, [ItemState::Unchanged { vault_version: Some(7) }]);
}

#[tokio::test]
async fn another_library_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    for (macros, words) in [
        (["-DCONTRACT=24"], "contract version is 24"),
        (["-DCHECKSUM=1"], "checksum of its invoke is 1"),
        (["-DMISSING"], "no function uniffi_op_uniffi_core_fn_func_invoke"),
    ] {
        let failure = failure(&account(&counterfeit(path, &macros), launch()), Duration::from_secs(10)).await;
        assert_eq!(failure.class, Class::Misconfigured, "{failure}");
        assert!(failure.cause.contains(words), "{failure}");
    }
    let library = path.join(LIBRARY);
    let write = |content: &[u8]| std::fs::write(&library, content).unwrap();
    let refused = |words: &'static str| {
        let library = library.clone();
        async move {
            let failure = failure(&account(&library, launch()), Duration::from_secs(10)).await;
            assert!(failure.cause.contains(words), "{failure}");
        }
    };
    write(b"#!/bin/sh\nexit 0 # it is a script\n");
    refused("not an ELF file").await;
    write(b"\x7fELF");
    refused("too short").await;
    write(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0\xb7\0 for another machine");
    refused(if cfg!(target_arch = "aarch64") { "not a library" } else { "ELF machine 183" }).await;
    let good = counterfeit(path, &[]);
    std::fs::set_permissions(&good, std::fs::Permissions::from_mode(0o775)).unwrap();
    refused("its mode is 0775").await;
    std::fs::remove_file(&library).unwrap();
    refused("not installed").await;
}

#[tokio::test]
async fn a_pin_holds() {
    let folder = tempfile::tempdir().unwrap();
    let library = counterfeit(folder.path(), &[]);
    let sum = ring::digest::digest(&ring::digest::SHA256, &std::fs::read(&library).unwrap());
    let sum: String = sum.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let mut configured =
        Configured { library: Some(library), library_sha256: Some(sum), ..Configured::default() };
    let account = configured_account(&configured, launch()).unwrap_or_else(|failure| panic!("{failure}"));
    assert!(account.fetch(fetch(Duration::from_secs(10))).await.is_ok());
    configured.library_sha256 = Some("00".repeat(32));
    let account = configured_account(&configured, launch()).unwrap_or_else(|failure| panic!("{failure}"));
    let failure = failure(&account, Duration::from_secs(10)).await;
    assert!(failure.cause.contains("its SHA-256 is"), "{failure}");
}

#[tokio::test]
async fn a_core_that_crashes_costs_a_request_its_time_alone() {
    let folder = tempfile::tempdir().unwrap();
    for (flag, words) in [("-DSEGFAULT", "SIGSEGV"), ("-DABORT", "SIGABRT"), ("-DPANIC", "panicked")] {
        let account = account(&counterfeit(folder.path(), &[flag]), launch());
        let failure = failure(&account, Duration::from_secs(5)).await;
        assert_eq!(failure.class, Class::Away, "{failure}");
        assert!(failure.cause.contains(words) && !failure.cause.contains("hunter2"), "{failure}");
    }
}

#[tokio::test]
async fn after_a_crash_the_next_worker_answers() {
    let folder = tempfile::tempdir().unwrap();
    let mark = format!("-DONCE=\"{}\"", folder.path().join("mark").display());
    let account = account(&counterfeit(folder.path(), &[&mark]), launch());
    let fetched = account.fetch(fetch(Duration::from_secs(10))).await;
    assert!(fetched.is_ok(), "{:?}", fetched.err());
    assert!(folder.path().join("mark").exists(), "it has crashed");
}

#[tokio::test]
async fn a_core_that_hangs_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let account = account(&counterfeit(folder.path(), &["-DSLEEP"]), launch());
    let begun = Instant::now();
    let slow = failure(&account, Duration::from_secs(1)).await;
    assert_eq!(slow.class, Class::Away, "{slow}");
    assert!(begun.elapsed() < Duration::from_secs(2), "whoever asks is not kept longer than wanted");
    let killed = failure(&account, Duration::from_secs(8)).await;
    assert!(killed.cause.contains("was killed"), "{killed}");
}

#[tokio::test]
async fn a_core_that_hangs_while_nobody_waits_is_replaced_for_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let mark = format!("-DHANG_ONCE=\"{}\"", folder.path().join("mark").display());
    let launch = Launch { hang: Duration::from_secs(60), silence: Duration::from_millis(100), ..launch() };
    let account = account(&counterfeit(folder.path(), &[&mark]), launch);
    let slow = failure(&account, Duration::from_millis(300)).await;
    assert_eq!(slow.class, Class::Away, "{slow}");
    let fetched = account.fetch(fetch(Duration::from_secs(20))).await;
    assert!(fetched.is_ok(), "the next one does not wait for the first: {:?}", fetched.err());
}

#[tokio::test]
async fn a_denied_token_is_not_tried_again_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let said =
        r#"-DLOGIN="{\"name\":\"Auth\",\"message\":\"authentication error: you are not authenticated\"}""#;
    let account = account(&counterfeit(folder.path(), &[said]), launch());
    let denied = failure(&account, Duration::from_secs(10)).await;
    assert_eq!(denied.class, Class::Denied, "{denied}");
    assert!(denied.remedy.contains("onecred token set"), "{denied}");
    let again = failure(&account, Duration::from_secs(10)).await;
    assert!(again.retry_after.is_some_and(|wait| wait > Duration::from_secs(5)), "{again:?}");
}

#[test]
fn a_core_is_tried_out_before_it_is_installed() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let tried = |macros: &[&str]| {
        let library = counterfeit(folder.path(), macros);
        let sha256 = install::sum(&std::fs::read(&library).unwrap()).unwrap().sha256;
        install::try_out_by(&library, &sha256, launch())
    };
    tried(&[]).unwrap();
    if nix::unistd::geteuid().is_root() {
        tried(&["-DNOBODY_AT_LOAD"]).unwrap();
    }
    for (wrong, words) in [
        ("-DCONTRACT=24", "contract version is 24"),
        ("-DCHECKSUM=1", "checksum"),
        ("-DCRASH_AT_LOAD", "ended by"),
    ] {
        match tried(&[wrong]) {
            Err(install::Trial::Refused(why)) => assert!(why.contains(words), "{wrong}: {why}"),
            other => panic!("{wrong}: {other:?}"),
        }
    }
    let library = counterfeit(folder.path(), &[]);
    assert!(
        matches!(install::try_out_by(&library, "00", launch()), Err(install::Trial::Refused(_))),
        "another file"
    );
    assert_eq!(install::sum(b"#!/bin/sh\n# long enough for a header"), Err("it is not an ELF file".into()));
}

#[test]
fn a_library_that_others_could_replace_is_not_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let library = counterfeit(folder.path(), &[]);
    let owner = Some(nix::unistd::geteuid().as_raw());
    let mode = |mode| std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(mode)).unwrap();
    let refused = |path: &Path| sdk::Fit::open(path, owner, None).err().map(|unfit| unfit.to_string());
    for fine in [0o700, 0o755, 0o1777] {
        mode(fine);
        assert_eq!(refused(&library), None, "{fine:o}");
    }
    // a symbolic link elsewhere does not hide its location
    let elsewhere = tempfile::tempdir().unwrap();
    let link = elsewhere.path().join("link.so");
    std::os::unix::fs::symlink(&library, &link).unwrap();
    mode(0o775);
    for path in [&library, &link] {
        let why = refused(path).unwrap();
        assert!(why.contains(folder.path().to_str().unwrap()) && why.contains("the mode is 0775"), "{why}");
    }
}

#[test]
fn a_token_that_goes_elsewhere_is_refused() {
    let surroundings = Surroundings::default();
    let account = |address: &str| {
        ServiceAccount::new("test", &Configured::default(), &token(address), &surroundings, Arc::default())
            .err()
            .map(|f| f.cause)
    };
    assert!(account("https://evil.example").is_some_and(|cause| cause.contains("evil.example")));
    assert!(account("http://127.0.0.1:80").is_some());
}
