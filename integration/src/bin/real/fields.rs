//! The values of each field type, and the table of observed fields.

use std::collections::BTreeMap;

use crate::item::{Field, Held, Item};
use crate::words::Words;

/// The form of a type's values. A missing or empty value fits every type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Text,
    /// An `otpauth://` URI, with the current code beside it.
    Otp,
    /// Seconds since 1970, or `2023-11-14`.
    Date,
    /// `2023-11-14`.
    IsoDate,
    /// `202512`, or `2025/12`.
    Month,
    /// `12/2025`.
    WrittenMonth,
    /// A private key in PKCS#8.
    Key,
    /// Text, or an object with parts.
    Address,
    /// Nothing: the source does not return it, or it is a file.
    Nothing,
}

/// A field type by the name in its source.
pub(crate) type Kind = (&'static str, Form);

/// The field types of Connect: those of its specification, then others that are known.
pub(crate) const CONNECT: &[Kind] = &[
    ("STRING", Form::Text),
    ("EMAIL", Form::Text),
    ("CONCEALED", Form::Text),
    ("URL", Form::Text),
    ("TOTP", Form::Otp),
    ("DATE", Form::Date),
    ("MONTH_YEAR", Form::Month),
    ("MENU", Form::Text),
    ("OTP", Form::Otp),
    ("SSHKEY", Form::Key),
    ("FILE", Form::Nothing),
    ("REFERENCE", Form::Text),
    ("ADDRESS", Form::Address),
    ("PHONE", Form::Text),
    ("GENDER", Form::Text),
    ("CREDIT_CARD_TYPE", Form::Text),
    ("CREDIT_CARD_NUMBER", Form::Text),
    ("UNKNOWN", Form::Text),
];

/// The field types of the SDK core. For unknown ones it has another type, `Unsupported`.
pub(crate) const CORE: &[Kind] = &[
    ("Text", Form::Text),
    ("Concealed", Form::Text),
    ("CreditCardType", Form::Text),
    ("CreditCardNumber", Form::Text),
    ("Phone", Form::Text),
    ("Url", Form::Text),
    ("Totp", Form::Otp),
    ("Email", Form::Text),
    ("Reference", Form::Text),
    ("SshKey", Form::Key),
    ("Menu", Form::Text),
    ("MonthYear", Form::WrittenMonth),
    ("Address", Form::Address),
    ("Date", Form::IsoDate),
];

/// The purposes of fields.
const PURPOSES: [&str; 4] = ["", "USERNAME", "PASSWORD", "NOTES"];

/// The form of a type, if known.
pub(crate) fn form(kinds: &[Kind], kind: &str) -> Option<Form> {
    kinds.iter().find(|(known, _)| *known == kind).map(|(_, form)| *form)
}

/// A type as the report shows it.
fn shown<'a>(kinds: &[Kind], kind: &'a str, words: &Words) -> &'a str {
    if form(kinds, kind).is_some() { kind } else { words.show(kind) }
}

/// Unknown types.
pub(crate) fn unknown_types(kinds: &[Kind], items: &[Item], words: &Words) -> Vec<String> {
    let unknown = fields(items).filter(|field| form(kinds, &field.kind).is_none());
    unknown.map(|field| format!("a field of the unknown type {}", words.show(&field.kind))).collect()
}

/// Unknown purposes.
pub(crate) fn unknown_purposes(items: &[Item], words: &Words) -> Vec<String> {
    let unknown = fields(items).filter(|field| !PURPOSES.contains(&field.purpose.as_str()));
    unknown.map(|field| format!("a field of the unknown purpose {}", words.show(&field.purpose))).collect()
}

/// Values whose form does not match their type.
pub(crate) fn other_forms(kinds: &[Kind], items: &[Item]) -> Vec<String> {
    fields(items).filter_map(|field| other_form(form(kinds, &field.kind)?, field)).collect()
}

fn fields(items: &[Item]) -> impl Iterator<Item = &Field> {
    items.iter().flat_map(|item| &item.fields)
}

fn other_form(form: Form, field: &Field) -> Option<String> {
    let kind = &field.kind;
    let text = match &field.held {
        Held::Absent => return None,
        Held::Parts if form == Form::Address => return None,
        Held::Parts => {
            return Some(format!("the value of a field of type {kind} is an object, not a string"));
        }
        Held::Other => return Some(format!("the value of a field of type {kind} is not a string")),
        Held::Text(text) if text.is_empty() => return None,
        Held::Text(text) => text,
    };
    let expected = match form {
        Form::Text | Form::Address | Form::Nothing => return None,
        Form::Otp if !text.starts_with("otpauth://") => "an otpauth URI",
        Form::Otp => return other_code(field),
        Form::Date if all_digits(text) || is_iso_date(text) => return None,
        Form::Date => "seconds since 1970 or a date such as 2023-11-14",
        Form::IsoDate if is_iso_date(text) => return None,
        Form::IsoDate => "a date such as 2023-11-14",
        Form::Month if all_digits(&text.replacen('/', "", 1)) && (6..=7).contains(&text.len()) => {
            return None;
        }
        Form::Month => "a month such as 202512 or 2025/12",
        Form::WrittenMonth if is_written_month(text) => return None,
        Form::WrittenMonth => "a month such as 12/2025",
        Form::Key if text.starts_with("-----BEGIN PRIVATE KEY-----\n") => return None,
        Form::Key => "a private key in PKCS#8",
    };
    Some(format!("the value of a field of type {kind} is not {expected} ({} long)", class(text.len())))
}

fn other_code(field: &Field) -> Option<String> {
    let kind = &field.kind;
    match field.code.as_deref() {
        None => Some(format!("a field of type {kind} comes without its current code")),
        Some(code) if all_digits(code) && (1..=10).contains(&code.len()) => None,
        Some(_) => Some(format!("the current code of a field of type {kind} is not digits")),
    }
}

fn all_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

pub(crate) fn is_iso_date(text: &str) -> bool {
    let parts = text.split('-').map(|part| (part.len(), all_digits(part))).collect::<Vec<_>>();
    parts == [(4, true), (2, true), (2, true)]
}

pub(crate) fn is_written_month(text: &str) -> bool {
    text.split_once('/').is_some_and(|(month, year)| {
        all_digits(month) && all_digits(year) && month.len() <= 2 && year.len() == 4
    })
}

/// Lengths are shown as classes, because an exact length could identify a value.
pub(crate) const CLASSES: [&str; 6] = ["0", "1-15", "16-63", "64-255", "256-4095", "4096+"];

fn class_index(length: usize) -> usize {
    match length {
        0 => 0,
        1..=15 => 1,
        16..=63 => 2,
        64..=255 => 3,
        256..=4095 => 4,
        _ => 5,
    }
}

pub(crate) fn class(length: usize) -> &'static str {
    CLASSES[class_index(length)]
}

#[derive(Default)]
struct Row {
    fields: usize,
    in_section: usize,
    non_ascii: usize,
    lengths: [usize; 6],
}

/// The table of observed fields: one row per type and purpose.
pub(crate) fn table(kinds: &[Kind], items: &[Item], words: &Words) -> Vec<String> {
    let mut rows: BTreeMap<(String, String), Row> = BTreeMap::new();
    for field in fields(items) {
        let purpose = match field.purpose.as_str() {
            "" => "-",
            known if PURPOSES.contains(&known) => known,
            other => words.show(other),
        };
        let row = rows.entry((shown(kinds, &field.kind, words).into(), purpose.into())).or_default();
        row.fields += 1;
        row.in_section += usize::from(field.section.is_some());
        if let Some(text) = field.held.text() {
            row.non_ascii += usize::from(!text.is_ascii());
            row.lengths[class_index(text.len())] += 1;
        }
    }
    if rows.is_empty() {
        return Vec::new();
    }
    let cells = |lengths: [String; 6]| lengths.map(|cell| format!("{cell:>9}")).concat();
    let head =
        format!("{:<24}{:<10}{:>7}{:>12}{:>11}", "type", "purpose", "fields", "in section", "non-ASCII");
    let mut lines = vec![head + &cells(CLASSES.map(str::to_owned))];
    for ((kind, purpose), row) in rows {
        let head =
            format!("{kind:<24}{purpose:<10}{:>7}{:>12}{:>11}", row.fields, row.in_section, row.non_ascii);
        lines.push(head + &cells(row.lengths.map(|count| count.to_string())));
    }
    lines
}

/// Properties of titles and labels, without the titles and labels themselves.
pub(crate) fn names(titles: &[String], items: &[Item]) -> Vec<String> {
    let yes = |it: bool| if it { "yes" } else { "no" };
    let twice = |names: &mut dyn Iterator<Item = String>| {
        let mut names = names.collect::<Vec<_>>();
        names.sort_unstable();
        names.windows(2).any(|two| two[0] == two[1])
    };
    let labels = |item: &Item| {
        twice(&mut item.fields.iter().map(|field| {
            let section = field.section.as_ref().map(|section| section.id.as_str()).unwrap_or_default();
            format!("{section}/{}", field.label.to_lowercase())
        }))
    };
    let label = || items.iter().flat_map(|item| &item.fields).map(|field| field.label.as_str());
    let writable = |name: &str| name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.- ".contains(&b));
    vec![
        format!(
            "several items of one title: {}",
            yes(twice(&mut titles.iter().map(|title| title.to_lowercase())))
        ),
        format!("titles that are not ASCII: {}", yes(titles.iter().any(|title| !title.is_ascii()))),
        format!("titles that a reference can't hold: {}", yes(titles.iter().any(|title| !writable(title)))),
        format!("several fields of one label in a section: {}", yes(items.iter().any(labels))),
        format!("labels that are not ASCII: {}", yes(label().any(|label| !label.is_ascii()))),
        format!("labels that a reference can't hold: {}", yes(label().any(|label| !writable(label)))),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(kind: &str, value: Option<&str>) -> Field {
        let held = value.map_or(Held::Absent, |value| Held::Text(value.to_owned()));
        let code = Some("123456".to_owned());
        Field {
            id: "i".into(),
            label: "l".into(),
            kind: kind.into(),
            purpose: String::new(),
            section: None,
            held,
            code,
        }
    }

    #[test]
    fn forms_of_values() {
        let good = [
            ("STRING", "anything"),
            ("OTP", "otpauth://totp/x?secret=A"),
            ("DATE", "1700000000"),
            ("DATE", "2023-11-14"),
            ("MONTH_YEAR", "202512"),
            ("MONTH_YEAR", "2025/12"),
            ("SSHKEY", "-----BEGIN PRIVATE KEY-----\nAA\n"),
            ("ADDRESS", "1 Main Street"),
        ];
        let bad = [
            ("OTP", "JBSWY3DPEHPK3PXP"),
            ("DATE", "14.11.2023"),
            ("MONTH_YEAR", "12/25"),
            ("SSHKEY", "-----BEGIN OPENSSH PRIVATE KEY-----\n"),
        ];
        for (kind, value) in good {
            assert_eq!(
                other_form(form(CONNECT, kind).unwrap(), &field(kind, Some(value))),
                None,
                "{kind} {value}"
            );
        }
        for (kind, value) in bad {
            let said = other_form(form(CONNECT, kind).unwrap(), &field(kind, Some(value))).expect(value);
            assert!(said.contains(kind) && !said.contains(value), "{said}");
        }
        for (kind, form) in CONNECT.iter().chain(CORE) {
            assert_eq!(other_form(*form, &field(kind, None)), None, "{kind}: absent");
            assert_eq!(other_form(*form, &field(kind, Some(""))), None, "{kind}: empty");
        }
    }

    #[test]
    fn other_types_of_values_and_codes() {
        let other = Field { held: Held::Other, ..field("STRING", None) };
        assert!(other_form(Form::Text, &other).is_some());
        let parts = Field { held: Held::Parts, ..field("ADDRESS", None) };
        assert_eq!(
            (other_form(Form::Address, &parts), other_form(Form::Text, &parts).is_some()),
            (None, true)
        );
        for code in [None, Some("12345a".to_owned())] {
            let otp = Field { code, ..field("OTP", Some("otpauth://totp/x")) };
            assert!(other_form(Form::Otp, &otp).is_some());
        }
    }

    #[test]
    fn months_and_dates_of_the_core() {
        assert!(is_written_month("1/2025") && is_written_month("12/2025") && !is_written_month("2025/12"));
        assert!(is_iso_date("2023-11-14") && !is_iso_date("2023-1-14") && !is_iso_date("1700000000"));
    }

    #[test]
    fn the_table_shows_no_names_and_no_exact_lengths() {
        let fields = vec![
            Field { purpose: "PASSWORD".into(), ..field("CONCEALED", Some("a secret of 19 b...")) },
            field("CONCEALED", Some("é")),
            field("mine", None),
        ];
        let item = Item { id: "item".into(), title: "title".into(), is_active: true, fields, files: vec![] };
        let mut words = Words::default();
        words.hide("mine");
        let text = table(CONNECT, std::slice::from_ref(&item), &words).join("\n");
        assert!(text.contains("CONCEALED") && !text.contains("mine") && !text.contains("19"), "{text}");
        assert_eq!(text.lines().count(), 4);
        assert_eq!(unknown_types(CONNECT, &[item], &words).len(), 1);
    }
}
