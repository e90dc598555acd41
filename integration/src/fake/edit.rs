//! Changes to the data. Each increases the versions that Connect would increase.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::clock;
use super::vault::Vaults;

/// One change. Vaults and items are given by ID or by name (the first with that name), fields by ID or label.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case", deny_unknown_fields)]
#[allow(missing_docs)]
pub enum Edit {
    /// Changes the value of a field.
    Set { vault: String, item: String, field: String, value: String },
    /// Deletes an item: 404 from then on. For an item that is listed as deleted, see `State`.
    Delete { vault: String, item: String },
    /// Archives an item.
    Archive { vault: String, item: String },
    /// Sets the state of an item: `ARCHIVED`, `DELETED` or none.
    State { vault: String, item: String, state: Option<String> },
    /// Renames an item, or the vault if no item is given.
    Rename { vault: String, item: Option<String>, to: String },
    /// Adds an item, in the form of the document; generates an ID if it has none.
    Create { vault: String, item: Value },
    /// Increases the vault's contentVersion without changing an item.
    Touch { vault: String },
    /// Adds a vault, in the form of the document; generates an ID if it has none.
    CreateVault { vault: Value },
    /// Removes a vault and its content.
    DeleteVault { vault: String },
}

impl Edit {
    /// Makes the change. Returns the ID of the changed object.
    pub(super) fn apply(self, all: &mut Vaults) -> Result<String, String> {
        match self {
            Edit::Set { vault, item, field, value } => change(all, &vault, &item, |item| {
                let fields = item["fields"].as_array_mut().ok_or("an item without fields")?;
                let at = position(fields, "label", &field).ok_or_else(|| format!("no field {field}"))?;
                fields[at]["value"] = json!(value);
                Ok(())
            }),
            Edit::Archive { vault, item } => set(all, &vault, &item, "state", json!("ARCHIVED")),
            Edit::State { vault, item, state: Some(state) } => set(all, &vault, &item, "state", json!(state)),
            Edit::State { vault, item, state: None } => change(all, &vault, &item, |item| {
                item.as_object_mut().map(|item| item.remove("state"));
                Ok(())
            }),
            Edit::Rename { vault, item: Some(item), to } => set(all, &vault, &item, "title", json!(to)),
            Edit::Rename { vault, item: None, to } => {
                let vault = find_vault(all, &vault)?;
                vault["name"] = json!(to);
                raise(vault, "attributeVersion");
                id_of(vault)
            }
            Edit::Delete { vault, item } => {
                let vault = find_vault(all, &vault)?;
                let items = vault["items"].as_array_mut().ok_or("a vault without items")?;
                let at = position(items, "title", &item).ok_or_else(|| format!("no item {item}"))?;
                let gone = items.remove(at);
                raise(vault, "contentVersion");
                id_of(&gone)
            }
            Edit::Create { vault, item } => {
                let vault = id_of(find_vault(all, &vault)?)?;
                let made = all.add_item(&vault, item)?;
                raise(find_vault(all, &vault)?, "contentVersion");
                Ok(made)
            }
            Edit::Touch { vault } => {
                let vault = find_vault(all, &vault)?;
                raise(vault, "contentVersion");
                id_of(vault)
            }
            Edit::CreateVault { vault } => all.add_vault(vault),
            Edit::DeleteVault { vault } => {
                let id = id_of(find_vault(all, &vault)?)?;
                all.vaults.retain(|vault| vault["id"] != id.as_str());
                Ok(id)
            }
        }
    }
}

fn set(all: &mut Vaults, vault: &str, item: &str, key: &str, value: Value) -> Result<String, String> {
    change(all, vault, item, |item| {
        item[key] = value;
        Ok(())
    })
}

fn change(
    all: &mut Vaults,
    vault: &str,
    item: &str,
    how: impl FnOnce(&mut Value) -> Result<(), String>,
) -> Result<String, String> {
    let vault = find_vault(all, vault)?;
    let items = vault["items"].as_array_mut().ok_or("a vault without items")?;
    let at = position(items, "title", item).ok_or_else(|| format!("no item {item}"))?;
    how(&mut items[at])?;
    raise(&mut items[at], "version");
    let id = id_of(&items[at]);
    raise(vault, "contentVersion");
    id
}

fn find_vault<'a>(all: &'a mut Vaults, name: &str) -> Result<&'a mut Value, String> {
    let at = position(&all.vaults, "name", name).ok_or_else(|| format!("no vault {name}"))?;
    Ok(&mut all.vaults[at])
}

/// By ID first, then by name.
fn position(things: &[Value], key: &str, name: &str) -> Option<usize> {
    things
        .iter()
        .position(|thing| thing["id"] == name)
        .or_else(|| things.iter().position(|thing| thing[key] == name))
}

fn raise(thing: &mut Value, key: &str) {
    thing[key] = json!(thing[key].as_u64().unwrap_or(0) + 1);
    thing["updatedAt"] = json!(clock::rfc3339(clock::now()));
}

fn id_of(thing: &Value) -> Result<String, String> {
    thing["id"].as_str().map(str::to_owned).ok_or_else(|| "a vault or item without an ID".to_owned())
}
