//! Why a unit does not get a credential: each case with its cause and its remedy, in words for the journal.

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

/// What ends the cause of a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ends {
    /// It passes: 1Password was away or limited calls, there was no token yet, readers held the memory, or the provider was stopped.
    ByItself,
    /// An administrator corrects it: with another token, with 1Password's core, or in the configuration.
    WithCorrection,
}

/// Why a request is refused.
#[derive(Debug)]
pub enum Refusal {
    /// The policy does not allow it.
    Denied(Denial),
    /// The configuration or the store could not be used when the provider started, so that nothing can be served.
    Unconfigured(String),
    /// The item or field could not be had.
    Failed {
        /// What was to be had.
        reference: Reference,
        /// Why it could not.
        failure: Failure,
    },
    /// The field is empty, and the secret does not say that it may be.
    Empty(Reference),
    /// The value does not fit what systemd takes.
    TooLarge {
        /// What it is the value of.
        what: String,
        /// Its size in bytes.
        size: usize,
        /// The largest size that systemd takes there.
        takes: usize,
    },
    /// The value and the unit's other credentials exceed what systemd takes for a unit.
    TooLargeTogether {
        /// What it is the value of.
        what: String,
        /// Its size in bytes.
        size: usize,
        /// What the unit was sent before.
        others: Others,
    },
    /// It can't be sealed.
    Unsealed(Unsealed),
    /// A part of a template can't be had, or can't stand in it.
    Part {
        /// The template.
        template: SecretName,
        /// What is wrong with the part.
        refusal: Box<Refusal>,
    },
    /// The value can't stand where its template has it.
    Unfit {
        /// What it is the value of.
        reference: Reference,
        /// Why not.
        why: &'static str,
    },
    /// A snapshot could not be read.
    Unreadable(io::Error),
    /// It is not published: the configuration says no file for it.
    NoFile(String),
    /// Its file can't be written.
    Unpublished {
        /// The file.
        path: PathBuf,
        /// Why it can't.
        fault: Fault,
    },
    /// Of all files, these are not published.
    SomeUnpublished {
        /// Their names.
        names: Vec<String>,
        /// What ends the cause for the first of them, if something does.
        ends: Option<Ends>,
    },
    /// Readers that don't read hold all the memory that there is for long values.
    Crowded {
        /// The size of this one in bytes.
        size: usize,
    },
    /// The provider is being stopped.
    Stopping,
}

impl Refusal {
    /// One word for the kind of refusal, as a field of the journal.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Denied(_) => "not-allowed",
            Self::Unconfigured(_) => "unconfigured",
            Self::Failed { failure, .. } => failure.class.kind(),
            Self::Empty(_) => "empty",
            Self::TooLarge { .. } | Self::TooLargeTogether { .. } => "too-large",
            Self::Unsealed(_) => "unsealed",
            Self::Part { refusal, .. } => refusal.kind(),
            Self::Unfit { .. } => "unfit",
            Self::Unreadable(_) => "store",
            Self::NoFile(_) => "no-file",
            Self::Unpublished { .. } | Self::SomeUnpublished { .. } => "unpublished",
            Self::Crowded { .. } => "crowded",
            Self::Stopping => "stopping",
        }
    }

    /// What the journal has as MESSAGE_ID: one for all that share a remedy.
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

    /// The secret that the policy refused, where it knew which.
    pub fn secret(&self) -> Option<&str> {
        match self {
            Self::Denied(Denial::NotNamed { name, .. }) => Some(name.as_str()),
            _ => None,
        }
    }

    /// The reference, where one is known.
    pub fn reference(&self) -> Option<&Reference> {
        match self {
            Self::Failed { reference, .. } | Self::Empty(reference) | Self::Unfit { reference, .. } => {
                Some(reference)
            }
            Self::Part { refusal, .. } => refusal.reference(),
            _ => None,
        }
    }

    /// What is wrong, with what.
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
            Self::Unfit { reference, why } => format!("{reference}: the value can't stand there: {why}"),
            Self::TooLarge { what, size, takes } => format!(
                "{what}: too large: the value has {size} bytes; systemd takes {takes} here, and 1 MiB for all credentials of a unit together"
            ),
            Self::TooLargeTogether { what, size, others } => format!(
                "{what}: too large beside the unit's other credentials: the value has {size} bytes, and the unit already got {others}; systemd takes 1 MiB for all credentials of a unit together, their IDs and (on tmpfs) whole pages included"
            ),
            Self::Unsealed(why) => why.to_string(),
            Self::Unreadable(error) => format!("its snapshot in the store can't be read: {error}"),
            Self::NoFile(name) => format!("there is no secret or template {name:?} with a \"target\""),
            Self::Unpublished { path, fault } => format!("{} can't be published: {fault}", path.display()),
            Self::SomeUnpublished { names, .. } => {
                format!("not everything is published, and this log says why: {}", names.join(", "))
            }
            Self::Crowded { size } => format!(
                "there was no memory for its {size} bytes in time: programs that asked for long values and don't read them hold all of it"
            ),
            Self::Stopping => "onecred was stopped before it had the value".to_owned(),
        }
    }

    /// What to do about it.
    pub fn remedy(&self, unit: &UnitName, credential: &CredentialId) -> String {
        match self {
            Self::Denied(denial) => denial.remedy(unit, credential),
            Self::Unconfigured(_) => {
                "see: systemctl status onecred; onecred check; then: onecred reload".to_owned()
            }
            Self::Failed { failure, .. } => failure.remedy.clone(),
            Self::Empty(_) => {
                "fill the field in, or say \"allowEmpty\": true if it is meant to be empty".to_owned()
            }
            Self::Unsealed(why) => why.remedy().to_owned(),
            Self::TooLarge { .. } | Self::TooLargeTogether { .. } => {
                "keep large data elsewhere, and its key here".to_owned()
            }
            Self::Part { refusal, .. } => refusal.remedy(unit, credential),
            Self::Unfit { .. } => {
                "give it to the unit as a credential of its own, which can be any bytes".to_owned()
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
                "see which they are: ss -xp src /run/onecred/credential.sock (or sealed.sock); end them, then: systemctl start {unit}"
            ),
            Self::Stopping => format!("start it again: systemctl start {unit}"),
        }
    }

    /// What ends its cause, if units that were refused for it are to be started again.
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
            Self::SomeUnpublished { ends, .. } => *ends,
            _ => None,
        }
    }

    /// Cause and remedy, where a file is published that no unit waits for.
    pub fn outright(&self, name: &str) -> String {
        match UnitName::parse_lenient(&format!("onecred-file@{name}")) {
            Ok(unit) => self.outright_for(&unit),
            Err(_) => self.kind().to_owned(),
        }
    }

    /// The same where a unit waits for files.
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
            (Refusal::NoFile("name".into()), None),
        ] {
            assert_eq!(refusal.ends(), ends, "{refusal:?}");
        }
    }
}
