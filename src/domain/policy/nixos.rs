//! The options of NixOS that grant a credential, for remedies.

use crate::domain::name::{CredentialId, UnitName};

/// The option of NixOS that declares a credential of a unit, and grants it.
pub(super) fn credential(unit: &UnitName, credential: &CredentialId) -> String {
    let id = attribute(credential.as_str());
    let option = match unit.as_str().strip_suffix(".service") {
        Some(service) => {
            let service = match service.split_once('@') {
                Some((prefix, _)) => attribute(&format!("{prefix}@")),
                None => attribute(service),
            };
            format!("systemd.services.{service}.onecred.credentials.{id} = \"op://VAULT/ITEM/FIELD\"")
        }
        // other units have no option of their own
        None => format!(
            "services.onecred.secrets.{id} = {{ reference = \"op://VAULT/ITEM/FIELD\"; units = [ {:?} ]; }}",
            unit.as_str()
        ),
    };
    format!("declare it in the configuration of NixOS: {option}; then: nixos-rebuild switch")
}

/// The command that applies a change of the configuration.
pub(super) fn reload(by_nixos: bool) -> &'static str {
    if by_nixos { "nixos-rebuild switch" } else { "onecred reload" }
}

/// The name of an attribute in the Nix language, in quotes if necessary.
pub fn attribute(name: &str) -> String {
    let is_plain = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    if is_plain { name.to_owned() } else { format!("\"{name}\"") }
}

#[cfg(test)]
mod tests {
    use super::attribute;

    #[test]
    fn names_that_nix_would_not_read_as_one_are_quoted() {
        for (name, expected) in [
            ("a", "a"),
            ("_a-b", "_a-b"),
            ("1a", "\"1a\""),
            ("-a", "\"-a\""),
            ("a.b", "\"a.b\""),
            ("", "\"\""),
        ] {
            assert_eq!(attribute(name), expected);
        }
    }
}
