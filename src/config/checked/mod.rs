//! Checks the merged configuration, and converts it to the types that both processes use. It continues after
//! an error, to find all errors.

mod absolute_path;
mod clash;
mod quantity;
mod rotation;
mod rule;
mod secret;
mod service_account;
mod source;
mod start_cost;
mod target;
mod template;
mod units;
mod unused;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::at::At;
use super::merged::Merged;
use super::problem::{Offset, Problems};
use super::written;
pub use service_account::ServiceAccount;
pub(crate) use source::is_local_name;
pub(super) use target::ROOTS;

use super::{Limits, Settings, Source, Template};
use crate::domain::name::SourceName;
use crate::domain::policy::Policy;
use crate::domain::reference::{self, Reference};
use crate::domain::secret::MaxAge;

const DAY: u64 = 86400;
const MAX_AGES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30 * DAY)];
pub(super) const REFRESHES: [Duration; 2] = [Duration::from_secs(60), Duration::from_secs(30 * DAY)];
const AFTERS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(DAY)];
const DEADLINES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(600)];
const STORE_SIZES: [u64; 2] = [1 << 20, 4 << 30];
const CONNECTIONS: [u64; 2] = [1, 512];

/// Checks the whole configuration. Use the result only if no errors were found. `memory` is that of this machine.
pub(super) fn check(merged: Merged, memory: Option<u64>, problems: &mut Problems) -> Settings {
    let places = start_cost::places(&merged);
    let sources = source::sources(merged.source, merged.sources, problems);
    let limits = limits(merged.limits.as_deref(), memory, problems);
    let roots = target::roots(merged.publish.as_deref(), problems);
    let (claims, targets) = (Vec::new(), Vec::new());
    let mut checker = Checker { problems, sources, defaults: Defaults::new(), roots, claims, targets };
    checker.set_defaults(merged.defaults.as_deref());
    let secrets: Vec<_> = merged.secrets.iter().filter_map(|secret| checker.secret(secret)).collect();
    let names =
        merged.secrets.iter().filter_map(|secret| secret.name.as_ref()).map(|name| name.as_str()).collect();
    let known = secrets.iter().map(|secret| (secret.name.as_str(), &secret.wanted)).collect();
    let known = template::Known { names, wanted: known };
    let templates: Vec<Template> =
        merged.templates.iter().filter_map(|template| checker.template(template, &known)).collect();
    let rules: Vec<_> =
        merged.rules.iter().filter_map(|rule| Some((checker.rule(rule)?, rule.place))).collect();
    clash::claims(&checker.claims, checker.problems);
    clash::targets(&checker.targets, checker.problems);
    clash::rules(&rules, checker.problems);
    unused::check(&merged.secrets, &merged.templates, checker.problems);
    let mut policy = Policy::new(secrets, rules.into_iter().map(|(rule, _)| rule).collect());
    for Template { filling, grants, declared_at, .. } in &templates {
        policy.add_template(Arc::clone(filling), grants, declared_at);
    }
    let settings = Settings {
        sources: checker.sources,
        policy,
        templates,
        limits,
        roots: checker.roots,
        recover: merged.recover.is_none_or(|recover| *recover),
        audit: merged.audit.map(|audit| *audit).unwrap_or_default(),
        strict: merged.strict.is_some_and(|strict| *strict),
    };
    start_cost::check(&settings, &places, checker.problems);
    settings
}

fn limits(written: Option<&written::Limits>, memory: Option<u64>, problems: &mut Problems) -> Limits {
    let mut limits = Limits::default();
    let Some(written) = written else { return limits };
    if let Some(text) = &written.store_size {
        match quantity::size(text) {
            Ok(size) if within(&size, &STORE_SIZES) => limits.store_bytes = size,
            Ok(_) => problems.error(
                text.place,
                format!("a store of {:?} is out of range", text.value),
                "use 1MiB to 4GiB",
            ),
            Err(what) => problems.error(text.place, what, ""),
        }
    }
    if let Some(number) = &written.connections {
        match usize::try_from(**number) {
            Ok(connections) if within(&**number, &CONNECTIONS) => limits.connections = connections,
            _ => problems.error(
                number.place,
                format!("{} connections are out of range", **number),
                "there can be from 1 to 512",
            ),
        }
    }
    if let (Some(text), Some(memory)) = (&written.store_size, memory)
        && let Some((what, remedy)) = limits.misfit(memory)
    {
        problems.error(text.place, what, remedy);
    }
    limits
}

fn within<T: PartialOrd>(value: &T, bounds: &[T; 2]) -> bool {
    bounds[0] <= *value && *value <= bounds[1]
}

/// Defaults for secrets and rules.
struct Defaults {
    source: Option<SourceName>,
    max_age: MaxAge,
    deadline: Duration,
    refresh: Option<Duration>,
    owner: target::Owner,
    mode: u32,
}

impl Defaults {
    fn new() -> Self {
        Self {
            source: None,
            max_age: MaxAge::Age(Duration::from_secs(30)),
            deadline: Duration::from_secs(60),
            refresh: None,
            owner: target::Owner { user: "root".into(), group: None },
            mode: 0o400,
        }
    }
}

struct Checker<'a> {
    problems: &'a mut Problems,
    sources: BTreeMap<SourceName, Source>,
    defaults: Defaults,
    roots: Vec<PathBuf>,
    claims: Vec<clash::Claimed>,
    targets: Vec<clash::Published>,
}

impl Checker<'_> {
    fn set_defaults(&mut self, written: Option<&written::Defaults>) {
        let default = SourceName::default_source();
        self.defaults.source = match self.sources.len() {
            1 => self.sources.keys().next().cloned(),
            _ => self.sources.contains_key(&default).then_some(default),
        };
        let Some(written) = written else { return };
        self.defaults.source = self.source(written.source.as_ref(), None);
        self.defaults.max_age = self.max_age(written.max_age.as_ref());
        self.defaults.deadline = self.deadline(written.deadline.as_ref());
        self.defaults.refresh = self.refresh(written.refresh.as_ref());
        if let Some(owner) = written.owner.as_ref().and_then(|owner| self.owner(owner)) {
            self.defaults.owner = owner;
        }
        if let Some(mode) = written.mode.as_ref().and_then(|mode| self.mode(mode)) {
            self.defaults.mode = mode;
        }
    }

    /// The named source, or the default one. `user` is the entry that needs it, for messages.
    fn source(&mut self, name: Option<&At<String>>, user: Option<Offset>) -> Option<SourceName> {
        let names: Vec<&str> = self.sources.keys().map(SourceName::as_str).collect();
        let Some(name) = name else {
            if let (None, Some(place), false) = (&self.defaults.source, user, names.is_empty()) {
                let what = format!("missing \"source\": several are declared: {}", names.join(", "));
                self.problems.error(
                    place,
                    what,
                    format!("add \"source\": {:?}, or set it in \"defaults\"", names[0]),
                );
            }
            return self.defaults.source.clone();
        };
        let found = self.sources.keys().find(|known| known.as_str() == name.as_str()).cloned();
        if found.is_none() {
            let remedy = match super::shape::nearest(name, names.iter().copied()) {
                Some(near) => format!("did you mean {near:?}?"),
                None => format!("declare it in \"sources\", or use one of {}", names.join(", ")),
            };
            self.problems.error(name.place, format!("there is no source {:?}", name.value), remedy);
        }
        found
    }

    fn max_age(&mut self, text: Option<&At<String>>) -> MaxAge {
        match text.map(|text| text.as_str()) {
            Some("session") => MaxAge::Session,
            Some("always") => MaxAge::Always,
            _ => match text.and_then(|text| {
                self.duration(text, "maxAge", &MAX_AGES, "from 1s to 30d, \"session\" or \"always\"")
            }) {
                Some(age) => MaxAge::Age(age),
                None => self.defaults.max_age,
            },
        }
    }

    fn deadline(&mut self, text: Option<&At<String>>) -> Duration {
        text.and_then(|text| self.duration(text, "deadline", &DEADLINES, "from 1s to 10m"))
            .unwrap_or(self.defaults.deadline)
    }

    /// The interval of comparisons, if enabled.
    fn refresh(&mut self, text: Option<&At<String>>) -> Option<Duration> {
        let Some(text) = text else { return self.defaults.refresh };
        if text.as_str() == "off" {
            return None;
        }
        self.duration(text, "refresh", &REFRESHES, "from 1m to 30d, or \"off\"")
    }

    fn duration(
        &mut self,
        text: &At<String>,
        key: &str,
        bounds: &[Duration; 2],
        allowed: &str,
    ) -> Option<Duration> {
        match quantity::duration(text) {
            Ok(duration) if within(&duration, bounds) => return Some(duration),
            Ok(_) => self.problems.error(
                text.place,
                format!("a {key} of {:?} is out of range", text.value),
                format!("it can be {allowed}"),
            ),
            Err(what) => self.problems.error(text.place, what, ""),
        }
        None
    }

    /// Reports mistakes in a reference with valid syntax. Returns whether the reference can be used.
    fn can_match(&mut self, place: Offset, reference: &str) -> bool {
        match reference::slip(reference) {
            Some(slip) if slip.never_matches => {
                self.problems.error(place, slip.what, slip.remedy);
                false
            }
            Some(slip) => {
                self.problems.warn(place, slip.what, slip.remedy);
                true
            }
            None => true,
        }
    }

    /// A reference, if it can match anything.
    fn parsed_reference(&mut self, place: Offset, text: &str) -> Option<Reference> {
        let reference = self.parsed(place, Reference::parse(text), "")?;
        self.can_match(place, text).then_some(reference)
    }

    /// The result of a parser. An error is reported.
    fn parsed<T, E: Display>(&mut self, place: Offset, result: Result<T, E>, remedy: &str) -> Option<T> {
        result.map_err(|error| self.problems.error(place, error.to_string(), remedy)).ok()
    }
}

#[cfg(test)]
mod tests;
