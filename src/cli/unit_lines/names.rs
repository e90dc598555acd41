//! Finds names and globs in the configuration that match no unit on this machine, and so are probably
//! misspelt. Pure.

use std::collections::BTreeSet;

use crate::config::Settings;
use crate::domain::name::UnitName;
use crate::domain::secret::Rotation;
use crate::domain::unit_pattern::UnitPattern;
use crate::provider::fetch::unit_files::UnitFiles;

/// A pattern of the configuration, and its location.
struct Named<'a> {
    pattern: &'a UnitPattern,
    /// For example `units of secret db (/etc/onecred/secrets.json:3)`.
    place: String,
}

/// The maximum number of units that are loaded to examine their lines.
const MOST: usize = 2048;
/// The beginning of the location of a rule's pattern.
const OF_A_RULE: &str = "units of the rule at ";

/// Returns a warning for each pattern that matches no known unit, with the first location of the pattern.
pub(super) fn warnings(settings: &Settings, known: &UnitFiles) -> Vec<String> {
    let mut unknown: Vec<(Named<'_>, BTreeSet<String>)> = Vec::new();
    for named in all(settings).into_iter().filter(|named| !is_known(named.pattern, known)) {
        let is_same = |other: &Named<'_>| other.pattern.glob().as_str() == named.pattern.glob().as_str();
        match unknown.iter_mut().find(|(other, _)| is_same(other)) {
            Some((_, places)) => drop(places.insert(named.place)),
            None => {
                let places = BTreeSet::from([named.place.clone()]);
                unknown.push((named, places));
            }
        }
    }
    unknown.iter().map(|(named, places)| warning(named, places.len() - 1, known)).collect()
}

fn warning(Named { pattern, place }: &Named<'_>, others: usize, known: &UnitFiles) -> String {
    let text = pattern.glob().as_str();
    let place = match others {
        0 => place.clone(),
        1 => format!("{place} and 1 other place"),
        _ => format!("{place} and {others} other places"),
    };
    match pattern.glob().literal().and_then(|name| UnitName::parse(name).ok()) {
        Some(name) => {
            let nearest = known.nearest(&name);
            let hint = nearest.map(|nearest| format!("; did you mean {nearest}?")).unwrap_or_default();
            format!("{place}: this machine has no unit {text}{hint}")
        }
        None => format!("{place}: {text} matches no unit of this machine"),
    }
}

fn all(settings: &Settings) -> Vec<Named<'_>> {
    let mut all = Vec::new();
    for secret in settings.policy.secrets() {
        let of = format!("secret {} ({})", secret.name, secret.declared_at);
        let place = |key: &str| format!("{key} of {of}");
        let named = |key: &str, pattern| Named { pattern, place: place(key) };
        all.extend(secret.grants.iter().map(|grant| named("units", &grant.units)));
        all.extend(rotated(&secret.rotation, &of));
    }
    for template in &settings.templates {
        let place = format!("units of template {} ({})", template.name, template.declared_at);
        all.extend(template.grants.iter().map(|grant| Named { pattern: &grant.units, place: place.clone() }));
        let of = format!("template {} ({})", template.name, template.declared_at);
        all.extend(rotated(&template.rotation, &of));
    }
    for rule in settings.policy.rules() {
        let place = format!("{OF_A_RULE}{}", rule.declared_at);
        all.extend(rule.units.iter().map(|pattern| Named { pattern, place: place.clone() }));
    }
    all
}

/// The units that are restarted, reloaded or signalled for a secret or template.
fn rotated<'a>(rotation: &'a Rotation, of: &str) -> Vec<Named<'a>> {
    let named = |key: &str, pattern| Named { pattern, place: format!("{key} of {of}") };
    let restarted = rotation.restart_units.iter().map(|pattern| named("restartUnits", pattern));
    let reloaded = rotation.reload_units.iter().map(|pattern| named("reloadUnits", pattern));
    let signalled = rotation.signal_units.iter().map(|(pattern, _)| named("signalUnits", pattern));
    restarted.chain(reloaded).chain(signalled).collect()
}

/// Units that the configuration names, directly or by their template, and that may not be loaded. Contains
/// the location of those that are named in `units`. Instances of a rule are not represented by a sample,
/// because the name of the instance may be part of the rule's reference.
pub(super) fn to_load(settings: &Settings, files: &UnitFiles) -> Vec<(UnitName, Option<String>)> {
    let granted = all(settings).into_iter().filter(|named| named.place.starts_with("units"));
    let known = granted.filter(|named| is_known(named.pattern, files));
    known
        .flat_map(|Named { pattern, place }| match pattern.glob().literal() {
            Some(name) => UnitName::parse(name).ok().map(|name| (name, Some(place))).into_iter().collect(),
            None => {
                let sample = sample_instance(pattern).filter(|_| !place.starts_with(OF_A_RULE));
                let files = files.matching(pattern).filter_map(|name| UnitName::parse(name).ok());
                // a template itself cannot be loaded
                let units = files.filter(|unit| !unit.as_str().contains("@."));
                units.chain(sample).map(|unit| (unit, None)).collect::<Vec<_>>()
            }
        })
        .take(MOST)
        .collect()
}

/// Whether a known unit matches a pattern, itself or as an instance of a template.
fn is_known(pattern: &UnitPattern, known: &UnitFiles) -> bool {
    known.any(pattern) || sample_instance(pattern).is_some_and(|sample| known.has(&sample))
}

/// A sample unit that a glob of instances matches.
pub(super) fn sample_instance(pattern: &UnitPattern) -> Option<UnitName> {
    let glob = pattern.glob();
    if glob.literal().is_some() {
        return None;
    }
    let (mut text, mut rest) = (String::new(), glob.as_str().chars());
    while let Some(c) = rest.next() {
        match c {
            '*' | '?' => text.push('x'),
            '[' => {
                let class = rest.as_str();
                let end = class.char_indices().skip(1).find(|(_, c)| *c == ']').map(|(at, _)| at)?;
                text.push(class.chars().next().filter(|c| !matches!(c, '!' | '^'))?);
                rest = class[end + 1..].chars();
            }
            other => text.push(other),
        }
    }
    let unit = UnitName::parse(&text).ok()?;
    (unit.instance().is_some() && pattern.matches(&unit)).then_some(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_no_unit_goes_by() {
        let text = r#"{ "secrets": [
            { "name": "a", "reference": "op://v/i/f", "units": ["postgres", "app", "web@7", "web@prod-*", "acme-*", "al*"],
              "restartUnits": ["ngnix"], "reloadUnits": ["uapp", "app"] },
            { "name": "b", "reference": "op://v/i/f", "units": ["postgres", "acme-*"] },
            { "name": "c", "reference": "op://v/i/f", "units": ["postgres/one", "postgres/two"] } ],
            "templates": [ { "name": "t", "content": "{{a}}", "units": ["ap"] } ],
            "rules": [ { "units": ["job@*"], "reference": "op://v/{instance}/f" } ] }"#;
        let settings = crate::config::from_text(std::path::Path::new("/s.json"), text).unwrap().settings;
        let known = [
            "postgresql.service",
            "app.service",
            "web@.service",
            "nginx.service",
            "alpha.service",
            "app.socket",
        ];
        let mut files = UnitFiles::default();
        files.add(known.map(str::to_owned));
        assert_eq!(
            warnings(&settings, &files),
            [
                "units of secret a (/s.json:2) and 2 other places: this machine has no unit postgres.service; did you mean postgresql.service?",
                "units of secret a (/s.json:2) and 1 other place: acme-*.service matches no unit of this machine",
                "restartUnits of secret a (/s.json:2): this machine has no unit ngnix.service; did you mean nginx.service?",
                "reloadUnits of secret a (/s.json:2): this machine has no unit uapp.service; did you mean app.service?",
                "units of template t (/s.json:6): this machine has no unit ap.service; did you mean app.service?",
                "units of the rule at /s.json:7: job@*.service matches no unit of this machine",
            ]
        );
    }

    #[test]
    fn samples_of_globs() {
        for (glob, sample) in [
            ("web@*", Some("web@x.service")),
            ("web@prod-?.service", Some("web@prod-x.service")),
            ("web@[a-c]1", Some("web@a1.service")),
            ("web@[!a]", None),
            ("acme-*", None),
            ("web@1", None),
        ] {
            let found = sample_instance(&UnitPattern::parse(glob).unwrap());
            assert_eq!(found.as_ref().map(UnitName::as_str), sample, "{glob}");
        }
    }
}
