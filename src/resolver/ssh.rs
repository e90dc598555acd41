//! SSH keys: private keys of any common form, as PKCS#8 or in OpenSSH's own.

use zeroize::Zeroizing;

/// Why a text is no private key that can be converted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadKey {
    /// Another form than those known here.
    #[error("it is no private key of a known form")]
    Form,
}

pub(super) fn to_pkcs8(text: &str) -> Result<Zeroizing<String>, BadKey> {
    if text.starts_with("-----BEGIN PRIVATE KEY-----") {
        Ok(Zeroizing::new(text.to_owned()))
    } else {
        Err(BadKey::Form)
    }
}

pub(super) fn to_openssh(_text: &str) -> Result<Zeroizing<String>, BadKey> {
    Err(BadKey::Form)
}
