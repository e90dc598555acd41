//! A fake 1Password Connect server as a program; see `onecred_integration::fake_connect`.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;

use onecred_integration::fake_connect::{Options, serve_until, vault};
use tokio::signal::unix::{SignalKind, signal};

const USAGE: &str = "\
usage: fake-connect [--listen ADDRESS] [--token TOKEN] [--vault FILE] [--control SOCKET]
                    [--tls FOLDER [--name NAME]... [--tls-fault FAULT]]
       fake-connect --dump

  --listen ADDRESS   where to listen (127.0.0.1:0: any free port); the address is printed when ready
  --token TOKEN      the token that is right (fake-connect-token)
  --vault FILE       the data (the fixture)
  --control SOCKET   a Unix socket for control requests, as on /__fake/ of the port
  --tls FOLDER       speaks TLS; ca.pem in the folder is what clients shall trust
  --name NAME        a further name or address in the certificate
  --tls-fault FAULT  expired, not-yet-valid[=SECONDS], wrong-host, unknown-ca
  --dump             prints the whole fixture as a document for the file source
";

enum Verb {
    Serve(Box<Options>),
    Dump,
    Help,
}

fn main() -> ExitCode {
    let result = match parse(std::env::args().skip(1)) {
        Ok(Verb::Serve(options)) => serve(*options),
        Ok(Verb::Dump) => say(&vault::fixture().to_string()),
        Ok(Verb::Help) => say(USAGE.trim_end()),
        Err(why) => {
            let _ = writeln!(io::stderr(), "fake-connect: {why}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "fake-connect: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Verb, String> {
    let mut options = Options::default();
    while let Some(option) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{option} needs a value"));
        match option.as_str() {
            "--listen" => options.listen = value()?.parse().map_err(|error| format!("--listen: {error}"))?,
            "--token" => options.token = value()?,
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
    Ok(Verb::Serve(Box::new(options)))
}

fn serve(options: Options) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let ready = |address: SocketAddr| drop(say(&address.to_string()));
        let stopped = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        serve_until(options, ready, stopped).await
    })
}

fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}
