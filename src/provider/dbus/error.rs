//! The errors of the bus: each with a name that programs can tell apart, and a message that says what to do.

use zbus::DBusError;

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
    /// What was given does not do: a name that is none, a descriptor that can't be read.
    InvalidArgument(String),
    /// 1Password has no such vault, item or field.
    NotFound(String),
    /// Several vaults, items or fields match.
    Ambiguous(String),
    /// 1Password denies it to the token.
    Denied(String),
    /// There is no token yet.
    NoToken(String),
    /// 1Password limits the calls, or the budget is used up.
    Limited(String),
    /// 1Password can't be reached.
    Unavailable(String),
    /// What came is not what 1Password sends.
    Malformed(String),
    /// The value, or the store with it, would be too large.
    TooLarge(String),
    /// The field is empty, and the secret does not say that it may be.
    Empty(String),
    /// The configuration or the store can't be used.
    Misconfigured(String),
    /// onecred itself failed: its store can't be written, for example.
    Failed(String),
}

impl BusError {
    /// A failure to have a secret, by its name.
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

    /// A value that units are refused.
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

    /// A request that would be refused.
    pub(super) fn of_preview(name: &str, why: &Why) -> Self {
        let message = format!("{name}: {}", why.text);
        match why.kind {
            Kind::Failed(class) => Self::of_class(class, message),
            Kind::Empty => Self::Empty(message),
            Kind::TooLarge => Self::TooLarge(message),
            Kind::Unfit => Self::Failed(message),
        }
    }

    /// The name of the error for a kind of refusal.
    pub(super) fn name_of_kind(kind: Kind) -> &'static str {
        match kind {
            Kind::Failed(class) => Self::name_of(class),
            Kind::Empty => "org.onecred.Error.Empty",
            Kind::TooLarge => "org.onecred.Error.TooLarge",
            Kind::Unfit => "org.onecred.Error.Failed",
        }
    }

    /// No configuration is active, since it or the store can't be used. Why may quote the configuration, and is for those who may see it.
    pub(super) fn serves_nothing(why: Option<&str>) -> Self {
        Self::Misconfigured(match why {
            Some(why) => format!("onecred serves nothing: {why}; after a fix: onecred reload"),
            None => "onecred serves nothing, since its configuration or its store can't be used; to see why, run as root: onecred status".to_owned(),
        })
    }

    /// No secret has this name; a template may. The nearest of the names that the caller may see is suggested.
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
                "{name:?} is a template, which is put together when a unit asks; name the secrets in it, see: onecred list"
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
