//! Tests of the fake over a real connection.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::{Control, DEFAULT_TOKEN, Edit, FakeConnect, Fault, Kind, Options, TlsFault};

const MINE: &str = "/v1/vaults/vaultmineaaaaaaaaaaaaaaaaa";
const DB: &str = "/v1/vaults/vaultmineaaaaaaaaaaaaaaaaa/items/itemdbaaaaaaaaaaaaaaaaaaaa";

struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

fn ask(mut stream: impl Read + Write, path: &str, token: &str) -> io::Result<Answer> {
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\r\n"
    )?;
    let mut all = Vec::new();
    stream.read_to_end(&mut all)?;
    let at = all.windows(4).position(|four| four == b"\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)? + 4;
    let body = all.split_off(at);
    let head = String::from_utf8(all).unwrap().to_lowercase();
    Ok(Answer { status: head[9..12].parse().unwrap(), head, body })
}

fn get(fake: &FakeConnect, path: &str) -> Answer {
    try_get(fake, path).unwrap()
}

fn try_get(fake: &FakeConnect, path: &str) -> io::Result<Answer> {
    ask(TcpStream::connect(fake.address())?, path, DEFAULT_TOKEN)
}

fn start() -> FakeConnect {
    FakeConnect::start(Options::default()).unwrap()
}

#[test]
fn answers_and_errors() {
    let fake = start();
    let named = |filter: &str| get(&fake, &format!("/v1/vaults?filter=name%20eq%20%22{filter}%22")).json();
    assert_eq!(get(&fake, "/v1/vaults").json().as_array().unwrap().len(), 5);
    assert_eq!(named("dup").as_array().unwrap().len(), 2);
    assert_eq!(named("my+vault").as_array().unwrap().len(), 0);
    assert_eq!(named("My+Vault")[0]["id"], "vaultmineaaaaaaaaaaaaaaaaa");
    let listed = get(&fake, &format!("{MINE}/items?filter=title+eq+%22db%22")).json();
    assert_eq!(listed[0]["id"], "itemdbaaaaaaaaaaaaaaaaaaaa");
    assert!(listed[0].get("fields").is_none());
    assert_eq!(get(&fake, DB).json()["fields"][1]["value"], "hunter2");
    let binary = format!("{MINE}/items/itemdocumentaaaaaaaaaaaaaa/files/filebinaryaaaaaaaaaaaaaaaa/content");
    assert_eq!(get(&fake, &binary).body, (0..=255).collect::<Vec<u8>>());
    let otp = get(&fake, &format!("{MINE}/items/itemotpaaaaaaaaaaaaaaaaaaa")).json();
    assert_eq!(otp["fields"][3]["totp"].as_str().unwrap().len(), 6);

    fake.control.deny("vaultdotsaaaaaaaaaaaaaaaaa").unwrap();
    assert_eq!(get(&fake, "/v1/vaults/vaultdotsaaaaaaaaaaaaaaaaa").status, 403);
    assert_eq!(get(&fake, "/v1/vaults").json().as_array().unwrap().len(), 4);
    assert_eq!(get(&fake, &format!("{MINE}/items/nosuchitemaaaaaaaaaaaaaaaa")).status, 404);
    assert_eq!(get(&fake, "/v1/vaults/nonsense").status, 400);
    let bad = ask(TcpStream::connect(fake.address()).unwrap(), "/v1/vaults", "bad").unwrap();
    assert_eq!((bad.status, bad.json()["status"].as_u64()), (401, Some(401)));
    assert_eq!(get(&fake, "/heartbeat").body, b".");
}

#[test]
fn edits_raise_versions_and_requests_are_counted() {
    let fake = start();
    let version = || get(&fake, MINE).json()["contentVersion"].as_u64().unwrap();
    let before = version();
    fake.control.set("My Vault", "db", "password", "another").unwrap();
    let item = get(&fake, DB).json();
    assert_eq!((item["fields"][1]["value"].as_str(), item["version"].as_u64()), (Some("another"), Some(2)));
    assert_eq!(version(), before + 1);
    let (vault, item) = ("My Vault".to_owned(), "db".to_owned());
    fake.control.edit(&Edit::Delete { vault, item }).unwrap();
    assert_eq!(get(&fake, DB).status, 404);
    let seen = fake.control.take_requests().unwrap();
    assert_eq!(seen.iter().map(|seen| seen.status.unwrap()).collect::<Vec<_>>(), [200, 200, 200, 404]);
    assert_eq!(seen[1].path, DB);
    let over_the_wire = Control::port(fake.address());
    assert!(over_the_wire.requests().unwrap().is_empty());
    over_the_wire.reset().unwrap();
    assert_eq!(get(&fake, DB).status, 200);
}

#[test]
fn faults() {
    let fake = start();
    let with = |kind: Kind| {
        fake.control.fail(&Fault::of(kind).on(DB).times(1)).unwrap();
        try_get(&fake, DB)
    };
    let limited =
        with(Kind::Status { code: 429, retry_after: Some("date+5".to_owned()), message: None }).unwrap();
    assert!(limited.status == 429 && limited.head.contains("retry-after: ") && limited.head.contains("gmt"));
    assert_eq!(get(&fake, DB).status, 200, "only the next one failed");
    let whole = get(&fake, DB).body.len();
    assert_eq!(with(Kind::Truncate { at: 10 }).unwrap().body.len(), 10);
    let cut = with(Kind::Close { at: 200 }).unwrap();
    assert_eq!(cut.head.len() + cut.body.len(), 200);
    assert_eq!(with(Kind::Reset { at: 0 }).err().unwrap().kind(), io::ErrorKind::ConnectionReset);
    assert!(serde_json::from_slice::<Value>(&with(Kind::MalformedJson).unwrap().body).is_err());
    assert!(String::from_utf8(with(Kind::InvalidUtf8).unwrap().body).is_err());
    assert_eq!(with(Kind::OtherItem).unwrap().json()["title"], "Case Item");
    assert_eq!(with(Kind::DuplicateKeys).unwrap().json()["title"], "a decoy");
    assert_eq!(with(Kind::Deep { depth: 1000 }).unwrap().body.len(), 2000);
    assert_eq!(with(Kind::Huge { bytes: 1 << 20, declared: true }).unwrap().body.len(), 1 << 20);
    assert!(with(Kind::Gzip).unwrap().head.contains("content-encoding: gzip"));
    let began = Instant::now();
    assert_eq!(with(Kind::Drip { bytes: whole / 4, ms: 20 }).unwrap().body.len(), whole);
    assert!(began.elapsed() >= Duration::from_millis(80));
}

#[test]
fn certificates_right_and_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { tls: Some(folder.path().to_owned()), ..Options::default() };
    let fake = FakeConnect::start(options).unwrap();
    let shake = || -> io::Result<u16> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(fake.ca().unwrap()).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").unwrap();
        let client = ClientConnection::new(Arc::new(config), name).unwrap();
        let stream = StreamOwned::new(client, TcpStream::connect(fake.address())?);
        ask(stream, "/heartbeat", "").map(|answer| answer.status)
    };
    assert_eq!(shake().unwrap(), 200);
    for (fault, word) in [
        (TlsFault::Expired, "expired"),
        (TlsFault::NotYetValid { seconds: 60 }, "not valid yet"),
        (TlsFault::WrongHost, "not valid for name"),
        (TlsFault::UnknownCa, "BadSignature"),
    ] {
        fake.control.set_tls(Some(fault)).unwrap();
        let error = shake().unwrap_err().to_string();
        assert!(error.contains(word), "{fault:?}: {error}");
    }
    fake.control.set_tls(None).unwrap();
    assert_eq!(shake().unwrap(), 200);
}
