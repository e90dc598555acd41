//! The claims in a Connect token, which is a JWT. onecred cannot verify them, so it uses them only for
//! display.

use base64ct::{Base64UrlUnpadded, Encoding};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::domain::secret::SecretValue;

/// The claims that are shown. The permissions for the vaults are undocumented numbers, so they are omitted.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
pub(in crate::resolver) struct Claims {
    /// When the token expires, in seconds since the Unix epoch.
    #[serde(rename = "exp", default)]
    pub(in crate::resolver) expires: Option<u64>,
}

impl Claims {
    /// Parses the claims; returns `None` if the token does not have the form of a JWT.
    pub(in crate::resolver) fn read(token: &SecretValue) -> Option<Self> {
        // exposed: to parse its parts
        let text = std::str::from_utf8(token.expose().trim_ascii()).ok()?;
        let mut parts = text.split('.');
        let (header, claims, signature) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() || signature.is_empty() {
            return None;
        }
        decoded::<serde::de::IgnoredAny>(header)?;
        decoded(claims)
    }
}

fn decoded<T: for<'de> Deserialize<'de>>(part: &str) -> Option<T> {
    let json = Zeroizing::new(Base64UrlUnpadded::decode_vec(part.trim_end_matches('=')).ok()?);
    json.starts_with(b"{").then(|| serde_json::from_slice(&json).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(claims: &str) -> Option<Claims> {
        let part = |text: &str| Base64UrlUnpadded::encode_string(text.as_bytes());
        let token = format!("{}.{}.c2ln\n", part(r#"{"alg":"ES256"}"#), part(claims));
        Claims::read(&SecretValue::new(token.into_bytes()))
    }

    #[test]
    fn a_token_tells_its_end() {
        let known = r#"{"exp":1790000000,"1password.com/vts":[{"u":"v","a":48}]}"#;
        assert_eq!(read(known), Some(Claims { expires: Some(1_790_000_000) }));
        assert_eq!(read("{}"), Some(Claims { expires: None }));
        for other in ["", "a.b", "ops_eyJ", "e30.e30.", "e30.e30.c.d", "e30.!.c"] {
            assert_eq!(Claims::read(&SecretValue::new(other.into())), None, "{other}");
        }
        assert_eq!(read("[]"), None);
    }
}
