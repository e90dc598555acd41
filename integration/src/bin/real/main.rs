//! Compares a real 1Password, a Connect server or a service account, with the assumptions of the fakes and
//! tests. See `arguments::USAGE`.

mod account;
mod account_expected;
mod arguments;
mod connect;
mod connect_expected;
mod fields;
mod finding;
mod item;
mod own;
mod shape;
mod words;

use std::env;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use nix::sys::resource::{Resource, setrlimit};
use onecred::config::{ServiceAccount, SourceKind};
use onecred::domain::secret::SecretValue;
use onecred::resolver::CallLimit;
use onecred::resolver::service_account::{Leniency, Surroundings, run_worker};
use serde_json::Value;
use zeroizing_alloc::ZeroAlloc;

use arguments::{Arguments, USAGE};
use finding::{Finding, Line, Report};
use item::text;
use own::Resolved;
use words::Words;

/// Wipes all memory when it is freed, because answers contain secrets.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<std::alloc::System> = ZeroAlloc(std::alloc::System);

/// Why a run ends without a report. The message contains nothing from an answer or the token.
#[derive(Debug)]
pub(crate) enum Ended {
    Usage(String),
    Unreachable(String),
}

fn main() -> ExitCode {
    if env::args().nth(1).as_deref() == Some("core-worker") {
        // the resolver starts this binary again to load the SDK core in it
        return if run_worker().is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0); // a core dump would contain secrets
    std::panic::set_hook(Box::new(|panic| {
        // without the message, which may quote an answer
        let at = panic.location().map(|at| format!("{}:{}", at.file(), at.line())).unwrap_or_default();
        let _ = writeln!(io::stderr(), "integration/real/run: internal error at {at}");
    }));
    let arguments = match arguments::parse(env::args().skip(1)) {
        Ok(Some(arguments)) => arguments,
        Ok(None) => return print(USAGE, ExitCode::SUCCESS),
        Err(why) => return end(&Ended::Usage(why)),
    };
    match run(&arguments) {
        Ok(report) => {
            print(&report.to_string(), if report.differs() { ExitCode::from(1) } else { ExitCode::SUCCESS })
        }
        Err(ended) => end(&ended),
    }
}

fn print(text: &str, code: ExitCode) -> ExitCode {
    if io::stdout().lock().write_all(text.as_bytes()).is_err() { ExitCode::from(2) } else { code }
}

fn end(ended: &Ended) -> ExitCode {
    let (why, code, more) = match ended {
        Ended::Usage(why) => (why, 2, "; see --help"),
        Ended::Unreachable(why) => (why, 3, ""),
    };
    let _ = writeln!(io::stderr(), "integration/real/run: {why}{more}");
    ExitCode::from(code)
}

fn run(arguments: &Arguments) -> Result<Report, Ended> {
    let token = read_token(arguments)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Ended::Unreachable(format!("the runtime can't start: {error}")))?;
    let report = runtime.block_on(look(arguments, &token));
    runtime.shutdown_background();
    report
}

/// Reads the token from the file or the credential.
fn read_token(arguments: &Arguments) -> Result<SecretValue, Ended> {
    let path = match (&arguments.token_file, env::var_os("CREDENTIALS_DIRECTORY")) {
        (Some(path), _) => path.clone(),
        (None, Some(directory)) => PathBuf::from(directory).join("token"),
        (None, None) => return Err(Ended::Usage(
            "the token is missing: name its file by --token-file, or pass the systemd credential \"token\""
                .into(),
        )),
    };
    let bytes = std::fs::read(path)
        .map_err(|error| Ended::Usage(format!("the token's file can't be read: {error}")))?;
    let bytes = zeroize::Zeroizing::new(bytes);
    match bytes.trim_ascii() {
        [] => Err(Ended::Usage("the token's file is empty".into())),
        token => Ok(SecretValue::new(token.to_vec())),
    }
}

async fn look(arguments: &Arguments, token: &SecretValue) -> Result<Report, Ended> {
    let limit = CallLimit::of(arguments.calls);
    let leniency =
        Leniency { owner: Some(nix::unistd::geteuid().as_raw()), insecure_loopback: arguments.is_loopback };
    let surroundings = Surroundings { leniency, limit: limit.clone(), ..Surroundings::default() };
    let mut words = Words::default();
    words.hide(&arguments.vault);
    let mut report = match &arguments.connect {
        Some(url) => look_at_connect(arguments, url, token, &surroundings, &mut words).await?,
        None => look_at_account(arguments, token, &surroundings, &mut words).await?,
    };
    let made = arguments.calls - limit.left().unwrap_or_default();
    report.head.push(format!("calls: {made} of at most {}", arguments.calls));
    Ok(report)
}

async fn look_at_connect(
    arguments: &Arguments,
    url: &reqwest::Url,
    token: &SecretValue,
    surroundings: &Surroundings,
    words: &mut Words,
) -> Result<Report, Ended> {
    let server = connect::Server::new(url, arguments.ca_file.as_deref(), token, surroundings.limit.clone())?;
    let mut evidence = connect::look(&server, &arguments.vault, words).await?;
    let vaults = evidence.json(connect::Step::Vaults).cloned().unwrap_or_default();
    let titles = titles(evidence.json(connect::Step::Items));
    let resolved = if evidence.is_limited {
        Resolved::default()
    } else {
        let kind = SourceKind::Connect {
            url: url.to_string(),
            insecure: arguments.is_insecure,
            users: Vec::new(),
            ca_file: arguments.ca_file.clone(),
        };
        let (questions, unwritable) =
            questions(&evidence.vault, &vaults, "name", &evidence.items, &titles, fields::CONNECT);
        resolve(kind, token, surroundings, questions, unwritable).await
    };
    connect::send_wrong_token(&server, &mut evidence, words).await;
    let (mut lines, mut also) = connect_expected::judge(&evidence, words);
    lines.extend(own::judge(&resolved));
    also.extend(besides(&titles, &evidence.items, &resolved));
    let head = vec![head("a Connect server")];
    Ok(Report { head, lines, also, fields: fields::table(fields::CONNECT, &evidence.items, words) })
}

async fn look_at_account(
    arguments: &Arguments,
    token: &SecretValue,
    surroundings: &Surroundings,
    words: &mut Words,
) -> Result<Report, Ended> {
    let configured = ServiceAccount {
        library: arguments.core.clone(),
        ca_file: arguments.ca_file.clone(),
        ..ServiceAccount::default()
    };
    let account = match account::log_in(token, &configured, surroundings).await {
        Ok(account) => account,
        Err(refusal) => return no_login(&refusal),
    };
    let mut evidence = account::look(&account, surroundings, &arguments.vault, words).await?;
    let vaults = evidence.json(account::Step::Vaults).cloned().unwrap_or_default();
    let titles = titles(evidence.json(account::Step::Items));
    let (mut questions, unwritable) =
        questions(&evidence.vault, &vaults, "title", &evidence.items, &titles, fields::CORE);
    account::resolve_officially(&account, surroundings, &questions, &mut evidence, words).await;
    drop(account); // its process ends
    if evidence.is_limited {
        questions.clear();
    }
    let resolved =
        resolve(SourceKind::ServiceAccount(configured), token, surroundings, questions, unwritable).await;
    let (mut lines, mut also) = account_expected::judge(&evidence, &resolved, words);
    lines.extend(own::judge(&resolved));
    also.extend(besides(&titles, &evidence.items, &resolved));
    let head = vec![head("a service account")];
    Ok(Report { head, lines, also, fields: fields::table(fields::CORE, &evidence.items, words) })
}

/// A limited or malformed login is a finding. Any other failed login ends the run and is not repeated.
fn no_login(refusal: &onecred::resolver::service_account::Refusal) -> Result<Report, Ended> {
    use onecred::ipc::Class;
    let class = refusal.failure.class;
    match class {
        Class::Limited => {
            let found = vec!["the login is rate limited; nothing more was asked".to_owned()];
            let line = Line { name: "account.rate-limit", claim: "no call is limited", finding: Finding::Differs(found) };
            Ok(Report { head: vec![head("a service account")], lines: vec![line], ..Report::default() })
        }
        Class::Malformed => {
            let found = vec!["what came for the login is malformed".to_owned()];
            let line = Line { name: "account.answers", claim: "the core brings what exists", finding: Finding::Differs(found) };
            Ok(Report { head: vec![head("a service account")], lines: vec![line], ..Report::default() })
        }
        Class::Misconfigured => Err(Ended::Usage("1Password's SDK core can't be loaded: name its file by --core".into())),
        Class::Denied if refusal.failure.is_malformed_token => Err(Ended::Usage("the token is not that of a service account at 1Password".into())),
        Class::Denied => Err(Ended::Unreachable("1Password does not accept the token; do not repeat this with the same token, because several failures lock an account".into())),
        class => Err(Ended::Unreachable(format!("no login: {}", class.as_str()))),
    }
}

fn head(what: &str) -> String {
    let manifest = include_str!("../../../../Cargo.toml"); // this crate has no version of its own
    let version = manifest.lines().find_map(|line| line.strip_prefix("version = "));
    format!("onecred {} compared with {what}", version.unwrap_or_default().trim_matches('"'))
}

fn titles(items: Option<&Value>) -> Vec<String> {
    items
        .map(item::list)
        .unwrap_or_default()
        .iter()
        .filter(|item| !matches!(item["state"].as_str(), Some("ARCHIVED" | "DELETED")))
        .map(|item| text(&item["title"]))
        .collect()
}

fn questions(
    vault: &Value,
    vaults: &Value,
    key: &str,
    items: &[item::Item],
    titles: &[String],
    kinds: &[fields::Kind],
) -> (Vec<own::Question>, usize) {
    let (id, name) = (text(&vault["id"]), text(&vault[key]));
    let same =
        item::list(vaults).iter().filter(|other| text(&other[key]).eq_ignore_ascii_case(&name)).count();
    own::questions((&id, &name, same == 1), items, titles, kinds)
}

async fn resolve(
    kind: SourceKind,
    token: &SecretValue,
    surroundings: &Surroundings,
    questions: Vec<own::Question>,
    unwritable: usize,
) -> Resolved {
    match own::open(kind, token, surroundings) {
        Some(resolver) => own::resolve(resolver, questions, unwritable).await,
        None => Resolved::default(),
    }
}

fn besides(titles: &[String], items: &[item::Item], resolved: &Resolved) -> Vec<String> {
    let mut also = vec![format!("items in the list: {}, read: {}", titles.len(), items.len())];
    also.extend(fields::names(titles, items));
    also.extend(own::counts(resolved));
    also
}

/// The vault that the user has named, by its ID or by its name ignoring case.
pub(crate) fn pick(vaults: &[Value], key: &str, wanted: &str) -> Result<Value, Ended> {
    let by_id = vaults.iter().filter(|vault| vault["id"] == wanted).collect::<Vec<_>>();
    let by_name = || vaults.iter().filter(|vault| text(&vault[key]).eq_ignore_ascii_case(wanted)).collect();
    match *if by_id.is_empty() { by_name() } else { by_id } {
        [one] => Ok(one.clone()),
        [] => Err(Ended::Usage(format!(
            "none of the {} vaults that the token sees has the name or ID given by --vault",
            vaults.len()
        ))),
        _ => Err(Ended::Usage("several vaults have the name given by --vault: name one by its ID".into())),
    }
}
