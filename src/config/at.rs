//! A value of the configuration with its position.

use std::borrow::Cow;
use std::ops::Deref;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;

use super::problem::Offset;

/// A value, its position, and whether all of it is valid.
///
/// [`super::shape`] passes values on in this form, as a list, wherever the schema has [`MARK`].
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "(T, usize, usize, bool)", bound = "T: serde::de::DeserializeOwned")]
pub(crate) struct At<T> {
    pub(crate) value: T,
    pub(crate) place: Offset,
    pub(crate) whole: bool,
}

impl<T> From<(T, usize, usize, bool)> for At<T> {
    fn from((value, file, byte, whole): (T, usize, usize, bool)) -> Self {
        Self { value, place: Offset { file, byte }, whole }
    }
}

/// The keyword for values whose position is needed. The published schema does not contain it.
pub(crate) const MARK: &str = "x-place";

impl<T> Deref for At<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: JsonSchema> JsonSchema for At<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = generator.subschema_for::<T>();
        schema.insert(MARK.to_owned(), true.into());
        schema
    }
}
