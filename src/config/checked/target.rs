//! Published files: where they may be, whose they are, and who may read them.

use std::path::{Component, Path, PathBuf};

use super::super::at::At;
use super::super::written;
use super::{Checker, clash};
use crate::secret::Target;

/// The directories below which nothing is published: they are systemd's and our own.
const TAKEN: [&str; 5] = ["/run/onecred", "/run/credentials", "/run/systemd", "/run/dbus", "/run/udev"];

/// A user and maybe a group, by name or number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) user: String,
    pub(super) group: Option<String>,
}

/// What a secret or a template says of its file.
pub(super) struct Written<'a> {
    target: Option<&'a At<String>>,
    owner: Option<&'a At<String>>,
    group: Option<&'a At<String>>,
    mode: Option<&'a At<String>>,
}

impl<'a> Written<'a> {
    pub(super) fn of_secret(secret: &'a written::Secret) -> Self {
        let written::Secret { target, owner, group, mode, .. } = secret;
        Self { target: target.as_ref(), owner: owner.as_ref(), group: group.as_ref(), mode: mode.as_ref() }
    }

    pub(super) fn of_template(template: &'a written::Template) -> Self {
        let written::Template { target, owner, group, mode, .. } = template;
        Self { target: target.as_ref(), owner: owner.as_ref(), group: group.as_ref(), mode: mode.as_ref() }
    }
}

impl Checker<'_> {
    /// The file that is published, if any. `holder` says of what.
    pub(super) fn target(&mut self, written: &Written<'_>, holder: &str) -> Option<Target> {
        let said = written.owner.map(|owner| (owner, self.owner(owner)));
        let group = written.group.and_then(|group| self.account(group, group));
        let mode = written.mode.and_then(|mode| self.mode(mode)).unwrap_or(self.defaults.mode);
        let mut owner = match &said {
            Some((_, owner)) => owner.clone().unwrap_or_else(|| self.defaults.owner.clone()),
            None => self.defaults.owner.clone(),
        };
        if let Some(group) = group {
            if let (Some((_, Some(Owner { group: Some(_), .. }))), Some(written)) = (&said, written.group) {
                self.problems.error(
                    written.place,
                    "\"owner\" names a group already",
                    "remove \"group\", or the part of \"owner\" after its :",
                );
            }
            owner.group = Some(group);
        }
        let Some(text) = written.target else {
            for (key, value) in [("owner", written.owner), ("group", written.group), ("mode", written.mode)] {
                if let Some(value) = value {
                    self.problems.warn(
                        value.place,
                        format!("{key:?} has no effect without a \"target\""),
                        "remove it, or add the target",
                    );
                }
            }
            return None;
        };
        let path = self.path(text)?;
        self.targets.push(clash::Published {
            path: path.clone(),
            holder: holder.to_owned(),
            place: text.place,
        });
        Some(Target { path, user: owner.user, group: owner.group, mode })
    }

    fn path(&mut self, text: &At<String>) -> Option<PathBuf> {
        let path = Path::new(text.as_str());
        let plain: PathBuf = path.components().filter(|part| !matches!(part, Component::ParentDir)).collect();
        let remedy = "write it like \"/run/secrets/NAME\"";
        let mut refuse = |why: &str| {
            self.problems.error(text.place, format!("the target {:?} {why}", text.value), remedy);
            None
        };
        if !path.is_absolute() {
            return refuse("is not absolute");
        }
        if text.chars().any(char::is_control) {
            return refuse("holds a control character");
        }
        if plain.as_os_str() != text.as_str() {
            return refuse("holds .., a doubled / or one at its end");
        }
        if !plain.starts_with("/run") || plain.components().count() < 3 {
            return refuse("is not below /run: secrets are published in memory only");
        }
        if let Some(taken) = TAKEN.iter().find(|taken| plain.starts_with(taken)) {
            return refuse(&format!("is below {taken}, which belongs to others"));
        }
        Some(plain)
    }

    /// `USER` or `USER:GROUP`.
    pub(super) fn owner(&mut self, text: &At<String>) -> Option<Owner> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text.as_str(), None),
        };
        let user = self.account(user, text);
        let group = match group {
            Some(group) => Some(self.account(group, text)?),
            None => None,
        };
        Some(Owner { user: user?, group })
    }

    fn account(&mut self, name: &str, written: &At<String>) -> Option<String> {
        let number = !name.is_empty() && name.chars().all(|c| c.is_ascii_digit());
        let valid = if number {
            // The last number of 16 and of 32 bits mean "nobody at all" to the kernel.
            name.parse::<u32>().is_ok_and(|id| id != u32::MAX && id != u32::from(u16::MAX))
        } else {
            let body = name.strip_suffix('$').unwrap_or(name);
            (1..=32).contains(&name.len())
                && body.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && body.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
        };
        if !valid {
            let what = format!(
                "{:?} is no owner: {name:?} is neither a name nor a number of an account",
                written.value
            );
            self.problems.error(
                written.place,
                what,
                "write USER or USER:GROUP, such as \"app:app\" or \"1000\"",
            );
        }
        valid.then(|| name.to_owned())
    }

    pub(super) fn mode(&mut self, text: &At<String>) -> Option<u32> {
        let octal = (3..=4).contains(&text.len()) && text.chars().all(|c| c.is_digit(8));
        let mode = u32::from_str_radix(text, 8).ok().filter(|_| octal);
        let why = match mode {
            None => "is no file mode",
            Some(mode) if mode > 0o777 => {
                "has a set-user-ID, set-group-ID or sticky bit, which a secret has no use for"
            }
            Some(mode) if mode & 0o022 != 0 => "lets others write the secret",
            Some(mode) => {
                if mode & 0o004 != 0 {
                    let what = format!("the mode {:?} lets every user read the secret", text.value);
                    self.problems.warn(
                        text.place,
                        what,
                        "let the owner or a group read it: \"0400\", \"0440\"",
                    );
                }
                return Some(mode);
            }
        };
        self.problems.error(
            text.place,
            format!("the mode {:?} {why}", text.value),
            "write it in octal, such as \"0400\", or \"0440\" for a group",
        );
        None
    }
}
