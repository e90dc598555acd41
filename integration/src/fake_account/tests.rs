//! Tests of the fake over a real connection, by a client that knows the account's secrets.

use std::io::{Read, Write};
use std::net::TcpStream;

use crypto_bigint::BoxedUint;
use serde_json::{Value, json};

use super::envelope::{Key, base64url, from_base64url, open, seal};
use super::keys::Keys;
use super::srp::{self, hex};
use super::{Edit, FakeAccount, Fault, Kind, Options};

const MINE: &str = "vaultmineaaaaaaaaaaaaaaaaa";

/// A session of a client.
struct Client<'a> {
    fake: &'a FakeAccount,
    session: String,
    key: Key,
}

fn ask(fake: &FakeAccount, session: &str, method: &str, path: &str, body: &Value) -> (u16, Vec<u8>) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let mut stream = TcpStream::connect(fake.address()).unwrap();
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nx-agilebits-session-id: {session}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let at = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    let status = std::str::from_utf8(&answer[9..12]).unwrap().parse().unwrap();
    (status, answer.split_off(at))
}

impl Client<'_> {
    /// Logs in. Fails with the status of the step that failed.
    fn log_in(fake: &FakeAccount) -> Result<Client<'_>, u16> {
        let (account, secret) = (Keys::of("fake-token"), [7; 32]);
        let step = |session: &str, path: &str, body: Value| {
            let (status, answer) = ask(fake, session, "POST", path, &body);
            if status == 200 { Ok(serde_json::from_slice::<Value>(&answer).unwrap()) } else { Err(status) }
        };
        let who =
            json!({ "email": account.email, "skid": account.key_id, "skFormat": "A3", "deviceUuid": "x" });
        let started = step("", "/api/v3/auth/start", who)?;
        let session = started["sessionID"].as_str().unwrap().to_owned();
        let public = srp::client_public(&secret);
        let exchanged = step(&session, "/api/v2/auth", json!({ "userA": hex(&public) }))?;
        let other = srp::unhex(exchanged["userB"].as_str().unwrap()).unwrap();
        let (key, mine, theirs) = srp::client_exchange(&account.identity(), &secret, &other);
        let confirmed =
            step(&session, "/api/v2/auth/confirm-key", json!({ "clientVerifyHash": base64url(&mine) }))?;
        if from_base64url(&confirmed["serverVerifyHash"]).unwrap() != theirs {
            return Err(0);
        }
        Ok(Client { fake, session, key })
    }

    fn get(&self, path: &str) -> Result<Value, u16> {
        self.answer(ask(self.fake, &self.session, "GET", path, &Value::Null))
    }

    fn answer(&self, (status, body): (u16, Vec<u8>)) -> Result<Value, u16> {
        if status == 200 { open(&self.key, &body).ok_or(0) } else { Err(status) }
    }
}

#[test]
fn who_knows_the_secrets_is_let_in() {
    let fake = FakeAccount::start(Options::default()).unwrap();
    let client = Client::log_in(&fake).unwrap();
    assert_eq!(client.get("/api/v1/vaults").unwrap().as_array().unwrap().len(), 5);
    let keys = client.get("/api/v2/account/keysets").unwrap();
    assert_eq!(keys["keysets"][0]["encSymKey"]["alg"], "PBES2g-HS256");
    let listed = client.get(&format!("/api/v1/vault/{MINE}/items/overviews")).unwrap();
    let trashed: Vec<&Value> =
        listed["items"].as_array().unwrap().iter().map(|item| &item["trashed"]).collect();
    assert_eq!(trashed.iter().filter(|state| **state == "Y").count(), 1);
    assert!(!trashed.iter().any(|state| *state == "D"));
    let asked = seal(&client.session, &client.key, &json!({ "itemUuids": ["itemdbaaaaaaaaaaaaaaaaaaaa"] }));
    let batch = format!("/api/v3/vault/{MINE}/items/batch");
    let batch = client.answer(ask(&fake, &client.session, "POST", &batch, &asked)).unwrap();
    assert_eq!(batch["items"][0]["uuid"], "itemdbaaaaaaaaaaaaaaaaaaaa");
    assert_eq!(client.get("/api/v1/vault/nosuchvaultaaaaaaaaaaaaaaa/items/overviews"), Err(404));

    assert_eq!(ask(&fake, "", "GET", "/api/v1/vaults", &Value::Null).0, 401);
    let stranger = json!({ "email": "a@b", "skid": "ABCDEF" });
    assert_eq!(ask(&fake, "", "POST", "/api/v3/auth/start", &stranger).0, 401);
}

#[test]
fn it_fails_as_it_is_told_to() {
    let fake = FakeAccount::start(Options::default()).unwrap();
    let control = &fake.control;
    control.fail(&Fault::of(Kind::WrongSignature)).unwrap();
    assert_eq!(Client::log_in(&fake).err(), Some(0));
    control.clear_faults().unwrap();
    let client = Client::log_in(&fake).unwrap();
    control.fail(&Fault::of(Kind::WrongKey).times(1)).unwrap();
    assert_eq!(client.get("/api/v1/vaults"), Err(0));
    control.fail(&Fault::status(429).on("/api/v1").times(1)).unwrap();
    assert_eq!(client.get("/api/v1/vaults"), Err(429));
    control.deny(MINE).unwrap();
    assert_eq!(client.get("/api/v1/vaults").unwrap().as_array().unwrap().len(), 4);
    assert_eq!(client.get(&format!("/api/v1/vault/{MINE}/items/overviews")), Err(403));
    control.fail(&Fault::of(Kind::EndSession).times(1)).unwrap();
    assert_eq!((client.get("/api/v1/vaults"), client.get("/api/v1/vaults")), (Err(401), Err(401)));
    control.set_token("another").unwrap();
    assert_eq!(Client::log_in(&fake).err(), Some(401));
}

#[test]
fn edits_raise_versions() {
    let fake = FakeAccount::start(Options::default()).unwrap();
    let client = Client::log_in(&fake).unwrap();
    let version =
        || client.get(&format!("/api/v3/vault/{MINE}")).unwrap()["contentVersion"].as_u64().unwrap();
    let before = version();
    fake.control.edit(&Edit::Archive { vault: "My Vault".to_owned(), item: "db".to_owned() }).unwrap();
    assert_eq!(version(), before + 1);
    let item = client.get(&format!("/api/v1/vault/{MINE}/item/itemdbaaaaaaaaaaaaaaaaaaaa")).unwrap();
    assert_eq!((&item["item"]["trashed"], &item["item"]["itemVersion"]), (&json!("Y"), &json!(2)));
    let token = fake.control.token().unwrap();
    let token = from_base64url(&json!(token.strip_prefix("ops_").unwrap())).unwrap();
    let token: Value = serde_json::from_slice(&token).unwrap();
    assert_eq!(token["signInAddress"], fake.url());
}

#[test]
fn numbers_that_are_none_are_refused() {
    let account = Keys::of("one");
    for public in ["", "0", "xyz", &hex(&BoxedUint::max(4096).to_be_bytes())] {
        assert!(srp::exchange(&account.identity(), public).is_none(), "{public}");
    }
}
