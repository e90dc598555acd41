//! The nearest of some names to a mistaken one, for messages.

/// The name that was most likely meant, if any is near enough.
pub(super) fn nearest<'a>(text: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let text = text.to_ascii_lowercase();
    let limit = (text.chars().count() / 3).max(1);
    names
        .filter(|name| !name.is_empty() && name.len().abs_diff(text.len()) <= 4 * limit)
        .map(|name| (distance(&text, &name.to_ascii_lowercase()), name))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// How many letters have to be put in, left out or replaced to get from one text to another.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (b, cell) in to.iter().zip(row.iter_mut().skip(1)) {
            let here = (diagonal + usize::from(a != *b)).min(left + 1).min(*cell + 1);
            diagonal = std::mem::replace(cell, here);
            left = here;
        }
        row[0] = i + 1;
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        let cases = [("", "", 0), ("", "abc", 3), ("abc", "", 3), ("kitten", "sitting", 3), ("ab", "ba", 2)];
        for (from, to, expected) in cases {
            assert_eq!(distance(from, to), expected, "{from} {to}");
        }
    }

    #[test]
    fn near_enough_or_none() {
        let names = ["postgres", "redis", "Postgres Backup", ""];
        assert_eq!(nearest("Postgre", names.into_iter()), Some("postgres"));
        assert_eq!(nearest("mysql", names.into_iter()), None);
        assert_eq!(nearest("", names.into_iter()), None);
    }
}
