//! What systemd takes: the largest value of one credential in each form, and the total of a unit. Pure.

use crate::domain::name::CredentialId;
use crate::domain::seal;

/// The most bytes of all credentials of a unit together, their IDs included (systemd's CREDENTIALS_TOTAL_SIZE_MAX).
pub const UNIT_TOTAL: usize = 1 << 20;

/// In which form a socket hands values over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As they are, for `LoadCredential=`.
    Plain,
    /// Encrypted with the host key, for `LoadCredentialEncrypted=`.
    Sealed,
}

/// The largest value that systemd takes in this form under this ID, in bytes.
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
