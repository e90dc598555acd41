//! Checks the form of a token before it is sent anywhere: whether it is of the type that the source uses.

use super::source::Chosen;
use crate::config::SourceKind;
use crate::domain::secret::SecretValue;
use crate::resolver::looks_like_connect;
use crate::resolver::service_account::{Leniency, read_token};

/// Checks the form of a token. Returns a warning about it, or why it is rejected and the remedy. Never quotes
/// the token.
pub(super) fn check(
    token: &SecretValue,
    chosen: &Chosen,
    leniency: &Leniency,
) -> Result<Option<&'static str>, String> {
    let name = &chosen.name;
    if token.is_empty() {
        return Err("no token was given; paste it, or pipe it in".into());
    }
    // exposed: to determine its type
    let account = token.expose().starts_with(b"ops_");
    match &chosen.source.kind {
        SourceKind::ServiceAccount(configured) if account => {
            read_token(token, configured, leniency).map(|_host| None).map_err(|why| {
                format!("the token is not valid: {why}; copy the complete token from 1Password again")
            })
        }
        SourceKind::ServiceAccount(_) if looks_like_connect(token) => Err(format!(
            "this is a token of a Connect server, and source {name} is a service account; \
             for Connect the configuration needs: \"source\": {{ \"kind\": \"connect\", \"url\": \"https://…\" }}"
        )),
        SourceKind::ServiceAccount(_) => Err(format!(
            "this is not the token of a service account, which source {name} needs: those begin with ops_"
        )),
        SourceKind::Connect { .. } if account => Err(format!(
            "this is the token of a service account, and source {name} is a Connect server; \
             for a service account remove \"source\" from the configuration"
        )),
        SourceKind::Connect { .. } if !looks_like_connect(token) => {
            Ok(Some("it does not look like the token of a Connect server, which is a JWT"))
        }
        SourceKind::Connect { .. } | SourceKind::File { .. } => Ok(None),
    }
}
