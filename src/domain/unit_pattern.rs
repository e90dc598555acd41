//! The entries of `units`: the name of a unit, or a glob that matches several.

use crate::domain::glob::{BadPattern, Glob};
use crate::domain::name::{UnitName, has_unit_type};

/// One unit by name, or several by a glob. Without a type it means `.service`.
#[derive(Debug, Clone)]
pub struct UnitPattern(Glob);

impl UnitPattern {
    /// Parses the name of a unit, or a glob.
    pub fn parse(text: &str) -> Result<Self, BadPattern> {
        let whole =
            if has_unit_type(text) || text == "*" { text.to_owned() } else { format!("{text}.service") };
        let glob = Glob::parse(&whole)?;
        if let Some(name) = glob.literal() {
            UnitName::parse(name).map_err(|error| BadPattern(text.into(), error.to_string()))?;
        } else if whole.chars().any(|c| c == '/' || c.is_whitespace() || c.is_control()) {
            return Err(BadPattern(text.into(), "a unit's name can't contain / or whitespace".into()));
        }
        Ok(Self(glob))
    }

    /// Whether a unit matches.
    pub fn matches(&self, unit: &UnitName) -> bool {
        self.0.matches(unit.as_str())
    }

    /// The pattern as a glob.
    pub fn glob(&self) -> &Glob {
        &self.0
    }
}
