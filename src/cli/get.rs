//! `onecred get NAME`: reads a secret's value over D-Bus. `onecred get --as UNIT ID`: reads it from a
//! credential socket, as systemd would.

use std::error::Error;
use std::io::{self, IsTerminal, Read, Write};
use std::net::Shutdown;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::{Path, PathBuf};

use super::bus;
use crate::domain::name::{Claim, CredentialId, SecretName, UnitName};
use crate::domain::secret::SecretValue;
use crate::host::sys;
use crate::ipc::packet;
use crate::provider::request::reply::REFUSED;

/// The maximum number of bytes that systemd accepts. A longer answer is a refusal.
const SYSTEMD_TAKES: usize = 1 << 20;

/// The arguments of `onecred get`.
#[derive(Debug, Clone, clap::Args)]
pub struct GetArgs {
    /// The secret's name; with --as the credential's ID, as in LoadCredential=ID:PATH
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Request the credential from the socket as this unit. The system's provider accepts this only from
    /// processes of the unit
    #[arg(long = "as", value_name = "UNIT")]
    pub unit: Option<String>,
    /// The credential socket
    #[arg(long, value_name = "PATH", default_value = "/run/onecred/credential.sock", requires = "unit")]
    pub socket: PathBuf,
}

/// The answer of a socket.
#[derive(Debug)]
enum SocketAnswer {
    /// The value.
    Value(SecretValue),
    /// A refusal with its reason.
    Refused(String),
}

/// Writes the value to standard output.
pub fn run(args: &GetArgs, out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    super::serve::harden();
    let value = match &args.unit {
        None => open(&SecretName::parse(&args.name)?)?,
        Some(unit) => {
            let unit = UnitName::parse_lenient(unit)?;
            let credential = CredentialId::parse(&args.name)?;
            match ask(&args.socket, &unit, &credential)? {
                SocketAnswer::Value(value) => value,
                SocketAnswer::Refused(reason) => {
                    return Err(format!("credential {credential} for {unit} refused: {reason}").into());
                }
            }
        }
    };
    show(&value, io::stdout().is_terminal(), out)
}

/// Requests the value over D-Bus, which passes it in a memfd.
fn open(name: &SecretName) -> Result<SecretValue, Box<dyn Error>> {
    let file = bus::talk(async |bus| Ok(bus.manager().await?.open(name.as_str()).await?))?;
    let value = packet::read_values(file.into());
    Ok(value.map_err(|error| format!("{name}: the value from onecred can't be read: {error}"))?)
}

/// Writes the value unchanged. On a terminal, adds a line break, and refuses control characters that the
/// terminal would interpret.
fn show(value: &SecretValue, on_terminal: bool, out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    let bytes = value.expose(); // exposed: the user asked for it
    if on_terminal {
        let is_plain = |text: &str| !text.chars().any(|c| c.is_control() && c != '\n' && c != '\t');
        if !std::str::from_utf8(bytes).is_ok_and(is_plain) {
            return Err(
                "the value contains bytes that are not plain text, so it is not shown on a terminal; send it to a file or a program"
                    .into(),
            );
        }
    }
    out.write_all(bytes)?;
    if on_terminal && !bytes.ends_with(b"\n") {
        out.write_all(b"\n")?;
    }
    Ok(out.flush()?)
}

/// Asks as systemd does: binds the address that contains unit and credential ID, connects, sends nothing, and
/// reads until EOF.
fn ask(socket: &Path, unit: &UnitName, credential: &CredentialId) -> Result<SocketAnswer, Box<dyn Error>> {
    if unit.as_str().len() + credential.as_str().len() > Claim::MAX {
        return Err(format!(
            "unit name and credential ID have more than {} bytes together, the limit of systemd",
            Claim::MAX
        )
        .into());
    }
    let address = format!("{:016x}/unit/{unit}/{credential}", fastrand::u64(..));
    let address = SocketAddr::from_abstract_name(address)?;
    let mut stream = UnixStream::from(sys::connect_from(&address, socket).map_err(|error| {
        format!("can't connect to {}: {error}; is onecred.socket active?", socket.display())
    })?);
    stream.shutdown(Shutdown::Write)?;
    let mut bytes = Vec::with_capacity(4096);
    Read::by_ref(&mut stream).take(SYSTEMD_TAKES as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() <= SYSTEMD_TAKES {
        return Ok(SocketAnswer::Value(SecretValue::new(bytes)));
    }
    let first = bytes.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let reason = String::from_utf8_lossy(first);
    Ok(SocketAnswer::Refused(
        reason.strip_prefix(REFUSED).unwrap_or("the answer is larger than systemd accepts").to_owned(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(value: &[u8], on_terminal: bool) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        show(&SecretValue::new(value.to_vec()), on_terminal, &mut out).ok().map(|()| out)
    }

    #[test]
    fn a_value_is_written_as_it_is_and_ends_its_line_on_a_terminal() {
        assert_eq!(shown(b"hunter2", false).unwrap(), b"hunter2");
        assert_eq!(shown(b"\0\x1b[2J\xff", false).unwrap(), b"\0\x1b[2J\xff");
        assert_eq!(shown(b"hunter2", true).unwrap(), b"hunter2\n");
        assert_eq!(shown(b"two\nlines\n", true).unwrap(), b"two\nlines\n");
        assert_eq!(shown(b"\x1b[2J", true), None);
        assert_eq!(shown(b"\xff", true), None);
    }
}
