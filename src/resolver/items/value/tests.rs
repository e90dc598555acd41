//! Tests of values of every type.

use serde_json::json;

use super::*;
use crate::resolver::items::model::parse;

fn resolve(field: serde_json::Value, query: Option<Query>) -> Result<(String, Option<u64>), Failure> {
    let field: Field = parse(field.to_string().as_bytes()).expect("a field");
    let found = of_field(&field, query, "item", Moment { asked: 1_111_111_109, came: 1_111_111_111 })?;
    Ok((String::from_utf8(found.value.expose().to_vec()).expect("text"), found.expires))
}

fn plain(kind: &str, value: serde_json::Value) -> String {
    resolve(json!({"id": "f", "type": kind, "value": value}), None).expect(kind).0
}

#[test]
fn types() {
    for (kind, value, expected) in [
        ("STRING", json!("text"), "text"),
        ("STRING", json!(" a\nb\r\n\u{e9} "), " a\nb\r\n\u{e9} "),
        ("CONCEALED", json!(""), ""),
        ("CONCEALED", json!(null), ""),
        ("STRING", json!(17), "17"),
        ("STRING", json!(-17), "-17"),
        ("STRING", json!(true), "true"),
        ("HOLOGRAM", json!("not yet invented"), "not yet invented"),
        ("DATE", json!("1700000000"), "2023-11-14"),
        ("DATE", json!(1_700_000_000), "2023-11-14"),
        ("DATE", json!("-1"), "1969-12-31"),
        ("DATE", json!("2023-11-14"), "2023-11-14"),
        ("DATE", json!(""), ""),
        ("DATE", json!("9223372036854775807"), "9223372036854775807"),
        ("MONTH_YEAR", json!("202512"), "12/2025"),
        ("MONTH_YEAR", json!(202_512), "12/2025"),
        ("MONTH_YEAR", json!("2025/12"), "12/2025"),
        ("MONTH_YEAR", json!("12/2025"), "12/2025"),
        ("MONTH_YEAR", json!("soon"), "soon"),
        ("MONTH_YEAR", json!(""), ""),
        ("ADDRESS", json!("1 Main Street\n Springfield\n\nus"), "1 Main Street, Springfield, us"),
        (
            "ADDRESS",
            json!({"country": "us", "zip": "12345", "street": "1 Main Street", "city": "Springfield", "state": ""}),
            "1 Main Street, Springfield 12345, us",
        ),
        ("ADDRESS", json!({}), ""),
        ("SSHKEY", json!(""), ""),
    ] {
        assert_eq!(plain(kind, value.clone()), expected, "{kind} {value}");
    }
    for value in [json!({"a": "b"}), json!(["a"]), json!({"a": {"b": "c"}})] {
        let failure =
            resolve(json!({"id": "f", "type": "STRING", "value": value}), None).expect_err("no text");
        assert_eq!(failure.class, Class::Malformed);
    }
}

#[test]
fn one_time_passwords() {
    let uri = "otpauth://totp/a?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&digits=8";
    let otp = |field| resolve(field, Some(Query::Otp));
    let both = json!({"id": "t", "type": "OTP", "value": uri, "totp": "000000"});
    assert_eq!(otp(both).expect("a code"), ("14050471".into(), Some(1_111_111_140)));
    let old = json!({"id": "t", "type": "TOTP", "value": uri});
    assert_eq!(otp(old).expect("a code").0, "14050471");
    let connects = json!({"id": "t", "type": "OTP", "value": "otpauth://new/kind", "totp": "123456"});
    assert_eq!(
        otp(connects).expect("a code"),
        ("123456".into(), Some(1_111_111_110)),
        "of when it was asked for"
    );
    let unreadable = json!({"id": "t", "type": "OTP", "value": "otpauth://new/kind"});
    assert_eq!(otp(unreadable).expect_err("no code").class, Class::Malformed);
    let other = otp(json!({"id": "t", "type": "STRING", "value": uri})).expect_err("no code");
    assert_eq!(other.class, Class::NotFound);
    assert!(other.cause.contains("not an OTP field"), "{other}");
    assert_eq!(resolve(json!({"id": "t", "type": "OTP", "value": uri}), None).expect("the URI").0, uri);
}

#[test]
fn what_is_too_large() {
    let value = "x".repeat(SecretValue::MAX + 1);
    let failure = resolve(json!({"id": "f", "value": value}), None).expect_err("too large");
    assert_eq!(failure.class, Class::TooLarge);
    assert!(failure.cause.contains("4194305 bytes"), "{failure}");
    assert_eq!(plain("STRING", json!(value[1..])).len(), SecretValue::MAX);
}
