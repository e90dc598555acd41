//! Checks the keys of a service account: its library, the hosts for its token, and its budget.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use url::Url;

use super::super::at::At;
use super::super::problem::Problems;
use super::super::written;
use super::absolute_path::absolute;

/// A service account: the SDK core, the hosts for its token, and its budget.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceAccount {
    /// The library of the SDK core. Without it, the directories of packages are searched.
    pub library: Option<PathBuf>,
    /// The required SHA-256, in lower-case hexadecimal.
    pub library_sha256: Option<String>,
    /// Hosts to which the token may be sent in addition to 1Password's: `HOST` or `*.DOMAIN`.
    pub allowed_hosts: Vec<String>,
    /// The proxy for connections to 1Password.
    pub proxy: Option<String>,
    /// A PEM file of certificate authorities to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// The maximum number of calls in 24 hours by all machines together.
    pub budget: u32,
    /// How many machines share the budget.
    pub hosts: u32,
}

impl Default for ServiceAccount {
    fn default() -> Self {
        Self {
            library: None,
            library_sha256: None,
            allowed_hosts: Vec::new(),
            proxy: None,
            ca_file: None,
            budget: 800,
            hosts: 1,
        }
    }
}

impl ServiceAccount {
    /// This machine's part of the budget.
    pub fn calls_per_day(&self) -> u32 {
        (self.budget / self.hosts.max(1)).max(1)
    }
}

pub(super) fn check(written: &written::Source, problems: &mut Problems) -> ServiceAccount {
    let defaults = ServiceAccount::default();
    let mut number = |key: &str, value: &Option<At<u64>>, default: u32| {
        let Some(value) = value else { return default };
        match u32::try_from(**value) {
            Ok(number) if (1..=10_000_000).contains(&number) => number,
            _ => {
                let what = format!("{key:?} is {}, which is not from 1 to 10000000", **value);
                problems.error(
                    value.place,
                    what,
                    format!("leave it out for {default}, or write another number"),
                );
                default
            }
        }
    };
    let budget = number("budget", &written.budget, defaults.budget);
    let hosts = number("hosts", &written.hosts, defaults.hosts);
    let hosts = match &written.hosts {
        Some(place) if hosts > budget => {
            let what = format!(
                "a \"budget\" of {budget} calls a day is less than one call for each of {hosts} hosts"
            );
            problems.error(place.place, what, "raise the budget, or use a Connect server, which has none");
            1
        }
        _ => hosts,
    };
    ServiceAccount {
        library: written.library.as_ref().map(|file| absolute("library", file, problems)),
        library_sha256: written.library_sha256.as_ref().and_then(|sum| sha256(sum, problems)),
        allowed_hosts: written.allowed_hosts.iter().filter_map(|host| allowed_host(host, problems)).collect(),
        proxy: written.proxy.as_ref().and_then(|text| proxy(text, problems)),
        ca_file: written.ca_file.as_ref().map(|file| absolute("caFile", file, problems)),
        budget,
        hosts,
    }
}

fn sha256(sum: &At<String>, problems: &mut Problems) -> Option<String> {
    if sum.len() == 64 && sum.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Some(sum.to_ascii_lowercase());
    }
    let remedy = "write the 64 hexadecimal digits that sha256sum prints";
    problems.error(sum.place, format!("{:?} is not a SHA-256", sum.value), remedy);
    None
}

fn allowed_host(host: &At<String>, problems: &mut Problems) -> Option<String> {
    let name = host.strip_prefix("*.").unwrap_or(host);
    let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    let labels = name.split('.').all(|label| !label.is_empty() && !label.starts_with('-'));
    if labels && name.chars().all(letters) && (name == host.as_str() || name.contains('.')) {
        return Some(host.value.clone());
    }
    let remedy =
        "write a name such as \"op.example.com\", or \"*.example.com\" for all below it, in lower case";
    problems.error(
        host.place,
        format!("{:?} is not a host to which a token may be sent", host.value),
        remedy,
    );
    None
}

fn proxy(text: &At<String>, problems: &mut Problems) -> Option<String> {
    match Url::parse(text) {
        Ok(url) if url.has_host() && matches!(url.scheme(), "http" | "https") => Some(text.value.clone()),
        _ => {
            // Do not print the text, because it may contain a password.
            problems.error(
                text.place,
                "\"proxy\" is not the URL of a proxy",
                "write it like http://proxy.example:3128",
            );
            None
        }
    }
}
