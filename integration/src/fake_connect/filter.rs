//! Connect's filters: `name eq "X"` and `title eq "X"`, case-sensitive like the real ones.

/// A parsed `?filter=`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Filter {
    attribute: String,
    contains: bool,
    value: String,
}

impl Filter {
    /// Parses `ATTRIBUTE eq|co "VALUE"`, with `\"` and `\\` inside the quotes. `None` means a bad request.
    pub(super) fn parse(text: &str) -> Option<Filter> {
        let mut words = text.trim().splitn(3, ' ');
        let attribute = words.next()?.to_owned();
        let contains = match words.next()? {
            "eq" => false,
            "co" => true,
            _ => return None,
        };
        Some(Filter { attribute, contains, value: unquote(words.next()?.trim())? })
    }

    /// Whether a vault or item with this name passes; both `name` and `title` are valid for either.
    pub(super) fn passes(&self, name: &str) -> Option<bool> {
        if !matches!(self.attribute.as_str(), "name" | "title") {
            return None;
        }
        Some(if self.contains { name.contains(&self.value) } else { name == self.value })
    }
}

fn unquote(text: &str) -> Option<String> {
    let inner = text.strip_prefix('"')?.strip_suffix('"')?;
    let (mut out, mut letters) = (String::new(), inner.chars());
    while let Some(letter) = letters.next() {
        match letter {
            '"' => return None,
            '\\' => out.push(letters.next()?),
            letter => out.push(letter),
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::Filter;

    #[test]
    fn filters() {
        let passes = |filter: &str, name| Filter::parse(filter).and_then(|filter| filter.passes(name));
        assert_eq!(passes(r#"name eq "My Vault""#, "My Vault"), Some(true));
        assert_eq!(passes(r#"name eq "my vault""#, "My Vault"), Some(false));
        assert_eq!(passes(r#"title eq "a \"quoted\" one""#, r#"a "quoted" one"#), Some(true));
        assert_eq!(passes(r#"title co "Vau""#, "My Vault"), Some(true));
        assert_eq!(passes(r#"title eq "a"b""#, "a"), None);
        assert_eq!(passes("title eq a", "a"), None);
        assert_eq!(passes(r#"colour eq "a""#, "a"), None);
    }
}
