//! Controls a fake from a test, in a thread of this process or in a separate process.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::edit::Edit;
use super::fault::Fault;
use super::state::{Seen, Shared};
use super::tls::TlsFault;
use super::{PREFIX, control, reply};

/// A client of a fake's control endpoint.
#[derive(Clone)]
pub struct Control(Way);

#[derive(Clone)]
enum Way {
    Here(Arc<Shared>),
    Socket(PathBuf),
    Port(SocketAddr),
}

impl Control {
    pub(super) fn here(shared: Arc<Shared>) -> Control {
        Control(Way::Here(shared))
    }

    /// Controls a `fake-connect --control PATH`, or `fake-account`.
    pub fn socket(path: &Path) -> Control {
        Control(Way::Socket(path.to_owned()))
    }

    /// Controls a fake without TLS at this address.
    pub fn port(address: SocketAddr) -> Control {
        Control(Way::Port(address))
    }

    /// Adds a fault.
    pub fn fail(&self, fault: &Fault) -> io::Result<()> {
        self.tell("POST", "faults", &json!(fault))
    }

    /// Removes all faults.
    pub fn clear_faults(&self) -> io::Result<()> {
        self.tell("DELETE", "faults", &Value::Null)
    }

    /// The requests so far, oldest first.
    pub fn requests(&self) -> io::Result<Vec<Seen>> {
        self.ask("GET", "requests", &Value::Null)
    }

    /// Removes and returns the requests so far.
    pub fn take_requests(&self) -> io::Result<Vec<Seen>> {
        let seen = self.requests()?;
        self.tell("DELETE", "requests", &Value::Null)?;
        Ok(seen)
    }

    /// How many connections were opened to it.
    pub fn connections(&self) -> io::Result<u64> {
        self.ask("GET", "connections", &Value::Null)
    }

    /// Changes the data. Returns the ID of the changed or new object.
    pub fn edit(&self, edit: &Edit) -> io::Result<String> {
        self.ask("POST", "edit", &json!(edit))
    }

    /// Changes the value of a field.
    pub fn set(&self, vault: &str, item: &str, field: &str, value: &str) -> io::Result<()> {
        let [vault, item, field, value] = [vault, item, field, value].map(str::to_owned);
        self.edit(&Edit::Set { vault, item, field, value }).map(drop)
    }

    /// The current data as a document for the `file` source.
    pub fn document(&self) -> io::Result<Value> {
        self.ask("GET", "vault", &Value::Null)
    }

    /// Replaces the data.
    pub fn load(&self, document: &Value) -> io::Result<()> {
        self.tell("PUT", "vault", document)
    }

    /// Removes a vault, given by its ID, from the scope of the token.
    pub fn deny(&self, vault: &str) -> io::Result<()> {
        self.tell("POST", "deny", &json!({ "vault": vault }))
    }

    /// The valid token in the form for clients.
    pub fn token(&self) -> io::Result<String> {
        self.ask("GET", "token", &Value::Null)
    }

    /// Makes another token the valid one.
    pub fn set_token(&self, token: &str) -> io::Result<()> {
        self.tell("POST", "token", &json!({ "token": token }))
    }

    /// Uses a new certificate for future connections, valid or with this fault.
    pub fn set_tls(&self, fault: Option<TlsFault>) -> io::Result<()> {
        self.tell("POST", "tls", &json!({ "fault": fault }))
    }

    /// Resets data, faults and counters to their initial state.
    pub fn reset(&self) -> io::Result<()> {
        self.tell("POST", "reset", &Value::Null)
    }

    fn tell(&self, method: &str, what: &str, body: &Value) -> io::Result<()> {
        self.ask::<Value>(method, what, body).map(drop)
    }

    fn ask<T: DeserializeOwned>(&self, method: &str, what: &str, body: &Value) -> io::Result<T> {
        let path = format!("{PREFIX}{what}");
        let body = body.to_string();
        let (status, answer) = match &self.0 {
            Way::Here(shared) => {
                let reply::Reply { status, body, .. } =
                    control::steer(shared, method, &path, body.as_bytes());
                (status, body)
            }
            Way::Socket(socket) => exchange(UnixStream::connect(socket)?, method, &path, &body)?,
            Way::Port(address) => exchange(TcpStream::connect(address)?, method, &path, &body)?,
        };
        if status != 200 {
            let why = String::from_utf8_lossy(&answer);
            return Err(io::Error::other(format!("the fake refused {method} {path}: {why}")));
        }
        serde_json::from_slice(&answer).map_err(io::Error::other)
    }
}

/// Makes one HTTP/1.0 request. The answer ends with the connection.
fn exchange(
    mut stream: impl Read + Write,
    method: &str,
    path: &str,
    body: &str,
) -> io::Result<(u16, Vec<u8>)> {
    write!(stream, "{method} {path} HTTP/1.0\r\ncontent-length: {}\r\n\r\n{body}", body.len())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let head_end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let status = answer.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
    match (status, head_end) {
        (Some(status), Some(at)) => Ok((status, answer.split_off(at + 4))),
        _ => Err(io::Error::other("the fake's control endpoint answered no HTTP")),
    }
}
