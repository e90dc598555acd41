//! Parses a service account's token before use. This is necessary because the SDK core connects to whatever
//! host the token names.

use base64ct::{Base64UrlUnpadded, Encoding};
use serde::Deserialize;
use serde::de::IgnoredAny;
use zeroize::Zeroizing;

use crate::domain::secret::SecretValue;

/// The hosts of 1Password's accounts.
const OWN: [&str; 3] = ["*.1password.com", "*.1password.ca", "*.1password.eu"];

/// A token of valid form, whose account is on an allowed host.
pub(super) struct Token {
    text: SecretValue,
    host: String,
}

/// The hosts that a token may be sent to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Hosts {
    /// Further hosts besides those of 1Password, as `HOST` or `*.DOMAIN`.
    pub(super) allowed: Vec<String>,
    /// For tests: also this host, over plain HTTP.
    pub(super) insecure_loopback: bool,
}

/// Why a token is not used. Never contains the token; the host is not secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadToken {
    #[error("it does not begin with ops_, as the tokens of service accounts do")]
    Prefix,
    #[error("it is truncated, or contains something else")]
    Encoding,
    #[error("it lacks parts of a service account's token")]
    Shape,
    #[error("the address of its account does not have the form https://HOST")]
    Address,
    #[error("its account is at {0:?}, which is not one of 1Password's own hosts")]
    Host(String),
}

/// The parts of a token. The secret parts are skipped, but must exist.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Parts {
    sign_in_address: String,
    #[serde(rename = "userAuth")]
    _user_auth: IgnoredAny,
    #[serde(rename = "email")]
    _email: IgnoredAny,
    #[serde(rename = "srpX")]
    _srp_x: IgnoredAny,
    #[serde(rename = "muk")]
    _muk: IgnoredAny,
    #[serde(rename = "secretKey")]
    _secret_key: IgnoredAny,
}

impl Token {
    /// Parses a token; ignores surrounding whitespace.
    pub(super) fn read(text: &SecretValue, hosts: &Hosts) -> Result<Self, BadToken> {
        // exposed: to parse its parts
        let text = text.expose().trim_ascii();
        let coded = text.strip_prefix(b"ops_").ok_or(BadToken::Prefix)?;
        let coded = std::str::from_utf8(coded).map_err(|_| BadToken::Encoding)?.trim_end_matches('=');
        let json = Base64UrlUnpadded::decode_vec(coded).map_err(|_| BadToken::Encoding)?;
        let parts: Parts = serde_json::from_slice(&Zeroizing::new(json)).map_err(|_| BadToken::Shape)?;
        let host = host(&parts.sign_in_address, hosts)?;
        Ok(Self { text: SecretValue::new(text.to_vec()), host })
    }

    /// The token as it is passed to the SDK core.
    pub(super) fn text(&self) -> &SecretValue {
        &self.text
    }

    /// A digest that identifies the token without revealing it.
    pub(super) fn fingerprint(&self) -> String {
        // exposed: to compute a digest
        let digest = ring::digest::digest(&ring::digest::SHA256, self.text.expose());
        digest.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    /// The host of its account.
    pub(super) fn host(&self) -> &str {
        &self.host
    }
}

/// The host of an address, if the token may be sent there. The accepted form is so narrow that all URL
/// parsers interpret it the same way.
fn host(address: &str, hosts: &Hosts) -> Result<String, BadToken> {
    let (secure, rest) = match address.split_once("://") {
        Some(("https", rest)) => (true, rest),
        Some(("http", rest)) if hosts.insecure_loopback => (false, rest),
        _ => return Err(BadToken::Address),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (name, port) = match rest.split_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (rest, None),
    };
    let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    if name.is_empty() || !name.chars().all(letters) || port.is_some_and(|port| port.parse::<u16>().is_err())
    {
        return Err(BadToken::Address);
    }
    let loopback = matches!(name, "127.0.0.1" | "localhost");
    let own = port.is_none() && OWN.iter().any(|pattern| is_within(name, pattern));
    let allowed = hosts.allowed.iter().any(|pattern| is_within(name, pattern));
    match secure {
        true if own || allowed || (loopback && hosts.insecure_loopback) => Ok(name.to_owned()),
        false if loopback => Ok(name.to_owned()),
        _ => Err(BadToken::Host(name.chars().take(100).collect())),
    }
}

fn is_within(host: &str, pattern: &str) -> bool {
    match pattern.strip_prefix("*.") {
        Some(domain) => host.strip_suffix(domain).is_some_and(|sub| sub.len() > 1 && sub.ends_with('.')),
        None => host == pattern,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A token of an account at this address, which cannot log in.
    pub(crate) fn token(address: &str) -> SecretValue {
        let json = format!(
            r#"{{"signInAddress":"{address}","userAuth":{{}},"email":"a@b","srpX":"","muk":{{}},"secretKey":""}}"#
        );
        SecretValue::new(format!("ops_{}\n", Base64UrlUnpadded::encode_string(json.as_bytes())).into_bytes())
    }

    fn read(address: &str, hosts: &Hosts) -> Result<String, BadToken> {
        Token::read(&token(address), hosts).map(|token| token.host)
    }

    #[test]
    fn goes_to_1password_alone() {
        let hosts = Hosts::default();
        for good in ["https://my.1password.com", "https://team.1password.eu/", "https://a.b.1password.ca"] {
            assert!(read(good, &hosts).is_ok(), "{good}");
        }
        for bad in [
            "http://my.1password.com",
            "https://1password.com",
            "https://.1password.com",
            "https://my.1password.com.evil.example",
            "https://evil1password.com",
            "https://evil.example/.1password.com",
            "https://evil.example#.1password.com",
            "https://evil.example\\\\.1password.com",
            "https://user@my.1password.com",
            "https://my.1password.com:8443",
            "https://my.1password.com?x",
            "https://MY.1password.com",
            "https://127.0.0.1",
            "http://127.0.0.1:80",
            "my.1password.com",
            "",
        ] {
            assert!(read(bad, &hosts).is_err(), "{bad}");
        }
    }

    #[test]
    fn goes_where_it_is_allowed_to() {
        let mut hosts =
            Hosts { allowed: vec!["op.example".into(), "*.op.example".into()], ..Hosts::default() };
        for good in ["https://op.example", "https://a.op.example:8443"] {
            assert!(read(good, &hosts).is_ok(), "{good}");
        }
        assert_eq!(read("https://other.example", &hosts), Err(BadToken::Host("other.example".into())));
        assert_eq!(read("http://127.0.0.1:4000", &hosts), Err(BadToken::Address));
        hosts.insecure_loopback = true;
        assert_eq!(read("http://127.0.0.1:4000", &hosts), Ok("127.0.0.1".into()));
        assert_eq!(read("http://op.example", &hosts), Err(BadToken::Host("op.example".into())));
    }

    #[test]
    fn is_of_the_form_of_tokens() {
        let hosts = Hosts::default();
        let read = |text: &str| Token::read(&SecretValue::new(text.as_bytes().to_vec()), &hosts).err();
        assert_eq!(read("eyJhb"), Some(BadToken::Prefix));
        assert_eq!(read("ops_!"), Some(BadToken::Encoding));
        assert_eq!(read("ops_e30"), Some(BadToken::Shape));
        assert_eq!(read("ops_"), Some(BadToken::Shape));
    }
}
