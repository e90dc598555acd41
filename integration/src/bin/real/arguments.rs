//! The command line. It never contains a token, which comes from a file or a systemd credential.

use std::path::PathBuf;

use reqwest::Url;

/// The maximum number of calls that a run may make.
pub(crate) const MOST_CALLS: u32 = 40;
/// The minimum number of calls that produce a result.
const FEWEST_CALLS: u32 = 25;

pub(crate) const USAGE: &str = "\
usage: integration/real/run --vault NAME [--token-file FILE] [--connect URL] [OPTION]...

Compares a real 1Password with what onecred's tests assume of it. It only reads, makes at most 40 calls, and prints a
report without any value, name, title, label, URL or ID, which you can attach to a bug report.

  --vault NAME       the vault to look at, by its name or ID; a vault for tests with an item of each type shows most
  --token-file FILE  holds the token of a service account, or with --connect that of the Connect server; without it the
                     token is the systemd credential \"token\", $CREDENTIALS_DIRECTORY/token
  --connect URL      looks at this Connect server; without it at the service account that the token belongs to
  --ca-file FILE     a PEM file of certificate authorities to trust instead of the system's
  --insecure         allows plain http to another host than this one (Connect)
  --core FILE        1Password's SDK core, libop_uniffi_core.so (service account); integration/real/run fetches it
  --calls N          makes fewer calls than 40, at least 25
  --loopback         allows a service account's token for a fake on this host, as the tests use it

A service account pays for each call from its hourly and daily quota. A wrong token is sent once to a Connect server, and
never to a service account, which 1Password would lock.

exit status: 0 everything is as expected, 1 something differs, 2 wrong usage, 3 could not connect or log in
";

/// The parsed command line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Arguments {
    pub(crate) vault: String,
    pub(crate) token_file: Option<PathBuf>,
    pub(crate) connect: Option<Url>,
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) is_insecure: bool,
    pub(crate) core: Option<PathBuf>,
    pub(crate) calls: u32,
    pub(crate) is_loopback: bool,
}

/// Parses the command line; `None` if help was requested.
///
/// # Errors
///
/// Returns what is wrong. Does not repeat values, because one may be a token by mistake.
pub(crate) fn parse(mut words: impl Iterator<Item = String>) -> Result<Option<Arguments>, String> {
    let (mut vault, mut token_file, mut connect, mut ca_file, mut core) = (None, None, None, None, None);
    let (mut is_insecure, mut is_loopback, mut calls) = (false, false, MOST_CALLS);
    while let Some(option) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{option} needs a value"));
        match option.as_str() {
            "--vault" => vault = Some(value()?),
            "--token-file" => token_file = Some(PathBuf::from(value()?)),
            "--connect" => {
                connect = Some(
                    Url::parse(&value()?)
                        .map_err(|_| "--connect needs a URL such as https://connect.example:8443")?,
                )
            }
            "--ca-file" => ca_file = Some(PathBuf::from(value()?)),
            "--core" => core = Some(PathBuf::from(value()?)),
            "--insecure" => is_insecure = true,
            "--loopback" => is_loopback = true,
            "--calls" => {
                calls = value()?
                    .parse()
                    .ok()
                    .filter(|n| (FEWEST_CALLS..=MOST_CALLS).contains(n))
                    .ok_or("--calls needs a number from 25 to 40")?
            }
            "--help" | "-h" => return Ok(None),
            _ => {
                return Err(
                    "an argument is not known; a token is taken from --token-file or a credential only"
                        .into(),
                );
            }
        }
    }
    let vault = vault.filter(|name| !name.is_empty()).ok_or("--vault is missing")?;
    if let Some(url) = &connect {
        check_url(url, is_insecure)?;
    }
    Ok(Some(Arguments { vault, token_file, connect, ca_file, is_insecure, core, calls, is_loopback }))
}

fn check_url(url: &Url, is_insecure: bool) -> Result<(), String> {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let is_local = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    let has_more = !url.username().is_empty()
        || url.password().is_some()
        || url.query().is_some()
        || url.fragment().is_some();
    match url.scheme() {
        _ if has_more => Err("--connect has more than a scheme, a host, a port and a path".into()),
        "https" => Ok(()),
        "http" if is_local || is_insecure => Ok(()),
        "http" => Err("--connect is plain http to another host, which shows the token to the network; use https, or --insecure".into()),
        _ => Err("--connect is neither https nor http".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Option<Arguments>, String> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn command_lines() {
        let all = read(
            "--vault V --token-file /t --connect https://c.example --ca-file /ca --core /core --calls 30",
        )
        .unwrap()
        .unwrap();
        assert_eq!((all.vault.as_str(), all.calls, all.is_insecure), ("V", 30, false));
        assert_eq!(read("--vault V").unwrap().unwrap().calls, 40);
        assert_eq!(read("--vault V --help").unwrap(), None);
        assert!(read("--vault V --connect http://127.0.0.1:80").is_ok());
        assert!(read("--vault V --connect http://c.example --insecure").is_ok());
    }

    #[test]
    fn wrong_ones_are_not_repeated() {
        for line in [
            "",
            "--vault",
            "ops_canary",
            "--vault V ops_canary",
            "--vault V --token=ops_canary",
            "--vault V --calls 41",
            "--vault V --calls 24",
            "--vault V --calls ops_canary",
            "--vault V --connect ops_canary",
            "--vault V --connect http://canary.example",
            "--vault V --connect https://a:canary@c.example",
            "--vault V --connect ftp://canary.example",
        ] {
            let why = read(line).expect_err(line);
            assert!(!why.contains("canary"), "{why}");
        }
    }
}
