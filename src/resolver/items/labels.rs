//! Lists the labels of an item's fields and files for a message about one that does not exist: the most
//! similar first, limited in length, and without values.

use super::model::{FullItem, Section};
use crate::domain::nearest::distance;
use crate::domain::reference::{FieldRef, segment_char};

/// The maximum number of labels in one message.
const MOST: usize = 10;
/// The maximum length of all labels in bytes.
const MOST_BYTES: usize = 300;
/// The maximum length of one label in bytes.
const LONGEST: usize = 100;

/// A name in quotes, without control characters, shortened if it is long.
pub(crate) fn quoted(name: &str) -> String {
    let (mut bytes, mut end) = (0, 0);
    for (at, c) in name.char_indices() {
        bytes += c.escape_debug().map(char::len_utf8).sum::<usize>();
        if bytes > LONGEST {
            return format!("{:?}…", &name[..end]);
        }
        end = at + c.len_utf8();
    }
    format!("{name:?}")
}

/// Whether a reference can contain a name.
pub(crate) fn is_writable(name: &str) -> bool {
    !name.is_empty() && name.chars().all(segment_char)
}

/// A field or file as a message shows it and as a reference names it.
struct Label {
    shown: String,
    written: Option<String>,
    by_id: Option<String>,
}

/// The labels of an item in quotes, the most similar to the wanted one first: `"password", "server/port" and
/// 3 more`.
pub(crate) fn of(item: &FullItem, wanted: &FieldRef) -> String {
    let fields = item.fields.iter().filter(|field| field.purpose != "NOTES" || field.text() != Some(""));
    let fields = fields.map(|field| label(&field.section, &field.label, &field.id));
    let files = item.files.iter().map(|file| label(&file.section, &file.name, &file.id));
    listed(fields.chain(files).flatten().collect(), wanted)
}

/// A label with its section; `None` if it has no name at all.
fn label(section: &Option<Section>, name: &str, id: &str) -> Option<Label> {
    let id = Some(id).filter(|id| is_writable(id));
    let Some(section) = section.as_ref().filter(|section| !section.label.is_empty()) else {
        let shown = if name.is_empty() { id? } else { name };
        let written = is_writable(name).then(|| name.to_owned());
        return Some(Label { shown: shown.to_owned(), written, by_id: id.map(str::to_owned) });
    };
    let within = if is_writable(&section.label) { &section.label } else { &section.id };
    let join = |name: &str| is_writable(within).then(|| format!("{within}/{name}"));
    Some(Label {
        shown: format!("{}/{}", section.label, if name.is_empty() { id? } else { name }),
        written: join(name).filter(|_| is_writable(name)),
        by_id: id.and_then(join),
    })
}

fn listed(mut labels: Vec<Label>, wanted: &FieldRef) -> String {
    if labels.is_empty() {
        return "which has no fields".to_owned();
    }
    let field = &wanted.field.text;
    let whole = wanted.section.as_ref().map(|section| format!("{}/{field}", section.text));
    let far = |label: &Label| {
        let last = label.shown.rsplit('/').next().unwrap_or_default();
        let of_whole = whole.as_ref().map(|whole| distance(whole, &label.shown));
        of_whole.unwrap_or(usize::MAX).min(distance(field, last)).min(distance(field, &label.shown))
    };
    labels.sort_by_cached_key(far);
    let count = |shown: &str| labels.iter().filter(|label| label.shown.eq_ignore_ascii_case(shown)).count();
    let entries = labels.iter().map(|label| {
        let written = match count(&label.shown) {
            1 => label.written.as_ref().or(label.by_id.as_ref()),
            _ => label.by_id.as_ref(), // several fields have this label
        };
        match written.filter(|written| **written != label.shown && written.len() <= LONGEST) {
            Some(written) => format!("{} (write: {written})", quoted(&label.shown)),
            None => quoted(&label.shown),
        }
    });
    let (mut list, mut number) = (String::new(), 0);
    for entry in entries.take(MOST) {
        let comma = if number == 0 { "" } else { ", " };
        if list.len() + comma.len() + entry.len() > MOST_BYTES {
            break;
        }
        list.push_str(comma);
        list.push_str(&entry);
        number += 1;
    }
    match (labels.len() - number, number) {
        (0, _) => format!("which has {list}"),
        (more, 0) => format!("which has {more} others"),
        (more, _) => format!("which has {list} and {more} more"),
    }
}

#[cfg(test)]
mod tests;
