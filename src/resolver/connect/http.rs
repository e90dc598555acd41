//! One request to a Connect server: TLS by rustls and ring, no redirects, no proxy, no decompression, and caps on what comes.

use std::fs;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, RETRY_AFTER, TRANSFER_ENCODING,
};
use reqwest::{Certificate, Client, Response, StatusCode, Url, Version, redirect};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::secret::SecretValue;
use crate::wire::{Class, Failure};

use super::super::model;
use super::Address;
use super::verdict::{self, Trouble};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

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

/// How a server is spoken to.
pub(super) struct Http {
    address: Address,
    base: Url,
    token: HeaderValue,
    /// Made when it is first needed: at early boot the certificates may not be there yet.
    client: Mutex<Option<Client>>,
}

impl Http {
    pub(super) fn new(address: Address, token: &SecretValue) -> Result<Self, Failure> {
        let base = read_url(&address)?;
        // the token itself, for the header: the copy of this buffer inside of it is wiped by the allocator
        let header = Zeroizing::new([b"Bearer ", token.expose()].concat());
        let mut token = HeaderValue::from_bytes(&header).map_err(|_| {
            Failure::new(
                Class::NoToken,
                "no token that could be one: it holds characters that no token has",
                "put the Connect token, and nothing else, into the credential of onecred-resolver.service",
            )
        })?;
        token.set_sensitive(true);
        Ok(Self { address, base, token, client: Mutex::default() })
    }

    /// The server, for messages.
    pub(super) fn label(&self) -> &str {
        &self.address.url
    }

    /// Asks once, and takes at most so long.
    pub(super) async fn get(&self, want: &Want<'_>, room: Duration) -> Result<Zeroizing<Vec<u8>>, Trouble> {
        let url = self.url(want)?;
        let client = self.client()?;
        let accept = if want.json { "application/json" } else { "*/*" };
        let request =
            client.get(url).timeout(room).header(AUTHORIZATION, self.token.clone()).header(ACCEPT, accept);
        let response = request.send().await.map_err(|error| verdict::of_error(self.label(), &error))?;
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
        if want.json && !is_json(&response) {
            return Err(Trouble::final_(Failure::new(
                Class::Malformed,
                format!("{} from Connect at {} is malformed: it is not JSON", want.what, self.label()),
                "see whether the source's url is that of a Connect server",
            )));
        }
        self.body(response, want).await
    }

    /// Whether a 404 is Connect's own word, and not a proxy's who has nothing behind it just now.
    async fn is_connects_own(&self, response: Response) -> bool {
        #[derive(Deserialize)]
        struct Error {
            status: u16,
        }
        let want = Want { path: &[], what: "an error", json: true, most: MAX_ERROR };
        is_json(&response)
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
        Ok(body)
    }

    fn url(&self, want: &Want<'_>) -> Result<Url, Trouble> {
        let plain = |segment: &&str| {
            (1..=64).contains(&segment.len())
                && segment.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        };
        let malformed = || {
            Trouble::final_(Failure::new(
                Class::Malformed,
                format!("{} from Connect at {} is malformed: its ID is none", want.what, self.label()),
                "see whether the source's url is that of a Connect server",
            ))
        };
        if !want.path.iter().all(plain) {
            return Err(malformed());
        }
        let mut url = self.base.clone();
        match url.path_segments_mut() {
            Ok(mut segments) => segments.pop_if_empty().push("v1").extend(want.path),
            Err(()) => return Err(malformed()),
        };
        Ok(url)
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
        // the first one counts: whoever was faster has installed the same
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = Client::builder()
            .user_agent(concat!("onecred/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .referer(false)
            .retry(reqwest::retry::never())
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT);
        let builder = match (&self.address.ca_file, self.base.scheme()) {
            (Some(path), _) => {
                let failed = |why: String| {
                    Failure::new(
                        Class::Misconfigured,
                        format!("the certificates of caFile {} can't be read: {why}", path.display()),
                        "name a PEM file with at least one certificate that the resolver's user can read",
                    )
                };
                let pem = fs::read(path).map_err(|error| failed(error.to_string()))?;
                let certificates =
                    Certificate::from_pem_bundle(&pem).map_err(|_| failed("not PEM".into()))?;
                if certificates.is_empty() {
                    return Err(failed("there is none in it".into()));
                }
                builder.tls_certs_only(certificates).https_only(true)
            }
            (None, "https") => builder.https_only(true),
            (None, _) => builder.tls_certs_only([]), // plain http must not fail for want of certificates
        };
        builder.build().map_err(|_| {
            Failure::new(
                Class::Misconfigured,
                "TLS can't be set up: no certificate authorities were found on this host",
                "install the package ca-certificates, or name a PEM file as the source's caFile",
            )
        })
    }
}

fn is_json(response: &Response) -> bool {
    let kind = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
}

/// The configuration has checked it already; what sends a token makes sure.
fn read_url(address: &Address) -> Result<Url, Failure> {
    let wrong = |why: &str, remedy: &str| {
        Failure::new(Class::Misconfigured, format!("the url of the Connect source {why}"), remedy)
    };
    let example = "write it like https://connect.example:8443";
    let mut url = Url::parse(&address.url).map_err(|_| wrong("is no URL", example))?;
    if !url.username().is_empty()
        || url.password().is_some()
        || url.query().is_some()
        || url.fragment().is_some()
    {
        return Err(wrong("holds more than a scheme, a host, a port and a path", example));
    }
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    match url.scheme() {
        "https" => {}
        "http" if loopback || address.insecure => {}
        "http" => {
            return Err(wrong(
                "is plain http beyond this host, which would show token and secrets to the network",
                "use https, or set \"insecure\": true for a network that you trust with both",
            ));
        }
        _ => return Err(wrong("is neither https nor http", example)),
    }
    let path = url.path().trim_end_matches('/');
    let path = path.strip_suffix("/v1").unwrap_or(path).to_owned();
    url.set_path(&path);
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(url: &str, insecure: bool) -> Result<String, Failure> {
        read_url(&Address { url: url.into(), insecure, ca_file: None }).map(|url| url.to_string())
    }

    #[test]
    fn urls() {
        for (url, expected) in [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080/"),
            ("http://localhost:8080/v1/", "http://localhost:8080/"),
            ("http://[::1]:8080", "http://[::1]:8080/"),
            ("https://connect.example/under/v1", "https://connect.example/under"),
        ] {
            assert_eq!(base(url, false).expect(url), expected);
        }
        assert!(base("http://10.0.0.1:8080", true).is_ok());
        for wrong in [
            "",
            "connect.example",
            "ftp://localhost",
            "http://10.0.0.1:8080",
            "http://localhost.example",
            "https://user:word@connect.example",
            "https://connect.example/?a=b",
        ] {
            let failure = base(wrong, false).expect_err(wrong);
            assert_eq!(failure.class, Class::Misconfigured);
            assert!(!failure.to_string().contains("word@"), "{failure}");
        }
    }
}
