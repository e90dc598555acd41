//! The parts of a request that a fake uses.

use hyper::{HeaderMap, Request};

/// The parts of a request that a fake uses.
#[derive(Debug)]
pub struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) body: Vec<u8>,
    headers: HeaderMap,
}

impl Asked {
    /// Takes everything but the body.
    pub(super) fn of<B>(request: &Request<B>) -> Asked {
        Asked {
            method: request.method().to_string(),
            path: request.uri().path().to_owned(),
            query: request.uri().query().unwrap_or_default().to_owned(),
            body: Vec::new(),
            headers: request.headers().clone(),
        }
    }

    /// The same request for another path.
    pub(crate) fn elsewhere(&self, path: String) -> Asked {
        let (method, query) = (self.method.clone(), self.query.clone());
        Asked { method, path, query, body: self.body.clone(), headers: self.headers.clone() }
    }

    pub(crate) fn parts(&self) -> Vec<&str> {
        self.path.split('/').filter(|part| !part.is_empty()).collect()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub(crate) fn parameter(&self, name: &str) -> Option<String> {
        form_urlencoded::parse(self.query.as_bytes())
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    }
}
