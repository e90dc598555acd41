//! Tests the provider against a resolver that sends arbitrary answers.

use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{Backlog, ControlMessage, MsgFlags, bind, listen, sendmsg};
use serde_json::{Value, json};

use super::*;
use crate::domain::name::SourceName;
use crate::domain::reference::Reference;

/// A resolver that gives the same answer to every question.
struct Liar {
    folder: tempfile::TempDir,
    /// The outcome of each connection on the resolver's side.
    said: Receiver<io::Result<()>>,
}

impl Liar {
    fn new(say: impl Fn(BorrowedFd<'_>) -> io::Result<()> + Send + 'static) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener =
            socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).unwrap();
        bind(listener.as_raw_fd(), &UnixAddr::new(&folder.path().join("s")).unwrap()).unwrap();
        listen(&listener, Backlog::new(16).unwrap()).unwrap();
        let (tell, said) = channel();
        std::thread::spawn(move || {
            while let Ok(fd) = nix::sys::socket::accept(listener.as_raw_fd()) {
                let socket = sys::adopt_received(&[fd]);
                let _ = nix::sys::socket::recv(fd, &mut [0; 64], MsgFlags::empty()); // the question
                let _ = tell.send(say(socket[0].as_fd()));
            }
        });
        Self { folder, said }
    }

    fn client(&self) -> SocketResolver {
        SocketResolver::new(self.folder.path().join("s"))
    }
}

/// A resolver that answers with this metadata and these values.
fn saying(meta: impl Into<Vec<u8>>, values: Option<Vec<u8>>) -> Liar {
    let meta = meta.into();
    Liar::new(move |socket| {
        let memory = |bytes: &[u8]| packet::sealed("lie", std::iter::once(bytes)).unwrap();
        let files: Vec<OwnedFd> =
            std::iter::once(meta.as_slice()).chain(values.as_deref()).map(memory).collect();
        send(socket, b"onecred 1\n", &files)
    })
}

fn send(socket: BorrowedFd<'_>, greeting: &[u8], files: &[OwnedFd]) -> io::Result<()> {
    let fds: Vec<_> = files.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&fds)];
    let rights = if fds.is_empty() { &[][..] } else { &rights };
    let slices = [io::IoSlice::new(greeting)];
    Ok(sendmsg::<()>(socket.as_raw_fd(), &slices, rights, MsgFlags::MSG_NOSIGNAL, None).map(drop)?)
}

fn question(fields: usize) -> Fetch {
    let reference = Reference::parse("op://vault/item/password").unwrap();
    Fetch {
        source: SourceName::default_source(),
        print: "print".into(),
        definition: None,
        item: reference.item,
        known: None,
        version: None,
        fields: vec![reference.field; fields],
        look_again: None,
        asker: Default::default(),
        patience: Duration::from_secs(60),
    }
}

fn good() -> Value {
    let fields = json!([{ "Ok": { "len": 3, "expires": null } }]);
    json!({ "Ok": { "id": { "vault": "v", "item": "i" }, "version": 1, "vault_version": null, "fields": fields } })
}

/// Sends a question for one field and returns the outcome.
async fn asked(liar: &Liar) -> Result<Fetched, Failure> {
    liar.client().fetch(question(1)).await
}

#[tokio::test]
async fn a_good_answer_is_taken() {
    let liar = saying(good().to_string(), Some(b"one".to_vec()));
    let fetched = asked(&liar).await.unwrap();
    assert_eq!(fetched.fields[0].as_ref().unwrap().value.expose(), b"one");
}

#[tokio::test]
async fn answers_that_do_not_fit_the_question_are_none() {
    let with = |change: &dyn Fn(&mut Value)| {
        let mut answer = good();
        change(&mut answer["Ok"]);
        answer.to_string()
    };
    let one = good()["Ok"]["fields"][0].clone();
    let answers = [
        ("nothing", String::new()),
        ("no JSON", "\0\0\0".to_owned()),
        ("half", good().to_string()[..40].to_owned()),
        ("deep", "[".repeat(100_000)),
        ("another kind of answer", json!({ "Ok": { "items": ["changed"] } }).to_string()),
        ("twice as much", with(&|it| it["fields"] = json!([one, one]))),
        ("none", with(&|it| it["fields"] = json!([]))),
        ("more than it brought", with(&|it| it["fields"][0]["Ok"]["len"] = json!(4))),
        ("less than it brought", with(&|it| it["fields"][0]["Ok"]["len"] = json!(2))),
        ("a length that no value has", with(&|it| it["fields"][0]["Ok"]["len"] = json!(u64::MAX))),
        ("a length below nothing", with(&|it| it["fields"][0]["Ok"]["len"] = json!(-1))),
        ("an ID that is a path", with(&|it| it["id"]["item"] = json!("../../etc/shadow"))),
        ("no ID", with(&|it| it["id"]["vault"] = json!(""))),
        ("a long ID", with(&|it| it["id"]["vault"] = json!("v".repeat(65)))),
    ];
    for (what, answer) in answers {
        let failure = asked(&saying(answer, Some(b"one".to_vec()))).await.unwrap_err();
        assert_eq!(failure.class, Class::Malformed, "{what}: {failure}");
        assert!(!failure.to_string().contains("shadow"), "{what}: {failure}");
    }
}

#[tokio::test]
async fn answers_that_are_too_large_are_not_looked_at() {
    let large = |bytes: usize| format!("{}{}", good(), " ".repeat(bytes));
    let failure = asked(&saying(large(64 << 10), Some(b"one".to_vec()))).await.unwrap_err();
    assert!(failure.cause.contains("the limit is"), "{failure}");
    // a sparse memfd: large, but without memory
    let liar = Liar::new(|socket| {
        let file = File::from(memfd_create("lie", MFdFlags::MFD_ALLOW_SEALING).unwrap());
        file.set_len(1 << 40).unwrap();
        use nix::fcntl::{FcntlArg, SealFlag, fcntl};
        let seals = SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK;
        fcntl(&file, FcntlArg::F_ADD_SEALS(seals)).unwrap();
        let meta = packet::sealed("lie", std::iter::once(good().to_string().as_bytes())).unwrap();
        send(socket, b"onecred 1\n", &[meta, file.into()])
    });
    let failure = asked(&liar).await.unwrap_err();
    assert!(failure.cause.contains("the limit is"), "{failure}");
    // an answer with more fields than the question is not parsed completely
    let many = vec![json!("changed"); bounded::MOST + 1];
    let check = Check {
        source: SourceName::default_source(),
        print: String::new(),
        definition: None,
        items: vec![known(); 200],
        asker: Default::default(),
        patience: Duration::from_secs(60),
    };
    let liar = saying(json!({ "Ok": { "items": many } }).to_string(), None);
    let failure = liar.client().check(check).await.unwrap_err();
    assert!(failure.cause.contains("more than 65536 parts"), "{failure}");
}

fn known() -> super::super::Known {
    let id = ItemId { vault: "v".into(), item: "i".into() };
    super::super::Known { item: question(1).item, id, version: 1, vault_version: None }
}

#[tokio::test]
async fn packets_that_are_none_end_the_question() {
    let file = || packet::sealed("lie-of-many", std::iter::once(b"{}".as_slice())).unwrap();
    type Say = Box<dyn Fn(BorrowedFd<'_>) -> io::Result<()> + Send>;
    let packets: [(&str, Say, Class); 7] = [
        ("nothing at all", Box::new(|_| Ok(())), Class::Away),
        ("an empty packet", Box::new(|socket| send(socket, b"", &[])), Class::Away),
        ("no memory file", Box::new(|socket| send(socket, b"onecred 1\n", &[])), Class::Malformed),
        ("half a greeting", Box::new(move |socket| send(socket, b"onec", &[file()])), Class::Malformed),
        ("a long greeting", Box::new(move |socket| send(socket, &[b'x'; 9000], &[file()])), Class::Malformed),
        (
            "253 files",
            Box::new(move |s| send(s, b"onecred 1\n", &[(); 253].map(|()| file()))),
            Class::Malformed,
        ),
        (
            "what is no memory file",
            Box::new(|socket| {
                let files =
                    [OwnedFd::from(File::open("/dev/zero")?), OwnedFd::from(File::open("/dev/zero")?)];
                send(socket, b"onecred 1\n", &files)
            }),
            Class::Malformed,
        ),
    ];
    let is_brought = |file: &PathBuf| {
        file.to_str().is_some_and(|file| file.contains("lie-of-many") || file == "/dev/zero")
    };
    let open = || {
        let files = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        files.filter_map(|file| std::fs::read_link(file.path()).ok()).filter(is_brought).count()
    };
    for (what, say, class) in packets {
        let liar = Liar::new(say);
        let failure = asked(&liar).await.unwrap_err();
        assert_eq!(failure.class, class, "{what}: {failure}");
        let _ = liar.said.recv().unwrap(); // the resolver has closed its copy
        assert_eq!(open(), 0, "{what}: what it brought is still open");
    }
}

#[tokio::test(start_paused = true)]
async fn who_never_answers_is_given_up() {
    let (hold, held) = channel::<()>();
    let held = std::sync::Mutex::new(held);
    let liar = Liar::new(move |_| {
        let _ = held.lock().unwrap().recv(); // keeps the connection open
        Ok(())
    });
    let failure = asked(&liar).await.unwrap_err();
    assert!(failure.class == Class::Away && failure.cause.contains("does not answer"), "{failure}");
    drop(hold);
}

#[tokio::test]
async fn one_answer_counts_and_the_next_has_nowhere_to_go() {
    let (go, gone) = channel::<()>();
    let gone = std::sync::Mutex::new(gone);
    let liar = Liar::new(move |socket| {
        let memory = |bytes: &[u8]| packet::sealed("lie", std::iter::once(bytes)).unwrap();
        let files = [memory(good().to_string().as_bytes()), memory(b"one")];
        send(socket, b"onecred 1\n", &files)?;
        let _ = gone.lock().unwrap().recv();
        send(socket, b"onecred 1\n", &files)
    });
    assert!(asked(&liar).await.is_ok());
    go.send(()).unwrap();
    let second = liar.said.recv().unwrap();
    assert_eq!(second.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn of_a_status_what_can_be_is_kept() {
    let calls: std::collections::BTreeMap<String, u64> =
        (0..20_000).map(|n| (format!("ok{n}"), n)).chain([("ok".into(), 7), ("away".into(), 1)]).collect();
    let source = json!({
        "name": "default", "kind": "connect\u{1b}[2J".repeat(50), "state": "ready", "last_failure": {
            "class": "away", "cause": "x\n".repeat(5000), "remedy": "", "retry_after": { "secs": u64::MAX, "nanos": 0 }
        }, "last_success": u64::MAX, "calls": calls, "quota": null, "core": "0\n1"
    });
    let status = saying(json!({ "Ok": { "sources": [source] } }).to_string(), None)
        .client()
        .status(Declarations::new())
        .await;
    let status = status.unwrap().sources.remove(0);
    assert_eq!(status.calls.into_iter().collect::<Vec<_>>(), [("away".into(), 1), ("ok".into(), 7)]);
    let failure = status.last_failure.unwrap();
    assert_eq!((failure.cause.len(), failure.retry_after), (600, Some(Duration::from_secs(3600))));
    assert!(status.kind.len() <= 100 && !status.kind.contains('\x1b') && status.core.unwrap() == "0 1");
    let many = vec![json!({ "name": "default" }); 40_000];
    assert!(
        saying(json!({ "Ok": { "sources": many } }).to_string(), None)
            .client()
            .status(Declarations::new())
            .await
            .is_err()
    );
}

#[test]
fn another_user_s_resolver_is_not_asked() {
    assert!(is_trusted(0, 1000) && is_trusted(1000, 1000) && !is_trusted(65_534, 0) && !is_trusted(1, 1000));
    if !geteuid().is_root() {
        return; // needs a process of another user to listen
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let path = folder.path().join("sock");
    let listens = "use Socket; socket(S, AF_UNIX, SOCK_SEQPACKET, 0) and bind(S, pack_sockaddr_un($ARGV[0])) and listen(S, 1) \
        and syswrite(STDOUT, \"listening\\n\") or die $!; sleep 600";
    for (user, heard) in [(65_534, false), (0, true)] {
        let mut command = Command::new("perl");
        command.args(["-e", listens]).arg(&path).uid(user).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "listening\n");
        let opened = open(&path);
        child.kill().unwrap();
        child.wait().unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(opened.is_ok(), heard, "{opened:?}");
        if let Err(error) = opened {
            assert!(error.to_string().contains("user 65534 listens there"), "{error}");
        }
    }
}

#[tokio::test]
async fn a_crowd_waits_its_turn_and_overflows_no_queue() {
    // its listen queue has 16 places
    let liar = saying(good().to_string(), Some(b"one".to_vec()));
    let client = std::sync::Arc::new(liar.client());
    let mut crowd = tokio::task::JoinSet::new();
    for _ in 0..2 * FETCHES {
        let client = std::sync::Arc::clone(&client);
        crowd.spawn(async move { client.fetch(question(1)).await.map(|_| ()) });
    }
    let answers = crowd.join_all().await;
    assert_eq!(answers.iter().find(|answer| answer.is_err()), None);
}
