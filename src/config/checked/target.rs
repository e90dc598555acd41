//! Checks published files: their directories, owners and permissions.

use std::path::{Component, Path, PathBuf};

use super::super::at::At;
use super::super::problem::Problems;
use super::super::written;
use super::{Checker, clash};
use crate::domain::secret::Target;

/// The directories for published files by default. The second one is used if another program uses the first.
pub(in super::super) const ROOTS: [&str; 2] = ["/run/secrets", "/run/onecred/files"];
/// The directories of systemd and onecred.
const TAKEN: [&str; 5] = ["/run/onecred", "/run/credentials", "/run/systemd", "/run/dbus", "/run/udev"];
/// The directories for links.
const LINKED: [&str; 5] = ["/etc", "/run", "/var/lib", "/opt", "/root"];
/// The remedy that lists the directories for links.
const LINK_RULE: &str = "write an absolute path like \"/etc/app/key.pem\", below /etc, /run, /var/lib, /opt or /root, but not below /run/onecred, /run/credentials, /run/systemd, /run/dbus or /run/udev; each directory of the path must belong to root, be writable only by root, and not be a symbolic link";
/// The remedy for a link below /home.
const HOME: &str = "its owner could replace the link; for SSH keys set AuthorizedKeysFile= of sshd to the published path, otherwise publish the file with \"target\" and \"owner\", and configure that path in the program";
/// The maximum length of a name in `onecred-file@NAME.service` with the credential ID `file`: systemd allows
/// 83 bytes for a unit and an ID.
const HANDLED: usize = 83 - "onecred-file@.service".len() - "file".len();

/// A user and optionally a group, by name or number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) user: String,
    pub(super) group: Option<String>,
}

/// The keys of a secret or a template about its file.
pub(super) struct Written<'a> {
    target: Option<&'a At<String>>,
    owner: Option<&'a At<String>>,
    group: Option<&'a At<String>>,
    mode: Option<&'a At<String>>,
    links: &'a [At<String>],
    make_directories: Option<&'a At<bool>>,
    name: Option<&'a At<String>>,
}

impl<'a> Written<'a> {
    pub(super) fn of_secret(secret: &'a written::Secret) -> Self {
        let written::Secret { target, owner, group, mode, links, make_directories, name, .. } = secret;
        Self {
            target: target.as_ref(),
            owner: owner.as_ref(),
            group: group.as_ref(),
            mode: mode.as_ref(),
            links,
            make_directories: make_directories.as_ref(),
            name: name.as_ref(),
        }
    }

    pub(super) fn of_template(template: &'a written::Template) -> Self {
        let written::Template { target, owner, group, mode, links, make_directories, name, .. } = template;
        Self {
            target: target.as_ref(),
            owner: owner.as_ref(),
            group: group.as_ref(),
            mode: mode.as_ref(),
            links,
            make_directories: make_directories.as_ref(),
            name: name.as_ref(),
        }
    }
}

impl Checker<'_> {
    /// The published file, if any. `holder` is its secret or template, for messages.
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
                    "\"owner\" already has a group",
                    "remove \"group\", or the part of \"owner\" after its :",
                );
            }
            owner.group = Some(group);
        }
        let Some(text) = written.target else {
            let told = [
                ("owner", written.owner),
                ("group", written.group),
                ("mode", written.mode),
                ("links", written.links.first()),
            ];
            for (key, value) in told {
                if let Some(value) = value {
                    self.problems.warn(
                        value.place,
                        format!("{key:?} has no effect without a \"target\""),
                        "remove it, or add the target",
                    );
                }
            }
            if let Some(make) = written.make_directories {
                self.problems.warn(
                    make.place,
                    "\"makeDirectories\" has no effect without a \"target\"",
                    "remove it, or add the target",
                );
            }
            return None;
        };
        let path = self.path(text)?;
        let links: Vec<PathBuf> = written.links.iter().filter_map(|link| self.link(link, holder)).collect();
        self.targets.push(clash::Published {
            path: path.clone(),
            holder: holder.to_owned(),
            place: text.place,
        });
        if let Some(name) = written.name.filter(|name| name.len() > HANDLED) {
            let what = format!(
                "onecred-file@{}.service cannot request it: the name is too long for systemd",
                name.value
            );
            self.problems.warn(
                text.place,
                what,
                format!(
                    "give it a name of at most {HANDLED} bytes, or order units after onecred-publish.target"
                ),
            );
        }
        let make_directories = written.make_directories.is_some_and(|make| make.value);
        Some(Target { path, user: owner.user, group: owner.group, mode, links, make_directories })
    }

    fn path(&mut self, text: &At<String>) -> Option<PathBuf> {
        let remedy = "write it like \"/run/secrets/NAME\"";
        let path = match plain(text) {
            Ok(path) => path,
            Err(why) => {
                self.problems.error(text.place, format!("the target {:?} {why}", text.value), remedy);
                return None;
            }
        };
        if self.roots.iter().any(|root| path.starts_with(root) && path != *root) {
            return Some(path);
        }
        let roots: Vec<_> = self.roots.iter().map(|root| root.display().to_string()).collect();
        let what = format!(
            "the target {:?} is not in a directory for published files: {}",
            text.value,
            roots.join(", ")
        );
        let parent = path.parent().filter(|_| path.starts_with("/run") && !is_taken(&path));
        let remedy = match parent.filter(|parent| parent.components().count() > 2) {
            Some(parent) => {
                format!("{remedy}, or allow its directory: \"publish\": {{ \"roots\": [{parent:?}] }}")
            }
            None => remedy.to_owned(),
        };
        self.problems.error(text.place, what, remedy);
        None
    }

    fn link(&mut self, text: &At<String>, holder: &str) -> Option<PathBuf> {
        let path = plain(text).and_then(|path| {
            if is_taken(&path) {
                return Err("is in a directory of other programs");
            }
            if path.starts_with("/home") {
                return Err("is below /home");
            }
            let below = LINKED.iter().any(|dir| path.starts_with(dir) && path.as_os_str() != *dir);
            if below { Ok(path) } else { Err("is in none of /etc, /run, /var/lib, /opt and /root") }
        });
        match path {
            Ok(path) => {
                let holder = format!("a link of {holder}");
                self.targets.push(clash::Published { path: path.clone(), holder, place: text.place });
                Some(path)
            }
            Err(why) => {
                let remedy = if text.starts_with("/home/") { HOME } else { LINK_RULE };
                self.problems.error(text.place, format!("the link {:?} {why}", text.value), remedy);
                None
            }
        }
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
            // The highest numbers of 16 and 32 bits are not valid users for the kernel.
            name.parse::<u32>().is_ok_and(|id| id != u32::MAX && id != u32::from(u16::MAX))
        } else {
            let body = name.strip_suffix('$').unwrap_or(name);
            (1..=32).contains(&name.len())
                && body.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && body.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
        };
        if !valid {
            let what = format!(
                "{:?} is not an owner: {name:?} is neither the name nor the number of an account",
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
            None => "is not a file mode",
            Some(mode) if mode > 0o777 => "has a set-user-ID, set-group-ID or sticky bit",
            Some(mode) if mode & 0o022 != 0 => "lets other users write the secret",
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

/// The directories for published files.
pub(super) fn roots(written: Option<&written::Publish>, problems: &mut Problems) -> Vec<PathBuf> {
    let mut roots: Vec<PathBuf> = ROOTS.iter().map(PathBuf::from).collect();
    for text in written.iter().flat_map(|publish| &publish.roots) {
        let root = plain(text).and_then(|root| match root {
            root if !root.starts_with("/run") || root.components().count() < 3 => {
                Err("is not below /run: secrets are published only in memory")
            }
            root if is_taken(&root) => Err("is in a directory of other programs"),
            root => Ok(root),
        });
        match root {
            Ok(root) if roots.contains(&root) => {}
            Ok(root) => roots.push(root),
            Err(why) => {
                let remedy = "use the mount point of a ramfs, like \"/run/app-secrets\"";
                problems.error(text.place, format!("the root {:?} {why}", text.value), remedy);
            }
        }
    }
    roots
}

fn is_taken(path: &Path) -> bool {
    TAKEN.iter().any(|taken| path.starts_with(taken)) && !path.starts_with(ROOTS[1])
}

/// A path, if it is absolute and normalised.
fn plain(text: &str) -> Result<PathBuf, &'static str> {
    let path = Path::new(text);
    let plain: PathBuf = path.components().filter(|part| !matches!(part, Component::ParentDir)).collect();
    if !path.is_absolute() {
        return Err("is not absolute");
    }
    if text.chars().any(char::is_control) {
        return Err("holds a control character");
    }
    if plain.as_os_str() != text {
        return Err("contains .., // or a / at its end");
    }
    let hidden = |name: &std::ffi::OsStr| name.as_encoded_bytes().starts_with(b".onecred-");
    if plain.iter().any(hidden) {
        return Err("has a name that begins with .onecred-, which temporary files have");
    }
    Ok(plain)
}
