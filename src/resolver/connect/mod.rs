//! A backend for 1Password Connect, a server that the user runs, over HTTP.

pub(super) mod breaker;
mod claims;
mod gate;
mod http;
mod local;
mod url;
mod verdict;

use std::path::PathBuf;
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep};
use zeroize::Zeroizing;

use crate::domain::secret::SecretValue;
use crate::ipc::{Class, Failure, ItemId};

use super::CallLimit;
use super::backend::{About, Backend};
use crate::resolver::items::model::{self, File, FullItem, ItemOverview, Vault};
pub(super) use claims::Claims;
use gate::{Gate, Pace};
use http::{Http, Want};

/// The maximum sizes of a list, an item and a file, in bytes.
const MAX_LIST: usize = 16 << 20;
const MAX_ITEM: usize = 8 << 20;
const MAX_FILE: usize = SecretValue::MAX;

/// How long to wait before requesting an empty list of vaults again: a server that is still synchronising
/// returns an empty list.
const EMPTY_AGAIN: Duration = Duration::from_secs(1);

/// The address of a Connect server, and how to trust it.
pub(super) struct Address {
    /// The base URL without `/v1`, or `unix:` and the path of a socket.
    pub(super) url: String,
    /// Allows plain HTTP to other hosts, and on this host to servers of any user.
    pub(super) insecure: bool,
    /// The users besides root that may run the server on this host.
    pub(super) users: Vec<String>,
    /// A PEM file with certificate authorities to trust instead of those of the system.
    pub(super) ca_file: Option<PathBuf>,
}

/// A Connect server.
pub(super) struct Connect {
    http: Http,
    gate: Gate,
    claims: Claims,
}

impl Connect {
    /// Prepares a client without sending anything. The token must not have surrounding whitespace.
    pub(super) fn new(address: Address, token: &SecretValue, limit: CallLimit) -> Result<Self, Failure> {
        let claims = Claims::read(token).unwrap_or_default();
        Ok(Self { http: Http::new(address, token, limit)?, gate: Gate::new(Pace::default()), claims })
    }

    async fn get(&self, want: &Want<'_>, by: Instant) -> Result<Zeroizing<Vec<u8>>, Failure> {
        self.gate.call(by, |room| self.http.get(want, room)).await
    }

    async fn get_json<T: DeserializeOwned>(&self, want: &Want<'_>, by: Instant) -> Result<T, Failure> {
        let json = self.get(want, by).await?;
        model::parse(&json).map_err(|error| self.malformed(want.what, &error))
    }

    fn malformed(&self, what: &str, why: &str) -> Failure {
        Failure::new(
            Class::Malformed,
            format!("{what} from Connect at {}: {why}", self.http.label()),
            "check whether the source's url is that of a Connect server, and whether a proxy changes its answers",
        )
    }

    /// The list of vaults, possibly empty.
    async fn list_vaults(&self, by: Instant) -> Result<Vec<Vault>, Failure> {
        let want = Want { path: &["vaults"], what: "the list of vaults", json: true, most: MAX_LIST };
        self.get_json(&want, by).await.map_err(|failure| match failure.class {
            Class::NotFound => self.malformed(want.what, "the server knows no such list (404)"),
            _ => of_list(failure),
        })
    }
}

/// Adjusts a failure of a list: the remedy of a value that is too large does not apply.
fn of_list(mut failure: Failure) -> Failure {
    if failure.class == Class::TooLarge {
        failure.remedy =
            "check whether the source's url is that of a Connect server, or keep fewer items in a vault"
                .into();
    }
    failure
}

impl Backend for Connect {
    const CALLS_COST: bool = true;
    const VERSIONS_GROW: bool = true;
    const HOLDERS: Option<&'static str> = Some("Connect servers");

    fn about(&self) -> About {
        About { at: self.http.label().to_owned(), writes: None, expires: self.claims.expires }
    }

    async fn vaults(&self, by: Instant) -> Result<Vec<Vault>, Failure> {
        for look in 1..=3 {
            let vaults = self.list_vaults(by).await?;
            if !vaults.is_empty() {
                return Ok(vaults);
            }
            if look < 3 && Instant::now() + EMPTY_AGAIN >= by {
                return Err(Failure::new(
                    Class::Away,
                    format!("Connect at {} returns no vaults yet", self.http.label()),
                    "wait until it has synchronised, or check whether the token has any vaults",
                ));
            }
            if look < 3 {
                sleep(EMPTY_AGAIN).await;
            }
        }
        Err(Failure::new(
            Class::Denied,
            format!("the token sees no vault of Connect at {}", self.http.label()),
            "give the token access to the vaults that the references name; Private, Personal and Employee vaults cannot be granted",
        ))
    }

    async fn items(&self, vault: &str, by: Instant) -> Result<Vec<ItemOverview>, Failure> {
        let what = format!("the list of items in vault {vault:?}");
        let want = Want { path: &["vaults", vault, "items"], what: &what, json: true, most: MAX_LIST };
        let items: Vec<ItemOverview> = self.get_json(&want, by).await.map_err(of_list)?;
        if items.iter().any(|item| item.vault.as_ref().is_some_and(|v| v.id != vault)) {
            return Err(self.malformed(&what, "it contains items of another vault"));
        }
        Ok(items)
    }

    async fn item(&self, id: &ItemId, by: Instant) -> Result<FullItem, Failure> {
        let what = format!("item {:?} in vault {:?}", id.item, id.vault);
        let path = ["vaults", &id.vault, "items", &id.item];
        let want = Want { path: &path, what: &what, json: true, most: MAX_ITEM };
        let item: FullItem = self.get_json(&want, by).await?;
        if item.id != id.item || item.vault.as_ref().is_none_or(|v| v.id != id.vault) {
            return Err(self.malformed(&what, "it is another item than was asked for"));
        }
        Ok(item)
    }

    async fn file(&self, id: &ItemId, file: &File, by: Instant) -> Result<SecretValue, Failure> {
        let what = format!("file {:?} of item {:?} in vault {:?}", file.name, id.item, id.vault);
        let path = ["vaults", &id.vault, "items", &id.item, "files", &file.id, "content"];
        let want = Want { path: &path, what: &what, json: false, most: MAX_FILE };
        let mut content = self.get(&want, by).await?;
        Ok(SecretValue::new(std::mem::take(&mut *content)))
    }
}
