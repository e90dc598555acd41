//! `onecred refresh`: looks secrets up in 1Password now.

use std::collections::HashSet;
use std::error::Error;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use serde::Serialize;
use tokio::time::{Instant, interval};

use super::bus::{self, Bus, Fault, ManagerProxy, RefreshResult};
use super::common::causes;
use super::common::table::{Cell, Row, table};
use super::secrets;
use super::templates::TemplateStatus;
use crate::cli::common::show::{self, Paint};
use crate::ipc::version;

/// The number of secrets in one call: as many as the provider refreshes at the same time.
const A_CALL: usize = 64;

/// The flag to compare versions first.
const VERSIONS: u64 = 0;
/// The flag to fetch the values in any case.
const VALUES: u64 = 1;

/// The arguments of `onecred refresh`.
#[derive(Debug, Clone, clap::Args)]
pub struct RefreshArgs {
    /// The secrets or templates; all secrets if none is given
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
    /// Fetch the values even if their versions have not changed
    #[arg(long)]
    pub force: bool,
    /// Refresh nothing; show which units would be restarted or reloaded if these secrets had changed
    #[arg(long, conflicts_with = "force")]
    pub dry_run: bool,
    /// Print JSON, for programs
    #[arg(long)]
    pub json: bool,
}

/// The result for one secret or template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Refreshed {
    /// Its name.
    pub(super) name: String,
    /// `changed`, `unchanged` or `failed`.
    pub(super) outcome: String,
    /// The version of its item, if there is one: 1Password's number, or the time of the change.
    pub(super) version: Option<String>,
    /// Why it failed.
    pub(super) error: Option<Fault>,
    /// Why some units are refused the secret.
    pub(super) warning: Option<Fault>,
}

impl Refreshed {
    fn of((name, outcome, version, error, message): RefreshResult) -> Self {
        // its name is shown beside the message
        let message = message.strip_prefix(&format!("{name}: ")).map(str::to_owned).unwrap_or(message);
        let fault = Some(Fault { name: error, message }).filter(|fault| !fault.name.is_empty());
        let (error, warning) = if outcome == "failed" { (fault, None) } else { (None, fault) };
        let version = Some(version).filter(|version| *version > 0).map(version::text);
        Self { name, outcome, version, error, warning }
    }

    /// The result for a template, from its listed state.
    pub(super) fn of_template(template: &TemplateStatus) -> Self {
        let problem = template.problem().unwrap_or_default().to_owned();
        let error = template.error.as_ref().map(|error| Fault { message: problem.clone(), ..error.clone() });
        let too_large = || Fault { name: "org.onecred.Error.TooLarge".into(), message: problem };
        Self {
            name: template.name.clone(),
            outcome: if error.is_some() { "failed" } else { "unchanged" }.to_owned(),
            version: None,
            warning: template.sealed_error.as_ref().filter(|_| error.is_none()).map(|_| too_large()),
            error,
        }
    }
}

/// The failures, each with its name and message.
pub(super) fn failures(refreshed: &[Refreshed]) -> impl Iterator<Item = (&str, &str)> {
    refreshed.iter().filter_map(|one| Some((one.name.as_str(), one.error.as_ref()?.message.as_str())))
}

/// Runs the verb. Returns the exit code: 1 if any secret failed.
pub fn run(args: &RefreshArgs, out: &mut dyn Write, err: &mut dyn Write) -> Result<u8, Box<dyn Error>> {
    if args.dry_run {
        return would_be_told(args, out);
    }
    let flags = if args.force { VALUES } else { VERSIONS };
    let refreshed = bus::talk(async |bus| some(&bus, &args.names, flags, err).await)?;
    match args.json {
        true => show::json(out, &refreshed)?,
        false => write!(out, "{}", columns(&refreshed, Paint::of_stdout()))?,
    }
    out.flush()?;
    Ok(u8::from(refreshed.iter().any(|one| one.error.is_some())))
}

/// A measure for a unit.
#[derive(Debug, Serialize)]
struct Due {
    unit: String,
    /// `restart` or `reload`.
    measure: String,
    /// The secret that it is for.
    secret: String,
    /// Why it would be withheld.
    withheld: Option<String>,
}

fn would_be_told(args: &RefreshArgs, out: &mut dyn Write) -> Result<u8, Box<dyn Error>> {
    let names: Vec<&str> = args.names.iter().map(String::as_str).collect();
    let due = bus::talk(async |bus| Ok(bus.manager().await?.affected(&names).await?))?;
    let due: Vec<Due> = due
        .into_iter()
        .map(|(unit, measure, secret, withheld)| {
            let withheld = Some(withheld).filter(|reason| !reason.is_empty());
            Due { unit, measure, secret, withheld }
        })
        .collect();
    match args.json {
        true => show::json(out, &due)?,
        false => write!(out, "{}", told(&due, Paint::of_stdout()))?,
    }
    out.flush()?;
    Ok(0)
}

/// The measures for each unit in columns, then the reasons why some would be withheld.
fn told(due: &[Due], paint: Paint) -> String {
    if due.is_empty() {
        return "no running unit would be restarted or reloaded\n".to_owned();
    }
    let row = |due: &Due| {
        let withheld = if due.withheld.is_some() { Cell::red("withheld") } else { "".into() };
        let texts = [due.unit.as_str(), due.measure.as_str(), due.secret.as_str()];
        Row::new(texts.into_iter().map(Cell::from).chain([withheld]).collect())
    };
    let withheld = due.iter().filter_map(|due| Some((due.unit.as_str(), due.withheld.as_deref()?)));
    let causes = causes::group(withheld);
    let gap = if causes.is_empty() { "" } else { "\n" };
    format!(
        "{}{gap}{}\nbased on the values in memory; 1Password was not queried\n",
        table(&due.iter().map(row).collect::<Vec<_>>(), paint),
        causes::lines(&causes, paint)
    )
}

async fn some(bus: &Bus, names: &[String], flags: u64, err: &mut dyn Write) -> Result<Vec<Refreshed>, Fault> {
    let manager = bus.manager().await?;
    if !names.is_empty() {
        return these(&manager, names, flags, err).await;
    }
    match secrets::all(&manager).await {
        Ok(all) => {
            let names: Vec<String> = all.into_iter().map(|secret| secret.name).collect();
            these(&manager, &names, flags, err).await
        }
        // a user who may refresh may not be allowed to list secrets
        Err(fault) if fault.is_not_authorized() => {
            Ok(manager.refresh_all(flags).await?.into_iter().map(Refreshed::of).collect())
        }
        Err(fault) => Err(fault),
    }
}

/// Fetches all values, to check that each reference leads to one.
pub(super) async fn try_all(
    manager: &ManagerProxy<'_>,
    names: &[String],
    err: &mut dyn Write,
) -> Result<Vec<Refreshed>, Fault> {
    these(manager, names, VALUES, err).await
}

/// Updates templates by fetching the parts that are missing.
pub(super) async fn look_up(
    manager: &ManagerProxy<'_>,
    names: &[String],
    err: &mut dyn Write,
) -> Result<Vec<Refreshed>, Fault> {
    if names.is_empty() { Ok(Vec::new()) } else { these(manager, names, VERSIONS, err).await }
}

async fn these(
    manager: &ManagerProxy<'_>,
    names: &[String],
    flags: u64,
    err: &mut dyn Write,
) -> Result<Vec<Refreshed>, Fault> {
    let mut seen = HashSet::new();
    let names: Vec<&str> = names.iter().map(String::as_str).filter(|name| seen.insert(*name)).collect();
    let mut progress = Progress::new(names.len(), err);
    let mut refreshed = Vec::with_capacity(names.len());
    // comparing is one call for any number of secrets; fetching reports its progress
    let a_call = if flags == VERSIONS { names.len().max(1) } else { A_CALL };
    for call in names.chunks(a_call) {
        let outcomes = progress.during(refreshed.len(), manager.refresh(call, flags)).await;
        refreshed.extend(outcomes?.into_iter().map(Refreshed::of));
    }
    Ok(refreshed)
}

/// A progress line on a terminal, which is removed at the end.
struct Progress<'a> {
    of: usize,
    since: Instant,
    shown: bool,
    err: Option<&'a mut dyn Write>,
}

impl<'a> Progress<'a> {
    fn new(of: usize, err: &'a mut dyn Write) -> Self {
        let err = io::stderr().is_terminal().then_some(err);
        Self { of, since: Instant::now(), shown: false, err }
    }

    /// Waits for a future, and shows progress in the meantime.
    async fn during<T>(&mut self, done: usize, work: impl Future<Output = T>) -> T {
        self.show(done);
        let (mut work, mut tick) = (std::pin::pin!(work), interval(Duration::from_millis(250)));
        loop {
            tokio::select! {
                biased;
                ended = &mut work => return ended,
                _ = tick.tick() => self.show(done),
            }
        }
    }

    fn show(&mut self, done: usize) {
        let Some(err) = self.err.as_mut() else { return };
        let (of, time) = (show::count(self.of, "secret"), self.since.elapsed().as_secs());
        let _ = write!(err, "\r\x1b[Krefreshing: {done} of {of}, {time} s").and_then(|()| err.flush());
        self.shown = true;
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        if let (true, Some(err)) = (self.shown, self.err.as_mut()) {
            let _ = write!(err, "\r\x1b[K").and_then(|()| err.flush());
        }
    }
}

/// Why some units are refused secrets: each name with its message.
fn warnings(refreshed: &[Refreshed]) -> impl Iterator<Item = (&str, &str)> {
    refreshed.iter().filter_map(|one| Some((one.name.as_str(), one.warning.as_ref()?.message.as_str())))
}

/// The results in columns, then the failures and refusals.
fn columns(refreshed: &[Refreshed], paint: Paint) -> String {
    let row = |one: &Refreshed| {
        let outcome = match one.outcome.as_str() {
            "failed" => Cell::red("failed"),
            "changed" => Cell::bold("changed"),
            other => other.into(),
        };
        let what = one.version.as_ref().map(|version| format!("version {version}")).unwrap_or_default();
        Row::new(vec![one.name.as_str().into(), outcome, what.into()])
    };
    let rows: Vec<Row> = refreshed.iter().map(row).collect();
    if rows.is_empty() {
        return "no secrets are declared\n".into();
    }
    let causes = causes::group(failures(refreshed).chain(warnings(refreshed)));
    let gap = if causes.is_empty() { "" } else { "\n" };
    format!("{}{gap}{}", table(&rows, paint), causes::lines(&causes, paint))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcomes() -> Vec<Refreshed> {
        let outcome = |name: &str, word: &str, version, error: &str, message: &str| {
            Refreshed::of((name.into(), word.into(), version, error.into(), message.into()))
        };
        vec![
            outcome("db-password", "changed", 4, "", ""),
            outcome(
                "key",
                "failed",
                0,
                "org.onecred.Error.NotFound",
                "key: not found: no item \"key\"; make it",
            ),
            outcome(
                "other",
                "unchanged",
                9,
                "org.onecred.Error.TooLarge",
                "too large for the sealed socket: x",
            ),
        ]
    }

    #[test]
    fn what_came_of_each() {
        let expected = "\
db-password  changed    version 4
key          failed
other        unchanged  version 9

key: not found: no item \"key\"; make it
other: too large for the sealed socket: x
";
        assert_eq!(columns(&outcomes(), Paint::NONE), expected);
    }

    #[test]
    fn what_would_be_withheld() {
        let due = |unit: &str, withheld: Option<&str>| Due {
            unit: unit.into(),
            measure: "restart".into(),
            secret: "db".into(),
            withheld: withheld.map(str::to_owned),
        };
        let all = [due("app.service", Some("credential db: the field is empty")), due("web.service", None)];
        let expected = "\
app.service  restart  db  withheld
web.service  restart  db

app.service: credential db: the field is empty

based on the values in memory; 1Password was not queried
";
        assert_eq!(told(&all, Paint::NONE), expected);
        assert_eq!(told(&[], Paint::NONE), "no running unit would be restarted or reloaded\n");
    }

    #[test]
    fn for_programs() {
        let json = serde_json::to_value(outcomes()).unwrap();
        let failed = serde_json::json!({
            "name": "key", "outcome": "failed", "version": null,
            "error": { "name": "org.onecred.Error.NotFound", "message": "not found: no item \"key\"; make it" }, "warning": null,
        });
        assert_eq!(
            (&json[2]["error"], &json[2]["warning"]["name"]),
            (&serde_json::Value::Null, &"org.onecred.Error.TooLarge".into())
        );
        assert_eq!(json[1], failed);
        assert_eq!((&json[0]["version"], &json[0]["error"]), (&"4".into(), &serde_json::Value::Null));
    }
}
