//! Resolves each item with onecred's own resolver, by the code that serves units. Values are compared here
//! and never shown.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use onecred::config::{Source, SourceKind};
use onecred::domain::name::{CredentialId, SourceName};
use onecred::domain::reference::{FieldRef, Reference};
use onecred::domain::secret::SecretValue;
use onecred::ipc::{Class, Failure, Fetch, Resolve};
use onecred::resolver::Resolver;
use onecred::resolver::service_account::Surroundings;

use crate::fields::{self, Form, Kind};
use crate::finding::{Finding, Line};
use crate::item::{Field, Item, Section};

/// The time limit for an item, including all lists that it needs.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a field is requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    Id,
    Name,
    Otp,
    OpenSsh,
    File,
}

/// The expected result of a reference.
#[derive(Clone)]
pub(crate) enum Expected {
    /// This text.
    Text(String),
    /// A value of this form, which differs from the source's.
    Written(Form),
    /// A value of this length, if the source states the length.
    Bytes(Option<u64>),
    /// A refusal: the source does not return it.
    Unreadable,
}

/// A field to request.
#[derive(Clone)]
pub(crate) struct Wanted {
    pub(crate) reference: String,
    pub(crate) way: Way,
    pub(crate) kind: String,
    pub(crate) expected: Expected,
    /// Another field or file of the item has the same name, so a refusal may be right.
    pub(crate) is_ambiguous: bool,
}

/// The fields to request of one item.
pub(crate) struct Question {
    pub(crate) is_by_name: bool,
    pub(crate) wanted: Vec<Wanted>,
}

/// The result for a field.
pub(crate) type Outcome = Result<SecretValue, Class>;

/// All results, and the number of fields that no reference can name.
#[derive(Default)]
pub(crate) struct Resolved {
    pub(crate) outcomes: Vec<(Wanted, Outcome)>,
    pub(crate) items_by_name: usize,
    pub(crate) items_by_id: usize,
    pub(crate) unwritable: usize,
}

/// The questions for all active items, alternately by name and by ID. At most one file is requested, because
/// each costs more calls.
pub(crate) fn questions(
    vault: (&str, &str, bool),
    items: &[Item],
    titles: &[String],
    kinds: &[Kind],
) -> (Vec<Question>, usize) {
    let (vault_id, vault_name, is_only) = vault;
    let (mut questions, mut unwritable, mut has_file) = (Vec::new(), 0, false);
    for (number, item) in items.iter().filter(|item| item.is_active).enumerate() {
        let same = titles.iter().filter(|title| title.eq_ignore_ascii_case(&item.title)).count();
        let named = format!("op://{vault_name}/{}", item.title);
        let can_be_named =
            is_only && same == 1 && !crate::shape::is_id(&item.title) && writable(&format!("{named}/x"));
        let is_by_name = number % 2 == 0 && can_be_named;
        let base = if is_by_name { named } else { format!("op://{vault_id}/{}", item.id) };
        let mut wanted = Vec::new();
        for field in &item.fields {
            let asked = of_field(&base, item, field, kinds);
            unwritable += usize::from(asked.is_empty());
            wanted.extend(asked);
        }
        if !has_file && let Some(file) = item.files.iter().min_by_key(|file| file.size.unwrap_or(u64::MAX)) {
            let reference = path(&base, file.section.as_ref().map(|section| section.id.as_str()), &file.id);
            if writable(&reference) {
                has_file = true;
                wanted.push(Wanted {
                    reference,
                    way: Way::File,
                    kind: "file".into(),
                    expected: Expected::Bytes(file.size),
                    is_ambiguous: false,
                });
            }
        }
        if !wanted.is_empty() {
            questions.push(Question { is_by_name, wanted });
        }
    }
    (questions, unwritable)
}

fn writable(reference: &str) -> bool {
    Reference::parse(reference).is_ok()
}

fn path(base: &str, section: Option<&str>, field: &str) -> String {
    match section {
        Some(section) => format!("{base}/{section}/{field}"),
        None => format!("{base}/{field}"),
    }
}

fn of_field(base: &str, item: &Item, field: &Field, kinds: &[Kind]) -> Vec<Wanted> {
    let form = fields::form(kinds, &field.kind);
    if field.kind == "FILE" {
        return Vec::new(); // the file itself is requested
    }
    let expected = match (form, field.held.text()) {
        (None, _) if field.kind == "Unsupported" => Expected::Unreadable,
        (Some(form @ (Form::Date | Form::Month)), Some(text)) if !text.is_empty() => Expected::Written(form),
        (Some(form @ Form::Key), Some(text)) if !text.is_empty() => Expected::Written(form),
        (Some(form @ Form::Address), None) => Expected::Written(form),
        (_, Some(text)) => Expected::Text(text.to_owned()),
        (_, None) => Expected::Unreadable,
    };
    let by = |way, section: Option<&str>, name: &str, query: &str, expected: &Expected| {
        let reference = path(base, section, name) + query;
        let shares = |other: &&Field| same_section(&field.section, &other.section) && names(other, name);
        let is_ambiguous = item.fields.iter().filter(shares).count() > 1
            || item.files.iter().any(|file| file.name.eq_ignore_ascii_case(name));
        let usable = !name.is_empty() && section != Some("") && writable(&reference);
        usable.then(|| Wanted {
            reference,
            way,
            kind: field.kind.clone(),
            expected: expected.clone(),
            is_ambiguous,
        })
    };
    let section = field.section.as_ref();
    let by_id = |way, query: &str, expected: &Expected| {
        by(way, section.map(|s| s.id.as_str()), &field.id, query, expected)
    };
    let mut all = vec![by_id(Way::Id, "", &expected)];
    all.push(by(Way::Name, section.map(|s| s.label.as_str()), &field.label, "", &expected));
    let is_empty = field.held.text().is_some_and(str::is_empty);
    if form == Some(Form::Otp) && !is_empty {
        all.push(by_id(Way::Otp, "?attribute=otp", &Expected::Written(Form::Otp)));
    }
    if form == Some(Form::Key) && !is_empty {
        all.push(by_id(Way::OpenSsh, "?ssh-format=openssh", &Expected::Written(Form::Key)));
    }
    all.into_iter().flatten().collect()
}

/// Whether a reference to one section may also search the other: the sections are equal, or have the same
/// title.
fn same_section(one: &Option<Section>, other: &Option<Section>) -> bool {
    match (one, other) {
        (None, _) => true, // without a section everything is searched, and fields outside sections come first
        (Some(one), Some(other)) => one.id == other.id || one.label.eq_ignore_ascii_case(&other.label),
        (Some(_), None) => false,
    }
}

fn names(field: &Field, name: &str) -> bool {
    field.label.eq_ignore_ascii_case(name) || field.id.eq_ignore_ascii_case(name)
}

/// Opens the source as the resolver does.
pub(crate) fn open(kind: SourceKind, token: &SecretValue, surroundings: &Surroundings) -> Option<Resolver> {
    let credential = CredentialId::parse("token").ok()?;
    let source = Source { kind, token: credential, declared_at: "the command line".into() };
    let sources = BTreeMap::from([(SourceName::default_source(), source)]);
    // exposed: the resolver needs the token to log in
    let token = |_: &CredentialId| Some(SecretValue::new(token.expose().to_vec()));
    Some(Resolver::within(&sources, token, surroundings))
}

/// Asks all questions. Items are requested concurrently, as by units.
pub(crate) async fn resolve(resolver: Resolver, questions: Vec<Question>, unwritable: usize) -> Resolved {
    let resolver = Arc::new(resolver);
    let mut asking = tokio::task::JoinSet::new();
    let mut resolved = Resolved { unwritable, ..Resolved::default() };
    for question in questions {
        match question.is_by_name {
            true => resolved.items_by_name += 1,
            false => resolved.items_by_id += 1,
        }
        let resolver = Arc::clone(&resolver);
        asking.spawn(async move { ask(&resolver, question.wanted).await });
    }
    while let Some(outcomes) = asking.join_next().await {
        resolved.outcomes.extend(outcomes.unwrap_or_default());
    }
    resolved
}

async fn ask(resolver: &Resolver, wanted: Vec<Wanted>) -> Vec<(Wanted, Outcome)> {
    let references =
        wanted.iter().filter_map(|wanted| Reference::parse(&wanted.reference).ok()).collect::<Vec<_>>();
    let Some(item) = references.first().map(|reference| reference.item.clone()) else { return Vec::new() };
    let fields: Vec<FieldRef> = references.into_iter().map(|reference| reference.field).collect();
    let fetch = Fetch {
        source: SourceName::default_source(),
        print: String::new(),
        definition: None,
        item,
        known: None,
        version: None,
        fields,
        look_again: None,
        asker: Default::default(),
        patience: PATIENCE,
    };
    let class = |failure: Failure| failure.class;
    match resolver.fetch(fetch).await {
        Ok(fetched) => wanted
            .into_iter()
            .zip(fetched.fields.into_iter().map(|field| field.map(|f| f.value).map_err(class)))
            .collect(),
        Err(failure) => wanted.into_iter().map(|wanted| (wanted, Err(failure.class))).collect(),
    }
}

/// An expectation: how a field is requested, its name, and its statement.
const TABLE: &[(Way, &str, &str, &str)] = &[
    (
        Way::Id,
        "onecred.by-id",
        "a field by its ID resolves to the value that the source has",
        "no field was asked for",
    ),
    (
        Way::Name,
        "onecred.by-name",
        "a field by its label resolves to the value that the source has",
        "no label can be written in a reference",
    ),
    (
        Way::Otp,
        "onecred.otp",
        "?attribute=otp resolves to a code",
        "no item that was read has a one-time password",
    ),
    (
        Way::OpenSsh,
        "onecred.openssh",
        "?ssh-format=openssh resolves to an OpenSSH key",
        "no item that was read has a private key",
    ),
    (
        Way::File,
        "onecred.file",
        "a file resolves to as many bytes as its size",
        "no item that was read has a file",
    ),
];

/// Judges the results.
pub(crate) fn judge(resolved: &Resolved) -> Vec<Line> {
    let line = |&(way, name, claim, otherwise): &(Way, &'static str, &'static str, &'static str)| {
        let of_way = resolved.outcomes.iter().filter(|(wanted, _)| wanted.way == way).collect::<Vec<_>>();
        let found = of_way.iter().filter_map(|(wanted, outcome)| difference(wanted, outcome)).collect();
        Line { name, claim, finding: Finding::of(of_way.len(), found, otherwise) }
    };
    TABLE.iter().map(line).collect()
}

/// The numbers of requested fields.
pub(crate) fn counts(resolved: &Resolved) -> Vec<String> {
    let classes: BTreeSet<&str> = resolved
        .outcomes
        .iter()
        .filter_map(|(_, outcome)| outcome.as_ref().err())
        .map(|class| class.as_str())
        .collect();
    let classes = if classes.is_empty() {
        "none".to_owned()
    } else {
        classes.into_iter().collect::<Vec<_>>().join(", ")
    };
    vec![
        format!("items resolved by title: {}, by ID: {}", resolved.items_by_name, resolved.items_by_id),
        format!("fields that no reference can name: {}", resolved.unwritable),
        format!("classes of refusals: {classes}"),
    ]
}

/// The difference between a result and its expectation.
fn difference(wanted: &Wanted, outcome: &Outcome) -> Option<String> {
    let kind = match fields::form(fields::CONNECT, &wanted.kind).or(fields::form(fields::CORE, &wanted.kind))
    {
        Some(_) => wanted.kind.as_str(),
        None if matches!(wanted.kind.as_str(), "file" | "Unsupported") => wanted.kind.as_str(),
        None => "of an unknown type",
    };
    let value = match outcome {
        Ok(value) => value,
        Err(Class::Malformed) if matches!(wanted.expected, Expected::Unreadable) => return None,
        Err(Class::Several) if wanted.is_ambiguous => return None,
        Err(class) => return Some(format!("{kind}: refused as {}", class.as_str())),
    };
    // exposed: it is compared with the source's value
    let text = std::str::from_utf8(value.expose()).ok();
    let is_right = match (&wanted.expected, wanted.way) {
        _ if wanted.is_ambiguous => true,
        (Expected::Text(expected), _) => text == Some(expected),
        (Expected::Bytes(size), _) => size.is_none_or(|size| size == value.len() as u64),
        (Expected::Unreadable, _) => false,
        (Expected::Written(_), Way::Otp) => text
            .is_some_and(|code| (1..=10).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_digit())),
        (Expected::Written(_), Way::OpenSsh) => {
            text.is_some_and(|key| key.starts_with("-----BEGIN OPENSSH PRIVATE KEY-----\n"))
        }
        (Expected::Written(form), _) => text.is_some_and(|text| is_written(*form, text)),
    };
    (!is_right).then(|| format!("{kind}: another value than expected ({} long)", fields::class(value.len())))
}

fn is_written(form: Form, text: &str) -> bool {
    match form {
        Form::Date | Form::IsoDate => fields::is_iso_date(text),
        Form::Month | Form::WrittenMonth => fields::is_written_month(text),
        Form::Key => text.starts_with("-----BEGIN PRIVATE KEY-----\n"),
        Form::Address | Form::Text => !text.is_empty(),
        Form::Otp | Form::Nothing => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::item::Held;

    fn field(id: &str, label: &str, kind: &str, value: &str, section: Option<(&str, &str)>) -> Field {
        let section = section.map(|(id, label)| Section { id: id.into(), label: label.into() });
        let held = Held::Text(value.into());
        Field {
            id: id.into(),
            label: label.into(),
            kind: kind.into(),
            purpose: String::new(),
            section,
            held,
            code: None,
        }
    }

    fn item(title: &str, fields: Vec<Field>) -> Item {
        Item {
            id: "item2345item2345item234567".into(),
            title: title.into(),
            is_active: true,
            fields,
            files: vec![],
        }
    }

    fn references(items: &[Item]) -> Vec<String> {
        let titles: Vec<String> = items.iter().map(|item| item.title.clone()).collect();
        let (questions, _) = questions(("v", "My Vault", true), items, &titles, fields::CONNECT);
        questions.into_iter().flat_map(|question| question.wanted).map(|wanted| wanted.reference).collect()
    }

    #[test]
    fn references_by_name_and_by_id() {
        let one = item("db", vec![field("f1", "token", "STRING", "x", Some(("s1", "Prod")))]);
        let two = item("dé", vec![field("password", "pässword", "CONCEALED", "x", None)]);
        assert_eq!(
            references(std::slice::from_ref(&one)),
            ["op://My Vault/db/s1/f1", "op://My Vault/db/Prod/token"]
        );
        assert_eq!(
            references(&[two]),
            ["op://v/item2345item2345item234567/password"],
            "what can't be written goes by ID"
        );
        let twins = references(&[one.clone(), one]);
        assert!(twins.iter().all(|reference| reference.starts_with("op://v/item")), "{twins:?}");
    }

    #[test]
    fn codes_and_keys_are_asked_for_too() {
        let all = references(&[item(
            "x",
            vec![field("o", "otp", "OTP", "otpauth://x", None), field("k", "key", "SSHKEY", "-", None)],
        )]);
        assert!(
            all.contains(&"op://My Vault/x/o?attribute=otp".to_owned())
                && all.contains(&"op://My Vault/x/k?ssh-format=openssh".to_owned()),
            "{all:?}"
        );
    }

    #[test]
    fn differences_name_the_type_and_never_the_value() {
        let wanted = |way, expected, is_ambiguous| Wanted {
            reference: String::new(),
            way,
            kind: "STRING".into(),
            expected,
            is_ambiguous,
        };
        let value = |text: &str| Ok(SecretValue::new(text.as_bytes().to_vec()));
        let text = || Expected::Text("canary".into());
        for (wanted, outcome) in [
            (wanted(Way::Id, text(), false), value("canary")),
            (wanted(Way::Name, text(), true), Err(Class::Several)),
            (wanted(Way::Name, text(), true), value("of the other field")),
            (wanted(Way::Id, Expected::Unreadable, false), Err(Class::Malformed)),
            (wanted(Way::Id, Expected::Written(Form::Date), false), value("2023-11-14")),
            (wanted(Way::Id, Expected::Written(Form::Month), false), value("12/2025")),
            (wanted(Way::Otp, Expected::Written(Form::Otp), false), value("123456")),
            (wanted(Way::File, Expected::Bytes(Some(6)), false), value("canary")),
            (wanted(Way::File, Expected::Bytes(None), false), value("canary")),
        ] {
            assert_eq!(difference(&wanted, &outcome), None, "{:?}", outcome.err());
        }
        for (wanted, outcome, expected) in [
            (
                wanted(Way::Id, text(), false),
                value("other canary"),
                "STRING: another value than expected (1-15 long)",
            ),
            (wanted(Way::Id, text(), false), Err(Class::NotFound), "STRING: refused as not found"),
            (wanted(Way::Id, text(), false), Err(Class::Several), "STRING: refused as several"),
            (
                wanted(Way::Id, Expected::Unreadable, false),
                value("canary"),
                "STRING: another value than expected (1-15 long)",
            ),
            (
                wanted(Way::Id, Expected::Written(Form::Date), false),
                value("1700000000"),
                "STRING: another value than expected (1-15 long)",
            ),
            (
                wanted(Way::Otp, Expected::Written(Form::Otp), false),
                value("otpauth://x"),
                "STRING: another value than expected (1-15 long)",
            ),
            (
                wanted(Way::File, Expected::Bytes(Some(5)), false),
                value("canary"),
                "STRING: another value than expected (1-15 long)",
            ),
        ] {
            assert_eq!(difference(&wanted, &outcome).as_deref(), Some(expected));
        }
    }
}
