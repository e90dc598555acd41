//! One-time passwords (RFC 6238): the code of an otpauth URI at a given time.

use ring::hmac;
use zeroize::Zeroizing;

/// A code, and the end of its period in seconds since the Unix epoch.
pub(crate) struct Code {
    pub(crate) digits: Zeroizing<String>,
    pub(crate) expires: u64,
}

/// The code of an otpauth URI or a bare secret at this time. `None` if it cannot be parsed.
pub(crate) fn code(uri: &str, now: u64) -> Option<Code> {
    let otp = read(uri)?;
    let counter = now / otp.period;
    // ring keeps the key on this stack during one digest, and has no way to wipe it
    let tag = hmac::sign(&hmac::Key::new(otp.algorithm, &otp.secret), &counter.to_be_bytes());
    let digest = tag.as_ref();
    let offset = usize::from(digest.last()? & 0xf);
    let word: [u8; 4] = digest.get(offset..offset + 4)?.try_into().ok()?;
    let number = (u32::from_be_bytes(word) & 0x7fff_ffff) % 10_u32.pow(otp.digits);
    let digits = Zeroizing::new(format!("{number:0width$}", width = otp.digits as usize));
    Some(Code { digits, expires: (counter + 1) * otp.period })
}

/// The end of the current 30-second period.
pub(crate) fn usual_end(now: u64) -> u64 {
    (now / 30 + 1) * 30
}

struct Otp {
    secret: Zeroizing<Vec<u8>>,
    algorithm: hmac::Algorithm,
    digits: u32,
    period: u64,
}

fn read(uri: &str) -> Option<Otp> {
    let uri = uri.trim();
    let mut otp = Otp {
        secret: Zeroizing::default(),
        algorithm: hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        digits: 6,
        period: 30,
    };
    let query = match uri.split_once("://") {
        Some(("otpauth", rest)) => rest.strip_prefix("totp")?.split_once('?')?.1,
        Some(_) => return None,
        None => {
            otp.secret = base32(uri)?;
            return Some(otp);
        }
    };
    for pair in query.split('&') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        match key {
            "secret" => otp.secret = base32(value)?,
            "algorithm" => {
                otp.algorithm = match value.to_ascii_uppercase().as_str() {
                    "SHA1" => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
                    "SHA256" => hmac::HMAC_SHA256,
                    "SHA512" => hmac::HMAC_SHA512,
                    _ => return None,
                }
            }
            "digits" => otp.digits = value.parse().ok().filter(|d| (6..=8).contains(d))?,
            "period" => otp.period = value.parse().ok().filter(|p| (1..=86_400).contains(p))?,
            _ => {}
        }
    }
    (!otp.secret.is_empty()).then_some(otp)
}

/// Decodes base32 as people type it: in upper or lower case, with or without spaces, dashes and padding,
/// which may be percent-encoded.
fn base32(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let text = text.trim_end_matches("%3D").trim_end_matches("%3d").trim_end_matches('=');
    // never grows, because growing would leave a copy
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len() * 5 / 8 + 1));
    let (mut bits, mut count) = (0_u32, 0);
    let text = Zeroizing::new(text.replace("%20", " "));
    for c in text.bytes() {
        let value = match c.to_ascii_uppercase() {
            c @ b'A'..=b'Z' => c - b'A',
            c @ b'2'..=b'7' => c - b'2' + 26,
            b' ' | b'-' | b'+' => continue,
            _ => return None,
        };
        bits = (bits << 5) | u32::from(value);
        count += 5;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    (!bytes.is_empty()).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(uri: &str, now: u64) -> (String, u64) {
        let code = code(uri, now).expect(uri);
        (code.digits.to_string(), code.expires)
    }

    #[test]
    fn the_vectors_of_rfc_6238() {
        let seeds = [
            ("SHA1", "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"),
            ("SHA256", "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQGEZA===="),
            (
                "SHA512",
                "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQGEZDGNA=",
            ),
        ];
        let vectors = [
            (59, ["94287082", "46119246", "90693936"]),
            (1_111_111_109, ["07081804", "68084774", "25091201"]),
            (1_111_111_111, ["14050471", "67062674", "99943326"]),
            (1_234_567_890, ["89005924", "91819424", "93441116"]),
            (2_000_000_000, ["69279037", "90698825", "38618901"]),
            (20_000_000_000, ["65353130", "77737706", "47863826"]),
        ];
        for (now, codes) in vectors {
            for ((algorithm, secret), expected) in seeds.iter().zip(codes) {
                let uri = format!("otpauth://totp/x:y?secret={secret}&algorithm={algorithm}&digits=8");
                assert_eq!(at(&uri, now).0, expected, "{algorithm} at {now}");
            }
        }
    }

    #[test]
    fn periods_digits_and_bare_secrets() {
        let long = "otpauth://totp/a?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&period=60&digits=8";
        assert_eq!(at(long, 119), ("94287082".into(), 120));
        assert_eq!(at("gezd gnbv-gy3tqojq GEZDGNBVGY3TQOJQ", 59), ("287082".into(), 60));
        assert_eq!(at("otpauth://totp/?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ%3D%3D", 60).1, 90);
    }

    #[test]
    fn what_cant_be_read() {
        for wrong in [
            "",
            "otpauth://hotp/x?secret=JBSWY3DPEHPK3PXP&counter=1",
            "otpauth://totp/x",
            "otpauth://totp/x?issuer=y",
            "otpauth://totp/x?secret=",
            "otpauth://totp/x?secret=J!",
            "otpauth://totp/x?secret=JBSWY3DPEHPK3PXP&digits=5",
            "otpauth://totp/x?secret=JBSWY3DPEHPK3PXP&period=0",
            "otpauth://totp/x?secret=JBSWY3DPEHPK3PXP&algorithm=MD5",
            "steam://JBSWY3DPEHPK3PXP",
        ] {
            assert!(code(wrong, 0).is_none(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn reading_is_total(text in "(otpauth://totp/)?\\PC*", now in 0..u64::from(u32::MAX)) {
            let _ = code(&text, now);
        }
    }
}
