//! A fake as a program: its options, its main loop, and the line that prints its address.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

use super::start::{Options, serve_until};
use super::state::Service;
use super::{Control, vault};

const OPTIONS: &str = "
  --listen ADDRESS   where to listen (127.0.0.1:0: any free port); the address is printed when ready
  --vault FILE       the data (the fixture)
  --control SOCKET   a Unix socket for control requests, as on /__fake/ of the port
  --tls FOLDER       speaks TLS; ca.pem in the folder is what clients shall trust
  --name NAME        a further name or address in the certificate
  --tls-fault FAULT  expired, not-yet-valid[=SECONDS], wrong-host, unknown-ca
  --token TOKEN      the token that is right; of an account, the name that its keys are made from (fake-token)
  --token-file FILE  where to write the token that clients are given
  --sign-in URL      the address in an account's token, if not the one where the fake listens
  --dump             prints the whole fixture as a document for the file source
";

enum Verb {
    Serve(Box<Options>, Option<PathBuf>),
    Dump,
    Help,
}

/// The whole program: parses its arguments and serves until a signal ends it.
pub fn main<S: Service + Default>(name: &str) -> ExitCode {
    let usage = format!("usage: {name} [OPTION]...\n{OPTIONS}");
    let result = match parse(std::env::args().skip(1)) {
        Ok(Verb::Serve(options, token_file)) => serve::<S>(*options, token_file.as_deref()),
        Ok(Verb::Dump) => say(&vault::with_long_values(vault::fixture()).to_string()),
        Ok(Verb::Help) => say(usage.trim_end()),
        Err(why) => {
            let _ = write!(io::stderr(), "{name}: {why}\n{usage}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{name}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Verb, String> {
    let (mut options, mut token_file) = (Options::default(), None);
    while let Some(option) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{option} needs a value"));
        match option.as_str() {
            "--listen" => options.listen = value()?.parse().map_err(|error| format!("--listen: {error}"))?,
            "--token" => options.token = value()?,
            "--token-file" => token_file = Some(value()?.into()),
            "--sign-in" => options.sign_in = Some(value()?),
            "--vault" => {
                let path = value()?;
                let text = std::fs::read(&path).map_err(|error| format!("{path}: {error}"))?;
                options.document =
                    serde_json::from_slice(&text).map_err(|error| format!("{path}: {error}"))?;
            }
            "--control" => options.control = Some(value()?.into()),
            "--tls" => options.tls = Some(value()?.into()),
            "--name" => options.names.push(value()?),
            "--tls-fault" => options.tls_fault = Some(value()?.parse()?),
            "--dump" => return Ok(Verb::Dump),
            "--help" | "-h" => return Ok(Verb::Help),
            _ => return Err(format!("unknown option {option}")),
        }
    }
    Ok(Verb::Serve(Box::new(options), token_file))
}

fn serve<S: Service + Default>(options: Options, token_file: Option<&Path>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut told, failed) = (Ok(()), Notify::new());
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let ready = |address: SocketAddr, control: &Control| {
            let written = token_file.map_or(Ok(()), |path| std::fs::write(path, control.token()?));
            told = written.and_then(|()| say(&address.to_string()));
            if told.is_err() {
                failed.notify_one();
            }
        };
        let stopped = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                () = failed.notified() => {}
            }
        };
        serve_until::<S>(options, ready, stopped).await
    })?;
    told
}

fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}
