//! Judges an ID that no line of a unit loads.

use super::whole::unknown_import;
use super::{Effect, LineVerdict, OUTDATED, instead};
use crate::cli::unit_lines::facts::{Directive, Ignored, Import, Unit};
use crate::cli::unit_lines::stores;
use crate::domain::name::CredentialId;

/// The outcome for an ID that no line of the unit loads.
pub(in crate::cli::unit_lines) fn no_line(unit: &Unit, id: &CredentialId) -> LineVerdict {
    let without = |what: String| LineVerdict::new(Effect::Without, what);
    let add = instead(Directive::Encrypted, id.as_str());
    if let Some(line) = unit.lines.iter().find(|line| line.is_quoted() && line.unquoted_id() == id.as_str()) {
        let fix = instead(line.directive, id.as_str());
        return without(format!(
            "systemd takes the quotation marks of {line} as a part of the ID or path; {fix}"
        ));
    }
    let outdated = if unit.outdated { format!("; {OUTDATED}") } else { String::new() };
    if let Some(ignored) = unit.ignored.iter().find(|ignored| ignored.id == id.as_str()) {
        return without(format!("{}{outdated}", ignored_text(ignored)));
    }
    let imports = || unit.imports.iter().filter(|import| is_for(import, id.as_str()));
    if let Some(import) = imports().find(|import| import.found.is_none()) {
        return unknown_import(import);
    }
    let mut found = imports().flat_map(|import| import.found.iter().flatten().map(move |it| (import, it)));
    if let Some((import, credential)) = found.find(|(_, credential)| credential.id == id.as_str()) {
        let what =
            format!("ImportCredential={} loads {}, and onecred is never asked", import.text, credential.path);
        return LineVerdict::new(Effect::Other, format!("{what}; {add}{outdated}"));
    }
    if unit.literals.iter().any(|literal| literal.id == id.as_str()) {
        let what = "the unit starts with the value of its SetCredential=, and onecred is never asked";
        return LineVerdict::new(Effect::Other, format!("{what}; {add}{outdated}"));
    }
    if let Some(import) = imports().next() {
        return without(format!(
            "ImportCredential={} searches systemd's credential stores, which do not have it, and never asks onecred; {add}{outdated}",
            import.text
        ));
    }
    let others: Vec<String> =
        unit.lines.iter().filter(|line| line.means_onecred()).map(|line| line.id.clone()).collect();
    let others = match others.as_slice() {
        [] => String::new(),
        others => format!(" (it loads {} from onecred)", others.join(", ")),
    };
    without(format!(
        "no LoadCredential= line for it is loaded in {}{others}; add one with onecred add, then: systemctl daemon-reload{outdated}",
        unit.name
    ))
}

/// Describes a line that systemd ignores, with the corrected line.
pub(in crate::cli::unit_lines) fn ignored_text(ignored: &Ignored) -> String {
    let fix = instead(ignored.directive, &ignored.id);
    format!("systemd ignores the line {} ({}): {}; {fix}", ignored.text, ignored.place, ignored.why)
}

/// Whether `ImportCredential=` may provide a credential with this ID.
fn is_for(import: &Import, id: &str) -> bool {
    match import.text.split_once(':') {
        Some((pattern, rename)) if pattern.ends_with('*') => id.starts_with(rename),
        Some((_, rename)) => id == rename,
        None => stores::matches(&import.text, id),
    }
}
