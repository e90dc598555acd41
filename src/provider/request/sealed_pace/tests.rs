use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;
use std::process::{Child, Command};
use std::sync::Arc;

use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::*;
use crate::config::Paths;
use crate::host::sys;
use crate::provider::base::limits::Form;
use crate::provider::base::sealer;
use crate::provider::context::Context;
use crate::provider::fetch::broker::tests::Rig;
use crate::provider::request::attestation::Attestation;
use crate::provider::request::handler::Handler;
use crate::provider::request::listener::Listener;
use crate::provider::request::reply::REFUSED;
use crate::provider::store::Kind;

/// A test that takes longer than this hangs.
const HANGS: Duration = Duration::from_secs(30);

fn process(n: usize) -> ProcessId {
    ProcessId::testing(n as u64)
}

fn executor() -> Running {
    Running::testing("(app)")
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// All slots are taken: the first at second 0, the others at second 1.
fn full() -> Slots {
    let mut slots = Slots::default();
    for n in 0..SLOTS {
        assert!(slots.enter(process(n), executor(), at(u64::from(n > 0)), |_| panic!("nothing to look at")));
    }
    slots
}

fn sees(name: &str, served: bool) -> Sight {
    let running = (!name.is_empty()).then(|| Running::testing(name));
    Sight { running, served }
}

#[test]
fn a_slot_is_free_when_its_process_asks_for_its_next_credential() {
    let enters = |served| {
        let mut slots = full();
        slots.asks_again(process(3));
        slots.enter(process(100), executor(), at(1), |of| sees("(app)", served && of == process(3)))
    };
    assert!(enters(false));
    assert!(!enters(true), "systemd-creds has not ended yet");
    let mut slots = full();
    slots.asks_again(process(3));
    assert!(slots.enter(process(3), executor(), at(1), |_| panic!("it has a slot")), "it keeps it");
    assert!(!slots.enter(process(100), executor(), at(1), |_| sees("(app)", false)));
}

#[test]
fn a_slot_is_free_when_its_process_has_come_further() {
    for (why, first, last_is_served, now, enters) in [
        ("it has not come further", ("(app)", false), false, 1, false),
        ("systemd-creds serves it", ("(app)", true), false, 1, false),
        ("it has ended", ("", false), false, 1, true),
        ("it has ended, and systemd-creds has not", ("", true), false, 1, false),
        ("it has executed its program", ("app", false), false, 1, true),
        ("it has executed its program, and systemd-creds has not ended", ("app", true), false, 1, false),
        ("systemd-creds has served none of them yet", ("(app)", false), false, 14, false),
        ("that has lasted for too long", ("(app)", false), false, 15, true),
        ("another that came later is served, but it still has time", ("(app)", false), true, 4, false),
        ("another that came later is served, and its time is over", ("(app)", false), true, 5, true),
        ("it is still served", ("(app)", true), true, 14, false),
        ("it is served for too long", ("(app)", true), true, 15, true),
    ] {
        let mut slots = full();
        let look = |process| match process == self::process(0) {
            true => sees(first.0, first.1),
            // later slots are still within their time
            false => sees("(app)", last_is_served || now >= 15),
        };
        for slot in &mut slots.taken[1..] {
            slot.since = at(now);
        }
        assert_eq!(slots.enter(process(100), executor(), at(now), look), enters, "{why}");
        assert_eq!(slots.taken.len(), SLOTS, "{why}");
        let more = slots.enter(process(101), executor(), at(now), look);
        assert!(!more, "one slot was given twice: {why}");
    }
}

#[test]
fn an_id_that_is_another_process_now_frees_the_slot() {
    let mut slots = full();
    let look = |_| Sight { running: Some(Running { started: 1, ..executor() }), served: false };
    assert!(slots.enter(process(100), executor(), at(1), look));
}

#[test]
fn a_process_has_one_slot_for_all_that_it_asks_for() {
    let mut slots = full();
    let look = |_| sees("(app)", false);
    assert!(slots.enter(process(0), executor(), at(1), look));
    assert_eq!(slots.taken.len(), SLOTS);
    // each answer restarts its time
    assert!(slots.enter(process(0), executor(), at(14), look));
    assert!(slots.enter(process(100), executor(), at(16), look));
    assert!(slots.renew(process(0), at(16)));
}

#[test]
fn an_instance_is_named_after_its_caller() {
    for (name, pid) in [
        ("systemd-creds@13-7532-130_159882-0.service", Some(130)),
        ("systemd-creds@13-7532-130-0.service", Some(130)),
        ("systemd-creds@13-130-0.service", Some(130)),
        ("systemd-creds@by-hand.service", None),
        ("systemd-creds@.service", None),
        ("cgroup.procs", None),
    ] {
        assert_eq!(caller(name), pid, "{name}");
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("systemd-creds@1-2-3_4-0.service")).unwrap();
    std::fs::write(folder.path().join("cgroup.procs"), "").unwrap();
    assert_eq!(callers_of(folder.path()), [3]);
    assert!(callers_of(&folder.path().join("missing")).is_empty());
}

#[test]
fn a_helper_takes_no_slot_and_neither_does_a_process_that_has_ended() {
    assert_eq!(paced(ProcessId::of_pid(i32::MAX)), None);
    let own = paced(ProcessId::of_pid(std::process::id() as i32)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let helper = folder.path().join("(sd-mkdcreds)");
    std::fs::copy("/bin/sleep", &helper).unwrap();
    let child = Asker::of(&helper);
    // until the child has executed its program, it runs this one
    while child.id().running().unwrap().name == own.name {
        std::thread::yield_now();
    }
    assert!(child.id().running().unwrap().decrypts_by_itself());
    assert_eq!(paced(child.id()), None);
}

/// A process that asks and continues to run.
struct Asker(Child);

impl Asker {
    fn of(program: &Path) -> Self {
        Self(Command::new(program).arg("1000").spawn().unwrap())
    }

    fn id(&self) -> ProcessId {
        ProcessId::of_pid(self.0.id() as i32)
    }

    fn end(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A handler whose slots are all taken, by processes that keep them as long as possible.
struct Crowded {
    handler: Arc<Handler>,
    askers: Vec<Asker>,
    folder: tempfile::TempDir,
    _rig: Rig,
}

impl Crowded {
    async fn new(deadline: &str) -> Self {
        let rig = Rig::with_deadline(deadline);
        rig.script.fetch_gives(1, &[Ok(b"hunter2"), Ok(b"bob")]);
        let folder = tempfile::tempdir().unwrap();
        let attestation = Attestation { uid: nix::unistd::geteuid().as_raw(), trusting: true };
        let (config, broker) = (Arc::clone(&rig.config), Arc::clone(&rig.broker));
        let context = Context::new(
            config,
            Paths::default(),
            broker,
            sealer::tests::with_key(folder.path()),
            Kind::Anything,
        );
        let handler = Arc::new(Handler::new(Arc::new(context), attestation));
        for (name, form) in [("plain", Form::Plain), ("sealed", Form::Sealed)] {
            let socket = UnixListener::bind(folder.path().join(name)).unwrap();
            socket.set_nonblocking(true).unwrap();
            let listener = Listener::new(Arc::clone(&handler), 100);
            tokio::spawn(async move { listener.accept(socket.into(), form).await });
        }
        let crowded = Self { handler, askers: Vec::new(), folder, _rig: rig };
        assert_eq!(crowded.answer("plain").await, b"hunter2");
        let askers: Vec<Asker> = (0..SLOTS).map(|_| Asker::of(Path::new("/bin/sleep"))).collect();
        let own = Running::of_self();
        for asker in &askers {
            while asker.id().running().unwrap().name == own.name {
                tokio::task::yield_now().await;
            }
            assert!(crowded.handler.pace.try_enter(asker.id()));
        }
        Self { askers, ..crowded }
    }

    /// Asks as this process.
    fn ask(&self, socket: &str) -> UnixStream {
        static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let nonce =
            NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed) << 32 | u64::from(std::process::id());
        let address = format!("{nonce:x}/unit/app.service/pass");
        let address = SocketAddr::from_abstract_name(address).unwrap();
        let stream = std::os::unix::net::UnixStream::from(
            sys::connect_from(&address, &self.folder.path().join(socket)).unwrap(),
        );
        stream.set_nonblocking(true).unwrap();
        UnixStream::from_std(stream).unwrap()
    }

    async fn answer(&self, socket: &str) -> Vec<u8> {
        read(&mut self.ask(socket)).await
    }

    /// Asks at the sealed socket, and verifies that no answer arrives while the plain socket answers another
    /// request.
    async fn wait(&self) -> UnixStream {
        let mut waiting = self.ask("sealed");
        assert_eq!(self.answer("plain").await, b"hunter2");
        let early = timeout(4 * CHECK, waiting.read_u8()).await;
        assert!(early.is_err(), "an answer came although all slots are taken: {early:?}");
        waiting
    }
}

async fn read(stream: &mut UnixStream) -> Vec<u8> {
    let mut got = vec![0; 1 << 10];
    let mut len = 0;
    loop {
        match timeout(HANGS, stream.read(&mut got[len..])).await.expect("no answer came").unwrap() {
            0 => break,
            n => len += n,
        }
        if len == got.len() {
            break; // a refusal does not end
        }
    }
    got.truncate(len);
    got
}

fn is_sealed(answer: &[u8]) -> bool {
    !answer.is_empty() && answer.iter().all(|&byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte))
}

#[tokio::test]
async fn a_sealed_request_waits_for_a_slot_and_plain_ones_do_not() {
    let mut crowded = Crowded::new("60s").await;
    let mut waiting = crowded.wait().await;
    crowded.askers[3].end();
    assert!(is_sealed(&read(&mut waiting).await));
    // this process has a slot now
    assert!(is_sealed(&crowded.answer("sealed").await));
}

#[tokio::test]
async fn a_stop_refuses_those_that_wait_for_a_slot() {
    let crowded = Crowded::new("60s").await;
    let mut waiting = crowded.wait().await;
    crowded.handler.refuse_waiting();
    let answer = String::from_utf8(read(&mut waiting).await).unwrap();
    assert!(answer.starts_with(REFUSED) && answer.contains("was stopped"), "{answer}");
}

#[tokio::test]
async fn one_that_hangs_up_leaves_the_line() {
    let crowded = Crowded::new("60s").await;
    drop(crowded.wait().await);
    let _line = timeout(HANGS, crowded.handler.pace.line.lock()).await.expect("it still waits");
    let own = Running::of_self();
    assert!(
        crowded.handler.pace.slots(|slots| slots.taken.iter().all(|slot| slot.running != own)),
        "it got a slot"
    );
}

#[tokio::test]
async fn after_its_deadline_it_still_waits_for_a_slot() {
    let mut crowded = Crowded::new("1s").await;
    let mut waiting = crowded.wait().await;
    let beyond = timeout(Duration::from_millis(1500), waiting.read_u8()).await;
    assert!(beyond.is_err(), "it was answered without a slot: {beyond:?}");
    crowded.askers[3].end();
    assert!(is_sealed(&read(&mut waiting).await));
}
