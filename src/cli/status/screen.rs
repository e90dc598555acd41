//! The status as text for people.

use super::source::SourceStatus;
use super::{Recovery, Status, failing};
use crate::cli::common::show::Paint;
use crate::cli::common::table::{Cell, Row, table};
use crate::cli::common::{causes, sockets};
use crate::cli::creds_socket::Finding;
use crate::cli::secrets::Listed;

pub(super) fn screen(status: &Status, now: u64, paint: Paint) -> String {
    let mut rows = vec![Row::new(vec![Cell::bold("onecred"), version(&status.version).into()])];
    rows.push(Row::new(match &status.configuration_error {
        None => vec![Cell::bold("serves"), "yes".into()],
        Some(why) => {
            vec![Cell::bold("serves"), Cell::red(&format!("nothing: {why}"))]
        }
    }));
    let mut first = Cell::bold("config");
    if let Some(stands) = &status.configuration {
        for problem in stands.problem(now) {
            let problem = if stands.is_bad() { Cell::red(&problem) } else { Cell::bold(&problem) };
            rows.push(Row::new(vec![std::mem::replace(&mut first, "".into()), problem]));
        }
    }
    let row = |finding: &Finding| Row::new(vec![Cell::bold("systemd"), Cell::red(&finding.message)]);
    rows.extend(status.creds_socket.iter().map(row));
    let mut first = Cell::bold("files");
    for mount in &status.writable_mounts {
        rows.push(Row::new(vec![std::mem::replace(&mut first, "".into()), Cell::bold(mount)]));
    }
    let mut first = Cell::bold("sockets");
    for problem in sockets::problems(&status.sockets) {
        rows.push(Row::new(vec![std::mem::replace(&mut first, "".into()), Cell::red(&problem)]));
    }
    rows.extend(status.sealing_error.iter().map(|why| Row::new(vec![Cell::bold("sealing"), Cell::red(why)])));
    rows.extend(status.keeper_error.iter().map(|why| Row::new(vec![Cell::bold("keeper"), Cell::red(why)])));
    let mut first = Cell::bold("sources");
    for source in &status.sources {
        rows.push(Row::new(vec![std::mem::replace(&mut first, "".into()), line(source, now)]));
        rows.extend(source.spenders_line().map(|line| Row::new(vec!["".into(), line.as_str().into()])));
    }
    rows.push(Row::new(vec![Cell::bold("secrets"), counts(&status.secrets).into()]));
    let mut first = Cell::bold("held");
    for secret in status.secrets.iter().filter(|secret| secret.held.is_some()) {
        let by = secret.held.as_deref().unwrap_or_default();
        let what = format!("{} ({by}); to remove the override: onecred release {0}", secret.name);
        rows.push(Row::new(vec![std::mem::replace(&mut first, "".into()), Cell::bold(&what)]));
    }
    let mut first = Cell::bold("failing");
    for cause in causes::group(failing(&status.secrets)) {
        let source = status.sources.iter().find(|source| source.error.as_deref() == Some(cause.message));
        let headline = match source {
            Some(source) => cause.headline_of(&format!("the same as source {}", source.name)),
            None => cause.headline(),
        };
        let row = Row::new(vec![std::mem::replace(&mut first, "".into()), Cell::red(&headline)]);
        rows.push(row);
        rows.extend(cause.which().map(|which| Row::new(vec!["".into(), which.into()])));
    }
    let recovery = status.recovery.as_ref().and_then(Recovery::line);
    rows.extend(recovery.map(|line| Row::new(vec![Cell::bold("recovery"), Cell::bold(&line)])));
    let mut first = Cell::bold("withheld");
    for withheld in status.secrets.iter().flat_map(|secret| &secret.withheld) {
        rows.push(Row::new(vec![std::mem::replace(&mut first, "".into()), Cell::red(withheld)]));
    }
    table(&rows, paint)
}

/// A source in one line: whether it answers, and its remaining budget.
pub(super) fn line(source: &SourceStatus, now: u64) -> Cell {
    let quota = source.quota.as_ref().map(|quota| quota.words(now)).unwrap_or_default();
    let trouble = match (&source.error, source.state.as_deref()) {
        (Some(error), _) => error.clone(),
        (None, None) => "the resolver does not answer; see: systemctl status onecred-resolver".to_owned(),
        (None, Some("ready")) => return format!("{}: no trouble{quota}", source.name).into(),
        (None, Some("no-token")) => "no token yet; run: onecred token set".to_owned(),
        (None, Some("limited")) => "its calls are limited".to_owned(),
        (None, Some(state)) => format!("{state}; see: onecred token check"),
    };
    Cell::red(&format!("{}: {trouble}{quota}", source.name))
}

fn version(running: &str) -> String {
    let this = env!("CARGO_PKG_VERSION");
    match running == this {
        true => running.to_owned(),
        false => format!("{running} (this program is {this}: systemctl restart onecred)"),
    }
}

/// `12: 9 fresh, 2 stale, 1 failing`.
fn counts(secrets: &[Listed]) -> String {
    let of = |state: &str| secrets.iter().filter(|secret| secret.state == state).count();
    let states = ["fresh", "stale", "never-fetched", "held", "failing"];
    let counted: Vec<String> = states
        .iter()
        .map(|state| (of(state), state))
        .filter(|(count, _)| *count > 0)
        .map(|(count, state)| format!("{count} {}", state.replace('-', " ")))
        .collect();
    if secrets.is_empty() { "none".into() } else { format!("{}: {}", secrets.len(), counted.join(", ")) }
}
