//! Examines a Connect server, with one call per known fact about its REST API. Only reads.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use onecred::domain::secret::SecretValue;
use onecred::resolver::CallLimit;
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, HeaderValue};
use reqwest::{Certificate, Client, Url, redirect};
use serde_json::Value;

use crate::item::{Item, list, text};
use crate::words::Words;
use crate::{Ended, pick};

/// A well-formed ID that does not exist.
const NO_ID: &str = "nosuchid2345nosuchid234567";
/// A deliberately wrong token. Connect does not lock anything after one.
const WRONG_TOKEN: &str = "Bearer onecred-sends-a-wrong-token-once";
/// The time limit of a call.
const PATIENCE: Duration = Duration::from_secs(30);
/// The maximum number of bytes of an answer that are read.
const MOST: usize = 16 << 20;
/// The calls besides those for items: eight for lists, three for files, four for errors.
const FIXED: u32 = 15;
/// The resolver's calls besides those for items: two lists and a file.
const RESOLVER: u32 = 3;

/// The purpose of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    Heartbeat,
    Health,
    Vaults,
    VaultByName,
    VaultByOtherCase,
    Vault,
    Items,
    ItemByTitle,
    Item,
    Files,
    File,
    Content,
    UnknownVault,
    UnknownItem,
    MalformedId,
    WrongToken,
}

/// An answer. Its body is kept if it is JSON or short; of a file only the length is kept.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) version: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) length: usize,
    pub(crate) is_dot: bool,
    pub(crate) json: Option<Value>,
}

/// A call and its result.
pub(crate) struct Exchange {
    pub(crate) step: Step,
    /// The end of the path: the ID if a single thing was requested.
    pub(crate) asked: String,
    pub(crate) outcome: Result<Answer, &'static str>,
}

/// All results.
#[derive(Default)]
pub(crate) struct Evidence {
    pub(crate) exchanges: Vec<Exchange>,
    /// The entry of the vault in the list.
    pub(crate) vault: Value,
    pub(crate) items: Vec<Item>,
    /// An answer had status 429; nothing else is requested.
    pub(crate) is_limited: bool,
    /// Calls that were skipped because of the limit.
    pub(crate) left_out: usize,
}

/// A Connect server, and how to reach it.
pub(crate) struct Server {
    client: Client,
    base: Url,
    token: HeaderValue,
    limit: CallLimit,
}

impl Server {
    pub(crate) fn new(
        url: &Url,
        ca_file: Option<&Path>,
        token: &SecretValue,
        limit: CallLimit,
    ) -> Result<Server, Ended> {
        // fails if the resolver has installed the same provider
        let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
        let builder =
            Client::builder().redirect(redirect::Policy::none()).referer(false).no_proxy().timeout(PATIENCE);
        let builder = builder.user_agent(concat!("onecred-real/", env!("CARGO_PKG_VERSION")));
        let builder = match ca_file {
            Some(path) => builder.tls_certs_only(certificates(path)?),
            None if url.scheme() == "http" => builder.tls_certs_only([]),
            None => builder,
        };
        let client = builder.build().map_err(|_| {
            Ended::Unreachable("TLS can't be set up: this host has no certificate authorities; install ca-certificates or use --ca-file".into())
        })?;
        let mut base = url.clone();
        let path = base.path().trim_end_matches('/').to_owned();
        base.set_path(path.strip_suffix("/v1").unwrap_or(&path));
        // exposed: the server requires the token in a header of each call
        let mut token = HeaderValue::from_bytes(&[b"Bearer ", token.expose()].concat())
            .map_err(|_| Ended::Usage("the token holds characters that no token has".into()))?;
        token.set_sensitive(true);
        Ok(Server { client, base, token, limit })
    }

    /// Makes a call, and keeps its result in the evidence.
    async fn call(
        &self,
        evidence: &mut Evidence,
        words: &mut Words,
        step: Step,
        path: &[&str],
        filter: Option<&str>,
    ) {
        if evidence.is_limited || self.limit.take(1).is_err() {
            evidence.left_out += 1;
            return;
        }
        let outcome = self.ask(step, path, filter).await;
        // /health and errors contain nothing of the vault
        if let Ok(Answer { status: 200, json: Some(json), .. }) = &outcome
            && step != Step::Health
        {
            words.hide_all(json);
        }
        evidence.is_limited |= outcome.as_ref().is_ok_and(|answer| answer.status == 429);
        let asked = path.last().copied().unwrap_or_default().to_owned();
        evidence.exchanges.push(Exchange { step, asked, outcome });
    }

    async fn ask(&self, step: Step, path: &[&str], filter: Option<&str>) -> Result<Answer, &'static str> {
        let mut url = self.base.clone();
        url.path_segments_mut().map_err(|()| "the URL has no path")?.pop_if_empty().extend(path);
        if let Some(filter) = filter {
            url.query_pairs_mut().append_pair("filter", filter);
        }
        let accept = if step == Step::Content { "*/*" } else { "application/json" };
        let request = self.client.get(url).header(ACCEPT, accept).header(ACCEPT_ENCODING, "identity");
        let request = match step {
            Step::Heartbeat | Step::Health => request,
            Step::WrongToken => request.header(AUTHORIZATION, WRONG_TOKEN),
            _ => request.header(AUTHORIZATION, self.token.clone()),
        };
        let mut response = request.send().await.map_err(|error| why(&error))?;
        let header = |(name, value): (&reqwest::header::HeaderName, &HeaderValue)| {
            (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        let mut answer = Answer {
            status: response.status().as_u16(),
            version: format!("{:?}", response.version()),
            headers: response.headers().iter().map(header).collect(),
            length: 0,
            is_dot: false,
            json: None,
        };
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| why(&error))? {
            answer.length += chunk.len();
            if answer.length > MOST {
                return Err("the answer is longer than 16 MiB");
            }
            if step != Step::Content || answer.status != 200 {
                body.extend_from_slice(&chunk);
            }
        }
        answer.is_dot = body == b".";
        answer.json = serde_json::from_slice(&body).ok();
        Ok(answer)
    }
}

/// The certificates in a PEM file.
fn certificates(path: &Path) -> Result<Vec<Certificate>, Ended> {
    let pem =
        std::fs::read(path).map_err(|error| Ended::Usage(format!("--ca-file can't be read: {error}")))?;
    match Certificate::from_pem_bundle(&pem) {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) | Err(_) => Err(Ended::Usage("--ca-file is not a PEM file with certificates".into())),
    }
}

/// Why no answer arrived, without the URL that the error contains.
fn why(error: &reqwest::Error) -> &'static str {
    match () {
        () if error.is_timeout() => "no answer came within 30 s",
        () if error.is_connect() => "no connection (name, port, TLS or certificate)",
        () if error.is_body() || error.is_decode() => "the answer broke off",
        () => "the request failed",
    }
}

/// Examines everything, in an order in which each answer enables the next call.
pub(crate) async fn look(server: &Server, wanted: &str, words: &mut Words) -> Result<Evidence, Ended> {
    let mut evidence = Evidence::default();
    let it = &mut evidence;
    server.call(it, words, Step::Heartbeat, &["heartbeat"], None).await;
    if let Some(Exchange { outcome: Err(why), .. }) = it.exchanges.first() {
        return Err(Ended::Unreachable(format!("the Connect server can't be reached: {why}")));
    }
    server.call(it, words, Step::Health, &["health"], None).await;
    server.call(it, words, Step::Vaults, &["v1", "vaults"], None).await;
    match it.last(Step::Vaults) {
        Some(Err(why)) => return Err(Ended::Unreachable(format!("the list of vaults can't be read: {why}"))),
        Some(Ok(answer)) if answer.status == 401 => {
            return Err(Ended::Unreachable("the Connect server does not accept the token (401)".into()));
        }
        _ => {}
    }
    let Some(Ok(Answer { json: Some(vaults), status: 200, .. })) = it.last(Step::Vaults) else {
        return Ok(evidence);
    };
    let vault = pick(list(vaults), "name", wanted)?;
    let (id, name) = (text(&vault["id"]), text(&vault["name"]));
    it.vault = vault;
    server.call(it, words, Step::VaultByName, &["v1", "vaults"], Some(&filter("name", &name))).await;
    if let Some(other) = other_case(&name) {
        server
            .call(it, words, Step::VaultByOtherCase, &["v1", "vaults"], Some(&filter("name", &other)))
            .await;
    }
    server.call(it, words, Step::Vault, &["v1", "vaults", &id], None).await;
    server.call(it, words, Step::Items, &["v1", "vaults", &id, "items"], None).await;
    let overviews = it.json(Step::Items).map(|items| list(items).to_vec()).unwrap_or_default();
    if let Some(title) =
        overviews.iter().find_map(|item| item["title"].as_str().filter(|title| !title.is_empty()))
    {
        server
            .call(
                it,
                words,
                Step::ItemByTitle,
                &["v1", "vaults", &id, "items"],
                Some(&filter("title", title)),
            )
            .await;
    }
    for item in chosen(&overviews, server.limit.left()) {
        server.call(it, words, Step::Item, &["v1", "vaults", &id, "items", &item], None).await;
    }
    let items = it.jsons(Step::Item).map(Item::of_connect).collect::<Vec<_>>();
    it.items = items;
    let with_file = it.items.iter().find_map(|item| {
        let file = item.files.iter().min_by_key(|file| file.size.unwrap_or(u64::MAX))?;
        Some((item.id.clone(), file.id.clone()))
    });
    if let Some((item, file)) = with_file {
        let files = ["v1", "vaults", &id, "items", &item, "files", &file, "content"];
        server.call(it, words, Step::Files, &files[..6], None).await;
        server.call(it, words, Step::File, &files[..7], None).await;
        server.call(it, words, Step::Content, &files, None).await;
    }
    server.call(it, words, Step::UnknownVault, &["v1", "vaults", NO_ID, "items"], None).await;
    server.call(it, words, Step::UnknownItem, &["v1", "vaults", &id, "items", NO_ID], None).await;
    server.call(it, words, Step::MalformedId, &["v1", "vaults", "not-an-id"], None).await;
    Ok(evidence)
}

/// The last call, because a server might react to it.
pub(crate) async fn send_wrong_token(server: &Server, evidence: &mut Evidence, words: &mut Words) {
    server.call(evidence, words, Step::WrongToken, &["v1", "vaults"], None).await;
}

impl Evidence {
    pub(crate) fn of(&self, step: Step) -> impl Iterator<Item = &Result<Answer, &'static str>> {
        self.exchanges.iter().filter(move |exchange| exchange.step == step).map(|exchange| &exchange.outcome)
    }

    fn last(&self, step: Step) -> Option<&Result<Answer, &'static str>> {
        self.of(step).last()
    }

    /// All answers to all calls.
    pub(crate) fn answers(&self) -> impl Iterator<Item = (Step, &Answer)> {
        self.exchanges.iter().filter_map(|exchange| Some((exchange.step, exchange.outcome.as_ref().ok()?)))
    }

    /// The JSON of successful answers.
    pub(crate) fn jsons(&self, step: Step) -> impl Iterator<Item = &Value> {
        self.of(step).filter_map(|outcome| {
            outcome
                .as_ref()
                .ok()
                .filter(|answer| answer.status == 200)
                .and_then(|answer| answer.json.as_ref())
        })
    }

    pub(crate) fn json(&self, step: Step) -> Option<&Value> {
        self.jsons(step).next()
    }
}

fn filter(key: &str, value: &str) -> String {
    format!("{key} eq \"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

/// The same name in the opposite case, if that differs.
fn other_case(name: &str) -> Option<String> {
    let turned = if name.chars().any(char::is_lowercase) { name.to_uppercase() } else { name.to_lowercase() };
    (turned != name).then_some(turned)
}

/// The items to examine: as many as the calls allow, because each costs one call here and one by the resolver.
/// Items of different categories and an archived one come first.
fn chosen(overviews: &[Value], left: Option<u32>) -> Vec<String> {
    let rest = FIXED - 8 + RESOLVER;
    let most = left.map_or(usize::MAX, |left| (left.saturating_sub(rest) / 2) as usize);
    let mut categories = BTreeSet::new();
    let kind = |item: &Value| (text(&item["category"]), text(&item["state"]));
    let (first, later): (Vec<_>, Vec<_>) = overviews.iter().partition(|item| categories.insert(kind(item)));
    first.into_iter().chain(later).map(|item| text(&item["id"])).take(most).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn items_of_all_categories_go_first() {
        let item = |id: &str, category: &str| json!({ "id": id, "category": category });
        let mut all = vec![item("a", "LOGIN"), item("b", "LOGIN"), item("c", "SERVER")];
        all.push(json!({ "id": "d", "category": "LOGIN", "state": "ARCHIVED" }));
        assert_eq!(chosen(&all, None), ["a", "c", "d", "b"]);
        assert_eq!(chosen(&all, Some(10 + 4)), ["a", "c"], "two calls for each, beside what the rest takes");
        assert_eq!(chosen(&all, Some(3)), [""; 0]);
    }

    #[test]
    fn filters_quote() {
        assert_eq!(filter("name", r#"a "b" \c"#), r#"name eq "a \"b\" \\c""#);
        assert_eq!(other_case("My Vault").as_deref(), Some("MY VAULT"));
        assert_eq!((other_case("ABC").as_deref(), other_case("123")), (Some("abc"), None));
    }
}
