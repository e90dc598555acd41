//! Templates: texts with placeholders `{{NAME}}` and `{{op://…}}`, and how values are written in their place.
//! Pure.
//!
//! A program reads a value exactly as it is in 1Password, or the template is refused. A value never ends a
//! string, a line or a variable. In environment files, JSON, YAML and TOML, the position of the placeholder
//! decides how its value is written.

mod bare;
mod env;
mod json;
mod split;
mod toml;
mod yaml;

use std::sync::Arc;

use zeroize::Zeroizing;

use crate::domain::name::SecretName;
use crate::domain::secret::{SecretValue, Wanted, trimmed};

/// The maximum size of a template's text in bytes. systemd does not accept more.
pub const MAX_TEXT: usize = 1 << 20;
/// The maximum number of placeholders of one template.
pub const MAX_PLACEHOLDERS: usize = 512;

/// The format of a template's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A file for `EnvironmentFile=`.
    Env,
    /// An environment file for containers: `podman --env-file`, a quadlet's `EnvironmentFile=`, docker. They
    /// take values literally.
    Container,
    /// A JSON file.
    Json,
    /// A YAML file.
    Yaml,
    /// A TOML file.
    Toml,
    /// Any other format: values are inserted unchanged.
    Raw,
}

impl Form {
    /// The format of a file by its extension.
    pub fn of(name: &str) -> Option<Self> {
        match name.rsplit_once('.')?.1 {
            "env" => Some(Self::Env),
            "json" => Some(Self::Json),
            _ => None,
        }
    }

    fn by_word(word: &str) -> Option<Self> {
        match word {
            "env" => Some(Self::Env),
            "json" => Some(Self::Json),
            "yaml" => Some(Self::Yaml),
            "toml" => Some(Self::Toml),
            "raw" => Some(Self::Raw),
            _ => None,
        }
    }
}

/// Why a text is not a valid template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

/// A parsed text with the names in its placeholders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    pieces: Vec<Piece>,
    /// The names in the placeholders, each once: the name of a secret, or a reference with `op://`.
    pub names: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Value {
        part: usize,
        escape: Escape,
    },
    /// The value of a variable in an environment file. Its complete content decides how it is written.
    Variable(Variable),
}

/// The value of a variable: its parts in order.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Variable {
    bits: Vec<Bit>,
    /// Whether containers read it.
    literal: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Bit {
    Text(String),
    /// A value, and how it is written for JSON.
    Value {
        part: usize,
        escape: Escape,
    },
}

/// How a value is written: without trailing line breaks, then for JSON, then for an environment file. YAML
/// and TOML read JSON strings alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Escape {
    trim: bool,
    json: Quotes,
    env: Quotes,
}

/// Whether a value is escaped for a quoted string, and whether it needs quotes of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Quotes {
    #[default]
    None,
    /// The template already has the quotes.
    Around,
    Own,
}

impl Template {
    /// Parses a text.
    pub fn parse(text: &str, form: Form) -> Result<Self, Vec<Mistake>> {
        let tokens = split::split(text)?;
        let names = split::names(&tokens);
        let mut pieces = Pieces::default();
        match form {
            Form::Env | Form::Container => env::arrange(&tokens, form == Form::Container, &mut pieces),
            Form::Json => json::arrange(&tokens, &mut pieces),
            Form::Yaml => yaml::arrange(&tokens, &mut pieces),
            Form::Toml => toml::arrange(&tokens, &mut pieces),
            Form::Raw => {
                for token in &tokens {
                    match token {
                        split::Token::Text(text) => pieces.text(text),
                        split::Token::Value { part, filter, trim, .. } => {
                            pieces
                                .value(*part, Escape { trim: *trim, ..foreign(filter.unwrap_or(Form::Raw)) });
                        }
                    }
                }
                Ok(())
            }
        }
        .map_err(|mistake| vec![mistake])?;
        Ok(Self { pieces: pieces.0, names })
    }

    /// Whether it inserts any value unchanged, without escaping.
    pub fn has_raw_values(&self) -> bool {
        let is_raw = |piece: &Piece| match piece {
            Piece::Value { escape, .. } => escape.json == Quotes::None && escape.env == Quotes::None,
            Piece::Text(_) | Piece::Variable(_) => false,
        };
        self.pieces.iter().any(is_raw)
    }

    /// Fills in values, in the order of [`Template::names`].
    pub fn fill(&self, values: &[SecretValue]) -> Result<SecretValue, Unfit> {
        let guess = self.pieces.iter().map(|piece| match piece {
            Piece::Text(text) => text.len(),
            Piece::Value { part, .. } => values.get(*part).map_or(0, |value| 2 * value.len() + 2),
            Piece::Variable(_) => 0,
        });
        let mut out = Wiped::new(guess.fold(0, usize::saturating_add));
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
                Piece::Value { part, escape } => put(*part, *escape, values, &mut out)?,
                Piece::Variable(variable) => variable.fill(values, &mut out)?,
            }
        }
        Ok(SecretValue::new(out.take()))
    }
}

/// Writes a value.
fn put(part: usize, escape: Escape, values: &[SecretValue], out: &mut Wiped) -> Result<(), Unfit> {
    let unfit = |why| Unfit { part, why };
    let value = values.get(part).ok_or(unfit("it is missing"))?;
    // exposed: it is written into the result
    escape.write(value.expose(), out).map_err(unfit)?;
    if out.len() > SecretValue::MAX {
        return Err(unfit("the result would have more than 4 MiB"));
    }
    Ok(())
}

impl Variable {
    fn fill(&self, values: &[SecretValue], out: &mut Wiped) -> Result<(), Unfit> {
        let mut all = Wiped::new(0);
        let mut last = 0;
        for bit in &self.bits {
            match bit {
                Bit::Text(text) => all.extend_from_slice(text.as_bytes()),
                Bit::Value { part, escape } => {
                    let before = all.len();
                    put(*part, *escape, values, &mut all)?;
                    let value = all.bytes().get(before..).unwrap_or_default();
                    env::check(value, self.literal).map_err(|why| Unfit { part: *part, why })?;
                    last = *part;
                }
            }
        }
        env::write_variable(all.bytes(), self.literal, out);
        if out.len() > SecretValue::MAX {
            return Err(Unfit { part: last, why: "the result would have more than 4 MiB" });
        }
        Ok(())
    }
}

/// A value that cannot be inserted at its place in the template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unfit {
    /// The index of its name in the template.
    pub part: usize,
    /// The reason.
    pub why: &'static str,
}

/// A buffer for values that wipes its old content when it grows.
struct Wiped(Zeroizing<Vec<u8>>);

impl Wiped {
    /// A buffer with this capacity, within limits.
    fn new(guess: usize) -> Self {
        Self(Zeroizing::new(Vec::with_capacity(guess.min(SecretValue::MAX))))
    }

    #[inline]
    fn extend_from_slice(&mut self, bytes: &[u8]) {
        let needed = self.0.len() + bytes.len();
        if needed > self.0.capacity() {
            let mut larger = Zeroizing::new(Vec::with_capacity(needed.max(2 * self.0.capacity())));
            larger.extend_from_slice(&self.0);
            self.0 = larger; // this wipes the old buffer
        }
        self.0.extend_from_slice(bytes);
    }

    fn push(&mut self, byte: u8) {
        self.extend_from_slice(&[byte]);
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn take(mut self) -> Vec<u8> {
        std::mem::take(&mut *self.0)
    }
}

impl Escape {
    fn write(self, value: &[u8], out: &mut Wiped) -> Result<(), &'static str> {
        let mut escaped = Wiped::new(0);
        let value = if self.trim { trimmed(value) } else { value };
        if self.trim && value.is_empty() {
            return Err("it is empty after trim");
        }
        let value = match self.json {
            Quotes::None => value,
            quotes => {
                json::write(value, quotes == Quotes::Own, &mut escaped)?;
                escaped.bytes()
            }
        };
        match self.env {
            Quotes::None => out.extend_from_slice(value),
            _ => {
                env::check(value, false)?;
                env::write_quoted(value, out);
            }
        }
        Ok(())
    }
}

/// How a value is written in a file of unknown format.
fn foreign(form: Form) -> Escape {
    match form {
        Form::Env | Form::Container => Escape { env: Quotes::Own, ..Escape::default() },
        Form::Json | Form::Yaml | Form::Toml => Escape { json: Quotes::Around, ..Escape::default() },
        Form::Raw => Escape::default(),
    }
}

#[derive(Default)]
struct Pieces(Vec<Piece>);

impl Pieces {
    fn text(&mut self, text: &str) {
        match self.0.last_mut() {
            Some(Piece::Text(before)) => before.push_str(text),
            _ => self.0.push(Piece::Text(text.to_owned())),
        }
    }

    fn variable(&mut self, bits: Vec<Bit>, literal: bool) {
        self.0.push(Piece::Variable(Variable { bits, literal }));
    }

    fn value(&mut self, part: usize, escape: Escape) {
        self.0.push(Piece::Value { part, escape });
    }
}

/// A template with the values that its placeholders refer to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filling {
    /// The template's name.
    pub name: SecretName,
    /// The parsed text.
    pub template: Template,
    /// The values of its names, in the same order.
    pub parts: Vec<Arc<Wanted>>,
}

#[cfg(any(test, fuzzing))]
#[path = "../../../fuzz/rules/template.rs"]
pub(crate) mod fuzz;
#[cfg(any(test, fuzzing))]
#[path = "../../../fuzz/rules/template_oracle.rs"]
mod oracle;
#[cfg(test)]
mod tests;
