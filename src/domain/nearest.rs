//! Finds the name that is most similar to a misspelt one, for messages.

/// The maximum number of bytes of a name that are compared.
const COMPARED: usize = 256;

/// The edit distance between two names, ignoring case.
pub(crate) fn distance(a: &str, b: &str) -> usize {
    let short = |name: &str| name[..name.floor_char_boundary(COMPARED)].to_ascii_lowercase();
    strsim::osa_distance(&short(a), &short(b))
}

/// The name that was most likely meant, if any is similar enough.
pub(crate) fn nearest<'a>(text: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    nearest_of(text, names, |name| name)
}

/// Like [`nearest`], but for things that have names.
pub(crate) fn nearest_of<'a, T: Copy>(
    text: &str,
    things: impl Iterator<Item = T>,
    name: impl Fn(T) -> &'a str,
) -> Option<T> {
    let limit = (text.len() / 3).max(1);
    things
        .filter(|thing| !name(*thing).is_empty() && name(*thing).len().abs_diff(text.len()) <= 4 * limit)
        .map(|thing| (distance(text, name(thing)), thing))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, thing)| thing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_enough_or_none() {
        let names = ["postgres", "redis", "Postgres Backup", ""];
        assert_eq!(nearest("Postgre", names.into_iter()), Some("postgres"));
        assert_eq!(nearest("mysql", names.into_iter()), None);
        assert_eq!(nearest("", names.into_iter()), None);
        let things = [(1, "postgres"), (2, "redis")];
        assert_eq!(nearest_of("redi", things.iter(), |(_, name)| name), Some(&(2, "redis")));
    }
}
