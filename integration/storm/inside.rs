//! The parts that run in units of the machine: those that make requests continuously, check the credentials
//! of a start, or hold connections.

use super::{
    asker::{Asker, Form},
    out::{OUT, keep},
    outcome::{Counts, Outcome},
    values::{CREDENTIALS, NOBODYS, SEALED, all_ids, lot, next},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::{
    collections::BTreeMap,
    env, fs, io,
    path::Path,
    process::{Command, ExitCode, Stdio},
    thread,
    time::Duration,
};

/// How many requests each thread of a process makes: like the processes that systemd forks, it ends soon.
const BURST: usize = 100;

/// The requests and their results.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Asked {
    /// For secrets that the unit may have.
    pub allowed: Counts,
    /// For a secret that no unit may have: refused each time.
    pub denied: Counts,
    /// The highest version that was seen of each.
    pub seen: BTreeMap<String, u64>,
}

/// Runs one of the parts.
pub fn run(words: &[&str]) -> io::Result<ExitCode> {
    match words {
        ["askers", unit, form, threads, total, pause] => {
            askers(unit, form, threads, number(total), number(pause))?;
        }
        ["burst", unit, form, threads] => burst(unit, Form::parse(form), number(threads))?,
        ["check", unit, ids @ ..] => return Ok(ExitCode::from(check(unit, ids)?.code())),
        ["check-items", ids @ ..] => {
            return Ok(ExitCode::from(check_each(ids, super::units::judge)?.code()));
        }
        ["halves", unit, rounds] => super::halves::inside(unit, number(rounds))?,
        ["at-once", unit, id, count] => super::holder::at_once(unit, id, number(count) as usize)?,
        ["hold", unit, id, count] => super::holder::inside(unit, id, number(count) as usize)?,
        _ => return Err(io::Error::other(format!("there is no such thing to do: {}", words.join(" ")))),
    }
    Ok(ExitCode::SUCCESS)
}

fn number(word: &str) -> u64 {
    word.parse().unwrap_or_default()
}

/// Runs one asking process after another until this many requests are answered, and writes the sums to a
/// file.
fn askers(unit: &str, form: &str, threads: &str, total: u64, pause: u64) -> io::Result<()> {
    let mut sum = Asked::default();
    while sum.allowed.all() < total && !Path::new(OUT).join("enough").exists() {
        let mut child = Command::new(env::current_exe()?);
        child.args(["inside", "burst", unit, form, threads]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = child.spawn()?;
        serde_json::to_writer(child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?, &sum.seen)?;
        let output = child.wait_with_output()?;
        if !output.status.success() {
            return Err(io::Error::other(format!("those who ask: {}", output.status)));
        }
        let asked: Asked = serde_json::from_slice(&output.stdout)?;
        sum.allowed.add(&asked.allowed);
        sum.denied.add(&asked.denied);
        sum.seen.extend(asked.seen);
        keep(unit, &serde_json::to_vec(&sum)?)?;
        thread::sleep(Duration::from_millis(pause));
    }
    Ok(())
}

/// One process with some threads that make random requests.
fn burst(unit: &str, form: Form, threads: u64) -> io::Result<()> {
    let seen: BTreeMap<String, u64> = serde_json::from_reader(io::stdin())?;
    let mut sum = Asked::default();
    thread::scope(|scope| {
        let asking: Vec<_> =
            (0..threads).map(|_| scope.spawn(|| one_thread(unit, form, seen.clone()))).collect();
        for thread in asking {
            let asked = thread.join().map_err(|_| io::Error::other("one who asks panicked"))??;
            sum.allowed.add(&asked.allowed);
            sum.denied.add(&asked.denied);
            for (id, version) in asked.seen {
                let highest = sum.seen.entry(id).or_default();
                *highest = version.max(*highest);
            }
        }
        serde_json::to_writer(io::stdout(), &sum).map_err(Into::into)
    })
}

fn one_thread(unit: &str, form: Form, seen: BTreeMap<String, u64>) -> io::Result<Asked> {
    let mut asker = Asker::of(unit, form)?;
    let (mut asked, mut lot) = (Asked { seen, ..Asked::default() }, lot());
    // one process requests all of them, and gets at most what systemd accepts for a unit: one long value and
    // the short ones
    let (long, other) = if form == Form::Plain { ("long", SEALED) } else { (SEALED, "long") };
    let mut first: Vec<&str> = all_ids();
    first.retain(|id| *id != other);
    for n in 0..BURST {
        let id = match next(&mut lot) % 100 {
            // each of them once: from then on the provider knows all fields to fetch
            _ if n < first.len() => first[n],
            0 => NOBODYS,
            // long values are rare, because they take most of the time
            1..=4 => long,
            5..=9 => "more",
            10..=19 => "buffer",
            n => CREDENTIALS[(n % 4) as usize].0,
        };
        let least = asked.seen.get(id).copied().unwrap_or_default();
        let (outcome, version) = asker.ask(id, least)?;
        if id == NOBODYS {
            asked.denied.note(outcome);
            continue;
        }
        asked.allowed.note(outcome);
        if outcome == Outcome::Right {
            asked.seen.insert(id.to_owned(), version.max(least));
        }
    }
    Ok(asked)
}

/// Checks the credentials of a started unit. Returns the first result that is not right, or right.
fn check(unit: &str, ids: &[&str]) -> io::Result<Outcome> {
    check_each(ids, |id, got| Outcome::of(got, unit, id, 0))
}

fn check_each(ids: &[&str], judge: impl Fn(&str, &[u8]) -> Outcome) -> io::Result<Outcome> {
    let folder = env::var_os("CREDENTIALS_DIRECTORY").ok_or(io::ErrorKind::NotFound)?;
    for id in ids {
        let got = fs::read(Path::new(&folder).join(id))?;
        let outcome = judge(id, &got);
        if outcome != Outcome::Right {
            eprintln!("{}", json!({ "id": id, "outcome": outcome, "bytes": got.len() }));
            return Ok(outcome);
        }
    }
    Ok(Outcome::Right)
}
