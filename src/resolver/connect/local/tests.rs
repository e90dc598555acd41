use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::unistd::{Uid, geteuid};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::domain::secret::SecretValue;
use crate::ipc::Class;
use crate::resolver::CallLimit;
use crate::resolver::connect::Address;
use crate::resolver::connect::http::{Http, Want};
use crate::resolver::connect::verdict;

const TOKEN: &str = "canary-token";
const VAULTS: Want<'_> = Want { path: &["vaults"], what: "the list", json: true, most: 100 };

fn http(url: &str, users: &[&str]) -> Http {
    let users = users.iter().map(|user| (*user).to_owned()).collect();
    let address = Address { url: url.to_owned(), insecure: false, users, ca_file: None };
    Http::new(address, &SecretValue::new(TOKEN.as_bytes().to_vec()), CallLimit::default()).unwrap()
}

/// Answers every request on a connection with an empty list. Returns what arrived before the connection
/// ended.
async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> String {
    let (mut all, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
        all.extend_from_slice(&buffer[..length]);
        if all.ends_with(b"\r\n\r\n") {
            let reply = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n[]";
            let _ = stream.write_all(reply).await;
        }
    }
    String::from_utf8_lossy(&all).into_owned()
}

/// Runs `work` as another user in a separate thread; the rest of the process remains root. Returns `None`
/// without privileges.
fn as_user<T>(uid: u32, work: impl FnOnce() -> T) -> Option<T> {
    if !geteuid().is_root() {
        return None;
    }
    let set = |uid: u32| nix::unistd::setfsuid(Uid::from_raw(uid));
    let before = set(uid);
    let result = work();
    set(before.as_raw());
    Some(result)
}

#[tokio::test]
async fn a_server_of_an_allowed_user_gets_the_token() {
    for (listen, host) in [("127.0.0.1:0", "127.0.0.1"), ("127.0.0.1:0", "localhost"), ("[::1]:0", "[::1]")] {
        let Ok(listener) = TcpListener::bind(listen).await else { continue }; // no IPv6 on this machine
        let url = format!("http://{host}:{}", listener.local_addr().unwrap().port());
        let own = geteuid().as_raw().to_string();
        let named = [own.as_str()];
        let http = http(&url, if geteuid().is_root() { &[] } else { &named }); // root need not be named
        let serve = async { answer(listener.accept().await.unwrap().0).await };
        let client = async {
            for _ in 0..2 {
                assert!(http.get(&VAULTS, Duration::from_secs(20)).await.is_ok(), "{url}");
            }
            drop(http);
        };
        let (arrived, ()) = tokio::join!(serve, client);
        assert_eq!(arrived.matches(&format!("authorization: Bearer {TOKEN}\r\n")).count(), 2, "{arrived}");
        assert!(arrived.contains(&format!("host: {host}:")), "{arrived}");
    }
}

#[tokio::test]
async fn a_server_of_another_user_gets_nothing() {
    let Ok(listener) = TcpListener::bind("127.0.0.1:0").await else { unreachable!() };
    let url = format!("http://{}", listener.local_addr().unwrap());
    // a connection belongs to the user that accepts it
    let accepted = std::thread::spawn(move || {
        let listener = listener.into_std().unwrap();
        listener.set_nonblocking(false).unwrap();
        as_user(1234, || listener.accept().map(|(stream, _)| stream))
    });
    let failure = http(&url, &["99"]).get(&VAULTS, Duration::from_secs(20)).await.err();
    let Some(stream) = accepted.join().unwrap() else { return }; // not root
    let failure = failure.unwrap().failure;
    assert_eq!(failure.class, Class::Away);
    let text = failure.to_string();
    assert!(text.contains("user ID 1234") && text.contains("connectUsers"), "{text}");
    let mut arrived = String::new();
    io::Read::read_to_string(&mut stream.unwrap(), &mut arrived).unwrap();
    assert_eq!(arrived, "");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_not_accepted_gets_nothing() {
    // a listener that never accepts: the kernel completes the connection and buffers the data
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let failure = http(&url, &[]).get(&VAULTS, Duration::from_secs(20)).await.err().unwrap().failure;
    assert!(failure.to_string().contains("not accepted within 2 s"), "{failure}");
    let mut arrived = String::new();
    io::Read::read_to_string(&mut listener.accept().unwrap().0, &mut arrived).unwrap();
    assert_eq!(arrived, "");
}

#[test]
fn each_reason_has_its_remedy() {
    for (reason, words) in [
        (Unattested::Redirected, "set \"insecure\": true if you trust all local users"),
        (Unattested::Redirected, "unix:/run/connect/api.sock"),
        (
            Unattested::OtherUser(7),
            "user ID 7 answers, so the token was not sent; if that user runs Connect, add",
        ),
        (Unattested::NoUser("bob".into()), "user \"bob\" of \"connectUsers\" does not exist"),
        (
            Unattested::Unreachable(io::ErrorKind::ConnectionRefused.into()),
            "it can't be reached (connection refused)",
        ),
    ] {
        let text = verdict::of_unattested("http://localhost:1", &reason).failure.to_string();
        assert!(text.contains(words), "{words:?} is not in {text:?}");
    }
}

#[tokio::test]
async fn a_socket_of_an_allowed_user_gets_the_token() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("api.sock");
    let listener = UnixListener::bind(&path).unwrap();
    listener.set_nonblocking(true).unwrap();
    let listener = tokio::net::UnixListener::from_std(listener).unwrap();
    let own = geteuid().as_raw().to_string();
    let http = http(&format!("unix:{}", path.display()), &[&own]);
    let serve = async { answer(listener.accept().await.unwrap().0).await };
    let client = async {
        assert!(http.get(&VAULTS, Duration::from_secs(20)).await.is_ok());
        drop(http);
    };
    let (arrived, ()) = tokio::join!(serve, client);
    assert!(arrived.starts_with("GET /v1/vaults HTTP/1.1\r\n"), "{arrived}");
    assert!(arrived.contains("host: localhost\r\n") && arrived.contains(TOKEN), "{arrived}");
}

#[tokio::test]
async fn users_are_names_or_numbers() {
    let users = |all: &[&str]| user_ids(&all.iter().map(|user| (*user).to_owned()).collect::<Vec<_>>());
    assert_eq!(users(&["root", "12"]).unwrap(), [0, 12]);
    assert!(matches!(users(&["nosuchuser-1"]), Err(Unattested::NoUser(name)) if name == "nosuchuser-1"));
}

#[tokio::test]
async fn each_new_connection_is_attested() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let http = http(&url, &[&geteuid().as_raw().to_string()]);
    let accepted = AtomicUsize::new(0);
    let serve = async {
        // one answer per connection
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            accepted.fetch_add(1, Ordering::Relaxed);
            let mut buffer = [0; 4096];
            let _ = stream.read(&mut buffer).await;
            let reply = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n[]";
            let _ = stream.write_all(reply).await;
        }
    };
    let client = async {
        for _ in 0..3 {
            assert!(http.get(&VAULTS, Duration::from_secs(20)).await.is_ok());
        }
    };
    tokio::select! { () = serve => unreachable!(), () = client => {} }
    assert_eq!(accepted.load(Ordering::Relaxed), 3);
}
