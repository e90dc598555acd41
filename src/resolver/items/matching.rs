//! Matches references by 1Password's rules for vaults, items, sections, fields and files. Pure.
//!
//! Names match without regard to ASCII case (references contain only ASCII); IDs match exactly. If several
//! things match equally well, none is chosen.

use crate::domain::nearest::nearest_of;
use crate::domain::reference::{FieldRef, MatchBy, Segment};
use crate::ipc::{Class, Failure};

use super::labels::{self, is_writable, quoted};
use super::model::{Field, File, FullItem, ItemOverview, Section, Vault, is_absent, is_archived};

/// What a field reference matches.
pub(crate) enum FieldMatch<'a> {
    /// A field.
    Field(&'a Field),
    /// A file, whose content must still be fetched.
    File(&'a File),
}

/// The vault that a segment matches. `holders` are those to whom vaults are granted, such as `service
/// accounts`.
pub(crate) fn vault<'a>(
    vaults: &'a [Vault],
    segment: &Segment,
    holders: Option<&str>,
) -> Result<&'a Vault, Failure> {
    let hits = hits(vaults.iter(), segment, Ids::Full, |v| (&v.id, &v.name));
    let wanted = quoted(&segment.text);
    match *hits.as_slice() {
        [one] => Ok(one),
        [] => {
            let cause = format!("no vault {wanted}");
            if let Some(failure) =
                slashed("vault", &cause, segment, vaults.iter().map(|v| (&*v.id, &*v.name)))
            {
                return Err(failure);
            }
            if let Some((why, remedy)) = holders.and_then(|holders| private(&segment.text, holders)) {
                return Err(Failure::new(Class::NotFound, format!("{cause}: {why}"), remedy));
            }
            let near = nearest_of(&segment.text, vaults.iter(), |v| &v.name).map(|v| (&*v.id, &*v.name));
            let remedy = match holders {
                Some(_) => "correct the reference, or give the token access to that vault",
                None => "correct the reference, or add that vault to the file", // a vault file needs no token
            };
            Err(missing(cause, near, remedy))
        }
        _ => Err(several(
            format!("several vaults have the name {wanted}"),
            "rename all but one of them, or name the vault by its ID",
        )),
    }
}

/// Why no `holders` can access a vault of this name, and the remedy.
fn private(name: &str, holders: &str) -> Option<(String, &'static str)> {
    let built_in = ["private", "personal", "employee"];
    if !built_in.iter().any(|known| name.eq_ignore_ascii_case(known)) {
        return None;
    }
    let why = format!("{holders} cannot be granted access to Private, Personal and Employee vaults");
    Some((
        why,
        "move the item to another vault that the token can read, and name that vault in the reference",
    ))
}

/// The item of a vault that a segment matches. Ignores deleted and archived items.
pub(crate) fn item<'a>(
    items: &'a [ItemOverview],
    vault: &str,
    segment: &Segment,
) -> Result<&'a ItemOverview, Failure> {
    let living = items.iter().filter(|i| !is_absent(i.state.as_deref()));
    let hits = hits(living.clone(), segment, Ids::Full, |i| (&i.id, &i.title));
    let archived = items.iter().filter(|i| is_archived(i.state.as_deref()));
    let archived = self::hits(archived, segment, Ids::Full, |i| (&i.id, &i.title));
    let (wanted, vault) = (quoted(&segment.text), quoted(vault));
    let cause = format!("no item {wanted} in vault {vault}");
    match *hits.as_slice() {
        [one] => Ok(one),
        [] if !archived.is_empty() => Err(Failure::new(
            Class::NotFound,
            format!("{cause}: it is only in the archive"),
            "restore it from the archive, or correct the reference",
        )),
        [] => {
            if let Some(failure) =
                slashed("item", &cause, segment, living.clone().map(|i| (&*i.id, &*i.title)))
            {
                return Err(failure);
            }
            let near = nearest_of(&segment.text, living, |i| &i.title).map(|i| (&*i.id, &*i.title));
            Err(missing(
                cause,
                near,
                "correct the reference, or create the item, or restore it from the archive",
            ))
        }
        _ => Err(several(
            format!("several items of vault {vault} have the name {wanted}"),
            "rename all but one of them, or name the item by its ID",
        )),
    }
}

/// Finds a name with a slash whose first part is the segment. A reference cannot contain such a name, so the
/// ID must be used.
fn slashed<'a>(
    what: &str,
    cause: &str,
    segment: &Segment,
    all: impl Iterator<Item = (&'a str, &'a str)>,
) -> Option<Failure> {
    let is_start = |name: &str| {
        name.split_once('/').is_some_and(|(first, _)| first.trim().eq_ignore_ascii_case(segment.text.trim()))
    };
    let mut found = all.filter(|(_, name)| is_start(name));
    let (id, name) = found.next()?;
    let more = match found.count() {
        0 => String::new(),
        more => format!(" (and {more} more like it)"),
    };
    Some(Failure::new(
        Class::NotFound,
        format!("{cause}; {} has a / in its name{more}, which a reference can't hold", quoted(name)),
        format!("if you mean that {what}, write its ID instead: {}", id_of(id)),
    ))
}

/// An ID as a message shows it.
fn id_of(id: &str) -> String {
    if is_writable(id) { id.chars().take(64).collect() } else { quoted(id) }
}

/// Whether a segment still matches an item that was fetched by its remembered ID.
pub(crate) fn still_means(segment: &Segment, id: &str, title: &str) -> bool {
    is_title(segment, title) || (is_full_id(segment) && *segment.text == *id)
}

/// The field or file of an item that a reference matches.
pub(crate) fn field<'a>(item: &'a FullItem, wanted: &FieldRef) -> Result<FieldMatch<'a>, Failure> {
    let title = item.title.as_deref().unwrap_or(&item.id);
    let sections = match &wanted.section {
        Some(segment) => Some(section_ids(item, wanted, segment, title)?),
        None => None,
    };
    let within = |section: &Option<Section>| match &sections {
        Some(ids) => section.as_ref().is_some_and(|s| ids.contains(&s.id.as_str())),
        None => true,
    };
    let title = quoted(title);
    let several = |what: &str| {
        several(
            format!("several {what} of item {title} match {}", quoted(&wanted.field.text)),
            "name the section too, or name it by its ID",
        )
    };

    let fields = item.fields.iter().filter(|f| within(&f.section));
    let hits_ = hits(fields.clone(), &wanted.field, Ids::Any, |f| (&f.id, &f.label));
    match *outermost(hits_, |f| &f.section).as_slice() {
        [one] if one.kind.eq_ignore_ascii_case("FILE") => return file_of(item, one).map(FieldMatch::File),
        [one] => return Ok(FieldMatch::Field(one)),
        [] => {}
        _ => return Err(several("fields")),
    }
    let files = item.files.iter().filter(|f| within(&f.section));
    let hits_ = hits(files.clone(), &wanted.field, Ids::Any, |f| (&f.id, &f.name));
    match *outermost(hits_, |f| &f.section).as_slice() {
        [one] => return Ok(FieldMatch::File(one)),
        [] => {}
        _ => return Err(several("files")),
    }
    if let Some(note) = note(item, wanted) {
        return Ok(FieldMatch::Field(note));
    }
    Err(Failure::new(
        Class::NotFound,
        format!("no field {} in item {title}, {}", quoted(&wanted.to_string()), labels::of(item, wanted)),
        "correct the reference, or add the field",
    ))
}

/// The IDs of the sections that a segment matches. Several sections with the same title are searched
/// together.
fn section_ids<'a>(
    item: &'a FullItem,
    wanted: &FieldRef,
    segment: &Segment,
    title: &str,
) -> Result<Vec<&'a str>, Failure> {
    let inner = item.fields.iter().map(|f| &f.section).chain(item.files.iter().map(|f| &f.section));
    let unlisted = inner.flatten().filter(|s| !item.sections.iter().any(|known| known.id == s.id));
    let all = item.sections.iter().chain(unlisted);
    let found: Vec<&Section> = match &*segment.text {
        "" => all.clone().filter(|s| s.label.is_empty()).collect(),
        _ => hits(all.clone(), segment, Ids::Any, |s| (&s.id, &s.label)),
    };
    if found.is_empty() {
        let remedy = match segment.text.is_empty() {
            true => "write one slash instead of two: no section of it is without a title",
            false => "correct the reference, or remove the section from it",
        };
        let cause = format!("no section {} in item {}", quoted(&segment.text), quoted(title));
        return Err(Failure::new(Class::NotFound, format!("{cause}, {}", labels::of(item, wanted)), remedy));
    }
    Ok(found.into_iter().map(|s| s.id.as_str()).collect())
}

/// Both `notes` and `notesPlain` name the note, whatever its label.
fn note<'a>(item: &'a FullItem, wanted: &FieldRef) -> Option<&'a Field> {
    let asked = ["notes", "notesPlain"].iter().any(|name| wanted.field.text.eq_ignore_ascii_case(name));
    let is_note = |f: &&Field| f.section.is_none() && (f.purpose == "NOTES" || f.id == "notesPlain");
    item.fields.iter().find(is_note).filter(|_| asked && wanted.section.is_none())
}

/// The file of a field of type FILE.
fn file_of<'a>(item: &'a FullItem, field: &Field) -> Result<&'a File, Failure> {
    let section = |s: &Option<Section>| s.as_ref().map(|s| s.id.clone());
    let text = field.text().unwrap_or_default();
    let by_id = |f: &&File| !f.id.is_empty() && (f.id == field.id || f.id == text);
    let by_name = |f: &&File| {
        section(&f.section) == section(&field.section) && f.name.eq_ignore_ascii_case(&field.label)
    };
    item.files.iter().find(by_id).or_else(|| item.files.iter().find(by_name)).ok_or_else(|| {
        Failure::new(
            Class::NotFound,
            format!("field {} has no file", quoted(&field.label)),
            "attach the file again, or name it by its file name",
        )
    })
}

/// Which IDs a segment may match, besides titles.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ids {
    /// IDs of 26 letters and digits.
    Full,
    /// IDs of any form, such as `Section_1` or `username`, for sections and fields.
    Any,
}

/// The things that a segment matches. A segment in the form of an ID is first compared with IDs.
fn hits<'a, T>(
    all: impl Iterator<Item = &'a T> + Clone,
    segment: &Segment,
    ids: Ids,
    names: impl Fn(&'a T) -> (&'a str, &'a str),
) -> Vec<&'a T> {
    if segment.text.is_empty() {
        return Vec::new(); // a mistake in the reference: things without a title are named by their ID
    }
    let by_id = |t: &&'a T| segment.by == MatchBy::TitleOrId && names(t).0 == &*segment.text;
    if is_full_id(segment) {
        let found: Vec<_> = all.clone().filter(by_id).collect();
        if !found.is_empty() {
            return found;
        }
    }
    all.filter(|t| is_title(segment, names(t).1) || (ids == Ids::Any && by_id(t))).collect()
}

fn is_title(segment: &Segment, title: &str) -> bool {
    !segment.text.is_empty() && segment.text.eq_ignore_ascii_case(title)
}

fn is_full_id(segment: &Segment) -> bool {
    let digit = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    segment.by == MatchBy::TitleOrId && segment.text.len() == 26 && segment.text.bytes().all(digit)
}

/// The matches outside any section, if there are any: they precede equal ones inside a section.
fn outermost<'a, T>(hits: Vec<&'a T>, section: impl Fn(&'a T) -> &'a Option<Section>) -> Vec<&'a T> {
    let top: Vec<_> = hits.iter().copied().filter(|t| section(t).is_none()).collect();
    if top.is_empty() { hits } else { top }
}

/// The failure for something that does not exist. Suggests the most similar thing by its ID and name.
fn missing(cause: String, nearest: Option<(&str, &str)>, remedy: &str) -> Failure {
    let cause = match nearest {
        Some((_, name)) if is_writable(name) => format!("{cause}; the nearest is {}", quoted(name)),
        Some((id, name)) => format!("{cause}; the nearest is {} (write its ID: {})", quoted(name), id_of(id)),
        None => cause,
    };
    Failure::new(Class::NotFound, cause, remedy)
}

fn several(cause: String, remedy: &str) -> Failure {
    Failure::new(Class::Several, cause, remedy)
}

#[cfg(test)]
mod tests;
