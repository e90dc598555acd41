//! The control endpoint: `/__fake/…` on the fake's own port and on its control socket.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::PREFIX;
use super::edit::Edit;
use super::fault::Fault;
use super::reply::Reply;
use super::state::Shared;
use super::tls::TlsFault;
use super::vault::Vaults;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Deny {
    vault: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Token {
    token: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tls {
    fault: Option<TlsFault>,
}

/// Handles one control request.
pub(super) fn steer(shared: &Shared, method: &str, path: &str, body: &[u8]) -> Reply {
    let what = path.strip_prefix(PREFIX).unwrap_or_default();
    match carry_out(shared, method, what, body) {
        Ok(answer) => Reply::json(&answer),
        Err(why) => Reply::of(400, "text/plain; charset=utf-8", why.into_bytes()),
    }
}

fn carry_out(shared: &Shared, method: &str, what: &str, body: &[u8]) -> Result<Value, String> {
    match (method, what) {
        ("GET", "faults") => return Ok(json!(*shared.faults())),
        ("GET", "requests") => return Ok(json!(shared.seen())),
        ("GET", "connections") => return Ok(json!(shared.connections())),
        ("GET", "token") => return shared.token().map(Value::from),
        ("GET", "vault") => return Ok(shared.data().vaults.document()),
        ("POST", "edit") => return parse::<Edit>(body)?.apply(&mut shared.data().vaults).map(Value::from),
        ("POST", "faults") => shared.faults().push(parse::<Fault>(body)?),
        ("DELETE", "faults") => shared.faults().clear(),
        ("DELETE", "requests") => shared.forget_seen(),
        ("PUT", "vault") => shared.data().vaults = Vaults::from_document(&parse(body)?)?,
        ("POST", "deny") => {
            let denied = parse::<Deny>(body)?.vault;
            shared.data().denied.insert(denied);
        }
        ("DELETE", "deny") => shared.data().denied.clear(),
        ("POST", "token") => shared.data().token = parse::<Token>(body)?.token,
        ("POST", "tls") => {
            let identity = shared.identity.as_ref().ok_or("this fake was started without TLS")?;
            let fault = parse::<Tls>(body)?.fault;
            shared.set_acceptor(identity.acceptor(fault).map_err(|error| error.to_string())?);
        }
        ("POST", "reset") => shared.reset(),
        _ => return Err(format!("no control request {method} {PREFIX}{what}")),
    }
    Ok(json!("done"))
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| error.to_string())
}
