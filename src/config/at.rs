//! A value as it was written, with its place.

use std::borrow::Cow;
use std::ops::Deref;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;

use super::problem::Place;

/// A value, where it was written, and whether nothing within it was left out as wrong.
///
/// [`super::shape`] hands values on in this form, as a list, wherever the schema carries [`MARK`].
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "(T, usize, usize, bool)", bound = "T: serde::de::DeserializeOwned")]
pub(crate) struct At<T> {
    pub(crate) value: T,
    pub(crate) place: Place,
    pub(crate) whole: bool,
}

impl<T> From<(T, usize, usize, bool)> for At<T> {
    fn from((value, file, byte, whole): (T, usize, usize, bool)) -> Self {
        Self { value, place: Place { file, byte }, whole }
    }
}

/// The keyword that says where places are wanted; the published schema goes without it.
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
