//! What a reference means: 1Password's own rules of matching vaults, items, sections, fields and files. Pure.
//!
//! Names match without regard to case (in ASCII, which is all that a reference can hold), IDs to the letter. Where several things
//! match equally well none is picked.

use crate::nearest::nearest;
use crate::reference::{FieldRef, MatchBy, Segment};
use crate::wire::{Class, Failure};

use super::model::{Field, File, FullItem, ItemOverview, Section, Vault, is_absent, is_archived};

/// What a field reference stands for.
pub(super) enum Found<'a> {
    /// A field.
    Field(&'a Field),
    /// A file, whose content has yet to be fetched.
    File(&'a File),
}

/// The vault that a segment means.
pub(super) fn vault<'a>(vaults: &'a [Vault], segment: &Segment) -> Result<&'a Vault, Failure> {
    let hits = hits(vaults.iter(), segment, Ids::Full, |v| (&v.id, &v.name));
    match *hits.as_slice() {
        [one] => Ok(one),
        [] => Err(missing(
            format!("no vault {:?}", segment.text),
            nearest(&segment.text, vaults.iter().map(|v| v.name.as_str())),
            "correct the reference, or give the token access to that vault",
        )),
        _ => Err(several(
            format!("several vaults are named {:?}", segment.text),
            "rename all but one of them, or name the vault by its ID",
        )),
    }
}

/// The item that a segment means, among those of one vault. Deleted and archived ones are not there.
pub(super) fn item<'a>(
    items: &'a [ItemOverview],
    vault: &str,
    segment: &Segment,
) -> Result<&'a ItemOverview, Failure> {
    let living = items.iter().filter(|i| !is_absent(i.state.as_deref()));
    let hits = hits(living.clone(), segment, Ids::Full, |i| (&i.id, &i.title));
    let archived = items.iter().filter(|i| is_archived(i.state.as_deref()));
    let archived = self::hits(archived, segment, Ids::Full, |i| (&i.id, &i.title));
    match *hits.as_slice() {
        [one] => Ok(one),
        [] if !archived.is_empty() => Err(Failure::new(
            Class::NotFound,
            format!("no item {:?} in vault {vault:?}: it is only in the archive", segment.text),
            "restore it from the archive, or correct the reference",
        )),
        [] => Err(missing(
            format!("no item {:?} in vault {vault:?}", segment.text),
            nearest(&segment.text, living.map(|i| i.title.as_str())),
            "correct the reference, or create the item, or restore it from the archive",
        )),
        _ => Err(several(
            format!("several items of vault {vault:?} are named {:?}", segment.text),
            "rename all but one of them, or name the item by its ID",
        )),
    }
}

/// Whether an item, fetched by its remembered ID, is still what the segment means.
pub(super) fn still_means(segment: &Segment, id: &str, title: &str) -> bool {
    is_title(segment, title) || (is_full_id(segment) && *segment.text == *id)
}

/// The field or file that a reference means in an item.
pub(super) fn field<'a>(item: &'a FullItem, wanted: &FieldRef) -> Result<Found<'a>, Failure> {
    let title = item.title.as_deref().unwrap_or(&item.id);
    let sections = match &wanted.section {
        Some(segment) => Some(section_ids(item, segment, title)?),
        None => None,
    };
    let within = |section: &Option<Section>| match &sections {
        Some(ids) => section.as_ref().is_some_and(|s| ids.contains(&s.id.as_str())),
        None => true,
    };
    let several = |what: &str| {
        several(
            format!("several {what} of item {title:?} match {:?}", wanted.field.text),
            "name the section too, or name it by its ID",
        )
    };

    let fields = item.fields.iter().filter(|f| within(&f.section));
    let hits_ = hits(fields.clone(), &wanted.field, Ids::Any, |f| (&f.id, &f.label));
    match *outermost(hits_, |f| &f.section).as_slice() {
        [one] if one.kind.eq_ignore_ascii_case("FILE") => return file_of(item, one).map(Found::File),
        [one] => return Ok(Found::Field(one)),
        [] => {}
        _ => return Err(several("fields")),
    }
    let files = item.files.iter().filter(|f| within(&f.section));
    let hits_ = hits(files.clone(), &wanted.field, Ids::Any, |f| (&f.id, &f.name));
    match *outermost(hits_, |f| &f.section).as_slice() {
        [one] => return Ok(Found::File(one)),
        [] => {}
        _ => return Err(several("files")),
    }
    if let Some(note) = note(item, wanted) {
        return Ok(Found::Field(note));
    }
    let names = fields.map(|f| f.label.as_str()).chain(files.map(|f| f.name.as_str()));
    Err(missing(
        format!("no field {:?} in item {title:?}", wanted.to_string()),
        nearest(&wanted.field.text, names),
        "correct the reference, or add the field",
    ))
}

/// The IDs of the sections that a segment means: several of one title are searched together.
fn section_ids<'a>(item: &'a FullItem, segment: &Segment, title: &str) -> Result<Vec<&'a str>, Failure> {
    let inner = item.fields.iter().map(|f| &f.section).chain(item.files.iter().map(|f| &f.section));
    let unlisted = inner.flatten().filter(|s| !item.sections.iter().any(|known| known.id == s.id));
    let all = item.sections.iter().chain(unlisted);
    let found: Vec<&Section> = match &*segment.text {
        "" => all.clone().filter(|s| s.label.is_empty()).collect(),
        _ => hits(all.clone(), segment, Ids::Any, |s| (&s.id, &s.label)),
    };
    if found.is_empty() {
        return Err(missing(
            format!("no section {:?} in item {title:?}", segment.text),
            nearest(&segment.text, all.map(|s| s.label.as_str())),
            "correct the reference, or leave the section out of it",
        ));
    }
    Ok(found.into_iter().map(|s| s.id.as_str()).collect())
}

/// Both `notes` and `notesPlain` name the note, whatever it is labelled.
fn note<'a>(item: &'a FullItem, wanted: &FieldRef) -> Option<&'a Field> {
    let asked = ["notes", "notesPlain"].iter().any(|name| wanted.field.text.eq_ignore_ascii_case(name));
    let is_note = |f: &&Field| f.section.is_none() && (f.purpose == "NOTES" || f.id == "notesPlain");
    item.fields.iter().find(is_note).filter(|_| asked && wanted.section.is_none())
}

/// The file behind a field of type FILE.
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
            format!("no file stands behind field {:?}", field.label),
            "attach the file anew, or name it by its file name",
        )
    })
}

/// What of a thing a segment may match besides its title.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ids {
    /// IDs of 26 letters and digits.
    Full,
    /// IDs of any form: sections and fields have `Section_1`, `username` and the like.
    Any,
}

/// Those that a segment matches. One in the form of an ID is tried as such first.
fn hits<'a, T>(
    all: impl Iterator<Item = &'a T> + Clone,
    segment: &Segment,
    ids: Ids,
    names: impl Fn(&'a T) -> (&'a str, &'a str),
) -> Vec<&'a T> {
    if segment.text.is_empty() {
        return Vec::new(); // a slip in the reference: whatever has no title is named by its ID
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

/// Those outside of any section, if there are such: they go before equal ones inside.
fn outermost<'a, T>(hits: Vec<&'a T>, section: impl Fn(&'a T) -> &'a Option<Section>) -> Vec<&'a T> {
    let top: Vec<_> = hits.iter().copied().filter(|t| section(t).is_none()).collect();
    if top.is_empty() { hits } else { top }
}

fn missing(cause: String, nearest: Option<&str>, remedy: &str) -> Failure {
    let cause = match nearest {
        Some(name) => format!("{cause}; the nearest is {name:?}"),
        None => cause,
    };
    Failure::new(Class::NotFound, cause, remedy)
}

fn several(cause: String, remedy: &str) -> Failure {
    Failure::new(Class::Several, cause, remedy)
}

#[cfg(test)]
#[path = "matching_tests.rs"]
mod tests;
