//! Judges the outcome of a line, and of a unit, when the unit starts. Pure: facts in, verdicts out.

use std::collections::BTreeSet;

use super::facts::{
    Content, CredentialLine, Directive, EnvironmentFiles, Import, LeadsTo, LoadState, Machine, PLAIN,
    PredictedAnswer, Prediction, QUOTES, SEALED, Unit,
};
use super::stores;
use crate::cli::common::show;
use crate::domain::name::{Claim, CredentialId};
use crate::host::systemd::unit_type::{Asks, ExecType};
use crate::provider::base::limits::UNIT_TOTAL;
use crate::provider::base::unit_totals;

/// The outcome, from the best to the worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::cli) enum Effect {
    /// The unit gets the value.
    Gets,
    /// It cannot be determined.
    Unknown,
    /// The unit starts with something else.
    Other,
    /// The unit starts without the credential.
    Without,
    /// The unit does not start.
    Fails,
}

/// The outcome of one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LineVerdict {
    /// The effect.
    pub(super) effect: Effect,
    /// Cause and remedy; `None` for a correct line.
    pub(super) problem: Option<String>,
}

impl LineVerdict {
    fn new(effect: Effect, problem: impl Into<String>) -> Self {
        Self { effect, problem: Some(problem.into()) }
    }

    const RIGHT: Self = Self { effect: Effect::Gets, problem: None };
}

/// The line that requests the credential from onecred in this form, as a remedy.
fn instead(directive: Directive, id: &str) -> String {
    let id = Some(id.trim_matches(QUOTES)).filter(|id| !id.is_empty()).unwrap_or("ID");
    format!("write {}={id}:{}, then: systemctl daemon-reload", directive.name(), directive.socket())
}

/// The purpose of a line for the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// It should request a credential from onecred.
    Asks,
    /// It provides another credential of the unit, which prevents the unit from starting if it fails.
    Beside,
}

/// Judges a line of a unit that can request credentials. `prediction` is the predicted answer of onecred, if
/// it was asked.
pub(super) fn judge_line(
    machine: Machine,
    unit: &Unit,
    line: &CredentialLine,
    prediction: Option<&Prediction>,
    purpose: Purpose,
) -> LineVerdict {
    let verdict = judge_unquoted(machine, unit, line, prediction, purpose);
    let quoted =
        |problem| format!("systemd takes the quotation marks as a part of the ID or path: {problem}");
    match line.is_quoted() {
        true => LineVerdict { problem: verdict.problem.map(quoted), ..verdict },
        false => verdict,
    }
}

fn judge_unquoted(
    machine: Machine,
    unit: &Unit,
    line: &CredentialLine,
    prediction: Option<&Prediction>,
    purpose: Purpose,
) -> LineVerdict {
    let CredentialLine { directive, id, path, leads_to, .. } = line;
    let fix = || match purpose {
        Purpose::Asks => instead(*directive, id),
        Purpose::Beside => "correct or remove the line".to_owned(),
    };
    if machine.has_executor() && (id.contains(' ') || path.contains(' ')) {
        let what = format!(
            "systemd {} cannot pass on a credential whose ID or path has a space, and fails the unit",
            machine.systemd
        );
        return LineVerdict::new(Effect::Fails, format!("{what}; take an ID and a path without spaces"));
    }
    let literal = unit.literals.iter().any(|literal| literal.id == *id);
    let published = prediction.is_some_and(|prediction| prediction.target.as_ref() == Some(path));
    let brings = brings(line, published);
    if let Some(failure) = brings {
        return LineVerdict::new(
            Effect::Fails,
            format!("{failure}, and the unit fails with 243/CREDENTIALS; {}", fix()),
        );
    }
    match leads_to {
        LeadsTo::PlainSocket | LeadsTo::SealedSocket => judge_request(machine, unit, line, prediction),
        LeadsTo::ResolverSocket => {
            LineVerdict::new(Effect::Fails, format!("{path} is not for units, and the unit fails; {}", fix()))
        }
        LeadsTo::OtherSocket => LineVerdict::new(
            Effect::Other,
            format!("{path} is a socket of another program, so onecred is never asked; {}", fix()),
        ),
        LeadsTo::DeadSocket => LineVerdict::new(
            Effect::Fails,
            format!(
                "{path} is a socket to which systemd cannot connect (no program accepts streams there), and the unit fails with 243/CREDENTIALS; {}",
                fix()
            ),
        ),
        LeadsTo::DirectoryOfSockets if machine.systemd < 262 => LineVerdict::new(
            Effect::Fails,
            format!(
                "{path} is a directory of sockets, to which systemd {} cannot connect, and the unit fails; {}",
                machine.systemd,
                fix()
            ),
        ),
        LeadsTo::DirectoryOfSockets | LeadsTo::Directory
            if purpose == Purpose::Beside && line.content == Content::Unknown =>
        {
            hidden(&format!("all of {path}"))
        }
        LeadsTo::DirectoryOfSockets | LeadsTo::Directory => LineVerdict::new(
            Effect::Without,
            format!(
                "{path} is a directory: the unit starts with a credential {id}_NAME for each entry and none called {id}; {}",
                fix()
            ),
        ),
        LeadsTo::File if published => LineVerdict::RIGHT,
        LeadsTo::File | LeadsTo::Store(true)
            if *directive == Directive::Encrypted && line.content == Content::Unknown =>
        {
            LineVerdict::new(
                Effect::Unknown,
                format!("whether systemd can decrypt {path} is only known to root; run this as root"),
            )
        }
        LeadsTo::File => LineVerdict::new(
            Effect::Other,
            format!(
                "the unit starts with the content of the file {path}, and onecred is never asked; {}",
                fix()
            ),
        ),
        LeadsTo::Missing if literal => LineVerdict::new(
            Effect::Other,
            format!(
                "{path} does not exist, so the unit starts with the value of its SetCredential=; {}",
                fix()
            ),
        ),
        LeadsTo::Missing => LineVerdict::new(
            Effect::Fails,
            format!("{path} does not exist, and the unit fails with 243/CREDENTIALS; {}", fix()),
        ),
        LeadsTo::Store(true) => LineVerdict::new(
            Effect::Other,
            format!(
                "without a path, systemd loads {path} from its credential stores and never asks onecred; {}",
                fix()
            ),
        ),
        LeadsTo::Store(false) if literal => LineVerdict::new(
            Effect::Other,
            format!(
                "without a path, onecred is never asked and the unit starts with the value of its SetCredential=; {}",
                fix()
            ),
        ),
        LeadsTo::Store(false) => LineVerdict::new(
            Effect::Without,
            format!(
                "without a path, systemd searches its credential stores, which have no {path}, and starts the unit without the credential; {}",
                fix()
            ),
        ),
        LeadsTo::Unknown if !path.starts_with('/') => hidden("systemd's credential stores"),
        LeadsTo::Unknown => hidden(path),
    }
}

fn hidden(what: &str) -> LineVerdict {
    LineVerdict::new(Effect::Unknown, format!("this user cannot examine {what}; run this as root"))
}

/// Why the content of a line makes the unit fail.
fn brings(line: &CredentialLine, published: bool) -> Option<String> {
    let CredentialLine { directive, path, leads_to, .. } = line;
    match &line.content {
        _ if published && *directive == Directive::Encrypted => {
            Some(format!("the published file {path} is not encrypted"))
        }
        Content::Fails(what) => Some(what.clone()),
        Content::Credentials(all) if unit_totals::exceed(all, false) => {
            let size: usize = all.iter().fold(0, |sum, (_, size)| sum.saturating_add(*size));
            let what = if *leads_to == LeadsTo::Directory { "the files in " } else { "" };
            Some(format!(
                "{what}{path} {} {size} bytes, and systemd takes 1 MiB for a unit, IDs included",
                if what.is_empty() { "has" } else { "have" }
            ))
        }
        _ => None,
    }
}

/// Judges what counts only for the unit as a whole: settings that contain credentials, and the total size.
pub(super) fn judge_whole(
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
                    "whether systemd can decrypt the value of SetCredentialEncrypted={} is only known to root; run this as root",
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

fn unknown_import(import: &Import) -> LineVerdict {
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

/// Judges a line that leads to one of onecred's sockets for units.
fn judge_request(
    machine: Machine,
    unit: &Unit,
    line: &CredentialLine,
    prediction: Option<&Prediction>,
) -> LineVerdict {
    let sealed = line.leads_to == LeadsTo::SealedSocket;
    let asked = line.asked_id(machine);
    let bytes = unit.name.as_str().len() + asked.len();
    if bytes > Claim::MAX {
        return LineVerdict::new(
            Effect::Fails,
            format!(
                "unit name and ID have {bytes} bytes together, and systemd can ask for {} at most, so the unit fails with \
                 243/CREDENTIALS before onecred is asked; make the ID (as UNIT/ID in \"units\") or the unit's name {} shorter",
                Claim::MAX,
                show::count(bytes - Claim::MAX, "byte")
            ),
        );
    }
    let (listens, socket, start) = match sealed {
        // this socket cannot be started separately while onecred runs
        true => (machine.sealed_listens, "onecred-sealed.socket", "systemctl restart onecred.socket"),
        false => (machine.plain_listens, "onecred.socket", "systemctl enable --now onecred.socket"),
    };
    if !listens {
        return LineVerdict::new(
            Effect::Fails,
            format!("{socket} is not active, and the unit fails with 243/CREDENTIALS; start it: {start}"),
        );
    }
    let refusal = prediction.and_then(|prediction| match (&prediction.answer, prediction.allowed) {
        (_, false) => Some(prediction.reason.clone()),
        (PredictedAnswer::Refusal(_, message), true) => Some(message.clone()),
        _ => None,
    });
    let wrong_form = match (line.directive, sealed) {
        (Directive::Plain, true) => Some((
            Effect::Other,
            format!("{SEALED} answers with encrypted values, and the unit starts with that as its value"),
        )),
        (Directive::Encrypted, false) => Some((
            Effect::Fails,
            format!(
                "{PLAIN} answers with values that are not encrypted, and the unit fails with 243/CREDENTIALS"
            ),
        )),
        _ => None,
    };
    match (wrong_form, refusal) {
        (Some((effect, what)), refusal) => LineVerdict::new(
            if refusal.is_some() { Effect::Fails } else { effect },
            format!("{what}; {}", instead(Directive::Encrypted, &line.id)),
        ),
        (None, Some(refusal)) => LineVerdict::new(Effect::Fails, refusal),
        (None, None) => match prediction.map(|prediction| &prediction.answer) {
            Some(PredictedAnswer::Unknown) => LineVerdict::new(
                Effect::Unknown,
                "whether 1Password has it is only known after a lookup; run it as root, or: onecred refresh",
            ),
            _ => LineVerdict::RIGHT,
        },
    }
}

/// Why a unit cannot run, or cannot request credentials, whatever its lines are.
pub(super) fn judge_unit(machine: Machine, unit: &Unit) -> Option<LineVerdict> {
    let name = &unit.name;
    let fails = |what: String| Some(LineVerdict::new(Effect::Fails, what));
    match &unit.state {
        LoadState::NotFound(nearest) => {
            let hint =
                nearest.as_ref().map(|nearest| format!("; did you mean {nearest}?")).unwrap_or_default();
            return fails(format!("this machine has no unit {name}{hint}"));
        }
        LoadState::OfUsers => {
            return fails(format!(
                "{name} is a unit of user managers, which cannot reach onecred's sockets; make it a system unit with User="
            ));
        }
        LoadState::Masked => return fails(format!("{name} is masked; systemctl unmask {name}")),
        LoadState::Broken(state, error) => {
            return fails(format!(
                "systemd could not load {name} ({state}): {}; see: systemd-analyze verify {name}",
                error.trim_end_matches('.')
            ));
        }
        LoadState::Template => {
            let (prefix, suffix) = (name.prefix(), name.suffix());
            return fails(format!(
                "{name} is a template, which cannot run; name an instance: {prefix}@NAME.{suffix}"
            ));
        }
        LoadState::Loaded => {}
    }
    cannot_ask(machine, unit).map(|what| LineVerdict::new(Effect::Without, what))
}

/// Why units of this type cannot request credentials, and which can.
fn cannot_ask(machine: Machine, unit: &Unit) -> Option<String> {
    let (name, suffix) = (&unit.name, unit.name.suffix());
    let service = match unit.triggers.as_slice() {
        [] => "the service that needs the secret".to_owned(),
        triggers => triggers.join(", "),
    };
    match unit.exec().map(|exec| (exec, exec.asks())) {
        Some((_, Asks::Always)) => None,
        Some((_, Asks::Since(version))) if machine.systemd >= version => None,
        Some((_, Asks::Since(version))) => Some(format!(
            "{suffix} units ask for credentials since systemd {version}, and this machine has systemd {}, which starts {name} without them; \
             publish the secret as a file with \"target\"",
            machine.systemd
        )),
        Some((ExecType::Swap, Asks::Never)) => Some(
            "systemd ignores LoadCredential= in swap units; publish the secret as a file with \"target\""
                .to_owned(),
        ),
        Some((_, Asks::Never)) => {
            Some(format!("systemd ignores LoadCredential= in {suffix} units; move the line to {service}"))
        }
        None => {
            let article = if suffix.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
            Some(format!("{article} {suffix} unit cannot have credentials; the line belongs in {service}"))
        }
    }
}

/// The outcome of a unit's start for one credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct Judgement {
    /// The effect.
    pub(in crate::cli) effect: Effect,
    /// How the unit requests the credential.
    pub(in crate::cli) asks: String,
    /// Problems and remedies.
    pub(in crate::cli) problems: Vec<String>,
    /// Additional notes.
    pub(in crate::cli) notes: Vec<String>,
}

/// Judges a unit and one of its credentials. `of_line` returns the predicted answer to a line's request;
/// `own` is the predicted answer to this unit and ID by any line.
pub(super) fn judge(
    machine: Machine,
    unit: &Unit,
    id: &CredentialId,
    own: &Prediction,
    of_line: &dyn Fn(&CredentialLine) -> Option<Prediction>,
) -> Judgement {
    let line = unit.line(id, machine);
    let mut judgement = Judgement {
        effect: Effect::Gets,
        asks: line.map_or_else(|| "not at all".to_owned(), ToString::to_string),
        problems: Vec::new(),
        notes: notes(unit, own),
    };
    let mut add = |verdict: LineVerdict| {
        judgement.effect = judgement.effect.max(verdict.effect);
        judgement.problems.extend(verdict.problem);
    };
    if let Some(verdict) = judge_unit(machine, unit) {
        add(verdict);
        return judgement;
    }
    // values that were not looked up for such a unit are unknown
    let early = early(unit, own.needs_network)
        .filter(|_| line.is_some_and(CredentialLine::is_ours) && !own.fetched && own.allowed);
    let is_known = |verdict: &LineVerdict| early.is_none() || verdict.effect != Effect::Unknown;
    early.iter().for_each(|what| add(LineVerdict::new(Effect::Fails, what.as_str())));
    match line {
        Some(line) => {
            let prediction = of_line(line).unwrap_or_else(|| own.clone());
            Some(judge_line(machine, unit, line, Some(&prediction), Purpose::Asks))
                .filter(is_known)
                .into_iter()
                .for_each(&mut add);
        }
        None => add(no_line(unit, id)),
    }
    for other in unit.lines.iter().filter(|other| line.is_none_or(|line| line != *other)) {
        let purpose = if other.means_onecred() { Purpose::Asks } else { Purpose::Beside };
        let verdict = judge_line(machine, unit, other, of_line(other).as_ref(), purpose);
        let counts = matches!(verdict.effect, Effect::Fails | Effect::Unknown);
        if let (true, Some(problem)) = (counts && is_known(&verdict), verdict.problem) {
            add(LineVerdict::new(verdict.effect, format!("by its line {other}: {problem}")));
        }
    }
    judge_whole(machine, unit, of_line).into_iter().chain(environment(unit)).for_each(&mut add);
    judgement
}

fn notes(unit: &Unit, own: &Prediction) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(alias) = &unit.alias {
        notes.push(format!("{alias} is an alias: the unit asks as {}", unit.name));
    }
    if unit.outdated {
        notes.push(OUTDATED.to_owned());
    }
    if let PredictedAnswer::Value(Some(stale)) = &own.answer {
        notes.push(format!("the value in memory may be out of date: {stale}"));
    }
    if let Some(what) = early(unit, own.needs_network).filter(|_| own.fetched && own.allowed) {
        notes.push(format!("at the next boot {what}"));
    }
    let skipped = unit.environment.iter().filter(|file| file.optional && is_own_credential(unit, &file.path));
    notes.extend(skipped.map(|file| {
        format!(
            "EnvironmentFile=-{} is skipped, since systemd reads it before it sets up credentials; {BY_RUN}",
            file.path
        )
    }));
    notes
}

const OUTDATED: &str = "the unit's files have changed since systemd loaded them: systemctl daemon-reload";
const BY_RUN: &str = "have onecred run set variables, or the program read the file";

/// The outcome for an ID that no line of the unit loads.
pub(super) fn no_line(unit: &Unit, id: &CredentialId) -> LineVerdict {
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
        others => format!(" (it asks onecred for {})", others.join(", ")),
    };
    without(format!(
        "{} has no line for it that systemd has loaded{others}; add one by onecred add, then: systemctl daemon-reload{outdated}",
        unit.name
    ))
}

/// Describes a line that systemd ignores, with the corrected line.
pub(super) fn ignored_text(ignored: &super::facts::Ignored) -> String {
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

/// Whether a path is in the unit's own credential directory, which exists only after the unit has its
/// credentials.
fn is_own_credential(unit: &Unit, path: &str) -> bool {
    let directory =
        path.strip_prefix("/run/credentials/").and_then(|rest| rest.strip_prefix(unit.name.as_str()));
    directory.is_some_and(|rest| rest.starts_with('/'))
}

/// Judges `EnvironmentFile=` lines that make the unit fail, or may.
pub(super) fn environment(unit: &Unit) -> Vec<LineVerdict> {
    let required = unit.environment.iter().filter(|file| !file.optional);
    let fails = |what: String| Some(LineVerdict::new(Effect::Fails, what));
    let verdicts = required.filter_map(|file| match is_own_credential(unit, &file.path) {
        true => fails(format!(
            "EnvironmentFile={} is read before systemd sets up credentials, and the unit fails; {BY_RUN}",
            file.path
        )),
        false => match &file.found {
            EnvironmentFiles::Nothing if file.path.contains(['*', '?', '[']) => fails(format!(
                "EnvironmentFile={0} matches no file, and the unit fails; create one, or write EnvironmentFile=-{0} if there may be none",
                file.path
            )),
            EnvironmentFiles::Nothing => fails(format!(
                "EnvironmentFile={0} does not exist, and the unit fails; create it, or write EnvironmentFile=-{0} if it may be missing",
                file.path
            )),
            EnvironmentFiles::Directory(path) => fails(format!(
                "EnvironmentFile={}: {path} is a directory, and the unit fails; name files, for example {path}/*.env",
                file.path
            )),
            EnvironmentFiles::Unknown => Some(hidden(&format!("EnvironmentFile={}", file.path))),
            EnvironmentFiles::Files => None,
        },
    });
    verdicts.collect()
}

/// Why a unit that starts before onecred, or before the network that its secret needs, waits for itself.
pub(super) fn early(unit: &Unit, needs_network: bool) -> Option<String> {
    let early = unit.early.as_ref().filter(|early| early.holds_onecred || needs_network)?;
    let through = early.through.as_ref().map(|unit| format!(", through {unit}")).unwrap_or_default();
    let (waits, remedy) = match early.holds_onecred {
        true => ("onecred", "order it after onecred.socket alone"),
        false => ("1Password and so for the network", "order it after network-online.target"),
    };
    Some(format!(
        "{} waits for {waits}, which waits for it: it is ordered before {}{through}; {remedy}, or load this secret in another unit",
        unit.name, early.target
    ))
}

#[cfg(test)]
mod tests;
