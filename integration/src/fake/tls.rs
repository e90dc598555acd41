//! Certificates that are created at start: a test CA, and a server certificate that is valid or deliberately
//! wrong.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use serde::{Deserialize, Serialize};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

use super::clock;

const YEAR: u64 = 365 * 86_400;

/// What is wrong with the server's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum TlsFault {
    /// It expired an hour ago.
    Expired,
    /// It becomes valid in this many seconds.
    NotYetValid {
        /// Seconds from now.
        seconds: u64,
    },
    /// It names another host.
    WrongHost,
    /// It is signed by a CA other than the one in `ca.pem`.
    UnknownCa,
}

impl std::str::FromStr for TlsFault {
    type Err = String;

    /// Parses `expired`, `not-yet-valid[=SECONDS]`, `wrong-host` or `unknown-ca`.
    fn from_str(text: &str) -> Result<TlsFault, String> {
        let (name, seconds) = text.split_once('=').unwrap_or((text, "3600"));
        match name {
            "expired" => Ok(TlsFault::Expired),
            "not-yet-valid" => {
                let seconds = seconds.parse().map_err(|_| format!("{seconds} is no number of seconds"))?;
                Ok(TlsFault::NotYetValid { seconds })
            }
            "wrong-host" => Ok(TlsFault::WrongHost),
            "unknown-ca" => Ok(TlsFault::UnknownCa),
            _ => Err(format!(
                "no TLS fault {text}; there are expired, not-yet-valid[=SECONDS], wrong-host, unknown-ca"
            )),
        }
    }
}

/// The CA in a directory, and the names of the server.
pub(super) struct Identity {
    ca: PathBuf,
    key: KeyPair,
    names: Vec<String>,
}

impl Identity {
    /// Creates `ca.pem` in the directory. Uses the key of an earlier start again, so that clients still trust
    /// it after a restart.
    pub(super) fn in_folder(folder: &Path, names: &[String]) -> io::Result<Identity> {
        fs::create_dir_all(folder)?;
        let stored = folder.join("ca-key.der");
        let key = match fs::read(&stored) {
            Ok(der) => KeyPair::try_from(der).map_err(io::Error::other)?,
            Err(_) => {
                let key = KeyPair::generate().map_err(io::Error::other)?;
                fs::write(&stored, key.serialize_der())?;
                key
            }
        };
        let certificate = ca_params()?.self_signed(&key).map_err(io::Error::other)?;
        let ca = folder.join("ca.pem");
        fs::write(&ca, pem(certificate.der()))?;
        let usual = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
        Ok(Identity { ca, key, names: [&usual, names].concat() })
    }

    /// The file that clients must trust.
    pub(super) fn ca(&self) -> &Path {
        &self.ca
    }

    /// A new server certificate, valid or with this fault.
    pub(super) fn acceptor(&self, fault: Option<TlsFault>) -> io::Result<TlsAcceptor> {
        self.config(fault).map(|config| TlsAcceptor::from(Arc::new(config))).map_err(io::Error::other)
    }

    fn config(
        &self,
        fault: Option<TlsFault>,
    ) -> Result<ServerConfig, Box<dyn std::error::Error + Send + Sync>> {
        let names = match fault {
            Some(TlsFault::WrongHost) => vec!["elsewhere.example".to_owned()],
            _ => self.names.clone(),
        };
        let now = clock::now();
        let (from, until) = match fault {
            Some(TlsFault::Expired) => (now - YEAR, now - 3600),
            Some(TlsFault::NotYetValid { seconds }) => (now + seconds, now + seconds + YEAR),
            _ => (now - 86_400, now + YEAR),
        };
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, "fake-connect");
        let at = |seconds| date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds);
        (params.not_before, params.not_after) = (at(from), at(until));
        let key = KeyPair::generate()?;
        let stranger = KeyPair::generate()?;
        let signer = if fault == Some(TlsFault::UnknownCa) { &stranger } else { &self.key };
        let certificate = params.signed_by(&key, &Issuer::new(ca_params()?, signer))?;
        let chain = vec![CertificateDer::from(certificate.der().to_vec())];
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key.into())?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

fn ca_params() -> io::Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::new()).map_err(io::Error::other)?;
    params.distinguished_name.push(DnType::CommonName, "fake-connect test CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    Ok(params)
}

fn pem(der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}
