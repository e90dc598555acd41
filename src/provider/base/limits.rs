//! The limits of systemd: the largest credential in each form, and the total of a unit. Pure.

use crate::domain::name::CredentialId;
use crate::domain::seal;

/// The maximum size in bytes of all credentials of a unit, including their IDs (systemd's
/// CREDENTIALS_TOTAL_SIZE_MAX).
pub const UNIT_TOTAL: usize = 1 << 20;

/// The form in which a socket delivers values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Unencrypted, for `LoadCredential=`.
    Plain,
    /// Encrypted with the host key, for `LoadCredentialEncrypted=`.
    Sealed,
}

/// The largest value that systemd accepts in this form under this ID, in bytes.
pub fn largest(form: Form, id: &CredentialId) -> usize {
    match form {
        Form::Plain => UNIT_TOTAL.saturating_sub(id.as_str().len()),
        Form::Sealed => seal::largest(id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_counts() {
        let id = |text| CredentialId::parse(text).unwrap();
        for (form, text, most) in [
            (Form::Plain, "db", (1 << 20) - 2),
            (Form::Plain, "db-password", (1 << 20) - 11),
            (Form::Sealed, "db", 884_648),
            (Form::Sealed, "db-password", 884_640),
        ] {
            assert_eq!(largest(form, &id(text)), most, "{form:?} {text}");
        }
    }
}
