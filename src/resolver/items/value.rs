//! Converts a field into the value that a unit receives, by the type of the field and the attributes of the
//! reference.

use zeroize::Zeroizing;

use crate::domain::reference::Query;
use crate::domain::secret::SecretValue;
use crate::ipc::{Class, Failure, FetchedValue};

use super::model::{Field, FieldValue};
use crate::resolver::calendar::date_of_days;
use crate::resolver::items::otp;
use crate::resolver::items::ssh;

/// When an item was requested and when it arrived, in seconds since the Unix epoch.
#[derive(Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) asked: u64,
    pub(crate) came: u64,
}

/// The value of a field. `item` is the title of its item, for messages.
pub(crate) fn of_field(
    field: &Field,
    query: Option<Query>,
    item: &str,
    moment: Moment,
) -> Result<FetchedValue, Failure> {
    let name =
        format!("field {:?} of item {item:?}", if field.label.is_empty() { &field.id } else { &field.label });
    let (text, expires) = match query {
        Some(Query::Otp) => {
            let code = one_time_password(field, &name, moment)?;
            (code.digits, Some(code.expires))
        }
        Some(Query::OpenSsh) if !is_private_key(field) => {
            return Err(Failure::new(
                Class::NotFound,
                format!("{name} is not a private key"),
                "remove ?ssh-format=openssh from the reference, or name the key's field",
            ));
        }
        Some(Query::OpenSsh) => (private_key(field, &name, ssh::to_openssh)?, None),
        None if is_private_key(field) && field.text() != Some("") => {
            (private_key(field, &name, ssh::to_pkcs8)?, None)
        }
        None => (plain(field, &name)?, None),
    };
    // exposed: the requested value becomes a secret value
    let value = limited(SecretValue::new(text.as_bytes().to_vec()), &name)?;
    Ok(FetchedValue { value, expires })
}

/// Returns the value unless it exceeds the maximum length.
pub(crate) fn limited(value: SecretValue, name: &str) -> Result<SecretValue, Failure> {
    if value.len() <= SecretValue::MAX {
        return Ok(value);
    }
    let cause = format!("{name} has {} bytes, of {} at most", value.len(), SecretValue::MAX);
    Err(Failure::new(Class::TooLarge, cause, "keep large data elsewhere and only its key in 1Password"))
}

fn one_time_password(field: &Field, name: &str, moment: Moment) -> Result<otp::Code, Failure> {
    let is_otp = ["OTP", "TOTP"].iter().any(|kind| field.kind.eq_ignore_ascii_case(kind));
    if !is_otp && field.totp.is_none() {
        return Err(Failure::new(
            Class::NotFound,
            format!("{name} is not an OTP field"),
            "remove ?attribute=otp from the reference, or name the field of the one-time password",
        ));
    }
    if let Some(code) = field.text().and_then(|uri| otp::code(uri, moment.came)) {
        return Ok(code);
    }
    // Connect's own code was valid at least at the time of the request
    match field.totp.as_ref().and_then(FieldValue::text).filter(|code| !code.is_empty()) {
        Some(code) => {
            Ok(otp::Code { digits: Zeroizing::new(code.to_owned()), expires: otp::usual_end(moment.asked) })
        }
        None => Err(Failure::new(
            Class::Malformed,
            format!("{name} does not contain a valid otpauth URI"),
            "set up the one-time password in 1Password again",
        )),
    }
}

fn is_private_key(field: &Field) -> bool {
    ["SSHKEY", "SSH_KEY"].iter().any(|kind| field.kind.eq_ignore_ascii_case(kind))
}

fn private_key(
    field: &Field,
    name: &str,
    convert: fn(&str) -> Result<Zeroizing<String>, ssh::BadKey>,
) -> Result<Zeroizing<String>, Failure> {
    convert(field.text().unwrap_or_default()).map_err(|error| {
        let remedy =
            "import the key into 1Password again: ed25519, RSA and ECDSA keys without a passphrase are supported";
        Failure::new(Class::Malformed, format!("{name}: {error}"), remedy)
    })
}

/// The value without changes, except for dates and addresses, which 1Password shows in a readable form.
fn plain(field: &Field, name: &str) -> Result<Zeroizing<String>, Failure> {
    let text = match &field.value {
        None => "",
        Some(FieldValue::Text(text)) => text,
        Some(FieldValue::Parts(parts)) if field.kind.eq_ignore_ascii_case("ADDRESS") => {
            return Ok(address(parts));
        }
        Some(FieldValue::Hidden) => {
            let cause = format!("{name} has a type that 1Password's SDK core can't read");
            return Err(Failure::new(Class::Malformed, cause, "store the value in a text field"));
        }
        Some(FieldValue::Parts(_) | FieldValue::Nested) => {
            let cause = format!("{name} has a value of several parts, which references can't express");
            return Err(Failure::new(Class::Malformed, cause, "store the value in a text field"));
        }
    };
    let written = match field.kind.to_ascii_uppercase().as_str() {
        "DATE" => date(text),
        "MONTH_YEAR" => month(text),
        "ADDRESS" => {
            Some(text.lines().map(str::trim).filter(|l| !l.is_empty()).collect::<Vec<_>>().join(", "))
        }
        _ => None,
    };
    Ok(Zeroizing::new(written.unwrap_or_else(|| text.to_owned())))
}

/// Formats seconds since the Unix epoch as `2023-11-14`.
fn date(text: &str) -> Option<String> {
    let (year, month, day) = date_of_days(text.parse::<i64>().ok()?.div_euclid(86_400));
    (0..=9999).contains(&year).then(|| format!("{year:04}-{month:02}-{day:02}"))
}

/// Formats `202512` or `2025/12` as `12/2025`.
fn month(text: &str) -> Option<String> {
    let (year, month) = text.split_once(['/', '-']).or_else(|| text.split_at_checked(4))?;
    let digits = |part: &str, n| part.len() == n && part.bytes().all(|b| b.is_ascii_digit());
    (digits(year, 4) && digits(month, 2)).then(|| format!("{month}/{year}"))
}

/// Formats an address on one line, as the SDK core does: street, city with state and ZIP code, country.
fn address(parts: &[(String, Zeroizing<String>)]) -> Zeroizing<String> {
    const LINES: [&[&str]; 3] = [&["street"], &["city", "state", "zip"], &["country"]];
    let part = |name: &&str| parts.iter().find(|(key, _)| key == name).map(|(_, text)| text.trim());
    let line = |names: &&[&str]| {
        Zeroizing::new(
            names.iter().filter_map(part).filter(|text| !text.is_empty()).collect::<Vec<_>>().join(" "),
        )
    };
    let lines: Vec<_> = LINES.iter().map(line).filter(|line| !line.is_empty()).collect();
    Zeroizing::new(lines.iter().map(|line| line.as_str()).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests;
