//! The answers of the SDK core, and their conversion to the data model of Connect, which all sources use.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use crate::host::clock;
use crate::ipc::version;
use crate::resolver::items::model::{
    Field, FieldValue, File, FullItem, ItemOverview, Section, Vault, VaultId,
};

/// The time in seconds within which an item may change again and still have the same time of change.
const RECENT: u64 = 300;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CoreVault {
    id: String,
    title: String,
    #[serde(default)]
    content_version: Option<u64>,
    #[serde(default)]
    active_item_count: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CoreOverview {
    id: String,
    title: String,
    vault_id: String,
    #[serde(default)]
    updated_at: String,
    #[serde(default)]
    state: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CoreItem {
    id: String,
    title: String,
    vault_id: String,
    fields: Vec<CoreField>,
    #[serde(default)]
    sections: Vec<CoreSection>,
    #[serde(default)]
    notes: Zeroizing<String>,
    #[serde(default)]
    files: Vec<CoreFile>,
    #[serde(default)]
    document: Option<Attributes>,
    #[serde(default)]
    updated_at: String,
}

#[derive(Deserialize)]
struct CoreSection {
    id: String,
    title: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CoreField {
    id: String,
    title: String,
    section_id: Option<String>,
    field_type: String,
    value: Zeroizing<String>,
    #[serde(default)]
    details: Option<Details>,
}

#[derive(Deserialize)]
struct Details {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    content: Content,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Content {
    #[serde(default)]
    public_key: Option<String>,
    #[serde(default)]
    fingerprint: Option<String>,
    #[serde(default)]
    key_type: Option<String>,
    #[serde(default)]
    code: Option<Zeroizing<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CoreFile {
    attributes: Attributes,
    #[serde(default)]
    section_id: Option<String>,
}

#[derive(Deserialize)]
struct Attributes {
    name: String,
    id: String,
}

/// One item of a batch.
#[derive(Deserialize)]
pub(super) struct OneOfAll {
    pub(super) content: Option<CoreItem>,
}

/// A batch of items. It has no entries for missing items.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct All {
    pub(super) individual_responses: Vec<OneOfAll>,
}

/// Parses an answer of the SDK core. The error contains the position but not the content.
pub(super) fn parse<T: DeserializeOwned>(json: &[u8]) -> Result<T, String> {
    serde_json::from_slice(json).map_err(|error| {
        format!(
            "it does not have the form of the core's answers (line {}, column {})",
            error.line(),
            error.column()
        )
    })
}

impl From<CoreVault> for Vault {
    fn from(vault: CoreVault) -> Self {
        Self {
            id: vault.id,
            name: vault.title,
            content_version: vault.content_version,
            items: vault.active_item_count,
        }
    }
}

impl From<CoreOverview> for ItemOverview {
    fn from(item: CoreOverview) -> Self {
        Self {
            version: Some(version::of_change(&item.updated_at)),
            id: item.id,
            title: item.title,
            vault: Some(VaultId { id: item.vault_id }),
            state: item.state,
        }
    }
}

impl CoreItem {
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn vault_id(&self) -> &str {
        &self.vault_id
    }
}

impl From<CoreItem> for FullItem {
    fn from(item: CoreItem) -> Self {
        let within = |id: &Option<String>| {
            let id = id.as_ref().filter(|id| !id.is_empty())?;
            let title = item.sections.iter().find(|s| s.id == *id).map(|s| s.title.clone());
            Some(Section { id: id.clone(), label: title.unwrap_or_default() })
        };
        let files = item.files.iter().map(|file| (&file.attributes, within(&file.section_id)));
        let document = item.document.iter().map(|attributes| (attributes, None));
        let files = files.chain(document).map(|(attributes, section)| File {
            id: attributes.id.clone(),
            name: attributes.name.clone(),
            section,
            content: None,
            content_base64: None,
        });
        let files = files.collect();
        let note = Field {
            id: "notesPlain".into(),
            section: None,
            kind: "STRING".into(),
            purpose: "NOTES".into(),
            label: "notesPlain".into(),
            value: Some(FieldValue::Text(item.notes)),
            totp: None,
        };
        let named: Vec<String> = item.fields.iter().map(|field| field.title.to_ascii_lowercase()).collect();
        let fields = item.fields.into_iter().flat_map(|field| {
            let mut about = about_key(&field, || within(&field.section_id));
            about.retain(|about| !named.contains(&about.label));
            let section = within(&field.section_id);
            std::iter::once(read_field(field, section)).chain(about)
        });
        let fields = fields.chain([note]).collect();
        let sections =
            item.sections.iter().map(|s| Section { id: s.id.clone(), label: s.title.clone() }).collect();
        Self {
            version: Some(version::of_recent_change(&item.updated_at, clock::unix(), RECENT)),
            id: item.id,
            title: Some(item.title),
            vault: Some(VaultId { id: item.vault_id }),
            state: None, // deleted items are not returned
            sections,
            fields,
            files,
        }
    }
}

/// Converts a field. The SDK core has already formatted dates, months and addresses, so they are text.
fn read_field(field: CoreField, section: Option<Section>) -> Field {
    let kind = match field.field_type.as_str() {
        "Totp" => "OTP",
        "SshKey" => "SSHKEY",
        _ => "STRING",
    };
    let value = match field.field_type.as_str() {
        // the core does not return the value, and an empty value would be wrong
        "Unsupported" => FieldValue::Hidden,
        _ => FieldValue::Text(field.value),
    };
    let code = field.details.filter(|details| details.kind == "Otp").and_then(|details| details.content.code);
    Field {
        id: field.id,
        section,
        kind: kind.into(),
        purpose: String::new(),
        label: field.title,
        value: Some(value),
        totp: code.map(FieldValue::Text),
    }
}

/// The further data of a private key, which other sources return as separate fields.
fn about_key(field: &CoreField, section: impl Fn() -> Option<Section>) -> Vec<Field> {
    let Some(about) = field.details.as_ref().filter(|details| details.kind == "SshKey") else {
        return vec![];
    };
    let about = &about.content;
    let all = [
        ("public_key", "public key", &about.public_key),
        ("fingerprint", "fingerprint", &about.fingerprint),
        ("key_type", "key type", &about.key_type),
    ];
    let known = all.into_iter().filter_map(|(id, label, text)| Some((id, label, text.clone()?)));
    let field = |(id, label, text): (&str, &str, _)| Field {
        id: id.into(),
        section: section(),
        kind: "STRING".into(),
        purpose: String::new(),
        label: label.into(),
        value: Some(FieldValue::Text(Zeroizing::new(text))),
        totp: None,
    };
    known.map(field).collect()
}
