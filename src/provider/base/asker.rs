//! For whom something is looked up. It decides how much may be spent on it, and who is named for what was spent.

use crate::domain::name::UnitName;

/// For whom something is looked up.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Asker {
    /// onecred itself, for what no unit waits for now.
    Onecred,
    /// An administrator: root, on the bus.
    Admin,
    /// A unit that starts.
    Start(UnitName),
    /// A process of a unit, on the bus.
    BusUnit(UnitName),
    /// Another user, on the bus.
    BusUser(u32),
}

impl Asker {
    /// A unit or user on the bus.
    pub fn on_bus(uid: u32, unit: Option<&UnitName>) -> Self {
        match unit {
            _ if uid == 0 => Self::Admin,
            Some(unit) => Self::BusUnit(unit.clone()),
            None => Self::BusUser(uid),
        }
    }

    /// Whether it asks on the bus and is not root.
    pub fn is_unprivileged(&self) -> bool {
        matches!(self, Self::BusUnit(_) | Self::BusUser(_))
    }

    /// The name that what it spends is shown under: a unit has one name, however it asks. `None` for onecred and its administrators.
    pub fn consumer(&self) -> Option<String> {
        match self {
            Self::Onecred | Self::Admin => None,
            Self::Start(unit) | Self::BusUnit(unit) => Some(unit.to_string()),
            Self::BusUser(uid) => Some(format!("user {uid}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_on_the_bus() {
        let unit = UnitName::parse("app.service").unwrap();
        for (uid, unit, asker, consumer) in [
            (0, Some(&unit), Asker::Admin, None),
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
