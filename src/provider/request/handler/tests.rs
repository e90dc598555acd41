//! Tests of waiting requests: how long they wait, and what happens to them in the meantime.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;

use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use super::*;
use crate::config::{Paths, from_text};
use crate::domain::name::{Claim, CredentialId, UnitName};
use crate::host::sys;
use crate::provider::base::active_config::ActiveConfig;
use crate::provider::base::process_id::ProcessId;
use crate::provider::base::sealer::Sealer;
use crate::provider::fetch::broker::tests::{Rig, away};
use crate::provider::request::listener::Listener;
use crate::provider::store::Kind;

/// A test that takes longer than this hangs.
const HANGS: Duration = Duration::from_secs(30);

fn handler(rig: &Rig, key: &Path) -> Arc<Handler> {
    let (config, broker) = (Arc::clone(&rig.config), Arc::clone(&rig.broker));
    let context = Context::new(config, Paths::default(), broker, Sealer::new(key), Kind::Anything);
    let attestation = Attestation { uid: nix::unistd::geteuid().as_raw(), trusting: true };
    Arc::new(Handler::new(Arc::new(context), attestation))
}

fn request(handler: &Handler, form: Form) -> Request {
    let unit = UnitName::parse("app.service").unwrap();
    let claim = Claim { unit, credential: CredentialId::parse("pass").unwrap() };
    let peer = Peer { claim, process: ProcessId::testing(1) };
    let what = handler.authorise(&peer).unwrap();
    let job = Job { what, process: peer.process, arrived: BootTime::now(), asker: Asker::Onecred };
    Request { peer, job, form, began: Instant::now() }
}

#[tokio::test(start_paused = true)]
async fn the_key_and_the_value_are_waited_for_at_the_same_time() {
    for deadline in [1, 30] {
        let rig = Rig::with_deadline(&format!("{deadline}s"));
        // the directory of the key is never mounted, and the source never answers
        let handler = handler(&rig, Path::new("/nonexistent/folder/key"));
        let request = request(&handler, Form::Sealed);
        let result = timeout(HANGS * 2, handler.wait(&request)).await.expect("it waits forever");
        assert!(matches!(result, Err(Refusal::Failed { .. })), "{result:?}");
        assert_eq!(request.began.elapsed(), Duration::from_secs(deadline));
    }
}

#[tokio::test(start_paused = true)]
async fn the_wait_for_what_is_lacking_counts() {
    let rig = Rig::with_deadline("30s");
    let handler = handler(&rig, Path::new("/nonexistent/folder/key"));
    let _all = handler.send_budget.wait(usize::MAX).await;
    let request = request(&handler, Form::Plain);
    let lack = Some(Lack::Memory { size: 900 << 10 });
    let mut taken = None;
    let wait = timeout(HANGS * 2, handler.wait_for_all(&request, lack, &mut taken));
    let result = wait.await.expect("it waits forever");
    assert!(matches!(result, Err(Refusal::Crowded { .. })), "{result:?}");
    assert_eq!(request.began.elapsed(), Duration::from_secs(30));
    // the value that it was waiting for has been removed from the store
    let wait = timeout(HANGS * 2, handler.wait_for_all(&request, Some(Lack::Slot), &mut taken));
    let result = wait.await.expect("it waits forever");
    assert!(matches!(result, Err(Refusal::Failed { .. })), "{result:?}");
    assert_eq!(request.began.elapsed(), Duration::from_secs(30));
    // one that has waited for a slot beyond its deadline
    let wait = timeout(HANGS * 2, handler.wait_for_all(&request, lack, &mut taken));
    let result = wait.await.expect("it waits forever");
    assert!(matches!(result, Err(Refusal::Crowded { .. })), "{result:?}");
    assert_eq!(request.began.elapsed(), Duration::from_secs(30) + PATIENT_FOR);
}

/// A socket at which this process asks as `app.service`.
struct Asked {
    listener: Arc<Listener>,
    accepting: JoinHandle<std::io::Result<()>>,
    folder: tempfile::TempDir,
}

impl Asked {
    fn of(handler: &Arc<Handler>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = UnixListener::bind(folder.path().join("plain")).unwrap();
        socket.set_nonblocking(true).unwrap();
        let listener = Arc::new(Listener::new(Arc::clone(handler), 10));
        let it = Arc::clone(&listener);
        let accepting = tokio::spawn(async move { it.accept(socket.into(), Form::Plain).await });
        Self { listener, accepting, folder }
    }

    fn ask(&self) -> UnixStream {
        let address = format!("{:x}/unit/app.service/pass", fastrand::u64(..));
        let address = SocketAddr::from_abstract_name(address).unwrap();
        let stream = sys::connect_from(&address, &self.folder.path().join("plain")).unwrap();
        let stream = std::os::unix::net::UnixStream::from(stream);
        stream.set_nonblocking(true).unwrap();
        UnixStream::from_std(stream).unwrap()
    }
}

/// The answer, or the beginning of a refusal.
async fn read(mut stream: UnixStream) -> String {
    let mut got = vec![0; 1 << 10];
    let mut len = 0;
    while len < got.len() {
        match timeout(HANGS, stream.read(&mut got[len..])).await.expect("no answer came").unwrap() {
            0 => break,
            n => len += n,
        }
    }
    String::from_utf8_lossy(&got[..len]).into_owned()
}

#[tokio::test]
async fn what_counts_is_the_configuration_at_the_end_of_the_wait() {
    let config = |secrets: &str| {
        let text = format!(
            r#"{{ "source": {{ "kind": "connect", "url": "https://one" }}, "secrets": [ {secrets} ] }}"#
        );
        ActiveConfig::new(from_text(Path::new("test.json"), &text).unwrap().settings)
    };
    let withdrawn = r#"{ "name": "pass", "reference": "op://v/i/password", "units": ["other"] }"#;
    let other = r#"{ "name": "pass", "reference": "op://v/other/password", "units": ["app"] }"#;
    for (case, secrets, expected) in [
        ("a grant is withdrawn", withdrawn, "onecred: refused: "),
        ("the definition changes", other, "of the other item"),
    ] {
        let rig = Rig::with_deadline("30s");
        let asked = Asked::of(&handler(&rig, Path::new("/nonexistent/folder/key")));
        // the first attempt fails, and the next one returns a value
        rig.script.then(Err(away()));
        rig.script.fetch_gives(1, &[Ok(b"of the first item"), Ok(b"bob")]);
        rig.script.fetch_gives(1, &[Ok(b"of the other item")]);
        let stream = asked.ask();
        rig.script.until_asked().await;
        rig.broker.activate(config(secrets));
        let answer = read(stream).await;
        assert!(answer.starts_with(expected), "{case}: {answer}");
    }
}

#[tokio::test]
async fn a_caller_that_hangs_up_gives_its_place_back() {
    let rig = Rig::with_deadline("10m");
    let asked = Asked::of(&handler(&rig, Path::new("/nonexistent/folder/key")));
    let stream = asked.ask();
    rig.script.until_asked().await;
    asked.accepting.abort(); // it has already taken a place for the next peer
    drop(stream);
    timeout(HANGS, asked.listener.idle()).await.expect("its place is not free");
}
