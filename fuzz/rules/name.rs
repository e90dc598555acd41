//! What the fuzzer tries on names: addresses of peers and files of cgroups, against the rules written a second time.

use super::*;
use crate::fuzzing::{Input, text};

/// systemd's rule for the name of a unit, byte by byte.
fn is_unit(name: &str) -> bool {
    let allowed = |b: &u8| b.is_ascii_alphanumeric() || b":-_.\\@".contains(b);
    let Some(dot) = name.rfind('.') else { return false };
    name.len() <= 255
        && name.as_bytes().iter().all(allowed)
        && UNIT_TYPES.contains(&&name[dot + 1..])
        && dot > 0
        && name.as_bytes()[0] != b'@'
}

fn is_id(id: &str) -> bool {
    let allowed = |b: u8| (0x20..0x7f).contains(&b) && b != b'/' && b != b':';
    !["", ".", ".."].contains(&id) && id.len() < 256 && id.bytes().all(allowed)
}

/// A peer's address: four parts and no more, each by its rule, or no claim.
pub(crate) fn peer(data: &[u8]) {
    let got = Claim::parse(data);
    let expected = std::str::from_utf8(data).ok().and_then(|address| {
        let parts: Vec<&str> = address.split('/').collect();
        let [random, "unit", unit, id] = *parts.as_slice() else { return None };
        let hex = (1..=16).contains(&random.len()) && random.bytes().all(|b| b.is_ascii_hexdigit());
        (hex && is_unit(unit) && is_id(id)).then_some((unit, id))
    });
    assert_eq!(got.as_ref().map(|claim| (claim.unit.as_str(), claim.credential.as_str())), expected);
    let Some(Claim { unit, credential }) = got else { return };
    let again = format!("0/unit/{unit}/{credential}");
    assert_eq!(Claim::parse(again.as_bytes()), Some(Claim { unit: unit.clone(), credential }));
    // what is made of the name stays a part of it
    let stem = &unit.as_str()[..unit.as_str().rfind('.').unwrap_or_default()];
    match unit.instance() {
        Some(instance) => {
            assert_eq!(stem, format!("{}@{instance}", unit.prefix()));
            assert!(unit.template().is_some_and(|template| UnitName::parse(&template).is_ok()));
        }
        None => assert!(stem == unit.prefix() || stem == format!("{}@", unit.prefix())),
    }
    if let Some(plain) = unescape(stem) {
        assert!(plain.len() <= stem.len());
    }
}

/// A cgroup file: whatever a unit puts below its own cgroup, it is taken for itself, and a path outside the manager's is nobody's.
pub(crate) fn cgroup(data: &[u8]) {
    let mut input = Input(data);
    let (manager, file) = (text(input.upto(b'\n')), text(input.rest()));
    for manager in ["", &manager] {
        let Some(unit) = unit_of_cgroup(&file, manager) else { continue };
        let path = file.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default();
        let at = |name: &&str| *name == unit.as_str() || name.strip_prefix('_') == Some(unit.as_str());
        // the manager's own path may have a unit of that name, too
        let (above, below) = path.split_once(manager).unwrap_or((path, ""));
        assert!(below.split('/').any(|name| at(&name)), "{path} is no path of {unit}");
        let before: Vec<&str> = below.split('/').take_while(|name| !at(name)).collect();
        let own = format!("{above}{}", before.join("/"));
        assert!(
            own.split('/').all(|name| name.is_empty() || name == ".." || name.ends_with(".slice")),
            "{unit} is not the first unit of {path} below {manager:?}"
        );
    }
    // the same text as what a unit has made below its own cgroup
    let below: String = file.chars().filter(|c| *c != '\n' && *c != '\r').collect();
    for (written, name) in
        [("a@1.service", "a@1.service"), ("_memory.scope", "memory.scope"), ("__x.mount", "_x.mount")]
    {
        let file =
            format!("1:name=systemd:/other.service\n0::{manager}/system.slice/a.slice/{written}/{below}\n");
        if manager.starts_with("/..") || manager.contains("\r") {
            continue; // no path of a manager
        }
        let unit = unit_of_cgroup(&file, &manager);
        assert_eq!(unit.as_ref().map(UnitName::as_str), Some(name), "{file}");
    }
}
