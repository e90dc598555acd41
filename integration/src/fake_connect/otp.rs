//! The current code of an `otpauth://` URI, which Connect adds to OTP fields (RFC 6238).

use ring::hmac;

/// `None` if the URI is invalid or has unknown parameters.
pub(super) fn code(uri: &str, at: u64) -> Option<String> {
    let query = uri.strip_prefix("otpauth://totp/")?.split_once('?')?.1;
    let (mut secret, mut digits, mut period) = (None, 6, 30);
    let mut algorithm = hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY;
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        match key.as_ref() {
            "secret" => secret = Some(base32(&value)?),
            "digits" => digits = value.parse().ok().filter(|digits| (1..=9).contains(digits))?,
            "period" => period = value.parse().ok().filter(|period| *period > 0)?,
            "algorithm" => {
                algorithm = match value.to_ascii_uppercase().as_str() {
                    "SHA1" => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
                    "SHA256" => hmac::HMAC_SHA256,
                    "SHA512" => hmac::HMAC_SHA512,
                    _ => return None,
                }
            }
            _ => {}
        }
    }
    let counter: u64 = at / period;
    let tag = hmac::sign(&hmac::Key::new(algorithm, &secret?), &counter.to_be_bytes());
    let offset = usize::from(tag.as_ref().last()? & 15);
    let bytes: [u8; 4] = tag.as_ref().get(offset..offset + 4)?.try_into().ok()?;
    let number = (u32::from_be_bytes(bytes) & 0x7fff_ffff) % 10u32.pow(digits);
    Some(format!("{number:0width$}", width = digits as usize))
}

fn base32(text: &str) -> Option<Vec<u8>> {
    let (mut bits, mut held, mut out) = (0u32, 0, Vec::new());
    for letter in text.trim_end_matches('=').bytes() {
        let value = match letter.to_ascii_uppercase() {
            letter @ b'A'..=b'Z' => letter - b'A',
            digit @ b'2'..=b'7' => digit - b'2' + 26,
            _ => return None,
        };
        bits = (bits << 5 | u32::from(value)) & 0xfff;
        held += 5;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::code;

    /// The rows of RFC 6238, appendix B.
    #[test]
    fn codes_of_the_rfc() {
        let sha1 = "otpauth://totp/a:b?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&digits=8";
        assert_eq!(code(sha1, 59).as_deref(), Some("94287082"));
        assert_eq!(code(sha1, 1_111_111_109).as_deref(), Some("07081804"));
        let secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQGEZA";
        let sha256 = format!("otpauth://totp/a?secret={secret}&digits=8&algorithm=SHA256");
        assert_eq!(code(&sha256, 59).as_deref(), Some("46119246"));
        assert_eq!(code("https://example.com", 59), None);
    }
}
