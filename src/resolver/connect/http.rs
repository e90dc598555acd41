//! Sends single requests to a Connect server: over TLS with rustls and ring, or over an attested connection
//! on this host. It does not follow redirects, use proxies or decompress, and it limits the size of answers.

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
use super::verdict::{self, FailedAttempt};
use crate::resolver::items::model;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

const AGENT: &str = concat!("onecred/", env!("CARGO_PKG_VERSION"));

/// The maximum size in bytes of an error's body.
const MAX_ERROR: usize = 64 << 10;

/// A request.
pub(super) struct Want<'a> {
    /// The segments of the path below `/v1`.
    pub(super) path: &'a [&'a str],
    /// Its description for messages.
    pub(super) what: &'a str,
    /// Whether the answer must be JSON.
    pub(super) json: bool,
    /// The maximum size of the answer in bytes.
    pub(super) most: usize,
}

#[derive(Clone)]
enum Client {
    /// Over TLS, or over plain HTTP with `insecure`.
    Network(reqwest::Client),
    /// Over plain HTTP to an attested process on this host.
    Local(Box<LocalClient>),
}

/// A client for one server.
pub(super) struct Http {
    address: Address,
    base: Base,
    token: HeaderValue,
    limit: CallLimit,
    /// Created on first use, because certificates may not be available at early boot.
    client: Mutex<Option<Client>>,
}

impl Http {
    pub(super) fn new(address: Address, token: &SecretValue, limit: CallLimit) -> Result<Self, Failure> {
        let base = url::read(&address)?;
        // exposed: the token for the header; the allocator wipes the header's own copy of this buffer
        let header = Zeroizing::new([b"Bearer ", token.expose()].concat());
        let mut token = HeaderValue::from_bytes(&header).map_err(|_| {
            Failure::new(
                Class::NoToken,
                "the token contains invalid characters",
                "set only the Connect token: onecred token set",
            )
            .malformed_token()
        })?;
        token.set_sensitive(true);
        Ok(Self { address, base, token, limit, client: Mutex::default() })
    }

    /// The server's name for messages.
    pub(super) fn label(&self) -> &str {
        &self.address.url
    }

    /// Sends one request and waits at most this long.
    pub(super) async fn get(
        &self,
        want: &Want<'_>,
        limit: Duration,
    ) -> Result<Zeroizing<Vec<u8>>, FailedAttempt> {
        let answer = timeout(limit, self.ask(want)).await;
        answer.unwrap_or_else(|_elapsed| Err(verdict::of_timeout(self.label())))
    }

    async fn ask(&self, want: &Want<'_>) -> Result<Zeroizing<Vec<u8>>, FailedAttempt> {
        let url = self.url(want)?;
        let client = self.client()?;
        self.limit.take(1).map_err(FailedAttempt::final_)?;
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

    async fn send(&self, client: &Client, url: Url, json: bool) -> Result<Response, FailedAttempt> {
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

    /// Checks by the response's headers whether it can be the requested answer.
    fn is_meant(&self, response: &Response, want: &Want<'_>) -> Result<(), FailedAttempt> {
        let kind = content_type(response);
        // a file may have any type, but Connect never labels one as HTML: such an answer comes from a proxy
        // or a captive portal
        if if want.json { !is_json(&kind) } else { kind == "text/html" } {
            return Err(verdict::of_type(self.label(), want.what, &kind, want.json));
        }
        // the request did not ask for compression, so nothing decompresses it; a compressed file would be
        // taken as the content
        let encoding = response.headers().get_all(CONTENT_ENCODING).iter().map(|value| value.to_str());
        match encoding
            .map(|value| value.unwrap_or("unknown"))
            .find(|v| !v.is_empty() && !v.eq_ignore_ascii_case("identity"))
        {
            Some(encoding) => Err(verdict::of_encoding(self.label(), want.what, encoding)),
            None => Ok(()),
        }
    }

    /// Whether a 404 comes from Connect itself, not from a proxy whose server is temporarily unavailable.
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

    async fn body(
        &self,
        mut response: Response,
        want: &Want<'_>,
    ) -> Result<Zeroizing<Vec<u8>>, FailedAttempt> {
        let headers = response.headers();
        let framed = headers.contains_key(CONTENT_LENGTH) || headers.contains_key(TRANSFER_ENCODING);
        if response.version() < Version::HTTP_2 && !framed {
            // without a length, a truncated body would look complete
            return Err(verdict::of_unframed(self.label(), want.what));
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
                body = wider; // this wipes the old buffer
            }
            body.extend_from_slice(&chunk);
        }
        if length.is_some_and(|length| length != body.len() as u64) {
            // HTTP/2 can end a body early without an error
            return Err(verdict::of_cut(self.label(), want.what));
        }
        Ok(body)
    }

    fn url(&self, want: &Want<'_>) -> Result<Url, FailedAttempt> {
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

    fn malformed_url(&self, what: &str) -> FailedAttempt {
        FailedAttempt::final_(Failure::new(
            Class::Malformed,
            format!("{what} from Connect at {}: its ID is not valid", self.label()),
            "check whether the source's url is that of a Connect server",
        ))
    }

    fn client(&self) -> Result<Client, FailedAttempt> {
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = &*client {
            return Ok(client.clone());
        }
        let made = self.make_client().map_err(FailedAttempt::final_)?;
        Ok(client.insert(made).clone())
    }

    fn make_client(&self) -> Result<Client, Failure> {
        match &self.base.local {
            Some(place) => Ok(Client::Local(local::client(place.clone(), &self.address.users).into())),
            None => self.make_network_client().map(Client::Network),
        }
    }

    fn make_network_client(&self) -> Result<reqwest::Client, Failure> {
        // fails if another thread was faster, which has installed the same provider
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
            None if plain => builder.tls_certs_only([]), // must not fail because of missing certificates
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

/// The content type without parameters.
fn content_type(response: &Response) -> String {
    let kind = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn is_json(kind: &str) -> bool {
    kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
}
