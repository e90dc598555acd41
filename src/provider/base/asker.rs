//! On whose behalf a value is looked up. This decides which budget pays for it, and under which name the
//! calls are shown.

use crate::domain::name::UnitName;

/// On whose behalf a value is looked up.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Asker {
    /// onecred itself, for work that no unit is waiting for.
    Onecred,
    /// An administrator: root on D-Bus, outside services.
    Admin,
    /// A unit that starts.
    Start(UnitName),
    /// A process of a unit on D-Bus.
    BusUnit(UnitName),
    /// Another user on D-Bus.
    BusUser(u32),
}

impl Asker {
    /// A unit or user on D-Bus.
    pub fn on_bus(uid: u32, unit: Option<&UnitName>) -> Self {
        match unit {
            Some(unit) if uid == 0 && !is_service(unit) => Self::Admin,
            None if uid == 0 => Self::Admin,
            Some(unit) => Self::BusUnit(unit.clone()),
            None => Self::BusUser(uid),
        }
    }

    /// Whether it asks on D-Bus and is not root.
    pub fn is_unprivileged(&self) -> bool {
        matches!(self, Self::BusUnit(_) | Self::BusUser(_))
    }

    /// The name under which its calls are shown. A unit has the same name however it asks. `None` for onecred
    /// and its administrators.
    pub fn consumer(&self) -> Option<String> {
        match self {
            Self::Onecred | Self::Admin => None,
            Self::Start(unit) | Self::BusUnit(unit) => Some(unit.to_string()),
            Self::BusUser(uid) => Some(format!("user {uid}")),
        }
    }
}

/// Whether a unit runs a program without a person. A person's shell is in a scope, or in the service manager of a user.
fn is_service(unit: &UnitName) -> bool {
    unit.as_str().ends_with(".service") && unit.prefix() != "user"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_on_the_bus() {
        let unit = UnitName::parse("app.service").unwrap();
        let session = UnitName::parse("session-1.scope").unwrap();
        let of_root = UnitName::parse("user@0.service").unwrap();
        for (uid, unit, asker, consumer) in [
            (0, Some(&unit), Asker::BusUnit(unit.clone()), Some("app.service")),
            (0, Some(&session), Asker::Admin, None),
            (0, Some(&of_root), Asker::Admin, None),
            (0, None, Asker::Admin, None),
            (998, Some(&unit), Asker::BusUnit(unit.clone()), Some("app.service")),
            (1000, None, Asker::BusUser(1000), Some("user 1000")),
        ] {
            assert_eq!(Asker::on_bus(uid, unit), asker);
            assert_eq!(asker.consumer().as_deref(), consumer);
            assert_eq!(asker.is_unprivileged(), consumer.is_some());
        }
        assert_eq!(Asker::Start(unit.clone()).consumer(), Asker::BusUnit(unit).consumer());
    }
}
