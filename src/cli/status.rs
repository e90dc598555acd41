//! `onecred status`: on one screen, whether secrets can be had, and what is not as it should be.

use std::error::Error;
use std::io::Write;

use serde::Serialize;

use super::bus::{self, Bus, Fault};
use super::common::causes;
use super::common::sockets::{self, Socket};
use super::common::table::{Cell, Row, table};
use super::configuration::Configuration;
use super::secrets::{self, Listed};
use crate::cli::common::show::{self, Paint};
use crate::cli::creds_socket::{Finding, Level};
use crate::host::clock;
use crate::provider::publish;

/// What `onecred status` is told.
#[derive(Debug, Clone, clap::Args)]
pub struct StatusArgs {
    /// Print JSON, for programs
    #[arg(long)]
    pub json: bool,
}

/// What there is to see.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    version: String,
    /// Why nothing is served, where the configuration or the store can't be used.
    configuration_error: Option<String>,
    /// How the active configuration relates to the files.
    configuration: Option<Configuration>,
    /// Why units are refused every secret at the sealed socket: the host key cannot be used.
    sealing_error: Option<String>,
    /// Units that were refused or need such a unit, and are started again; none where the provider is older, or does not show it.
    recovery: Option<Recovery>,
    /// The units of onecred's sockets.
    sockets: Vec<Socket>,
    sources: Vec<Source>,
    secrets: Vec<Listed>,
    /// What is wrong with the socket through which hardened units decrypt sealed credentials.
    creds_socket: Option<Finding>,
    /// Where published files are still in a writable mount, and what that means.
    writable_mounts: Vec<String>,
}

/// How far units have been started again after an outage.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Recovery {
    /// How many are to be started again.
    waiting: u32,
    /// How many were.
    started: u32,
}

impl Recovery {
    async fn ask(manager: &bus::ManagerProxy<'_>) -> Option<Self> {
        let waiting = manager.units_to_recover().await.ok()?;
        Some(Self { waiting, started: manager.units_recovered().await.ok()? })
    }

    /// `37 units were started again, 463 wait for their secrets`, while there are any.
    fn line(&self) -> Option<String> {
        let units = |count| format!("{count} {}", if count == 1 { "unit waits" } else { "units wait" });
        match *self {
            Self { waiting: 0, .. } => None,
            Self { waiting, started: 0 } => Some(format!("{} to be started again", units(waiting))),
            Self { waiting, started } => {
                Some(format!("{} to be started again, after {started} that were", units(waiting)))
            }
        }
    }
}

/// How a source stands.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Source {
    name: String,
    /// `service-account`, `connect` or `file`.
    kind: String,
    /// `ready`, `no-token`, `limited` or `refused`; none where the resolver gives no answer.
    state: Option<String>,
    /// Why it could not be asked the last time.
    error: Option<String>,
    /// When it last answered with success, in seconds of the Unix epoch.
    last_success: Option<u64>,
    /// What it may cost, where calls are counted.
    quota: Option<Quota>,
}

/// What a source may cost.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Quota {
    calls_today: u32,
    budget: u32,
    left: u32,
    /// Until when it is left alone, in seconds of the Unix epoch.
    limited_until: Option<u64>,
}

impl Source {
    /// Whether it can be asked, as far as is known.
    fn is_fine(&self) -> bool {
        self.error.is_none() && self.state.as_deref() == Some("ready")
    }

    async fn of(source: &bus::SourceProxy<'_>) -> Result<Self, Fault> {
        let some = |text: String| Some(text).filter(|text| !text.is_empty());
        let at = |seconds: u64| Some(seconds).filter(|seconds| *seconds > 0);
        let budget = source.budget().await?;
        let quota = match budget {
            0 => None,
            _ => Some(Quota {
                calls_today: source.calls_today().await?,
                budget,
                left: source.left().await?,
                limited_until: at(source.limited_until().await?),
            }),
        };
        Ok(Self {
            name: source.name().await?,
            kind: source.kind().await?,
            state: some(source.state().await?),
            error: some(source.last_error().await?),
            last_success: at(source.last_success().await?),
            quota,
        })
    }
}

/// Shows it. Gives the exit code: 1 if units that start now would be refused, or the files of the configuration can't be used.
pub fn run(args: &StatusArgs, out: &mut dyn Write) -> Result<u8, Box<dyn Error>> {
    let status = bus::talk(ask)?;
    match args.json {
        true => show::json(out, &status)?,
        false => write!(out, "{}", screen(&status, clock::unix(), Paint::of_stdout()))?,
    }
    out.flush()?;
    Ok(u8::from(status.is_bad()))
}

impl Status {
    /// Whether units that start now would be refused, or could be as soon as a value is not in memory.
    fn is_bad(&self) -> bool {
        self.configuration_error.is_some()
            || self.configuration.as_ref().is_some_and(Configuration::is_bad)
            || self.creds_socket.as_ref().is_some_and(|finding| finding.level == Level::Error)
            || self.sealing_error.is_some()
            || self.sockets.iter().any(|socket| !socket.listens())
            || self.sources.iter().any(|source| !source.is_fine())
            || failing(&self.secrets).next().is_some()
            || self.secrets.iter().any(|secret| !secret.withheld.is_empty())
    }
}

async fn ask(bus: Bus) -> Result<Status, Fault> {
    let manager = bus.manager().await?;
    // first what can ask for a password: what comes after can't
    let (secrets, nothing) = match secrets::all(&manager).await {
        Err(fault) if fault.is_misconfigured() => (Vec::new(), Some(fault.message)),
        listed => (listed?, None),
    };
    let some = |text: String| Some(text).filter(|text| !text.is_empty());
    let configuration_error = match manager.configuration_error().await.map_err(Fault::from) {
        Err(fault) if !fault.is_not_authorized() => return Err(fault),
        told => told.ok().and_then(some).or(nothing), // a unit sees its own secrets and no more
    };
    let configuration = Configuration::ask(&manager).await;
    let sealing_error = manager.sealing_error().await.ok().and_then(some);
    let mut sources = Vec::new();
    for object in bus.sources().await? {
        let source = bus.source(&object).await?;
        match Source::of(&source).await {
            Ok(source) => sources.push(source),
            Err(fault) if !fault.is_not_authorized() => return Err(fault),
            Err(_) => {}
        }
    }
    let recovery = Recovery::ask(&manager).await;
    let (version, creds_socket) = (manager.version().await?, bus.creds_socket().await);
    let sockets = bus.sockets().await;
    Ok(Status {
        version,
        configuration_error,
        configuration,
        sealing_error,
        recovery,
        sockets,
        sources,
        secrets,
        creds_socket,
        writable_mounts: publish::old_mounts(),
    })
}

fn screen(status: &Status, now: u64, paint: Paint) -> String {
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
    let mut first = Cell::bold("sources");
    for source in &status.sources {
        rows.push(Row::new(vec![std::mem::replace(&mut first, "".into()), line(source, now)]));
    }
    rows.push(Row::new(vec![Cell::bold("secrets"), counts(&status.secrets).into()]));
    let mut first = Cell::bold("held");
    for secret in status.secrets.iter().filter(|secret| secret.held.is_some()) {
        let by = secret.held.as_deref().unwrap_or_default();
        let what = format!("{} ({by}); end that by: onecred release {0}", secret.name);
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

/// The secrets that units are refused: the name of each, and the message.
fn failing(secrets: &[Listed]) -> impl Iterator<Item = (&str, &str)> {
    let failing = secrets.iter().filter(|secret| secret.state == "failing" || secret.is_unusable());
    failing.map(|secret| (secret.name.as_str(), secret.error.as_ref().map_or("", |error| &error.message)))
}

/// One source on one line: whether it answers, and what it may still be asked for.
fn line(source: &Source, now: u64) -> Cell {
    let quota = source.quota.as_ref().map(|quota| quota.words(now)).unwrap_or_default();
    let trouble = match (&source.error, source.state.as_deref()) {
        (Some(error), _) => error.clone(),
        (None, None) => {
            "the resolver does not tell how it is; see: systemctl status onecred-resolver".to_owned()
        }
        (None, Some("ready")) => return format!("{}: no trouble{quota}", source.name).into(),
        (None, Some("no-token")) => "no token yet; run: onecred token set".to_owned(),
        (None, Some("limited")) => "its calls are limited".to_owned(),
        (None, Some(state)) => format!("{state}; see: onecred token check"),
    };
    Cell::red(&format!("{}: {trouble}{quota}", source.name))
}

impl Quota {
    /// `; 12 of 800 calls today`, and until when none is made.
    fn words(&self, now: u64) -> String {
        let wait = self.limited_until.and_then(|until| until.checked_sub(now)).filter(|wait| *wait > 0);
        let wait = wait.map(|wait| format!(", none for another {}", show::age(wait))).unwrap_or_default();
        format!("; {} of {} calls today{wait}", self.calls_today, self.budget)
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::secrets::tests::sample;

    const NOW: u64 = 1_764_061_200;

    fn status() -> Status {
        let (fine, gone) = ("default".to_owned(), "backup".to_owned());
        let away = Some("away: connect.example does not answer; start it".to_owned());
        let ready = || Some("ready".to_owned());
        let sources = vec![
            Source { name: fine, state: ready(), ..Source::default() },
            Source { name: gone, state: ready(), error: away, ..Source::default() },
        ];
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let (configuration_error, configuration, creds_socket) = (None, None, None);
        let (sockets, secrets) = (Vec::new(), sample());
        Status {
            version,
            configuration_error,
            configuration,
            sealing_error: None,
            recovery: None,
            sockets,
            sources,
            secrets,
            creds_socket,
            writable_mounts: Vec::new(),
        }
    }

    #[test]
    fn one_screen() {
        let version = env!("CARGO_PKG_VERSION");
        let expected = format!(
            "onecred  {version}
serves   yes
sources  default: no trouble
         backup: away: connect.example does not answer; start it
secrets  4: 1 fresh, 1 never fetched, 1 held, 1 failing
held     db-password (put); end that by: onecred release db-password
failing  api-key: not found: no item \"openai\"; make it
"
        );
        assert_eq!(screen(&status(), NOW, Paint::NONE), expected);
    }

    #[test]
    fn what_keeps_units_from_their_credentials_is_a_failure() {
        let source = |state: &str, error: Option<&str>| Source {
            name: "default".into(),
            state: Some(state.to_owned()).filter(|state| !state.is_empty()),
            error: error.map(str::to_owned),
            ..Source::default()
        };
        let fine = || Status {
            sources: vec![source("ready", None)],
            secrets: sample().into_iter().filter(|secret| secret.state != "failing").collect(),
            ..status()
        };
        let socket = |active_state: &str, unit_file_state: &str| Socket {
            unit: "onecred-sealed.socket".into(),
            active_state: active_state.into(),
            unit_file_state: unit_file_state.into(),
        };
        let finding = |level| Some(Finding { level, message: "m".into() });
        let too_large = Fault { name: "org.onecred.Error.TooLarge".into(), message: "m".into() };
        let unusable = Listed { state: "held".into(), error: Some(too_large), ..Listed::default() };
        let withheld = vec!["app.service: m".to_owned()];
        let withheld = Listed { state: "fresh".into(), withheld, ..Listed::default() };
        for (case, status, bad) in [
            ("all is well", fine(), false),
            (
                "a socket that is stopped",
                Status { sockets: vec![socket("inactive", "enabled")], ..fine() },
                true,
            ),
            (
                "one that is not enabled",
                Status { sockets: vec![socket("active", "disabled")], ..fine() },
                false,
            ),
            ("no token", Status { sources: vec![source("no-token", None)], ..fine() }, true),
            ("a token that is refused", Status { sources: vec![source("refused", None)], ..fine() }, true),
            ("calls that are limited", Status { sources: vec![source("limited", None)], ..fine() }, true),
            ("an outage", Status { sources: vec![source("ready", Some("away"))], ..fine() }, true),
            ("a resolver that does not answer", Status { sources: vec![source("", None)], ..fine() }, true),
            (
                "values that cannot be sealed",
                Status { sealing_error: Some("this host has no key; make one".into()), ..fine() },
                true,
            ),
            ("a failing secret", Status { secrets: sample(), ..fine() }, true),
            ("a restart that is withheld", Status { secrets: vec![withheld], ..fine() }, true),
            ("an override that is too large", Status { secrets: vec![unusable], ..fine() }, true),
            (
                "a configuration that can't be used",
                Status { configuration_error: Some("x".into()), ..fine() },
                true,
            ),
            ("a warning", Status { creds_socket: finding(Level::Warning), ..fine() }, false),
            ("an error", Status { creds_socket: finding(Level::Error), ..fine() }, true),
        ] {
            assert_eq!(status.is_bad(), bad, "{case}");
        }
    }

    #[test]
    fn one_cause_is_shown_once() {
        let message = "no token: source default has no token; set one with: onecred token set";
        let error = || Some(Fault { name: "org.onecred.Error.NoToken".into(), message: message.into() });
        let failing = |number: usize| Listed {
            name: format!("secret-{number:02}"),
            state: "failing".into(),
            error: error(),
            ..Listed::default()
        };
        let source = Source { name: "default".into(), error: Some(message.into()), ..Source::default() };
        let mut status = status();
        (status.sources, status.secrets) = (vec![source], (0..40).map(failing).collect());
        let one = screen(&status, NOW, Paint::NONE);
        let expected = "\
failing  40 secrets: the same as source default
         secret-00, secret-01, secret-02, secret-03, secret-04, secret-05,
         secret-06, secret-07 and 32 more
";
        assert!(one.ends_with(expected) && one.matches("no token:").count() == 1, "{one}");
        status.sources.clear();
        let one = screen(&status, NOW, Paint::NONE);
        assert!(one.contains("failing  40 secrets: no token:"), "{one}");
        assert!(one.lines().all(|line| line.len() <= 80), "{one}");
    }

    #[test]
    fn a_source_tells_what_it_may_still_be_asked_for() {
        let quota = |until| Quota { calls_today: 790, budget: 800, left: 10, limited_until: until };
        let said = |state: &str, quota| {
            let state = Some(state.to_owned()).filter(|state| !state.is_empty());
            line(&Source { name: "a".into(), state, quota, ..Source::default() }, NOW)
        };
        let text = |cell| table(&[Row::new(vec![cell])], Paint::NONE);
        assert_eq!(text(said("ready", Some(quota(None)))), "a: no trouble; 790 of 800 calls today\n");
        let limited = said("limited", Some(quota(Some(NOW + 600))));
        let expected = "a: its calls are limited; 790 of 800 calls today, none for another 10 min\n";
        assert_eq!(text(limited), expected);
        assert_eq!(
            text(said("ready", Some(quota(Some(NOW - 1))))),
            "a: no trouble; 790 of 800 calls today\n"
        );
        assert!(text(said("no-token", None)).contains("onecred token set"));
        assert!(text(said("", None)).contains("systemctl status onecred-resolver"));
    }

    #[test]
    fn units_that_are_to_be_started_again_are_a_line() {
        let line = |waiting, started| {
            let recovery = Some(Recovery { waiting, started });
            let screen = screen(&Status { recovery, ..status() }, NOW, Paint::NONE);
            screen.lines().find_map(|line| line.strip_prefix("recovery  ").map(str::to_owned))
        };
        assert_eq!(line(0, 500), None);
        assert_eq!(line(1, 0).as_deref(), Some("1 unit waits to be started again"));
        assert_eq!(line(463, 37).as_deref(), Some("463 units wait to be started again, after 37 that were"));
    }

    #[test]
    fn a_restart_that_is_withheld_is_a_line() {
        let mut status = status();
        status.secrets[3].withheld = vec!["app.service: credential db: empty".into()];
        let shown = screen(&status, NOW, Paint::NONE);
        assert!(shown.ends_with("\nwithheld  app.service: credential db: empty\n"), "{shown}");
    }

    #[test]
    fn what_serves_nothing_says_so() {
        let mut status = status();
        status.configuration_error = Some("/etc/onecred/secrets.json:1:1: error: x".into());
        (status.secrets, status.sources) = (Vec::new(), Vec::new());
        status.version = "9.9.9".into();
        let screen = screen(&status, NOW, Paint::NONE);
        assert!(screen.contains("serves   nothing: /etc/onecred/secrets.json:1:1: error: x\n"), "{screen}");
        assert!(screen.contains("9.9.9 (this program is ") && screen.contains("secrets  none\n"), "{screen}");
    }

    #[test]
    fn files_that_are_not_loaded_are_a_line() {
        let mut status = status();
        let error = Some("/etc/onecred/secrets.json:3:5: error: x".to_owned());
        status.configuration =
            Some(Configuration { state: "rejected".into(), error, loaded: Some(NOW - 60) });
        let said = screen(&status, NOW, Paint::NONE);
        let expected = "serves   yes\nconfig   /etc/onecred/secrets.json:3:5: error: x\n         the configuration of 08:59 UTC stays active\n";
        assert!(said.contains(expected), "{said}");
        let json = serde_json::to_value(&status).unwrap();
        assert_eq!(json["configuration"]["state"], "rejected");
        assert_eq!(json["configurationError"], serde_json::Value::Null, "something is served");
    }

    #[test]
    fn the_limits_of_systemds_socket_are_shown() {
        let mut status = status();
        let message = "systemd-creds.socket allows too few connections; do this".to_owned();
        status.creds_socket = Some(Finding { level: Level::Warning, message });
        let screen = screen(&status, NOW, Paint::NONE);
        assert!(
            screen.contains("\nsystemd  systemd-creds.socket allows too few connections; do this\n"),
            "{screen}"
        );
        let json = serde_json::to_value(&status).unwrap();
        assert_eq!(json["credsSocket"]["level"], "warning");
    }

    #[test]
    fn programs_get_all_of_it() {
        let json = serde_json::to_value(status()).unwrap();
        assert_eq!(json["configurationError"], serde_json::Value::Null);
        assert_eq!(json["sources"][1]["error"], "away: connect.example does not answer; start it");
        assert_eq!(json["secrets"][0]["name"], "api-key");
    }
}
