//! What the fuzzer tries on references: the grammar written a second time, and templates that placeholders never lead out of their segment.

use super::*;
use crate::fuzzing::{Input, text};

fn is_segment(segment: &str) -> bool {
    segment.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.- ".contains(&b))
}

/// The grammar: a prefix, three or four segments, and one of three queries or none.
fn is_reference(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("op://") else { return false };
    let queries = ["?attribute=otp", "?attribute=totp", "?ssh-format=openssh"];
    let path = queries.iter().find_map(|query| rest.strip_suffix(query)).unwrap_or(rest);
    (2..=3).contains(&path.matches('/').count()) && path.split('/').all(is_segment)
}

/// One text as a reference and as a rule's, filled with another text in the place of every placeholder.
pub(crate) fn reference(data: &[u8]) {
    let mut input = Input(data);
    let (written, value) = (text(input.upto(b'\n')), text(input.rest()));
    let value: String = value.chars().take(255).collect(); // a unit's name has no more
    let got = Reference::parse(&written);
    assert_eq!(got.is_ok(), is_reference(&written), "{written:?}: {got:?}");
    if let Ok(reference) = &got {
        let printed = reference.to_string();
        assert_eq!(printed, written.replace("=totp", "=otp"));
        assert_eq!(Reference::parse(&printed).as_ref(), Ok(reference));
        let json = serde_json::to_vec(reference).unwrap_or_default();
        assert_eq!(serde_json::from_slice::<Reference>(&json).ok().as_ref(), Some(reference));
    }
    let Ok(template) = ReferenceTemplate::parse(&written) else {
        assert!(got.is_err(), "a reference without placeholders is a template");
        return;
    };
    let filled = template.fill(&|_| value.clone());
    let marks = PLACEHOLDERS.map(|name| format!("{{{name}}}"));
    let used = marks.iter().any(|mark| written.contains(mark));
    let fit = is_segment(&value) && !value.trim().is_empty() && value != "." && value != "..";
    assert_eq!(filled.is_ok(), fit || !used, "{written:?} with {value:?}: {filled:?}");
    let Ok(reference) = filled else { return };
    let naive = marks.iter().fold(written.to_string(), |all, mark| all.replace(mark, &value));
    assert_eq!(reference.to_string(), naive.replace("=totp", "=otp"));
    let path = written.strip_prefix("op://").unwrap_or_default();
    let path = path.split_once('?').map_or(path, |(path, _)| path);
    let Reference { item: ItemRef { vault, item }, field: FieldRef { section, field, .. } } = &reference;
    let got = [Some(vault), Some(item), section.as_ref(), Some(field)].into_iter().flatten();
    for (segment, written) in got.zip(path.split('/')) {
        let by = if written.contains('{') { MatchBy::Title } else { MatchBy::TitleOrId };
        assert_eq!(segment.by, by, "what came out of a unit's name must not pick an ID");
    }
}
