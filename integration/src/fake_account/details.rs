//! Items as the core decrypts them, converted from the data model of Connect.

use serde_json::{Value, json};

use super::files;
use super::keys::{Keys, VaultKey};
use crate::fake::clock;

/// An item in a list: only its title.
pub(super) fn overview(account: &Keys, vault: &Value, item: &Value) -> Value {
    let trashed = match item["state"].as_str() {
        Some("ARCHIVED") => "Y",
        Some(_) => "D",
        None => "N",
    };
    let key = VaultKey::of(vault);
    let tags = item["tags"].as_array().cloned().unwrap_or_default();
    let overview = json!({ "title": item["title"], "tags": tags, "url": "", "ainfo": "" });
    json!({ "uuid": item["id"], "templateUuid": template(&item["category"]), "trashed": trashed,
        "createdAt": item["createdAt"], "updatedAt": item["updatedAt"], "changerUuid": account.id("user").to_uppercase(),
        "itemVersion": item["version"], "encryptedBy": key.id, "faveIndex": 0, "encOverview": key.seal(&overview) })
}

/// A complete item.
pub(super) fn whole(account: &Keys, vault: &Value, item: &Value) -> Value {
    let mut shown = overview(account, vault, item);
    shown["encDetails"] = VaultKey::of(vault).seal(&details(item));
    shown
}

fn template(category: &Value) -> &'static str {
    match category.as_str().unwrap_or_default() {
        "LOGIN" => "001",
        "CREDIT_CARD" => "002",
        "SECURE_NOTE" => "003",
        "IDENTITY" => "004",
        "PASSWORD" => "005",
        "DOCUMENT" => "006",
        "DATABASE" => "102",
        "SERVER" => "110",
        "API_CREDENTIAL" => "112",
        "SSH_KEY" => "114",
        "CRYPTO_WALLET" => "115",
        _ => "003",
    }
}

fn details(item: &Value) -> Value {
    let empty = Vec::new();
    let listed = |key: &str| item[key].as_array().unwrap_or(&empty);
    let mut made = json!({ "fields": [], "notesPlain": "" });
    // Fields outside any section are in a section without a name, except for those of the category.
    let mut sections = vec![json!({ "name": "", "title": "", "fields": [] })];
    for section in listed("sections") {
        sections.push(json!({ "name": section["id"], "title": section["label"], "fields": [] }));
    }
    let mut add = |to: &Value, field: Value| {
        let name = to["id"].as_str().unwrap_or_default();
        let section = sections.iter_mut().find(|section| section["name"] == name);
        section
            .and_then(|section| section["fields"].as_array_mut())
            .into_iter()
            .for_each(|all| all.push(field.clone()));
    };
    let computed = has_ssh_key(item);
    for field in listed("fields").iter().filter(|field| !(computed && is_computed(field))) {
        let value = field["value"].as_str().unwrap_or_default();
        let built_in = |kind: &str, designation: &str| json!({ "designation": designation, "name": field["id"], "type": kind, "value": value });
        match field["purpose"].as_str() {
            Some("NOTES") => made["notesPlain"] = json!(value),
            Some("USERNAME") => push(&mut made["fields"], built_in("T", "username")),
            Some("PASSWORD") => push(&mut made["fields"], built_in("P", "password")),
            _ => add(&field["section"], in_section(item, field, value)),
        }
    }
    for file in listed("files") {
        if file["section"].is_null() && item["category"] == "DOCUMENT" && made["documentAttributes"].is_null()
        {
            made["documentAttributes"] = files::attributes(file);
        } else {
            let field =
                json!({ "k": "file", "n": file["id"], "t": file["name"], "v": files::attributes(file) });
            add(&file["section"], field);
        }
    }
    sections.retain(|section| section["name"] != "" || section["fields"] != json!([]));
    made["sections"] = json!(sections);
    made
}

/// Whether the item has an SSH key. The core itself derives the other fields from the private key.
fn has_ssh_key(item: &Value) -> bool {
    item["fields"].as_array().into_iter().flatten().any(|field| field["type"] == "SSHKEY")
}

fn is_computed(field: &Value) -> bool {
    ["public key", "fingerprint", "key type"].iter().any(|label| field["label"] == *label)
}

fn push(list: &mut Value, entry: Value) {
    list.as_array_mut().into_iter().for_each(|list| list.push(entry.clone()));
}

fn in_section(item: &Value, field: &Value, value: &str) -> Value {
    let (kind, value) = kind_and_value(field["type"].as_str().unwrap_or_default(), value);
    let id = field["id"].as_str().unwrap_or_default();
    let is_otp = matches!(field["type"].as_str(), Some("OTP" | "TOTP"));
    let name = if is_otp && !id.starts_with("TOTP_") { format!("TOTP_{id}") } else { id.to_owned() };
    let mut made = json!({ "k": kind, "n": name, "t": field["label"] });
    if !field["value"].is_null() {
        made["v"] = value;
    }
    if kind == "sshKey" {
        let other = |label: &str| {
            let fields = item["fields"].as_array().into_iter().flatten();
            fields
                .filter(|each| each["label"] == label)
                .map(|each| each["value"].clone())
                .next()
                .unwrap_or_default()
        };
        let key_type = other("key type");
        let (kind, bits) = key_type
            .as_str()
            .unwrap_or_default()
            .split_once('-')
            .map_or((key_type.as_str().unwrap_or_default(), None), |(kind, bits)| {
                (kind, bits.parse::<u32>().ok())
            });
        let mut key_type = json!({ "t": kind });
        if let Some(bits) = bits {
            key_type["c"] = json!(bits);
        }
        made["a"] = json!({ "guarded": "yes", "sshKeyAttributes": { "privateKey": field["value"],
            "publicKey": other("public key"), "fingerprint": other("fingerprint"), "keyType": key_type } });
    }
    made
}

fn kind_and_value(kind: &str, value: &str) -> (String, Value) {
    let text = json!(value);
    let (known, value) = match kind {
        "STRING" | "CREDIT_CARD_NUMBER" => ("string", text),
        "EMAIL" => ("email", text),
        "CONCEALED" | "OTP" | "TOTP" => ("concealed", text),
        "URL" => ("URL", text),
        "DATE" => ("date", date(value).map_or(text, Value::from)),
        "MONTH_YEAR" => ("monthYear", value.replace('/', "").parse::<u32>().map_or(text, Value::from)),
        "MENU" => ("menu", text),
        "ADDRESS" => ("address", address(value)),
        "PHONE" => ("phone", text),
        "GENDER" => ("gender", text),
        "CREDIT_CARD_TYPE" => ("cctype", text),
        "REFERENCE" => ("reference", text),
        "SSHKEY" => ("sshKey", text),
        "FILE" => ("file", text),
        // an unknown type for every core
        other => return (other.to_lowercase(), text),
    };
    (known.to_owned(), value)
}

/// Seconds since 1970; a date as text means its noon.
fn date(value: &str) -> Option<u64> {
    value.parse().ok().or_else(|| {
        let noon = format!("{value}T12:01:00Z");
        (0..u64::from(u32::MAX))
            .step_by(86_400)
            .map(|day| day + 43_260)
            .find(|at| clock::rfc3339(*at) == noon)
    })
}

/// Parses `street, …, country`. The part in between becomes the city, so that the core writes the same text.
fn address(value: &str) -> Value {
    let (street, rest) = value.split_once(", ").unwrap_or((value, ""));
    let (city, country) = rest.rsplit_once(", ").unwrap_or((rest, ""));
    json!({ "street": street, "city": city, "country": country })
}
