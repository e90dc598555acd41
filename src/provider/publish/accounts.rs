//! Looks up users and groups by name when a file is published, because an account may be created after the
//! provider has started.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use nix::errno::Errno;
use nix::unistd::{Gid, Group, Uid, User};

use crate::domain::secret::Target;
use crate::provider::base::publish_error::Fault;

/// How long the account services of the machine may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A user and a group by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) uid: Uid,
    pub(super) gid: Gid,
}

/// The owners of targets, or an error for each that does not exist.
#[derive(Debug, Default)]
pub(super) struct Accounts(BTreeMap<(String, Option<String>), Result<Owner, Missing>>);

#[derive(Debug, Clone)]
enum Missing {
    Account(&'static str, String),
    Unknown(&'static str, String, String),
}

impl Accounts {
    /// Looks up the owners of these targets.
    pub(super) async fn of(targets: impl Iterator<Item = &Target>) -> Self {
        let wanted: BTreeSet<_> = targets.map(|target| (target.user.clone(), target.group.clone())).collect();
        let mut known = BTreeMap::new();
        let mut asked = Vec::new();
        for (user, group) in wanted {
            match numbered(&user, group.as_deref()) {
                Some(owner) => drop(known.insert((user, group), Ok(owner))),
                None => asked.push((user, group)),
            }
        }
        if !asked.is_empty() {
            // other programs answer (nss-systemd, sssd), and may be slow
            let names = asked.clone();
            let ask = move || names.into_iter().map(|(u, g)| look_up(&u, g.as_deref())).collect::<Vec<_>>();
            let answers = tokio::time::timeout(PATIENCE, tokio::task::spawn_blocking(ask)).await;
            let silence = |user: &str| {
                Err(Missing::Unknown(
                    "user",
                    user.to_owned(),
                    "the machine's account services do not answer".to_owned(),
                ))
            };
            let answers = match answers {
                Ok(Ok(answers)) => answers,
                _ => asked.iter().map(|(user, _)| silence(user)).collect(),
            };
            known.extend(asked.into_iter().zip(answers));
        }
        Self(known)
    }

    /// The owner of a target.
    pub(super) fn owner(&self, target: &Target) -> Result<Owner, Fault> {
        match self.0.get(&(target.user.clone(), target.group.clone())) {
            Some(Ok(owner)) => Ok(*owner),
            Some(Err(Missing::Account(kind, name))) => Err(Fault::Account { kind, name: name.clone() }),
            Some(Err(Missing::Unknown(kind, name, why))) => {
                Err(Fault::Accounts { kind, name: name.clone(), why: why.clone() })
            }
            None => Err(Fault::Accounts {
                kind: "user",
                name: target.user.clone(),
                why: "it was not asked for".to_owned(),
            }),
        }
    }
}

/// The owner, if no account must be looked up: a number without a group has the group of its account.
fn numbered(user: &str, group: Option<&str>) -> Option<Owner> {
    let uid = number(user)?;
    let gid = match group {
        Some(group) => number(group)?,
        None => (uid == 0).then_some(0)?,
    };
    Some(Owner { uid: Uid::from_raw(uid), gid: Gid::from_raw(gid) })
}

/// The number of a user or group that is given as a number.
fn number(name: &str) -> Option<u32> {
    if name == "root" { Some(0) } else { name.parse().ok() }
}

fn look_up(user: &str, group: Option<&str>) -> Result<Owner, Missing> {
    let unknown = |kind, name: &str| {
        let name = name.to_owned();
        move |errno: Errno| Missing::Unknown(kind, name, errno.to_string())
    };
    let (uid, own) = match number(user) {
        // a number does not need an account; in that case its group is root's
        Some(uid) => {
            let found = User::from_uid(Uid::from_raw(uid)).map_err(unknown("user", user))?;
            (Uid::from_raw(uid), found.map_or(Gid::from_raw(0), |found| found.gid))
        }
        None => {
            let found = User::from_name(user).map_err(unknown("user", user))?;
            let found = found.ok_or_else(|| Missing::Account("user", user.to_owned()))?;
            (found.uid, found.gid)
        }
    };
    let gid = match group.map(|group| (group, number(group))) {
        None => own,
        Some((_, Some(gid))) => Gid::from_raw(gid),
        Some((group, None)) => {
            let found = Group::from_name(group).map_err(unknown("group", group))?;
            found.ok_or_else(|| Missing::Account("group", group.to_owned()))?.gid
        }
    };
    Ok(Owner { uid, gid })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(user: &str, group: Option<&str>) -> Target {
        let group = group.map(str::to_owned);
        Target {
            path: "/x".into(),
            user: user.to_owned(),
            group,
            mode: 0o400,
            links: Vec::new(),
            make_directories: false,
        }
    }

    #[test]
    fn accounts_are_looked_up_only_if_necessary() {
        for (user, group, numbers) in [
            ("root", None, Some((0, 0))),
            ("0", None, Some((0, 0))),
            ("root", Some("27"), Some((0, 27))),
            ("1000", Some("root"), Some((1000, 0))),
            ("1000", Some("1001"), Some((1000, 1001))),
            ("1000", None, None),
            ("1000", Some("app"), None),
            ("app", Some("1001"), None),
            ("app", None, None),
        ] {
            let owner = numbered(user, group).map(|owner| (owner.uid.as_raw(), owner.gid.as_raw()));
            assert_eq!(owner, numbers, "{user} {group:?}");
        }
    }

    #[tokio::test]
    async fn names_numbers_and_nobody() {
        let targets = [
            target("root", None),
            target("4321", Some("8765")),
            target("4321", None),
            target("nobody-of-this-name", None),
            target("root", Some("no-group-of-this-name")),
        ];
        let accounts = Accounts::of(targets.iter()).await;
        let numbers = |target| accounts.owner(target).map(|o| (o.uid.as_raw(), o.gid.as_raw()));
        assert_eq!(numbers(&targets[0]).unwrap(), (0, 0));
        assert_eq!(numbers(&targets[1]).unwrap(), (4321, 8765));
        assert_eq!(numbers(&targets[2]).unwrap(), (4321, 0));
        let user = numbers(&targets[3]).unwrap_err();
        assert!(user.to_string().contains("no user nobody-of-this-name"), "{user}");
        assert!(user.remedy("key").contains("systemctl restart onecred-file@key"), "{}", user.remedy("key"));
        let group = numbers(&targets[4]).unwrap_err();
        assert!(group.to_string().contains("no group no-group-of-this-name"), "{group}");
    }
}
