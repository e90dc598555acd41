//! Determines the source that a token is for from the configuration, and asks the resolver about it.

use std::time::Duration;

use super::Where;
use super::system;
use crate::config::{self, Paths, Source, SourceKind};
use crate::domain::name::SourceName;
use crate::domain::secret::SecretValue;
use crate::ipc::client::SocketResolver;
use crate::ipc::{Failure, Probe, Probed, Resolve};

/// How long the resolver may take to start the SDK core and log in.
const PATIENCE: Duration = Duration::from_secs(45);

/// A source.
pub(super) struct Chosen {
    pub(super) name: SourceName,
    pub(super) source: Source,
}

impl Chosen {
    /// The named source, the only one, or the default one.
    pub(super) fn find(place: &Where) -> Result<Self, String> {
        let loaded = config::load_if_any(&Paths { dir: place.config.clone() });
        let mut sources = match loaded {
            Ok(loaded) => loaded.settings.sources,
            Err(report) => {
                return Err(format!(
                    "{report}\nthe configuration has errors; fix them first, see: onecred check"
                ));
            }
        };
        let names = sources.keys().map(SourceName::as_str).collect::<Vec<_>>().join(", ");
        let name = match &place.source {
            Some(name) => SourceName::parse(name).map_err(|error| error.to_string())?,
            None if sources.len() == 1 => {
                sources.keys().next().cloned().unwrap_or_else(SourceName::default_source)
            }
            None => SourceName::default_source(),
        };
        let Some(source) = sources.remove(&name) else {
            return Err(match place.source {
                Some(_) => format!("the configuration has no source {name}; it has: {names}"),
                None => format!("there are several sources; choose one with --source: {names}"),
            });
        };
        Ok(Self { name, source })
    }

    /// Whether the source uses a token.
    pub(super) fn takes_token(&self) -> bool {
        !matches!(self.source.kind, SourceKind::File { .. })
    }

    /// A description of the source's type.
    pub(super) fn kind(&self) -> &'static str {
        match self.source.kind {
            SourceKind::ServiceAccount(_) => "service account",
            SourceKind::Connect { .. } => "Connect",
            SourceKind::File { .. } => "development vault",
        }
    }

    /// Asks the resolver about the installed token, or about this one.
    pub(super) fn probe(&self, place: &Where, token: Option<&SecretValue>) -> Result<Probed, Failure> {
        system::start_socket(&place.socket);
        let probe = Probe {
            source: self.name.clone(),
            print: self.source.print(),
            definition: serde_json::to_string(&self.source).ok(),
            patience: PATIENCE,
        };
        // exposed: the token is passed to the resolver in a memfd
        let token = token.map(|token| SecretValue::new(token.expose().to_vec()));
        let resolver = SocketResolver::new(&place.socket);
        match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime.block_on(resolver.probe(probe, token)),
            Err(error) => Err(Failure::new(
                crate::ipc::Class::Away,
                format!("the resolver can't be asked: {error}"),
                "try again",
            )),
        }
    }
}
