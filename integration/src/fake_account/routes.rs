//! The read-only part of the service's API that the core uses: a request in, a reply out.

use serde_json::{Value, json};

use super::envelope::{Key, open, seal};
use super::keys::{Keys, VaultKey};
use super::session::{Refusal, Sessions};
use super::{details, files};
use crate::fake::fault::Kind;
use crate::fake::reply::Reply;
use crate::fake::state::Data;
use crate::fake::vault::items;
use crate::fake::{Service, service::Asked};

/// The permissions of a service account with read access to a vault, as bits.
const READ: u32 = 32;

/// The service and its sessions with clients.
#[derive(Debug, Default)]
pub struct Account {
    sessions: Sessions,
}

impl Service for Account {
    fn answer(&self, data: &Data, asked: &Asked) -> Reply {
        self.look_up(data, asked).unwrap_or_else(|(status, why)| self.error(status, why))
    }

    fn error(&self, status: u16, message: &str) -> Reply {
        Reply {
            status,
            ..Reply::json(&json!({ "errorCode": status, "errorMessage": message, "reason": message }))
        }
    }

    fn spoil(&self, kind: &Kind, data: &Data, asked: &Asked, reply: Reply) -> Reply {
        match kind {
            Kind::OtherItem => match other_item(data, &asked.path) {
                Some(path) => self.answer(data, &asked.elsewhere(path)),
                None => reply,
            },
            Kind::WrongSignature if asked.path.ends_with("/confirm-key") => {
                Reply::json(&json!({ "serverVerifyHash": "A".repeat(43) }))
            }
            Kind::WrongKey if reply.status == 200 => {
                Reply::json(&seal(session_of(asked), &[0; 32], &json!({})))
            }
            Kind::EndSession => {
                self.sessions.end(session_of(asked));
                self.answer(data, asked)
            }
            _ => reply,
        }
    }

    fn token(&self, data: &Data, url: &str) -> Result<String, String> {
        Ok(Keys::of(&data.token).token(url))
    }

    fn reset(&self) {
        self.sessions.end_all();
    }
}

impl Account {
    fn look_up(&self, data: &Data, asked: &Asked) -> Result<Reply, Refusal> {
        let plain = || serde_json::from_slice(&asked.body).unwrap_or_default();
        let (session, parts) = (session_of(asked), asked.parts());
        match (asked.method.as_str(), parts.as_slice()) {
            ("POST", ["api", "v3", "auth", "start"]) => {
                return self
                    .sessions
                    .start(Keys::of(&data.token), &plain())
                    .map(|answer| Reply::json(&answer));
            }
            ("POST", ["api", "v2", "auth"]) => {
                return self.sessions.exchange(session, &plain()).map(|answer| Reply::json(&answer));
            }
            ("POST", ["api", "v2", "auth", "confirm-key"]) => {
                return self.sessions.confirm(session, &plain()).map(|answer| Reply::json(&answer));
            }
            _ => {}
        }
        let (account, key) = self.sessions.key(session)?;
        if account.email != Keys::of(&data.token).email {
            return Err((401, "the token was revoked"));
        }
        if let ["api", "v3", "file", file] = parts.as_slice() {
            let content = files::encrypted(data, file).ok_or((404, "no such file"))?;
            return Ok(Reply::of(200, "application/octet-stream", content));
        }
        let answer = logged_in(data, asked, &account, &key, &parts)?;
        Ok(Reply::json(&seal(session, &key, &answer)))
    }
}

fn session_of(asked: &Asked) -> &str {
    asked.header("x-agilebits-session-id").unwrap_or_default()
}

/// The answer to a logged-in client, before encryption.
fn logged_in(
    data: &Data,
    asked: &Asked,
    account: &Keys,
    key: &Key,
    parts: &[&str],
) -> Result<Value, Refusal> {
    let (id, rest) = match (asked.method.as_str(), parts) {
        ("POST", ["api", "v2", "auth", "complete"]) => {
            return Ok(json!({ "accountUuid": account.id("account").to_uppercase(), "mfa": null,
                "userUuid": account.id("user").to_uppercase() }));
        }
        ("GET", ["api", "v2", "account", "keysets"]) => {
            return Ok(json!({ "version": 1, "keysets": [account.keyset()] }));
        }
        ("GET", ["api", "v1", "vaults"]) => {
            return Ok(data.within().map(|vault| described(account, vault)).collect());
        }
        ("GET" | "POST", ["api", _, "vault", vault, rest @ ..]) => (*vault, rest),
        _ => return Err((404, "no such resource")),
    };
    if data.denied.contains(id) {
        return Err((403, "no access to this vault"));
    }
    let vault = data.vaults.vault(id).ok_or((404, "no such vault"))?;
    let version = &vault["contentVersion"];
    match (asked.method.as_str(), rest) {
        ("GET", []) => Ok(described(account, vault)),
        ("GET", ["items", "overviews"]) => {
            // The core rejects a list that contains a deleted item.
            let listed = items(vault).iter().filter(|item| item["state"] != "DELETED");
            let items: Vec<Value> = listed.map(|item| details::overview(account, vault, item)).collect();
            Ok(json!({ "vaultUuid": id, "contentVersion": version, "batchComplete": true, "items": items }))
        }
        ("GET", ["item", item]) => {
            let item = items(vault).iter().find(|each| each["id"] == *item).ok_or((404, "no such item"))?;
            Ok(json!({ "contentVersion": version, "item": details::whole(account, vault, item) }))
        }
        ("POST", ["items", "batch"]) => {
            let asked =
                open(key, &asked.body).ok_or((400, "the request is not encrypted for this session"))?;
            let ids = asked["itemUuids"].as_array().ok_or((400, "no itemUuids"))?;
            let found = ids.iter().filter_map(|id| items(vault).iter().find(|item| item["id"] == *id));
            let items: Vec<Value> = found.map(|item| details::whole(account, vault, item)).collect();
            Ok(json!({ "contentVersion": version, "items": items }))
        }
        _ => Err((404, "no such resource")),
    }
}

/// A vault: its name encrypted, and its key encrypted for the account.
fn described(account: &Keys, vault: &Value) -> Value {
    let key = VaultKey::of(vault);
    let access = json!({ "vaultUuid": vault["id"], "accessorType": "user", "accessorUuid": account.id("user").to_uppercase(),
        "accessVersion": 1, "acl": READ, "leaseTimeout": 0, "vaultKeySN": 1, "encryptedBy": account.id("keyset"),
        "encVaultKey": account.wrapped(&key) });
    let attributes =
        json!({ "uuid": vault["id"], "name": vault["name"], "desc": "", "type": "U", "avatar": "" });
    let active = items(vault).iter().filter(|item| item["state"].is_null()).count();
    json!({ "uuid": vault["id"], "type": "U", "createdAt": vault["createdAt"], "updatedAt": vault["updatedAt"],
        "attrVersion": vault["attributeVersion"], "contentVersion": vault["contentVersion"], "activeItemCount": active,
        "encryptedBy": key.id, "encAttrs": key.seal(&attributes), "access": [access], "combinedAccess": access,
        "clientAccess": READ, "accessorsPreviews": null })
}

/// The path of the item after the one in `…/vault/V/item/I`.
fn other_item(data: &Data, path: &str) -> Option<String> {
    let (before, id) = path.rsplit_once("/item/")?;
    let items = items(data.vaults.vault(before.rsplit_once('/')?.1)?);
    let at = items.iter().position(|item| item["id"] == id)?;
    Some(format!("{before}/item/{}", items[(at + 1) % items.len()]["id"].as_str()?))
}
