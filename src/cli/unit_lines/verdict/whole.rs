//! Judges what affects a unit as a whole: settings that contain credentials, and the total size.

use std::collections::BTreeSet;

use super::{Effect, LineVerdict, hidden};
use crate::cli::common::show;
use crate::cli::unit_lines::facts::{
    Content, CredentialLine, Import, LeadsTo, Machine, PredictedAnswer, Prediction, Unit,
};
use crate::provider::base::limits::UNIT_TOTAL;
use crate::provider::base::unit_totals;

/// Judges what counts only for the unit as a whole: settings that contain credentials, and the total size.
pub(in crate::cli::unit_lines) fn judge_whole(
    machine: Machine,
    unit: &Unit,
    of_line: &dyn Fn(&CredentialLine) -> Option<Prediction>,
) -> Vec<LineVerdict> {
    let loaded = |id: &str| {
        let brings =
            |line: &CredentialLine| !matches!(line.leads_to, LeadsTo::Missing | LeadsTo::Store(false));
        unit.lines.iter().any(|line| line.id == id && brings(line))
    };
    let mut verdicts = Vec::new();
    let mut all = Vec::new();
    let mut imported = BTreeSet::new();
    for import in &unit.imports {
        let Some(found) = &import.found else {
            verdicts.push(unknown_import(import));
            continue;
        };
        // a line with the same ID precedes an import, and the first import precedes others
        for credential in found.iter().filter(|it| !loaded(&it.id)) {
            if !imported.insert(credential.id.as_str()) {
                continue;
            }
            match &credential.content {
                Content::Fails(what) => verdicts.push(LineVerdict::new(
                    Effect::Fails,
                    format!(
                        "{what}, and the unit fails with 243/CREDENTIALS; correct or remove the file, or ImportCredential={}",
                        import.text
                    ),
                )),
                Content::Credentials(credentials) => all.extend(credentials.iter().cloned()),
                Content::Unknown => verdicts.push(hidden(&credential.path)),
            }
        }
    }
    // both precede a setting
    for literal in unit.literals.iter().filter(|it| !loaded(&it.id) && !imported.contains(it.id.as_str())) {
        match &literal.content {
            Content::Fails(what) => verdicts.push(LineVerdict::new(
                Effect::Fails,
                format!(
                    "{what}, and the unit fails with 243/CREDENTIALS; \
                     encrypt it on this machine: systemd-creds encrypt --pretty --name={}",
                    literal.id
                ),
            )),
            Content::Credentials(credentials) => all.extend(credentials.iter().cloned()),
            Content::Unknown => verdicts.push(LineVerdict::new(
                Effect::Unknown,
                format!(
                    "only root can find out whether systemd can decrypt the value of SetCredentialEncrypted={}; run this as root",
                    literal.id
                ),
            )),
        }
    }
    for line in &unit.lines {
        match &line.content {
            Content::Credentials(credentials) => all.extend(credentials.iter().cloned()),
            _ if line.is_ours() => {
                let size = of_line(line)
                    .filter(|it| matches!(it.answer, PredictedAnswer::Value(_)))
                    .and_then(|it| it.size);
                all.extend(size.map(|size| (line.asked_id(machine), size)));
            }
            _ => {}
        }
    }
    // the content of a single line is reported for that line
    let alone = unit
        .lines
        .iter()
        .any(|line| matches!(&line.content, Content::Credentials(all) if unit_totals::exceed(all, false)));
    if !alone && unit_totals::exceed(&all, machine.tmpfs) {
        verdicts.push(LineVerdict::new(Effect::Fails, too_large(all)));
    }
    verdicts
}

pub(super) fn unknown_import(import: &Import) -> LineVerdict {
    let Import { text, .. } = import;
    hidden(&format!("systemd's credential stores, which ImportCredential={text} searches"))
}

fn too_large(mut all: Vec<(String, usize)>) -> String {
    const NAMED: usize = 3;
    all.sort_by_key(|(_, size)| std::cmp::Reverse(*size));
    let sum = all.iter().fold(0, |sum: usize, (id, size)| sum.saturating_add(id.len() + size));
    let named: Vec<String> =
        all.iter().take(NAMED).map(|(id, size)| format!("{id} ({size} bytes)")).collect();
    let more = match all.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {}", show::count(more, "smaller one")),
    };
    format!(
        "its credentials are too large together: {}{more} have {sum} bytes with their IDs, and systemd takes {UNIT_TOTAL} for a unit \
         (on tmpfs in whole pages), so it fails with 243/CREDENTIALS; keep large data elsewhere",
        named.join(", ")
    )
}
