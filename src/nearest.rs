//! The nearest of some names to a misspelt one, for messages.

/// The name that was most likely meant, if any is near enough.
pub(crate) fn nearest<'a>(text: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let text = text.to_ascii_lowercase();
    let limit = (text.len() / 3).max(1);
    names
        .filter(|name| !name.is_empty() && name.len().abs_diff(text.len()) <= 4 * limit)
        .map(|name| (strsim::osa_distance(&text, &name.to_ascii_lowercase()), name))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
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
    }
}
