//! The data: vaults in the data model of Connect as one JSON document, and the fixture that the tests share.

use std::sync::OnceLock;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Value, json};

use super::clock;

const FIXTURE: &str = include_str!("../../fixtures/vault.json");
const SINCE: u64 = 1_700_000_000;

/// The size in bytes of the field `value` of the item `big`: slightly less than a credential may have.
pub const BIG: usize = 900 * 1024;
/// The size in bytes of the field `value` of the item `huge`: more than a credential may have.
pub const HUGE: usize = 1536 * 1024;

/// The fixture: `fixtures/vault.json`.
pub fn fixture() -> Value {
    serde_json::from_str(FIXTURE).expect("the fixture is JSON")
}

/// Adds the items `big` and `huge` to a document's first vault. Only for tests that read them: each process that reads the document reads 2.4 MB
/// more.
pub fn with_long_values(mut document: Value) -> Value {
    let items = document["vaults"][0]["items"].as_array_mut().expect("the document's first vault has items");
    for (title, length) in [("big", BIG), ("huge", HUGE)] {
        items.push(json!({ "id": format!("{:a<26}", format!("item{title}")), "title": title, "category": "PASSWORD",
            "version": 1, "fields": [{ "id": "value", "type": "CONCEALED", "label": "value", "value": long_value(length) }] }));
    }
    document
}

/// A text of this length in which no two parts are equal: numbered lines.
pub fn long_value(length: usize) -> String {
    static KNOWN: OnceLock<String> = OnceLock::new();
    let numbered = |length: usize| (0..length.div_ceil(16)).map(|line| format!("{line:015}\n")).collect();
    let known: &String = KNOWN.get_or_init(|| numbered(HUGE));
    if let Some(text) = known.get(..length) {
        return text.to_owned();
    }
    let mut text: String = numbered(length);
    text.truncate(length);
    text
}

/// Vaults and their items, completed: what the document omits has its default.
#[derive(Debug, Clone)]
pub struct Vaults {
    pub(crate) vaults: Vec<Value>,
    made: u64,
}

impl Vaults {
    /// Parses a document `{"vaults":[{id,name,contentVersion?,items:[…]}]}`.
    pub(crate) fn from_document(document: &Value) -> Result<Vaults, String> {
        let listed = document["vaults"].as_array().ok_or("the document has no list \"vaults\"")?;
        let mut all = Vaults { vaults: Vec::new(), made: 0 };
        for vault in listed {
            all.add_vault(vault.clone())?;
        }
        Ok(all)
    }

    pub(crate) fn document(&self) -> Value {
        json!({ "vaults": self.vaults })
    }

    pub(crate) fn add_vault(&mut self, mut vault: Value) -> Result<String, String> {
        let id = self.identify(&mut vault)?;
        if !vault["name"].is_string() {
            return Err(format!("vault {id} has no name"));
        }
        let items = match vault["items"].take() {
            Value::Null => Vec::new(),
            Value::Array(items) => items,
            _ => return Err(format!("the items of vault {id} are no list")),
        };
        let times = clock::rfc3339(SINCE);
        fill(
            &mut vault,
            json!({ "attributeVersion": 1, "contentVersion": 1, "type": "USER_CREATED", "createdAt": times, "updatedAt": times }),
        );
        vault["items"] = json!([]);
        self.vaults.push(vault);
        for item in items {
            self.add_item(&id, item)?;
        }
        Ok(id)
    }

    pub(crate) fn add_item(&mut self, vault: &str, mut item: Value) -> Result<String, String> {
        let id = self.identify(&mut item)?;
        if !item["title"].is_string() {
            return Err(format!("item {id} has no title"));
        }
        item["vault"] = json!({ "id": vault });
        let times = clock::rfc3339(SINCE);
        fill(
            &mut item,
            json!({ "category": "LOGIN", "version": 1, "createdAt": times, "updatedAt": times,
                "lastEditedBy": format!("{:a<26}", "someone") }),
        );
        let vault = self.vault_mut(vault).ok_or_else(|| format!("no vault {vault}"))?;
        vault["items"].as_array_mut().ok_or("a vault without a list of items")?.push(item);
        Ok(id)
    }

    pub(crate) fn vault(&self, id: &str) -> Option<&Value> {
        self.vaults.iter().find(|vault| vault["id"] == id)
    }

    pub(crate) fn vault_mut(&mut self, id: &str) -> Option<&mut Value> {
        self.vaults.iter_mut().find(|vault| vault["id"] == id)
    }

    /// Adds an ID if there is none.
    fn identify(&mut self, thing: &mut Value) -> Result<String, String> {
        let object = thing.as_object_mut().ok_or("a vault or item is no object")?;
        match object.get("id") {
            Some(Value::String(id)) if is_id(id) => Ok(id.clone()),
            Some(id) => Err(format!("{id} is no ID: 26 characters of a-z and 0-9")),
            None => {
                self.made += 1;
                let number = self
                    .made
                    .to_string()
                    .bytes()
                    .map(|digit| char::from(digit - b'0' + b'b'))
                    .collect::<String>();
                let id = format!("{:a<26}", format!("made{number}"));
                object.insert("id".to_owned(), json!(id));
                Ok(id)
            }
        }
    }
}

/// The items of a vault.
pub(crate) fn items(vault: &Value) -> &[Value] {
    vault["items"].as_array().map_or(&[], Vec::as_slice)
}

/// The content of a file of an item.
pub(crate) fn content(file: &Value) -> Vec<u8> {
    match file["contentBase64"].as_str() {
        Some(text) => BASE64_STANDARD.decode(text).unwrap_or_default(),
        None => file["content"].as_str().unwrap_or_default().as_bytes().to_vec(),
    }
}

pub(crate) fn is_id(text: &str) -> bool {
    text.len() == 26 && text.bytes().all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit())
}

fn fill(thing: &mut Value, defaults: Value) {
    if let (Some(thing), Value::Object(defaults)) = (thing.as_object_mut(), defaults) {
        for (key, value) in defaults {
            thing.entry(key).or_insert(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{BIG, HUGE, Vaults, fixture, is_id, items, with_long_values};

    #[test]
    fn the_fixture_is_whole() {
        let all = Vaults::from_document(&with_long_values(fixture())).unwrap();
        assert_eq!(all.vaults.len(), 5);
        let mut ids: Vec<&str> = Vec::new();
        for vault in &all.vaults {
            ids.push(vault["id"].as_str().unwrap());
            ids.extend(items(vault).iter().map(|item| item["id"].as_str().unwrap()));
        }
        assert!(ids.iter().all(|id| is_id(id)));
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 5 + all.vaults.iter().map(|vault| items(vault).len()).sum::<usize>());
        let long = |title| {
            let item = items(&all.vaults[0]).iter().find(|item| item["title"] == title).unwrap();
            item["fields"][0]["value"].as_str().unwrap().len()
        };
        assert_eq!((long("big"), long("huge")), (BIG, HUGE));
    }
}
