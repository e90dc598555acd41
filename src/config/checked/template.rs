//! Checks templates: the values of their placeholders, and the type of the file.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::at::At;
use super::super::shape::nearest;
use super::super::{Template, written};
use super::Checker;
use crate::domain::secret::Wanted;
use crate::domain::template::{self, Filling, Form};

/// What placeholders can refer to.
pub(super) struct Known<'a> {
    /// The names of all secrets, also invalid ones.
    pub(super) names: BTreeSet<&'a str>,
    /// The valid secrets.
    pub(super) wanted: BTreeMap<&'a str, &'a Wanted>,
}

impl Checker<'_> {
    /// A template; `None` if a required part of it is invalid.
    pub(super) fn template(
        &mut self,
        written: &At<written::Template>,
        known: &Known<'_>,
    ) -> Option<Template> {
        let name = self.name(written.name.as_ref());
        let holder = super::secret::holder("template", name.as_ref(), written.name.as_ref());
        if let Some(clash) = name.as_ref().filter(|name| known.names.contains(name.as_str())) {
            let what = format!("{clash:?} is the name of a secret, too");
            let remedy = "give the template another, for example with .env at its end; units ask by UNIT/ID";
            self.problems.error(written.place, what, remedy);
        }
        let grants = self.grants(&written.units, name.as_ref(), &holder);
        let target = self.target(&super::target::Written::of_template(written), &holder);
        let rotation = self.rotation(&super::rotation::Written::of_template(written));
        let filling = self.filling(written, known);
        if written.units.is_empty() && written.target.is_none() && written.whole {
            let what = format!("no unit or file gets {holder}: it has neither \"units\" nor a \"target\"");
            self.problems.warn(
                written.place,
                what,
                "publish it, for example \"target\": \"/run/secrets/app.env\"",
            );
        }
        let declared_at = self.problems.line(written.place);
        let (name, (template, parts)) = (name?, filling?);
        let filling = Arc::new(Filling { name: name.clone(), template, parts });
        Some(Template { name, filling, target, grants, rotation, declared_at })
    }

    fn filling(
        &mut self,
        written: &At<written::Template>,
        known: &Known<'_>,
    ) -> Option<(template::Template, Vec<Arc<Wanted>>)> {
        let content = written.content.as_ref()?;
        if content.is_empty() && written.whole {
            self.problems.error(content.place, "the content is empty", "write for example A={{db-password}}");
        }
        let template = match template::Template::parse(content, form(written)) {
            Ok(template) => template,
            Err(mistakes) => {
                for mistake in mistakes {
                    self.problems.error(content.place, mistake.what, mistake.remedy);
                }
                return None;
            }
        };
        self.warn_of_raw_values(&template, written, content);
        let parts: Vec<_> =
            template.names.iter().map(|name| self.part(name, content, written, known)).collect();
        Some((template, parts.into_iter().collect::<Option<_>>()?))
    }

    /// Warns about unescaped values in files in which many values would change their meaning, unless the
    /// configuration sets "raw".
    fn warn_of_raw_values(
        &mut self,
        template: &template::Template,
        written: &written::Template,
        content: &At<String>,
    ) {
        let ending = |name: Option<&At<String>>| Some(name?.rsplit_once('.')?.1.to_owned());
        let ending = ending(written.target.as_ref()).or_else(|| ending(written.name.as_ref()));
        let (kind, remedy) = match ending.as_deref() {
            Some("yml" | "yaml") => ("YAML", "set \"escape\": \"yaml\""),
            Some("toml") => ("TOML", "set \"escape\": \"toml\""),
            Some("ini") => ("INI", "check how the program that reads it parses quotes and comments"),
            _ => return,
        };
        if written.escape.is_none() && template.has_raw_values() {
            let what =
                format!("values are inserted unescaped in this {kind} file, and some of them would break it");
            let remedy = format!("{remedy}; or, if that is meant: \"escape\": \"raw\"");
            self.problems.warn(content.place, what, remedy);
        }
    }

    /// The value of one placeholder.
    fn part(
        &mut self,
        name: &str,
        content: &At<String>,
        written: &At<written::Template>,
        known: &Known<'_>,
    ) -> Option<Arc<Wanted>> {
        if name.starts_with("op://") {
            let reference = self.parsed_reference(content.place, name)?;
            let source = self.source(written.source.as_ref(), Some(written.place))?;
            let (max_age, deadline) = (self.defaults.max_age, self.defaults.deadline);
            let label = name.to_owned();
            return Some(Arc::new(Wanted {
                label,
                reference,
                source,
                max_age,
                deadline,
                allow_empty: false,
                trim: false,
            }));
        }
        if let Some(wanted) = known.wanted.get(name) {
            return Some(Arc::new((*wanted).clone()));
        }
        if !known.names.contains(name) {
            let remedy = match nearest(name, known.names.iter().copied()) {
                Some(near) => format!("did you mean {{{{{near}}}}}?"),
                None => {
                    "declare it in \"secrets\", or write a reference: {{op://VAULT/ITEM/FIELD}}".to_owned()
                }
            };
            let what = format!("the content holds {{{{{name:.80}}}}}, but this secret does not exist");
            self.problems.error(content.place, what, remedy);
        }
        None
    }
}

/// The type of the file: from `escape`, from the extension of `target`, or from the extension of `name`.
fn form(written: &written::Template) -> Form {
    let said = written.escape.as_ref().map(|escape| match **escape {
        written::Escape::Env => Form::Env,
        written::Escape::Container => Form::Container,
        written::Escape::Json => Form::Json,
        written::Escape::Yaml => Form::Yaml,
        written::Escape::Toml => Form::Toml,
        written::Escape::Raw => Form::Raw,
    });
    let ending = |name: Option<&At<String>>| name.and_then(|name| Form::of(name));
    said.or_else(|| ending(written.target.as_ref()))
        .or_else(|| ending(written.name.as_ref()))
        .unwrap_or(Form::Raw)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::{Loaded, from_text};

    fn load(secret: &str, template: &str) -> Loaded {
        let text = format!(
            r#"{{ "secrets": [{{ "name": "v", "reference": "op://v/i/f", "units": ["a"]{secret} }}],
                  "templates": [{{ {template}, "units": ["a"] }}] }}"#
        );
        from_text(Path::new("f"), &text).unwrap_or_else(|report| panic!("{:?}", report.problems))
    }

    #[test]
    fn values_that_stand_raw_in_a_file_with_a_syntax_are_a_warning() {
        for (template, expected) in [
            (r#""name": "t.yaml", "content": "k: {{v}}""#, Some(r#""escape": "yaml""#)),
            (r#""name": "t.yml", "content": "k: {{v}}""#, Some(r#""escape": "yaml""#)),
            (
                r#""name": "t", "target": "/run/secrets/t.toml", "content": "k = {{v}}""#,
                Some(r#""escape": "toml""#),
            ),
            (r#""name": "t.ini", "content": "k = {{v}}""#, Some("quotes and comments")),
            (r#""name": "t.yaml", "escape": "yaml", "content": "k: {{v}}""#, None),
            (r#""name": "t.yaml", "escape": "raw", "content": "k: {{v}}""#, None),
            (r#""name": "t.toml", "content": "k = \"{{v | toml}}\"""#, None),
            (r#""name": "t.toml", "content": "k = 1""#, None),
            (r#""name": "t.conf", "content": "{{v}}""#, None),
            (r#""name": "t.toml", "target": "/run/secrets/t.conf", "content": "{{v}}""#, None),
        ] {
            let warnings: Vec<String> = load("", template).warnings.iter().map(ToString::to_string).collect();
            match expected {
                Some(part) => assert!(warnings.len() == 1 && warnings[0].contains(part), "{warnings:?}"),
                None => assert!(warnings.is_empty(), "{template}: {warnings:?}"),
            }
        }
    }

    #[test]
    fn a_secret_is_trimmed_where_that_is_said() {
        for (secret, expected) in [("", false), (r#", "trim": false"#, false), (r#", "trim": true"#, true)] {
            let loaded = load(secret, r#""name": "t.env", "content": "A={{v}}""#);
            let trims: Vec<bool> =
                loaded.settings.policy.secrets().map(|secret| secret.wanted.trim).collect();
            assert_eq!(trims, [expected]);
            assert_eq!(loaded.settings.templates[0].filling.parts[0].trim, expected);
        }
    }
}
