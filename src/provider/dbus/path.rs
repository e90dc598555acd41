//! The paths of objects: which secret or source a path names, without an object for each. Pure.

use super::PATH;

/// What a path names. A secret or source of this name need not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    /// A path above the manager, with the one name below it.
    Above(&'static str),
    /// The manager.
    Manager,
    /// The node of all secrets.
    Secrets,
    /// The node of all sources.
    Sources,
    /// A secret.
    Secret(String),
    /// A source.
    Source(String),
}

impl Node {
    /// What a path names, if anything.
    pub(super) fn at(path: &str) -> Option<Self> {
        match path {
            "/" => return Some(Self::Above("org")),
            "/org" => return Some(Self::Above("onecred")),
            "/org/onecred" => return Some(Self::Above("Credentials1")),
            _ => {}
        }
        let below = path.strip_prefix(PATH)?;
        match below.strip_prefix('/').map(|below| below.split_once('/')) {
            None if below.is_empty() => Some(Self::Manager),
            None => None,
            Some(None) => match below {
                "/secret" => Some(Self::Secrets),
                "/source" => Some(Self::Sources),
                _ => None,
            },
            Some(Some(("secret", name))) => unescape(name).map(Self::Secret),
            Some(Some(("source", name))) => unescape(name).map(Self::Source),
            Some(Some(_)) => None,
        }
    }
}

/// The path of a secret's object.
pub(super) fn of_secret(name: &str) -> String {
    format!("{PATH}/secret/{}", escape(name))
}

/// A name as the last part of a path. As in systemd, a character that is not allowed there becomes `_` and two hexadecimal digits.
pub(super) fn escape(name: &str) -> String {
    let escaped =
        |(at, byte): (usize, u8)| match byte.is_ascii_alphabetic() || at > 0 && byte.is_ascii_digit() {
            true => char::from(byte).to_string(),
            false => format!("_{byte:02x}"),
        };
    name.bytes().enumerate().map(escaped).collect()
}

/// The name that [`escape`] turns into this text. Other spellings are rejected, so each name has exactly one path.
fn unescape(part: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        if first == b'_' {
            let digits = std::str::from_utf8(after.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &after[2..];
        } else {
            bytes.push(first);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok().filter(|name| !name.is_empty() && escape(name) == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_and_its_path_determine_each_other() {
        assert_eq!(escape("db-password"), "db_2dpassword");
        assert_eq!(escape("1st_key"), "_31st_5fkey");
        assert_eq!(escape("Az09"), "Az09");
        for name in ["db-password", "1st_key", "a.b@c-d_e", "x", "a1", "_", "é"] {
            let path = of_secret(name);
            assert!(zbus::ObjectPath::try_from(path.as_str()).is_ok(), "{path}");
            assert_eq!(Node::at(&path), Some(Node::Secret(name.to_owned())));
        }
    }

    #[test]
    fn only_paths_of_objects_and_folders_name_something() {
        for (path, expected) in [
            ("/", Some(Node::Above("org"))),
            ("/org", Some(Node::Above("onecred"))),
            ("/org/onecred", Some(Node::Above("Credentials1"))),
            ("/org/onecred/Credentials1", Some(Node::Manager)),
            ("/org/onecred/Credentials1/secret", Some(Node::Secrets)),
            ("/org/onecred/Credentials1/source", Some(Node::Sources)),
            ("/org/onecred/Credentials1/source/default", Some(Node::Source("default".to_owned()))),
            ("/org/onecred/Credentials1/source/a_2db", Some(Node::Source("a-b".to_owned()))),
            ("/org/onecred/Credentials1/secret/_31", Some(Node::Secret("1".to_owned()))),
            ("", None),
            ("/org/", None),
            ("/org/onecred/Credentials1/", None),
            ("/org/onecred/Credentials1/secret/", None),
            ("/org/onecred/Credentials1/source/", None),
            ("/org/onecred/Credentials1/Secret/a", None),
            ("/org/onecred/Credentials1/secret/1", None),
            ("/org/onecred/Credentials1/secret/a-b", None),
            ("/org/onecred/Credentials1/secret/_+f", None),
            ("/org/onecred/Credentials12", None),
            ("/org/onecred/Credentials1/other", None),
            ("/org/onecred/Credentials1/other/a", None),
            ("/org/onecred/Credentials1/secret/a/b", None),
            ("/org/onecred/Credentials1/secret/_", None),
            ("/org/onecred/Credentials1/secret/_2", None),
            ("/org/onecred/Credentials1/secret/_2D", None),
            ("/org/onecred/Credentials1/secret/_61", None),
            ("/org/onecred/Credentials1/secret/_ff", None),
            ("/org/freedesktop", None),
        ] {
            assert_eq!(Node::at(path), expected, "{path}");
        }
    }
}
