//! Examines a service account through 1Password's SDK core, with one call per known fact. Only reads. Never
//! sends a wrong token, because 1Password locks accounts after several.

use onecred::config::ServiceAccount;
use onecred::domain::secret::SecretValue;
use onecred::ipc::Class;
use onecred::resolver::service_account::{RawAccount, Refusal, Surroundings};
use serde_json::{Value, json};

use crate::item::{Item, list, text};
use crate::own::{Question, Way};
use crate::words::Words;
use crate::{Ended, pick};

/// A well-formed ID that does not exist.
const NO_ID: &str = "nosuchid2345nosuchid234567";
/// The maximum number of items that the core reads at once.
const BATCH: usize = 50;

/// The purpose of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Vaults,
    Items,
    Archived,
    Batch,
    Item,
    ArchivedItem,
    UnknownVault,
    UnknownItem,
    File,
    Resolve,
}

/// Why a call was refused: the resolver's class of the failure, and the core's name for it.
pub(crate) struct Refused {
    pub(crate) class: Class,
    pub(crate) name: Option<String>,
}

/// All results.
#[derive(Default)]
pub(crate) struct Evidence {
    pub(crate) exchanges: Vec<(Step, Result<Value, Refused>)>,
    pub(crate) release: Option<&'static str>,
    /// The entry of the vault in the list.
    pub(crate) vault: Value,
    pub(crate) items: Vec<Item>,
    /// The size of the file according to its item.
    pub(crate) file_size: Option<u64>,
    /// 1Password has answered "rate limited"; nothing else is requested.
    pub(crate) is_limited: bool,
    pub(crate) left_out: usize,
}

/// Logs in once.
pub(crate) async fn log_in(
    token: &SecretValue,
    configured: &ServiceAccount,
    surroundings: &Surroundings,
) -> Result<RawAccount, Refusal> {
    RawAccount::log_in(token, configured, surroundings).await
}

/// Examines everything, in an order in which each answer enables the next call.
pub(crate) async fn look(
    account: &RawAccount,
    surroundings: &Surroundings,
    wanted: &str,
    words: &mut Words,
) -> Result<Evidence, Ended> {
    let mut evidence = Evidence { release: account.release(), ..Evidence::default() };
    let mut walk = Walk { account, surroundings, evidence: &mut evidence, words };
    let Some(vaults) = walk.call(Step::Vaults, "VaultsList", json!({}), 1).await else { return Ok(evidence) };
    let vault = pick(list(&vaults), "title", wanted)?;
    let id = text(&vault["id"]);
    walk.evidence.vault = vault;
    let every = json!({ "vault_id": id, "filters": [] });
    let overviews = walk.call(Step::Items, "ItemsList", every, 1).await.unwrap_or_default();
    let by_state = json!({ "type": "ByState", "content": { "active": false, "archived": true } });
    let archived = json!({ "vault_id": id, "filters": [by_state] });
    let archived = walk.call(Step::Archived, "ItemsList", archived, 1).await.unwrap_or_default();
    let ids = list(&overviews).iter().map(|item| text(&item["id"])).take(BATCH).collect::<Vec<_>>();
    if !ids.is_empty() {
        let batch = json!({ "vault_id": id, "item_ids": ids });
        let batch = walk.call(Step::Batch, "ItemsGetAll", batch, 1).await.unwrap_or_default();
        let whole = list(&batch["individualResponses"])
            .iter()
            .map(|one| &one["content"])
            .filter(|item| item.is_object());
        walk.evidence.items = whole.map(Item::of_core).collect();
        let one = json!({ "vault_id": id, "item_id": ids[0] });
        walk.call(Step::Item, "ItemsGet", one, 1).await;
    }
    if let Some(item) = list(&archived).first() {
        let item = json!({ "vault_id": id, "item_id": item["id"] });
        walk.call(Step::ArchivedItem, "ItemsGet", item, 1).await;
    }
    let file = walk.evidence.items.iter().find_map(|item| {
        let file = item.files.iter().min_by_key(|file| file.size.unwrap_or(u64::MAX))?;
        Some((json!({ "vault_id": id, "item_id": item.id, "attr": { "name": file.name, "id": file.id, "size": 0 } }), file.size))
    });
    if let Some((file, size)) = file {
        walk.evidence.file_size = size;
        walk.call(Step::File, "ItemsFilesRead", file, 2).await; // the item and the file
    }
    walk.call(Step::UnknownVault, "ItemsList", json!({ "vault_id": NO_ID, "filters": [] }), 1).await;
    walk.call(Step::UnknownItem, "ItemsGet", json!({ "vault_id": id, "item_id": NO_ID }), 1).await;
    Ok(evidence)
}

/// Resolves the fields that the resolver is asked for by ID with the core itself, to compare both. Codes
/// change, and files are not text.
pub(crate) async fn resolve_officially(
    account: &RawAccount,
    surroundings: &Surroundings,
    questions: &[Question],
    evidence: &mut Evidence,
    words: &mut Words,
) {
    let wanted = questions.iter().flat_map(|question| &question.wanted);
    let references = wanted
        .filter(|wanted| !matches!(wanted.way, Way::Otp | Way::File))
        .map(|wanted| wanted.reference.as_str());
    let references = references.collect::<Vec<_>>();
    if references.is_empty() {
        return;
    }
    let mut walk = Walk { account, surroundings, evidence, words };
    // the list of vaults, the list of items, and one batch
    walk.call(Step::Resolve, "SecretsResolveAll", json!({ "secret_references": references }), 4).await;
}

struct Walk<'a> {
    account: &'a RawAccount,
    surroundings: &'a Surroundings,
    evidence: &'a mut Evidence,
    words: &'a mut Words,
}

impl Walk<'_> {
    /// Makes a call and keeps its result.
    async fn call(&mut self, step: Step, name: &str, parameters: Value, requests: u32) -> Option<Value> {
        let has_calls = self.surroundings.limit.left().is_none_or(|left| left >= requests);
        if self.evidence.is_limited || !has_calls {
            self.evidence.left_out += 1;
            return None;
        }
        let outcome = match self.account.call(name, parameters, requests).await {
            Ok(bytes) => Ok(serde_json::from_slice::<Value>(&bytes).unwrap_or_default()),
            Err(Refusal { failure, name }) => Err(Refused { class: failure.class, name }),
        };
        let json = outcome.as_ref().ok().cloned();
        if let Some(json) = &json {
            self.words.hide_all(json);
        }
        self.evidence.is_limited |= outcome.as_ref().is_err_and(|refused| refused.class == Class::Limited);
        self.evidence.exchanges.push((step, outcome));
        json
    }
}

impl Evidence {
    pub(crate) fn of(&self, step: Step) -> impl Iterator<Item = &Result<Value, Refused>> {
        self.exchanges.iter().filter(move |(of, _)| *of == step).map(|(_, outcome)| outcome)
    }

    pub(crate) fn json(&self, step: Step) -> Option<&Value> {
        self.of(step).find_map(|outcome| outcome.as_ref().ok())
    }
}
