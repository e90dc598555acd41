//! One request to a Connect server: TLS by rustls and ring, or an attested connection on this host; no redirects, no proxy, no decompression, and
//! limits on the size of what comes.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap,
    HeaderValue, RETRY_AFTER, TRANSFER_ENCODING, USER_AGENT,
};
use reqwest::{Body, Response, StatusCode, Url, Version, redirect};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::domain::secret::SecretValue;
use crate::ipc::{Class, Failure};

use super::super::{CallLimit, ca_file};
use tokio::time::timeout;

use super::Address;
use super::local::{self, LocalClient};
use super::url::{self, Base};
use super::verdict::{self, Trouble};
use crate::resolver::items::model;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

const AGENT: &str = concat!("onecred/", env!("CARGO_PKG_VERSION"));

/// The most bytes of an error's body that are read.
const MAX_ERROR: usize = 64 << 10;

/// What is asked for.
pub(super) struct Want<'a> {
    /// The segments of the path, below `/v1`.
    pub(super) path: &'a [&'a str],
    /// What that is, for messages.
    pub(super) what: &'a str,
    /// Whether it has to be JSON.
    pub(super) json: bool,
    /// The most bytes that it may have.
    pub(super) most: usize,
}

/// Sends requests.
#[derive(Clone)]
enum Client {
    /// With TLS, or by `insecure` plain HTTP.
    Network(reqwest::Client),
    /// Plain HTTP to an attested process of this host.
    Local(Box<LocalClient>),
}

/// How a server is spoken to.
pub(super) struct Http {
    address: Address,
    base: Base,
    token: HeaderValue,
    limit: CallLimit,
    /// Made when it is first needed: at early boot the certificates may not be there yet.
    client: Mutex<Option<Client>>,
}

impl Http {
    pub(super) fn new(address: Address, token: &SecretValue, limit: CallLimit) -> Result<Self, Failure> {
        let base = url::read(&address)?;
        // the token itself, for the header: the copy of this buffer inside of it is wiped by the allocator
        let header = Zeroizing::new([b"Bearer ", token.expose()].concat());
        let mut token = HeaderValue::from_bytes(&header).map_err(|_| {
            Failure::new(
                Class::NoToken,
                "what was given as the token holds characters that no token has",
                "put the Connect token there, and nothing else: onecred token set",
            )
            .malformed_token()
        })?;
        token.set_sensitive(true);
        Ok(Self { address, base, token, limit, client: Mutex::default() })
    }

    /// The server, for messages.
    pub(super) fn label(&self) -> &str {
        &self.address.url
    }

    /// Asks once, and takes at most so long.
    pub(super) async fn get(&self, want: &Want<'_>, limit: Duration) -> Result<Zeroizing<Vec<u8>>, Trouble> {
        let answer = timeout(limit, self.ask(want)).await;
        answer.unwrap_or_else(|_elapsed| Err(verdict::of_timeout(self.label())))
    }

    async fn ask(&self, want: &Want<'_>) -> Result<Zeroizing<Vec<u8>>, Trouble> {
        let url = self.url(want)?;
        let client = self.client()?;
        self.limit.take(1).map_err(Trouble::final_)?;
        let response = self.send(&client, url, want.json).await?;
        let status = response.status();
        if status == StatusCode::NOT_FOUND {
            let own = self.is_connects_own(response).await;
            return Err(verdict::of_not_found(self.label(), want.what, own));
        }
        if status != StatusCode::OK {
            let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
            let retry_after = header(RETRY_AFTER).and_then(verdict::retry_after);
            let location = header(reqwest::header::LOCATION);
            return Err(verdict::of_status(self.label(), want.what, status.as_u16(), retry_after, location));
        }
        self.is_meant(&response, want)?;
        self.body(response, want).await
    }

    async fn send(&self, client: &Client, url: Url, json: bool) -> Result<Response, Trouble> {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, self.token.clone());
        headers.insert(ACCEPT, HeaderValue::from_static(if json { "application/json" } else { "*/*" }));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        match client {
            Client::Network(client) => {
                let sent = client.get(url).headers(headers).send().await;
                sent.map_err(|error| verdict::of_error(self.label(), &error))
            }
            Client::Local(client) => {
                headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
                let uri = http::Uri::try_from(url.as_str()).map_err(|_| self.malformed_url("the request"))?;
                let mut request = http::Request::new(Empty::<Bytes>::new());
                *request.uri_mut() = uri;
                *request.headers_mut() = headers;
                let sent = client.request(request).await;
                let response = sent.map_err(|error| verdict::of_local_error(self.label(), &error))?;
                Ok(response.map(Body::wrap).into())
            }
        }
    }

    /// Whether a reply can be what was asked for, by what its head says of it.
    fn is_meant(&self, response: &Response, want: &Want<'_>) -> Result<(), Trouble> {
        let kind = content_type(response);
        // a file may be anything, but Connect never calls it a page for people: that is a proxy's or a portal's
        if if want.json { !is_json(&kind) } else { kind == "text/html" } {
            return Err(verdict::of_type(self.label(), want.what, &kind, want.json));
        }
        // compression was not asked for, so nobody here undoes it; of a file, what came would be taken as its content
        let encoding = response.headers().get_all(CONTENT_ENCODING).iter().map(|value| value.to_str());
        match encoding
            .map(|value| value.unwrap_or("unknown"))
            .find(|v| !v.is_empty() && !v.eq_ignore_ascii_case("identity"))
        {
            Some(encoding) => Err(verdict::of_encoding(self.label(), want.what, encoding)),
            None => Ok(()),
        }
    }

    /// Whether a 404 is Connect's own word, and not a proxy's who has nothing behind it just now.
    async fn is_connects_own(&self, response: Response) -> bool {
        #[derive(Deserialize)]
        struct Error {
            status: u16,
        }
        let want = Want { path: &[], what: "an error", json: true, most: MAX_ERROR };
        is_json(&content_type(&response))
            && self
                .body(response, &want)
                .await
                .is_ok_and(|body| model::parse::<Error>(&body).is_ok_and(|error| error.status == 404))
    }

    async fn body(&self, mut response: Response, want: &Want<'_>) -> Result<Zeroizing<Vec<u8>>, Trouble> {
        let headers = response.headers();
        let framed = headers.contains_key(CONTENT_LENGTH) || headers.contains_key(TRANSFER_ENCODING);
        if response.version() < Version::HTTP_2 && !framed {
            return Err(verdict::of_unframed(self.label(), want.what)); // a cut could not be told from the end
        }
        let length = response.content_length();
        if length.is_some_and(|length| length > want.most as u64) {
            return Err(verdict::of_size(self.label(), want.what, want.most));
        }
        let expected = length.and_then(|l| usize::try_from(l).ok()).unwrap_or(16 << 10);
        let mut body = Zeroizing::new(Vec::with_capacity(expected));
        while let Some(chunk) =
            response.chunk().await.map_err(|error| verdict::of_error(self.label(), &error))?
        {
            let length = body.len() + chunk.len();
            if length > want.most {
                return Err(verdict::of_size(self.label(), want.what, want.most));
            }
            if length > body.capacity() {
                let mut wider = Zeroizing::new(Vec::with_capacity((2 * length).min(want.most)));
                wider.extend_from_slice(&body);
                body = wider; // the old one is wiped here
            }
            body.extend_from_slice(&chunk);
        }
        if length.is_some_and(|length| length != body.len() as u64) {
            return Err(verdict::of_cut(self.label(), want.what)); // HTTP/2 can end a reply early, and politely
        }
        Ok(body)
    }

    fn url(&self, want: &Want<'_>) -> Result<Url, Trouble> {
        let plain = |segment: &&str| {
            (1..=64).contains(&segment.len())
                && segment.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        };
        if !want.path.iter().all(plain) {
            return Err(self.malformed_url(want.what));
        }
        let mut url = self.base.url.clone();
        match url.path_segments_mut() {
            Ok(mut segments) => segments.pop_if_empty().push("v1").extend(want.path),
            Err(()) => return Err(self.malformed_url(want.what)),
        };
        Ok(url)
    }

    fn malformed_url(&self, what: &str) -> Trouble {
        Trouble::final_(Failure::new(
            Class::Malformed,
            format!("{what} from Connect at {}: its ID is none", self.label()),
            "see whether the source's url is that of a Connect server",
        ))
    }

    fn client(&self) -> Result<Client, Trouble> {
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = &*client {
            return Ok(client.clone());
        }
        let made = self.make_client().map_err(Trouble::final_)?;
        Ok(client.insert(made).clone())
    }

    fn make_client(&self) -> Result<Client, Failure> {
        match &self.base.local {
            Some(place) => Ok(Client::Local(local::client(place.clone(), &self.address.users).into())),
            None => self.make_network_client().map(Client::Network),
        }
    }

    fn make_network_client(&self) -> Result<reqwest::Client, Failure> {
        // the first one counts: whoever was faster has installed the same
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = reqwest::Client::builder()
            .user_agent(AGENT)
            .redirect(redirect::Policy::none())
            .referer(false)
            .retry(reqwest::retry::never())
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT);
        let plain = self.base.url.scheme() == "http";
        let builder = match &self.address.ca_file {
            Some(path) => builder.tls_certs_only(ca_file::certificates(path)?),
            None if plain => builder.tls_certs_only([]), // must not fail for want of certificates
            None => builder,
        };
        let builder = builder.https_only(!plain);
        builder.build().map_err(|_| {
            Failure::new(
                Class::Misconfigured,
                "TLS can't be set up: no certificate authorities were found on this host",
                "install the package ca-certificates, or name a PEM file as the source's caFile",
            )
        })
    }
}

/// The type without its parameters.
fn content_type(response: &Response) -> String {
    let kind = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn is_json(kind: &str) -> bool {
    kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
}
