//! The options of NixOS that grant a credential, for remedies.

use crate::domain::name::{CredentialId, UnitName};

/// The option of NixOS that declares a credential of a service, and grants it. Other units have none.
pub(super) fn credential(unit: &UnitName, credential: &CredentialId) -> Option<String> {
    let service = unit.as_str().strip_suffix(".service")?;
    let service = match service.split_once('@') {
        Some((prefix, _)) => format!("{prefix}@"),
        None => service.to_owned(),
    };
    Some(format!(
        "declare it in the configuration of NixOS: systemd.services.{}.onecred.credentials.{} = \"op://VAULT/ITEM/FIELD\"; then: nixos-rebuild switch",
        attribute(&service),
        attribute(credential.as_str())
    ))
}

/// The name of an attribute in the Nix language, in quotes if necessary.
pub fn attribute(name: &str) -> String {
    let is_plain = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    if is_plain { name.to_owned() } else { format!("\"{name}\"") }
}
