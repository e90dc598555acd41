//! Checks sources: the keys that each kind may have, and URLs to which a token may be sent.

use std::collections::BTreeMap;

use url::{Host, Url};

use super::super::at::At;
use super::super::problem::{Offset, Problems};
use super::super::written::{self, Kind};
use super::super::{ServiceAccount, Source, SourceKind};
use super::absolute_path::absolute;
use super::service_account;
use crate::domain::name::{CredentialId, SourceName};

/// All sources by name. Without a declared source, a service account.
pub(super) fn sources(
    one: Option<At<written::Source>>,
    many: BTreeMap<String, At<written::Source>>,
    problems: &mut Problems,
) -> BTreeMap<SourceName, Source> {
    let mut sources = BTreeMap::new();
    let default = SourceName::default_source();
    if let Some(written) = &one {
        sources.extend(source(written, "token", problems).map(|source| (default.clone(), source)));
    }
    for (name, written) in &many {
        match SourceName::parse(name) {
            Ok(name) if sources.contains_key(&name) => {
                let what =
                    format!("two sources are named {:?}: this is also the name of \"source\"", name.as_str());
                problems.error(written.place, what, "give this one another name");
            }
            Ok(name) => {
                let token = format!("{name}.token");
                sources.extend(source(written, &token, problems).map(|source| (name, source)));
            }
            Err(error) => {
                problems.error(written.place, error.to_string(), "give it a name such as \"staging\"")
            }
        }
    }
    if one.is_none() && many.is_empty() {
        let source = |token| Source {
            kind: SourceKind::ServiceAccount(ServiceAccount::default()),
            token,
            declared_at: "the default".into(),
        };
        sources.extend(CredentialId::parse("token").map(|token| (default, source(token))));
    }
    sources
}

fn source(written: &At<written::Source>, default_token: &str, problems: &mut Problems) -> Option<Source> {
    let kind = written.kind.as_ref().map(|kind| **kind).unwrap_or_default();
    if written.whole || written.kind.is_some() {
        refuse_foreign_keys(kind, written, problems); // only if the kind is valid
    }
    let kind = match kind {
        Kind::ServiceAccount => SourceKind::ServiceAccount(service_account::check(written, problems)),
        Kind::Connect => SourceKind::Connect {
            url: required("url", written.url.as_ref(), "https://connect.example:8443", written, problems)
                .and_then(|text| base_url(text, written.insecure.as_ref(), problems))
                .unwrap_or_default(),
            insecure: written.insecure.as_ref().is_some_and(|insecure| **insecure),
            users: written.connect_users.iter().filter_map(|user| user_name(user, problems)).collect(),
            ca_file: written.ca_file.as_ref().map(|file| absolute("caFile", file, problems)),
        },
        Kind::File => SourceKind::File {
            path: required("path", written.path.as_ref(), "/etc/onecred/vault.json", written, problems)
                .map(|file| absolute("path", file, problems))
                .unwrap_or_default(),
        },
    };
    let mut token = CredentialId::parse(default_token).ok()?;
    if let Some(written) = &written.token {
        match CredentialId::parse(written) {
            Ok(id) => token = id,
            Err(error) => {
                // Do not print the text, because it may be the token itself.
                let what = format!("\"token\" is not a credential ID: {}", error.why);
                let remedy =
                    "it is the ID of a LoadCredential= line of the resolver's unit, not the token itself";
                problems.error(written.place, what, remedy);
            }
        }
    }
    Some(Source { kind, token, declared_at: problems.line(written.place) })
}

/// The keys of a service account.
const SERVICE_ACCOUNT: [&str; 8] =
    ["token", "library", "librarySha256", "allowedHosts", "proxy", "caFile", "budget", "hosts"];

fn refuse_foreign_keys(kind: Kind, written: &written::Source, problems: &mut Problems) {
    let (name, allowed): (_, &[&str]) = match kind {
        Kind::ServiceAccount => ("service-account", &SERVICE_ACCOUNT),
        Kind::Connect => ("connect", &["url", "insecure", "connectUsers", "caFile", "token"]),
        Kind::File => ("file", &["path"]),
    };
    let given: [(&str, Option<Offset>, &str); 12] = [
        ("url", written.url.as_ref().map(|v| v.place), "connect"),
        ("insecure", written.insecure.as_ref().map(|v| v.place), "connect"),
        ("connectUsers", written.connect_users.first().map(|v| v.place), "connect"),
        ("caFile", written.ca_file.as_ref().map(|v| v.place), "connect"),
        ("path", written.path.as_ref().map(|v| v.place), "file"),
        ("token", written.token.as_ref().map(|v| v.place), "connect"),
        ("library", written.library.as_ref().map(|v| v.place), "service-account"),
        ("librarySha256", written.library_sha256.as_ref().map(|v| v.place), "service-account"),
        ("allowedHosts", written.allowed_hosts.first().map(|v| v.place), "service-account"),
        ("proxy", written.proxy.as_ref().map(|v| v.place), "service-account"),
        ("budget", written.budget.as_ref().map(|v| v.place), "service-account"),
        ("hosts", written.hosts.as_ref().map(|v| v.place), "service-account"),
    ];
    for (key, place, owner) in given {
        if let (Some(place), false) = (place, allowed.contains(&key)) {
            let remedy = format!("remove it, or set \"kind\": {owner:?}");
            problems.error(place, format!("a source of kind {name:?} has no {key:?}"), remedy);
        }
    }
}

fn required<'a>(
    key: &str,
    value: Option<&'a At<String>>,
    example: &str,
    source: &At<written::Source>,
    problems: &mut Problems,
) -> Option<&'a At<String>> {
    if value.is_none() && source.whole {
        problems.error(
            source.place,
            format!("the source has no {key:?}"),
            format!("add it, for example {key:?}: {example:?}"),
        );
    }
    value
}

/// A user name or a numeric user ID.
fn user_name(user: &At<String>, problems: &mut Problems) -> Option<String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let is_name = (1..=32).contains(&user.len()) && user.chars().all(is_plain) && !user.starts_with('-');
    if !is_name {
        let what = format!("{:?} in \"connectUsers\" is not a user name", user.value);
        problems.error(user.place, what, "write the name or the numeric ID of the user who runs Connect");
    }
    is_name.then(|| user.value.clone())
}

/// The absolute path of a `unix:` URL.
fn socket_url(
    text: &At<String>,
    path: &str,
    insecure: Option<&At<bool>>,
    problems: &mut Problems,
) -> Option<String> {
    let is_plain = path.starts_with('/') && !path.contains(['\0', '?', '#', '%']) && path.len() <= 107;
    if !is_plain {
        let remedy = "write it like unix:/run/connect/api.sock, with at most 107 bytes after unix:";
        problems.error(text.place, "\"url\" does not name the absolute path of a socket", remedy);
    }
    if let Some(insecure) = insecure.filter(|insecure| ***insecure) {
        problems.warn(insecure.place, "\"insecure\" has no effect with this URL", "remove it");
    }
    is_plain.then(|| text.value.clone())
}

/// Removes a slash at the end of a URL, and Connect's `/v1`.
fn base_url(text: &At<String>, insecure: Option<&At<bool>>, problems: &mut Problems) -> Option<String> {
    if let Some(path) = text.strip_prefix("unix:") {
        return socket_url(text, path, insecure, problems);
    }
    let url = match Url::parse(text) {
        Ok(url) if url.has_host() && matches!(url.scheme(), "http" | "https") => url,
        _ => {
            // Do not print the text, because it may contain a password.
            problems.error(
                text.place,
                "\"url\" is not the URL of a Connect server",
                "write it like https://connect.example:8443",
            );
            return None;
        }
    };
    if !url.username().is_empty()
        || url.password().is_some()
        || url.query().is_some()
        || url.fragment().is_some()
    {
        let remedy = "remove user, password, ? and #; the resolver loads the token with LoadCredential=";
        problems.error(
            text.place,
            "the URL of a Connect server has only scheme, host, port and path",
            remedy,
        );
        return None;
    }
    let allowed = insecure.is_some_and(|insecure| **insecure);
    if url.scheme() == "http" && !is_loopback(&url) && !allowed {
        let what =
            format!("{:?} would send the token and all secrets unencrypted over the network", text.value);
        problems.error(text.place, what, "use https, or set \"insecure\": true if the network is trusted");
    }
    if let (Some(insecure), true, "https") = (insecure, allowed, url.scheme()) {
        problems.warn(insecure.place, "\"insecure\" has no effect with this URL", "remove it");
    }
    let base = url.as_str().trim_end_matches('/');
    Some(base.strip_suffix("/v1").unwrap_or(base).to_owned())
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => is_local_name(name),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.to_canonical().is_loopback(),
        None => false,
    }
}

/// Whether a host name always means this host (RFC 6761).
pub(crate) fn is_local_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}
