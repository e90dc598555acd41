//! Warns about secrets that no unit, file or template gets.

use std::collections::BTreeSet;

use super::super::at::At;
use super::super::problem::Problems;
use super::super::written;
use super::secret::holder;
use crate::domain::name::SecretName;
use crate::domain::template::{Form, Template};

/// Warns about each unused secret. Entries of which a part could not be read are not complete enough for this.
pub(super) fn check(
    secrets: &[At<written::Secret>],
    templates: &[At<written::Template>],
    problems: &mut Problems,
) {
    let contained = contained(templates);
    for secret in secrets {
        let is_contained = secret.name.as_ref().is_some_and(|name| contained.contains(name.as_str()));
        if !secret.whole || !secret.units.is_empty() || secret.target.is_some() || is_contained {
            continue;
        }
        let name = secret.name.as_ref().and_then(|name| SecretName::parse(name).ok());
        let holder = holder("secret", name.as_ref(), secret.name.as_ref());
        let what = format!("no unit or file gets {holder}: it has neither \"units\" nor a \"target\"");
        let remedy = "name the units that may have it, for example \"units\": [\"app\"]";
        problems.warn(secret.place, what, remedy);
    }
}

/// The names in the placeholders of all templates.
fn contained(templates: &[At<written::Template>]) -> BTreeSet<String> {
    let contents = templates.iter().filter_map(|template| template.content.as_ref());
    let parsed = contents.filter_map(|content| Template::parse(content, Form::Raw).ok());
    parsed.flat_map(|template| template.names).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn a_secret_of_a_template_is_used() {
        for (secret, content, is_warned) in [
            ("", "A=b", true),
            ("", "A={{key}}", false),
            ("", "A={{ key | trim }}", false),
            ("", "A={{{{key}}", true),
            ("", "A={{other}}", true),
            (r#", "units": ["app"]"#, "A=b", false),
            (r#", "target": "/run/secrets/key""#, "A=b", false),
        ] {
            let text = format!(
                r#"{{ "secrets": [ {{ "name": "key", "reference": "op://v/i/f"{secret} }},
                                   {{ "name": "other", "reference": "op://v/i/o", "units": ["app"] }} ],
                      "templates": [ {{ "name": "t.env", "content": "{content}", "units": ["app"] }} ] }}"#
            );
            let loaded = crate::config::from_text(Path::new("s.json"), &text).unwrap();
            let warned =
                loaded.warnings.iter().any(|warning| warning.to_string().contains("gets secret key"));
            assert_eq!((warned, loaded.warnings.len()), (is_warned, usize::from(is_warned)), "{content}");
        }
    }
}
