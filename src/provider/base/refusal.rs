//! Why a unit does not get a credential: each case with its cause and remedy for the journal.

use std::io;
use std::path::PathBuf;

use crate::domain::name::{CredentialId, SecretName, UnitName};
use crate::domain::policy::Denial;
use crate::domain::reference::Reference;
use crate::host::systemd::message_id;
use crate::ipc::{Class, Failure};
use crate::provider::base::publish_error::Fault;
use crate::provider::base::seal_error::Unsealed;
use crate::provider::base::unit_totals::Others;

/// The kind of [`Refusal::Unsealed`].
pub const UNSEALED: &str = "unsealed";

/// What removes the cause of a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ends {
    /// It passes without action: 1Password was unreachable or limited the calls, the token was missing, other
    /// readers used all the memory, or the provider was stopped.
    ByItself,
    /// An administrator corrects it: with another token, with 1Password's SDK core, or in the configuration.
    WithCorrection,
}

/// Why a request is refused.
#[derive(Debug)]
pub enum Refusal {
    /// The policy does not allow it.
    Denied(Denial),
    /// The configuration or the store could not be used when the provider started, so all requests are
    /// refused.
    Unconfigured(String),
    /// The look-up of the item or field failed.
    Failed {
        /// The reference.
        reference: Reference,
        /// The failure.
        failure: Failure,
    },
    /// The field is empty, and the secret does not have `allowEmpty`.
    Empty(Reference),
    /// The value is larger than systemd accepts.
    TooLarge {
        /// The reference or template.
        what: String,
        /// The size in bytes.
        size: usize,
        /// The largest size in bytes that systemd accepts there.
        takes: usize,
    },
    /// The value and the other credentials of the unit exceed the total that systemd accepts.
    TooLargeTogether {
        /// The reference or template.
        what: String,
        /// The size in bytes.
        size: usize,
        /// The credentials that the unit received before.
        others: Others,
    },
    /// The value cannot be encrypted.
    Unsealed(Unsealed),
    /// A part of a template is missing or unsuitable.
    Part {
        /// The template.
        template: SecretName,
        /// Why the part is refused.
        refusal: Box<Refusal>,
    },
    /// The value cannot be inserted at its place in the template.
    Unfit {
        /// The reference.
        reference: Reference,
        /// The reason.
        why: &'static str,
    },
    /// A snapshot could not be read.
    Unreadable(io::Error),
    /// The configuration does not declare a file for it.
    NoFile(String),
    /// Its file cannot be written.
    Unpublished {
        /// The file.
        path: PathBuf,
        /// The reason.
        fault: Fault,
    },
    /// Some of the files are not published.
    SomeUnpublished {
        /// The names of their secrets and templates.
        names: Vec<String>,
        /// What removes the cause for the first of them, if anything does.
        ends: Option<Ends>,
    },
    /// Slow readers use all the memory for long values.
    Crowded {
        /// The size of this value in bytes.
        size: usize,
    },
    /// The provider is stopping.
    Stopping,
}

impl Refusal {
    /// The identifier of the refusal in journal fields.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Denied(_) => "not-allowed",
            Self::Unconfigured(_) => "unconfigured",
            Self::Failed { failure, .. } => failure.class.kind(),
            Self::Empty(_) => "empty",
            Self::TooLarge { .. } | Self::TooLargeTogether { .. } => "too-large",
            Self::Unsealed(_) => UNSEALED,
            Self::Part { refusal, .. } => refusal.kind(),
            Self::Unfit { .. } => "unfit",
            Self::Unreadable(_) => "store",
            Self::NoFile(_) => "no-file",
            Self::Unpublished { .. } | Self::SomeUnpublished { .. } => "unpublished",
            Self::Crowded { .. } => "crowded",
            Self::Stopping => "stopping",
        }
    }

    /// The MESSAGE_ID of the journal line. Refusals with the same remedy share one.
    pub fn message_id(&self) -> &'static str {
        match self {
            Self::Denied(_) => message_id::NOT_ALLOWED,
            Self::Failed { failure, .. } => match failure.class {
                Class::NotFound | Class::Several => message_id::NOT_FOUND,
                Class::Denied | Class::NoToken => message_id::NO_ACCESS,
                Class::Limited | Class::Away => message_id::AWAY,
                Class::Malformed | Class::TooLarge => message_id::UNFIT,
                Class::Misconfigured | Class::Store => message_id::OWN_TROUBLE,
            },
            Self::Empty(_) | Self::TooLarge { .. } | Self::TooLargeTogether { .. } | Self::Unfit { .. } => {
                message_id::UNFIT
            }
            Self::Part { refusal, .. } => refusal.message_id(),
            Self::NoFile(_) | Self::Unpublished { .. } | Self::SomeUnpublished { .. } => {
                message_id::UNPUBLISHED
            }
            Self::Unconfigured(_)
            | Self::Unreadable(_)
            | Self::Unsealed(_)
            | Self::Crowded { .. }
            | Self::Stopping => message_id::OWN_TROUBLE,
        }
    }

    /// The secret that the policy refused, if known.
    pub fn secret(&self) -> Option<&str> {
        match self {
            Self::Denied(Denial::NotNamed { name, .. }) => Some(name.as_str()),
            _ => None,
        }
    }

    /// The reference, if known.
    pub fn reference(&self) -> Option<&Reference> {
        match self {
            Self::Failed { reference, .. } | Self::Empty(reference) | Self::Unfit { reference, .. } => {
                Some(reference)
            }
            Self::Part { refusal, .. } => refusal.reference(),
            _ => None,
        }
    }

    /// The cause.
    pub fn cause(&self, unit: &UnitName, credential: &CredentialId) -> String {
        match self {
            Self::Denied(denial) => denial.cause(unit, credential),
            Self::Unconfigured(why) => {
                format!("onecred serves nothing at present: {why}")
            }
            Self::Failed { reference, failure } => {
                format!("{reference}: {}: {}", failure.class.as_str(), failure.cause)
            }
            Self::Empty(reference) => format!("{reference}: the field is empty in 1Password"),
            Self::Part { template, refusal } => {
                format!("template {template} can't be filled in: {}", refusal.cause(unit, credential))
            }
            Self::Unfit { reference, why } => {
                format!("{reference}: the value can't be used in this template: {why}")
            }
            Self::TooLarge { what, size, takes } => format!(
                "{what}: too large: the value has {size} bytes; systemd accepts {takes} here, and 1 MiB for all credentials of a unit together"
            ),
            Self::TooLargeTogether { what, size, others } => format!(
                "{what}: too large beside the unit's other credentials: the value has {size} bytes, and the unit already got {others}; systemd accepts 1 MiB for all credentials of a unit together, including their IDs and (on tmpfs) whole pages"
            ),
            Self::Unsealed(why) => why.to_string(),
            Self::Unreadable(error) => format!("its snapshot in the store can't be read: {error}"),
            Self::NoFile(name) => format!("there is no secret or template {name:?} with a \"target\""),
            Self::Unpublished { path, fault } => format!("{} can't be published: {fault}", path.display()),
            Self::SomeUnpublished { names, .. } => {
                format!("not everything is published, and this log says why: {}", names.join(", "))
            }
            Self::Crowded { size } => format!(
                "there was no memory for its {size} bytes in time: programs that request long values and don't read them use all of it"
            ),
            Self::Stopping => "onecred was stopped before it had the value".to_owned(),
        }
    }

    /// The remedy.
    pub fn remedy(&self, unit: &UnitName, credential: &CredentialId) -> String {
        match self {
            Self::Denied(denial) => denial.remedy(unit, credential),
            Self::Unconfigured(_) => {
                "see: systemctl status onecred; onecred check; then: onecred reload".to_owned()
            }
            Self::Failed { failure, .. } => failure.remedy.clone(),
            Self::Empty(_) => {
                "fill the field in, or set \"allowEmpty\": true if it may be empty".to_owned()
            }
            Self::Unsealed(why) => why.remedy(),
            Self::TooLarge { .. } | Self::TooLargeTogether { .. } => {
                "keep large data elsewhere and only its key here".to_owned()
            }
            Self::Part { refusal, .. } => refusal.remedy(unit, credential),
            Self::Unfit { .. } => {
                "give it to the unit as a separate credential, which can contain any bytes".to_owned()
            }
            Self::Unreadable(_) => "see: systemctl status onecred run-onecred-store.mount".to_owned(),
            Self::NoFile(_) => {
                "give it a \"target\" in the configuration, such as \"/run/secrets/NAME\"; then: onecred reload".to_owned()
            }
            Self::Unpublished { fault, .. } => fault.remedy(unit.instance().unwrap_or("NAME")),
            Self::SomeUnpublished { .. } => {
                format!("the other files are published; when the cause is fixed: systemctl restart {unit}")
            }
            Self::Crowded { .. } => format!(
                "find them: ss -xp src /run/onecred/credential.sock (or sealed.sock); end them, then: systemctl start {unit}"
            ),
            Self::Stopping => format!("start it again: systemctl start {unit}"),
        }
    }

    /// What removes the cause, if units that were refused for it must be started again.
    pub fn ends(&self) -> Option<Ends> {
        match self {
            Self::Failed { failure, .. } => match failure.class {
                Class::Away | Class::Limited | Class::NoToken => Some(Ends::ByItself),
                Class::Denied | Class::Misconfigured | Class::Malformed => Some(Ends::WithCorrection),
                Class::NotFound | Class::Several | Class::TooLarge | Class::Store => None,
            },
            Self::Part { refusal, .. } => refusal.ends(),
            Self::Stopping | Self::Crowded { .. } => Some(Ends::ByItself),
            Self::Unconfigured(_) => Some(Ends::WithCorrection),
            Self::Unsealed(why) if !matches!(why, Unsealed::NoRandom) => Some(Ends::WithCorrection),
            Self::SomeUnpublished { ends, .. } => *ends,
            _ => None,
        }
    }

    /// Cause and remedy for a published file that no unit is waiting for.
    pub fn outright(&self, name: &str) -> String {
        match UnitName::parse_lenient(&format!("onecred-file@{name}")) {
            Ok(unit) => self.outright_for(&unit),
            Err(_) => self.kind().to_owned(),
        }
    }

    /// Cause and remedy for published files that a unit is waiting for.
    pub fn outright_for(&self, unit: &UnitName) -> String {
        match CredentialId::parse("file") {
            Ok(id) => format!("{}; {}", self.cause(unit, &id), self.remedy(unit, &id)),
            Err(_) => self.kind().to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_started_again_when_the_cause_of_their_refusal_has_ended() {
        let failed = |class| Refusal::Failed {
            reference: Reference::parse("op://v/i/f").unwrap(),
            failure: Failure::new(class, "cause", "remedy"),
        };
        for class in Class::ALL {
            let ends = match class {
                Class::Away | Class::Limited | Class::NoToken => Some(Ends::ByItself),
                Class::Denied | Class::Misconfigured | Class::Malformed => Some(Ends::WithCorrection),
                _ => None,
            };
            assert_eq!(failed(class).ends(), ends, "{class:?}");
            let template = SecretName::parse("app.env").unwrap();
            let part = Refusal::Part { template, refusal: Box::new(failed(class)) };
            assert_eq!(part.ends(), ends, "{class:?}");
        }
        for (refusal, ends) in [
            (Refusal::Stopping, Some(Ends::ByItself)),
            (Refusal::Crowded { size: 1 }, Some(Ends::ByItself)),
            (Refusal::Unconfigured("why".into()), Some(Ends::WithCorrection)),
            (Refusal::Unsealed(Unsealed::NoKey("key".into())), Some(Ends::WithCorrection)),
            (Refusal::Unsealed(Unsealed::NoRandom), None),
            (Refusal::NoFile("name".into()), None),
        ] {
            assert_eq!(refusal.ends(), ends, "{refusal:?}");
        }
    }
}
