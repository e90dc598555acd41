//! What the fuzzer tries on the resolver: what Connect sends, keys, and one-time passwords. A reference means one thing or nothing, and no
//! failure ever quotes a value.

use std::fmt::Write;

use base64ct::{Base64, Encoding};

use super::calendar::http_date;
use crate::domain::reference::{Reference, Segment};
use crate::domain::secret::SecretValue;
use crate::fuzzing::{Input, text};
use crate::ipc::Failure;
use crate::resolver::items::matching::{self, FieldMatch};
use crate::resolver::items::model::{self, Field, FieldValue, FullItem, ItemOverview, Vault};
use crate::resolver::items::otp;
use crate::resolver::items::ssh;
use crate::resolver::items::value::{self, Moment};

/// What came as a list of vaults, a list of items or an item; and what a reference means in it.
pub(crate) fn connect(data: &[u8]) {
    let mut input = Input(data);
    let (json, wanted) = (input.upto(0), text(input.rest()));
    let _ = http_date(&wanted);
    let Ok(reference) = Reference::parse(&format!("op://{wanted}")) else { return };
    if let Some(vaults) = read::<Vec<Vault>>(json)
        && let Ok(vault) = matching::vault(&vaults, &reference.item.vault, None)
    {
        let same = vaults.iter().filter(|other| means(&reference.item.vault, &other.id, &other.name, true));
        assert!(same.count() >= 1 && means(&reference.item.vault, &vault.id, &vault.name, true));
    }
    if let Some(items) = read::<Vec<ItemOverview>>(json)
        && let Ok(item) = matching::item(&items, "v", &reference.item.item)
    {
        assert!(
            means(&reference.item.item, &item.id, &item.title, true)
                && !model::is_absent(item.state.as_deref())
        );
        let same = items.iter().filter(|other| {
            !model::is_absent(other.state.as_deref())
                && other.title.eq_ignore_ascii_case(&reference.item.item.text)
        });
        assert!(item.id == *reference.item.item.text || same.count() == 1, "one of several was picked");
    }
    if let Some(item) = read::<FullItem>(json) {
        of_item(&item, &reference);
    }
}

/// Whether a segment can mean what has this ID and this title.
fn means(segment: &Segment, id: &str, title: &str, full: bool) -> bool {
    let by_id = *segment.text == *id && (!full || id.len() == 26);
    by_id || segment.text.eq_ignore_ascii_case(title)
}

fn read<T: serde::de::DeserializeOwned>(json: &[u8]) -> Option<T> {
    match model::parse(json) {
        Ok(read) => Some(read),
        Err(why) => {
            let plain = [
                "it is not UTF-8",
                "it ends early",
                "its structure is not that of a Connect response",
                "it is not JSON",
                "it contains a key twice",
            ];
            let (words, place) = why.split_once(" (line ").unwrap_or((&why, "0, column 0)"));
            assert!(plain.iter().any(|plain| words.starts_with(plain)), "{why}");
            assert!(place.bytes().all(|b| b.is_ascii_digit() || b", column)".contains(&b)), "{why}");
            None
        }
    }
}

fn of_item(item: &FullItem, reference: &Reference) {
    let Reference { field: wanted, .. } = reference;
    let title = item.title.as_deref().unwrap_or(&item.id);
    let found = match matching::field(item, wanted) {
        Ok(FieldMatch::Field(field)) => field,
        Ok(FieldMatch::File(file)) => {
            assert!(item.files.iter().any(|known| std::ptr::eq(known, file)));
            return;
        }
        Err(failure) => {
            let names = names(item);
            return item.fields.iter().for_each(|field| quotes_nothing(&failure, field, &names, reference));
        }
    };
    let is_named = |field: &&Field| means(&wanted.field, &field.id, &field.label, false);
    let within = |field: &&Field| match &wanted.section {
        Some(section) => field.section.as_ref().is_some_and(|own| {
            let listed = item.sections.iter().filter(|s| s.id == own.id);
            let titles = |label: &str| section.text.eq_ignore_ascii_case(label);
            own.id == *section.text || titles(&own.label) || listed.into_iter().any(|s| titles(&s.label))
        }),
        None => true,
    };
    let note = found.purpose == "NOTES" || found.id == "notesPlain";
    assert!((is_named(&found) && within(&found)) || note, "it means another field");
    if is_named(&found) && wanted.field.text.len() != 26 && wanted.section.is_none() {
        let same: Vec<_> = item.fields.iter().filter(is_named).collect();
        let outside = same.iter().filter(|field| field.section.is_none()).count();
        assert!(outside == 1 || (outside == 0 && same.len() == 1), "one of several was picked");
    }
    for query in [None, wanted.query] {
        match value::of_field(found, query, title, Moment { asked: 1_700_000_000, came: 1_700_000_001 }) {
            Ok(got) => {
                assert!(got.value.len() <= SecretValue::MAX);
                let as_it_is = ["", "STRING", "CONCEALED", "URL", "EMAIL"].contains(&found.kind.as_str());
                if query.is_none() && as_it_is {
                    // exposed: a value of the fuzzer's own
                    assert_eq!(Some(got.value.expose()), found.text().map(str::as_bytes), "another value");
                }
            }
            Err(failure) => quotes_nothing(&failure, found, title, reference),
        }
    }
}

/// All names in an item: a message may list them.
fn names(item: &FullItem) -> String {
    let sections =
        item.fields.iter().map(|field| &field.section).chain(item.files.iter().map(|file| &file.section));
    let sections = sections.flatten().chain(&item.sections).flat_map(|section| [&section.id, &section.label]);
    let fields = item.fields.iter().flat_map(|field| [&field.id, &field.label]);
    let files = item.files.iter().flat_map(|file| [&file.id, &file.name]);
    let title = item.title.as_ref().unwrap_or(&item.id);
    let mut all = String::new();
    for name in sections.chain(fields).chain(files).chain([title]) {
        let _ = write!(all, "{name} {name:?} ");
    }
    all
}

/// No value is in a failure, but where a name says the same.
fn quotes_nothing(failure: &Failure, field: &Field, title: &str, reference: &Reference) {
    let Some(FieldValue::Text(value)) = &field.value else { return };
    let mut known = format!("{title:?} {:?} {:?} {:?} {reference:?}", field.id, field.label, field.kind);
    let _ = write!(known, "{title} {} {} {reference}", field.id, field.label);
    let said = failure.to_string();
    let fixed = value::of_field(&empty(field), None, "", Moment { asked: 0, came: 0 }).err();
    let known = known + &fixed.map_or_else(String::new, |failure| failure.to_string());
    assert!(value.len() < 16 || known.contains(value.as_str()) || !said.contains(value.as_str()), "{said}");
}

fn empty(field: &Field) -> Field {
    let Field { id, kind, purpose, label, .. } = field;
    let (id, kind, purpose, label) = (id.clone(), kind.clone(), purpose.clone(), label.clone());
    Field { id, section: None, kind, purpose, label, value: None, totp: None }
}

/// A one-time password: its code has as many digits as it says, and ends within its period.
pub(crate) fn otp(data: &[u8]) {
    let mut input = Input(data);
    let now = u64::from(input.byte()) << 24 | u64::from(input.byte());
    let uri = text(input.rest());
    let Some(code) = otp::code(&uri, now) else { return };
    assert!((6..=8).contains(&code.digits.len()) && code.digits.bytes().all(|b| b.is_ascii_digit()));
    assert!(now < code.expires && code.expires - now <= 86_400);
    let again = otp::code(&uri, code.expires - 1).map(|again| (again.digits, again.expires));
    assert!(again.is_some_and(|again| again == (code.digits, code.expires)), "one period, two codes");
}

/// A key in any of the forms: in the other form it is the same key.
pub(crate) fn key(data: &[u8]) {
    let mut input = Input(data);
    let labels = ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "OPENSSH PRIVATE KEY"];
    let pem = match labels.get(usize::from(input.byte())) {
        Some(label) => {
            format!(
                "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
                Base64::encode_string(input.rest())
            )
        }
        None => text(data).into_owned(),
    };
    let Ok(openssh) = ssh::to_openssh(&pem) else {
        return drop(ssh::to_pkcs8(&pem));
    };
    let Ok(pkcs8) = ssh::to_pkcs8(&openssh) else { return }; // numbers that make no key, or none of ours
    let Ok(back) = ssh::to_openssh(&pkcs8) else { panic!("our own PKCS#8 is none") };
    let Ok(twice) = ssh::to_pkcs8(&back).and_then(|pkcs8| ssh::to_openssh(&pkcs8)) else {
        panic!("once, but not twice")
    };
    assert!(*back == *twice, "another key");
    if !pem.contains("OPENSSH") {
        assert!(*back == *openssh, "another key");
    }
}
