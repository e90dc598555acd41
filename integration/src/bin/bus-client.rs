//! Uses onecred's D-Bus interface as a service would: opens a value, follows a rotation, makes a thousand
//! calls at once.
//!
//! `open NAME` and `credential ID` write the value to standard output. `put NAME FILE` overrides the secret
//! with FILE. `follow NAME FILE` writes each value to FILE, sends READY=1 after the first, and continues
//! until it is killed. `storm COUNT NAME` refreshes NAME that many times at once.
//! `flood large|bodies|descriptors|many` requests what it may not have, in messages of 30 MiB, in many messages
//! of 900 KiB, in many with 16 descriptors, or as often as the bus accepts without waiting for an answer.
//! `guess COUNT` asks for that many credentials with invented IDs, and prints how often each answer came, and the
//! last one. `hoard COUNT NAME` opens a value that many times and prints how many memory files there are.
//! `time COUNT list|explain` prints the median duration of that many calls in microseconds. `poll` makes a
//! hundred calls per second until it is killed.
use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    error::Error,
    fs::{self, File},
    io::{self, Read, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{fs::MetadataExt, net::UnixDatagram},
    },
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use zbus::{Connection, proxy};

type Outcome = (String, String, u64, String, String);

#[proxy(
    interface = "org.onecred.Credentials1.Manager",
    default_service = "org.onecred.Credentials1",
    default_path = "/org/onecred/Credentials1"
)]
trait Manager {
    fn open(&self, name: &str) -> zbus::Result<zbus::OwnedFd>;
    fn open_credential(&self, credential: &str) -> zbus::Result<zbus::OwnedFd>;
    fn put(&self, name: &str, value: zbus::Fd<'_>) -> zbus::Result<()>;
    fn refresh(&self, names: &[&str], flags: u64) -> zbus::Result<Vec<Outcome>>;
    fn explain(&self, unit: &str, credential: &str) -> zbus::Result<(bool, String, String, String)>;
    #[zbus(signal)]
    fn changed(&self, name: &str, version: u64) -> zbus::Result<()>;
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let connection = Connection::system().await?;
    let manager = ManagerProxy::new(&connection).await?;
    match words[..] {
        ["open", name] => Ok(io::stdout().write_all(&read(manager.open(name).await?)?)?),
        ["credential", id] => Ok(io::stdout().write_all(&read(manager.open_credential(id).await?)?)?),
        ["put", name, file] => Ok(manager.put(name, OwnedFd::from(File::open(file)?).into()).await?),
        ["follow", name, file] => follow(&manager, name, file).await,
        ["storm", count, name] => storm(count.parse()?, name).await,
        ["time", count, what] => time(&manager, count.parse()?, what).await,
        ["flood", kind] => flood(kind).await,
        ["guess", count] => guess(&manager, count.parse()?).await,
        ["hoard", count, name] => hoard(&manager, count.parse()?, name).await,
        ["poll"] => {
            let mut often = tokio::time::interval(Duration::from_millis(10));
            loop {
                often.tick().await;
                manager.explain("app", "secret-5").await?;
            }
        }
        _ => Err("usage: bus-client open|credential|follow|storm|time|poll …".into()),
    }
}

fn read(fd: impl Into<OwnedFd>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::from(fd.into()).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What a service does to follow its secret: subscribe, read, and read again after each change.
async fn follow(manager: &ManagerProxy<'_>, name: &str, file: &str) -> Result<(), Box<dyn Error>> {
    let mut changes = manager.receive_changed().await?;
    loop {
        let value = read(manager.open(name).await?)?;
        let unfinished = format!("{file}.new");
        fs::write(&unfinished, value)?;
        fs::rename(&unfinished, file)?;
        if let Some(service_manager) = env::var_os("NOTIFY_SOCKET") {
            UnixDatagram::unbound()?.send_to(b"READY=1", service_manager)?;
        }
        loop {
            let change = changes.next().await.ok_or("the bus has gone")?;
            if change.args()?.name == name {
                break;
            }
        }
    }
}

/// Makes as many calls at once as possible: a bus limits the number of pending answers per connection.
async fn storm(count: usize, name: &str) -> Result<(), Box<dyn Error>> {
    const EACH: usize = 100;
    let mut calls = Vec::new();
    for begun in (0..count).step_by(EACH) {
        let manager = ManagerProxy::new(&Connection::system().await?).await?;
        for _ in begun..count.min(begun + EACH) {
            let (manager, names) = (manager.clone(), [name]);
            calls.push(async move { manager.refresh(&names, 1).await });
        }
    }
    let outcomes = futures_util::future::join_all(calls).await;
    let done = outcomes.iter().filter(|outcome| outcome.as_ref().is_ok_and(|o| o[0].1 != "failed")).count();
    println!("{done} of {count}");
    Ok(())
}

/// Asks for credentials that no unit has, a number of them at once.
async fn guess(manager: &ManagerProxy<'_>, count: usize) -> Result<(), Box<dyn Error>> {
    const AT_ONCE: usize = 50;
    let (mut answers, mut last) = (BTreeMap::<String, usize>::new(), String::new());
    let names: Vec<String> = (0..count).map(|n| format!("invented-{n}")).collect();
    for names in names.chunks(AT_ONCE) {
        let calls = names.iter().map(|name| manager.open_credential(name));
        for answer in futures_util::future::join_all(calls).await {
            let answer = match answer {
                Ok(_) => "a value".to_owned(),
                Err(zbus::Error::MethodError(name, message, _)) => {
                    last = message.unwrap_or_default();
                    name.to_string()
                }
                Err(error) => return Err(error.into()),
            };
            *answers.entry(answer).or_default() += 1;
        }
    }
    println!("{answers:?}\n{last}");
    Ok(())
}

/// Opens a value many times and keeps all descriptors.
async fn hoard(manager: &ManagerProxy<'_>, count: usize, name: &str) -> Result<(), Box<dyn Error>> {
    let mut files = Vec::new();
    let (mut inodes, mut values) = (BTreeSet::new(), BTreeSet::new());
    for _ in 0..count {
        let mut file = File::from(OwnedFd::from(manager.open(name).await?));
        let mut value = Vec::new();
        file.read_to_end(&mut value)?;
        inodes.insert(file.metadata()?.ino());
        values.insert(value.len());
        files.push(file);
    }
    println!("{count} descriptors of {} memory files with values of {values:?} bytes", inodes.len());
    Ok(())
}

/// What a user does to deny service to others.
async fn flood(kind: &str) -> Result<(), Box<dyn Error>> {
    let (connections, calls, names) = match kind {
        "large" => (2, 2, vec!["x".repeat(251); 30 << 12]), // 256 bytes each
        "bodies" => (40, 2, vec!["x".to_owned(); 900 << 7]), // 8 bytes each
        "descriptors" => (40, 1, vec!["x".to_owned()]),
        "many" => (20, 500, vec!["x".to_owned()]),
        _ => return Err("flood large, bodies, descriptors or many".into()),
    };
    let null = File::open("/dev/null")?;
    let mut answers = Vec::new();
    for _ in 0..connections {
        let manager = ManagerProxy::new(&Connection::system().await?).await?;
        for _ in 0..calls {
            let (manager, names, null) = (manager.clone(), &names, &null);
            answers.push(async move {
                if kind == "descriptors" {
                    // the bus drops some without an answer, as too many descriptors are on their way
                    for _ in 0..16 {
                        let descriptors: Vec<zbus::Fd<'_>> = (0..16).map(|_| null.as_fd().into()).collect();
                        let put = ("password", descriptors);
                        manager.inner().call_noreply("Put", &put).await?;
                    }
                }
                manager.inner().call_method("Refresh", &(names, 1_u64)).await.map(drop)
            });
        }
    }
    let answers = futures_util::future::join_all(answers).await;
    let words = answers.iter().map(|answer| match answer {
        Ok(_) => "a call was allowed".to_owned(),
        Err(zbus::Error::MethodError(name, ..)) => name.to_string(),
        Err(error) => error.to_string(),
    });
    let words: BTreeSet<String> = words.collect();
    println!("{words:#?}");
    println!(
        "{}",
        if words.contains("a call was allowed") { "a call was allowed" } else { "no call was allowed" }
    );
    Ok(())
}

async fn time(manager: &ManagerProxy<'_>, count: usize, what: &str) -> Result<(), Box<dyn Error>> {
    let mut taken = Vec::with_capacity(count);
    for _ in 0..count {
        let began = Instant::now();
        match what {
            // only the raw answer: parsing it is up to the client
            "list" => drop(manager.inner().call_method("ListSecrets", &()).await?),
            "explain" => drop(manager.explain("app-500.service", "secret-500").await?),
            _ => return Err("time list or explain".into()),
        }
        taken.push(began.elapsed().as_micros());
    }
    taken.sort_unstable();
    println!("{}", taken[count / 2]);
    Ok(())
}
