//! Errors of the bus: each has a name for programs, and a message with a remedy.

use zbus::{BoxDBusError, DBusError};

use crate::domain::nearest::nearest;
use crate::ipc::{Class, Failure};
use crate::provider::base::active_config::ActiveConfig;
use crate::provider::fetch::preview::{Kind, Why};
use crate::provider::observe::secret_status::Unusable;

/// Why a call failed. The names begin with `org.onecred.Error.`
#[derive(Debug, DBusError)]
#[zbus(prefix = "org.onecred.Error")]
pub(super) enum BusError {
    /// The bus itself failed.
    #[zbus(error)]
    Bus(zbus::Error),
    /// The caller may not do this.
    NotAuthorized(String),
    /// No secret has this name.
    NoSuchSecret(String),
    /// An argument is invalid, for example a name with invalid characters or a descriptor that cannot be
    /// read.
    InvalidArgument(String),
    /// The vault, item or field does not exist.
    NotFound(String),
    /// Several vaults, items or fields match.
    Ambiguous(String),
    /// 1Password denies the token access.
    Denied(String),
    /// No token is set.
    NoToken(String),
    /// 1Password limits the calls, or the budget is used up.
    Limited(String),
    /// 1Password cannot be reached.
    Unavailable(String),
    /// The response is not valid.
    Malformed(String),
    /// The value, or the store with the value, would be too large.
    TooLarge(String),
    /// The field is empty, and the secret does not allow that.
    Empty(String),
    /// The configuration or the store cannot be used.
    Misconfigured(String),
    /// onecred itself failed, for example because it cannot write to its store.
    Failed(String),
}

impl From<BusError> for BoxDBusError {
    fn from(error: BusError) -> Self {
        Box::new(error)
    }
}

impl BusError {
    /// Converts a failed look-up of a secret or template.
    pub(super) fn of(name: &str, failure: &Failure) -> Self {
        let message = format!("{name}: {}: {}; {}", failure.class.as_str(), failure.cause, failure.remedy);
        Self::of_class(failure.class, message)
    }

    fn of_class(class: Class, message: String) -> Self {
        match class {
            Class::NotFound => Self::NotFound(message),
            Class::Several => Self::Ambiguous(message),
            Class::Denied => Self::Denied(message),
            Class::NoToken => Self::NoToken(message),
            Class::Limited => Self::Limited(message),
            Class::Away => Self::Unavailable(message),
            Class::Malformed => Self::Malformed(message),
            Class::TooLarge => Self::TooLarge(message),
            Class::Misconfigured => Self::Misconfigured(message),
            Class::Store => Self::Failed(message),
        }
    }

    /// The name of the error for a class of failure.
    pub(super) fn name_of(class: Class) -> &'static str {
        match class {
            Class::NotFound => "org.onecred.Error.NotFound",
            Class::Several => "org.onecred.Error.Ambiguous",
            Class::Denied => "org.onecred.Error.Denied",
            Class::NoToken => "org.onecred.Error.NoToken",
            Class::Limited => "org.onecred.Error.Limited",
            Class::Away => "org.onecred.Error.Unavailable",
            Class::Malformed => "org.onecred.Error.Malformed",
            Class::TooLarge => "org.onecred.Error.TooLarge",
            Class::Misconfigured => "org.onecred.Error.Misconfigured",
            Class::Store => "org.onecred.Error.Failed",
        }
    }

    /// The error for a value that units are refused.
    pub(super) fn unusable(name: &str, unusable: Unusable) -> Self {
        let message = format!("{name}: {unusable}");
        match unusable {
            Unusable::Empty => Self::Empty(message),
            Unusable::TooLarge { .. } => Self::TooLarge(message),
        }
    }

    /// The name of the error for a value that units are refused.
    pub(super) fn name_of_unusable(unusable: Unusable) -> &'static str {
        match unusable {
            Unusable::Empty => "org.onecred.Error.Empty",
            Unusable::TooLarge { .. } => "org.onecred.Error.TooLarge",
        }
    }

    /// The error for a request that would be refused.
    pub(super) fn of_preview(name: &str, why: &Why) -> Self {
        let message = format!("{name}: {}", why.text);
        match why.kind {
            Kind::Failed(class) => Self::of_class(class, message),
            Kind::Empty => Self::Empty(message),
            Kind::TooLarge => Self::TooLarge(message),
            Kind::Unfit => Self::Failed(message),
        }
    }

    /// The name of the error for a refusal.
    pub(super) fn name_of_kind(kind: Kind) -> &'static str {
        match kind {
            Kind::Failed(class) => Self::name_of(class),
            Kind::Empty => "org.onecred.Error.Empty",
            Kind::TooLarge => "org.onecred.Error.TooLarge",
            Kind::Unfit => "org.onecred.Error.Failed",
        }
    }

    /// More calls at once than are admitted.
    pub(super) fn too_many() -> Self {
        Self::Failed("too many calls at once; wait for answers, then ask again".to_owned())
    }

    /// The error without an active configuration. The reason may quote the configuration, so only callers who
    /// may see it get it.
    pub(super) fn serves_nothing(why: Option<&str>) -> Self {
        Self::Misconfigured(match why {
            Some(why) => format!("onecred serves nothing: {why}; after a fix: onecred reload"),
            None => "onecred serves nothing, since its configuration or its store can't be used; to see why, run as root: onecred status".to_owned(),
        })
    }

    /// The error for a name without a secret. A template may have the name. The message suggests the most
    /// similar name that the caller may see.
    pub(super) fn no_secret<'a>(
        active: &ActiveConfig,
        name: &str,
        visible: impl Iterator<Item = &'a str>,
    ) -> Self {
        let hint = || match nearest(name, visible) {
            Some(near) => format!("did you mean {near:?}?"),
            None => "see: onecred list".to_owned(),
        };
        Self::NoSuchSecret(match active.template(name) {
            Some(_) => format!(
                "{name:?} is a template, which is assembled when a unit requests it; name the secrets in it, see: onecred list"
            ),
            None => format!(
                "no secret is called {name:?}; {} (after a change to the configuration: onecred reload)",
                hint()
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::base::limits::Form;

    #[test]
    fn the_name_is_the_error_s_own() {
        for class in Class::ALL {
            let error = BusError::of("db", &Failure::new(class, "cause", "remedy"));
            assert_eq!(DBusError::name(&error).as_str(), BusError::name_of(class));
            assert!(error.description().is_some_and(|text| text.contains("cause; remedy")));
        }
        for kind in [Kind::Failed(Class::Away), Kind::Empty, Kind::TooLarge, Kind::Unfit] {
            let error = BusError::of_preview("db", &Why { kind, text: "cause; remedy".into() });
            assert_eq!(DBusError::name(&error).as_str(), BusError::name_of_kind(kind));
            assert_eq!(error.description(), Some("db: cause; remedy"));
        }
        let too_large = Unusable::TooLarge { size: 9, limit: 8, form: Form::Plain };
        for unusable in [Unusable::Empty, too_large] {
            let error = BusError::unusable("db", unusable);
            assert_eq!(DBusError::name(&error).as_str(), BusError::name_of_unusable(unusable));
        }
    }
}
