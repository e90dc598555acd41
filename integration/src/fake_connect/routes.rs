//! The read-only part of Connect's REST API: a request in, a reply out.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Map, Value, json};

use super::filter::Filter;
use super::otp;
use crate::fake::clock;
use crate::fake::fault::Kind;
use crate::fake::reply::Reply;
use crate::fake::state::Data;
use crate::fake::vault::{content, is_id, items};
use crate::fake::{Service, service::Asked};

/// The version of Connect that the fake imitates.
const VERSION: &str = "1.7.1";

/// Connect's REST API.
#[derive(Debug, Default)]
pub struct Connect;

impl Service for Connect {
    fn answer(&self, data: &Data, asked: &Asked) -> Reply {
        with_version(answer(data, asked))
    }

    fn error(&self, status: u16, message: &str) -> Reply {
        with_version(error(status, message))
    }

    fn spoil(&self, kind: &Kind, data: &Data, asked: &Asked, reply: Reply) -> Reply {
        match kind {
            Kind::OtherItem => {
                other_item(data, &asked.path).map_or(reply, |other| with_version(Reply::json(&full(other))))
            }
            _ => reply,
        }
    }
}

fn answer(data: &Data, asked: &Asked) -> Reply {
    let parts = asked.parts();
    match parts.as_slice() {
        ["heartbeat"] => return Reply::of(200, "text/plain; charset=utf-8", b".".to_vec()),
        ["health"] => return Reply::json(&health()),
        ["v1", ..] => {}
        _ => return error(404, "page not found"),
    }
    if asked.header("authorization") != Some(&format!("Bearer {}", data.token)) {
        return error(401, "Invalid token signature");
    }
    if asked.method != "GET" {
        return error(401, "Unauthorized Request, token does not have write access to the Vault");
    }
    look_up(data, asked, &parts[1..]).unwrap_or_else(|refusal| refusal)
}

/// Adds the version header that Connect sends with each answer, where its own clients read it.
fn with_version(mut reply: Reply) -> Reply {
    reply.headers.push(("1password-connect-version", VERSION.to_owned()));
    reply
}

/// An error in Connect's format.
fn error(status: u16, message: impl Into<String>) -> Reply {
    let message: String = message.into();
    Reply { status, ..Reply::json(&json!({ "status": status, "message": message })) }
}

/// The item after the one in `/v1/vaults/V/items/I`.
fn other_item<'a>(data: &'a Data, path: &str) -> Option<&'a Value> {
    let mut parts = path.trim_start_matches("/v1/vaults/").split("/items/");
    let items = items(data.vaults.vault(parts.next()?)?);
    let id = parts.next()?;
    let at = items.iter().position(|item| item["id"] == id)?;
    items.get((at + 1) % items.len())
}

fn look_up(data: &Data, asked: &Asked, parts: &[&str]) -> Result<Reply, Reply> {
    let (vault_id, rest) = match parts {
        ["vaults"] => return vaults(data, asked),
        ["vaults", vault, rest @ ..] => (*vault, rest),
        _ => return Err(error(404, "page not found")),
    };
    if !is_id(vault_id) {
        return Err(error(400, "Invalid Vault UUID"));
    }
    if data.denied.contains(vault_id) {
        return Err(error(403, format!("vault {vault_id} is not in scope")));
    }
    let no_vault = || error(404, format!("vault {vault_id} not found"));
    let vault = data.vaults.vault(vault_id).ok_or_else(no_vault)?;
    let (item_id, rest) = match rest {
        [] => return Ok(Reply::json(&shown_vault(vault))),
        ["items"] => return listed(items(vault).iter(), "title", asked, summary),
        ["items", item, rest @ ..] => (*item, rest),
        _ => return Err(error(404, "page not found")),
    };
    if !is_id(item_id) {
        return Err(error(400, "Invalid Item UUID"));
    }
    let no_item = || error(404, format!("item {item_id} not found"));
    let item = items(vault).iter().find(|item| item["id"] == item_id).ok_or_else(no_item)?;
    let inline = asked.parameter("inline_files").as_deref() == Some("true");
    let empty = Vec::new();
    let files = item["files"].as_array().unwrap_or(&empty);
    let file = |id: &str| {
        let no_file = || error(404, format!("file {id} not found"));
        files.iter().find(|file| file["id"] == id).ok_or_else(no_file)
    };
    match rest {
        [] => Ok(Reply::json(&full(item))),
        ["files"] => Ok(Reply::json(&files.iter().map(|file| shown_file(item, file, inline)).collect())),
        ["files", id] => Ok(Reply::json(&shown_file(item, file(id)?, inline))),
        ["files", id, "content"] => {
            let file = file(id)?;
            let mut reply = Reply::of(200, "application/octet-stream", content(file));
            let name = file["name"].as_str().unwrap_or("file");
            reply.headers.push(("content-disposition", format!("attachment; filename={name:?}")));
            Ok(reply)
        }
        _ => Err(error(404, "page not found")),
    }
}

fn vaults(data: &Data, asked: &Asked) -> Result<Reply, Reply> {
    listed(data.within(), "name", asked, shown_vault)
}

fn listed<'a>(
    things: impl Iterator<Item = &'a Value>,
    key: &str,
    asked: &Asked,
    show: fn(&Value) -> Value,
) -> Result<Reply, Reply> {
    let Some(text) = asked.parameter("filter") else {
        return Ok(Reply::json(&things.map(show).collect()));
    };
    let bad = || error(400, format!("Invalid filter: {text}"));
    let filter = Filter::parse(&text).ok_or_else(bad)?;
    let mut passed = Vec::new();
    for thing in things {
        if filter.passes(thing[key].as_str().unwrap_or_default()).ok_or_else(bad)? {
            passed.push(show(thing));
        }
    }
    Ok(Reply::json(&passed.into()))
}

/// A vault with the number of its items instead of the items.
fn shown_vault(vault: &Value) -> Value {
    let mut shown = without(vault, &["items"]);
    shown["items"] = json!(items(vault).iter().filter(|item| item["state"].is_null()).count());
    shown
}

/// An item in a list.
fn summary(item: &Value) -> Value {
    without(item, &["sections", "fields", "files"])
}

fn without(thing: &Value, keys: &[&str]) -> Value {
    let entries = thing.as_object().into_iter().flatten();
    let kept: Map<String, Value> = entries
        .filter(|(key, _)| !keys.contains(&key.as_str()))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    kept.into()
}

/// A complete item: with computed codes, and without the contents of files.
fn full(item: &Value) -> Value {
    let mut shown = item.clone();
    for field in shown["fields"].as_array_mut().into_iter().flatten() {
        let is_otp = matches!(field["type"].as_str(), Some("OTP" | "TOTP"));
        let code = field["value"].as_str().and_then(|uri| otp::code(uri, clock::now()));
        if let (true, Some(code)) = (is_otp, code) {
            field["totp"] = json!(code);
        }
    }
    if let Some(files) = item["files"].as_array() {
        shown["files"] = files.iter().map(|file| shown_file(item, file, false)).collect();
    }
    shown
}

fn shown_file(item: &Value, file: &Value, inline: bool) -> Value {
    let content = content(file);
    let mut shown = json!({ "id": file["id"], "name": file["name"], "size": content.len() });
    let id = |thing: &Value| thing["id"].as_str().unwrap_or_default().to_owned();
    let (vault, item, file_id) = (id(&item["vault"]), id(item), id(file));
    shown["content_path"] = json!(format!("/v1/vaults/{vault}/items/{item}/files/{file_id}/content"));
    if file["section"].is_object() {
        shown["section"] = file["section"].clone();
    }
    if inline {
        shown["content"] = json!(BASE64_STANDARD.encode(content));
    }
    shown
}

fn health() -> Value {
    json!({ "name": "1Password Connect API", "version": VERSION, "dependencies": [
        { "service": "sync", "status": "ACTIVE" },
        { "service": "sqlite", "status": "ACTIVE", "message": "Connected to /home/opuser/.op/data/1password.sqlite" },
    ] })
}
