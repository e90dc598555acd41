//! `onecred get --as UNIT ID`: asks a credential socket as systemd would, to try and to measure.

use std::error::Error;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::{Path, PathBuf};

use crate::name::{Claim, CredentialId, UnitName};
use crate::provider::reply::REFUSED;
use crate::secret::SecretValue;
use crate::sys;

/// The most bytes that systemd takes, in bytes; a longer answer is a refusal.
const SYSTEMD_TAKES: usize = 1 << 20;

/// What `onecred get` is told.
#[derive(Debug, Clone, clap::Args)]
pub struct GetArgs {
    /// The unit to ask as. A provider of the system believes that of nobody outside the unit
    #[arg(long = "as", value_name = "UNIT", required = true)]
    pub unit: String,
    /// The credential's ID, as in LoadCredential=ID:PATH
    #[arg(value_name = "ID")]
    pub credential: String,
    /// The credential socket
    #[arg(long, value_name = "PATH", default_value = "/run/onecred/credential.sock")]
    pub socket: PathBuf,
}

/// What came of asking.
#[derive(Debug)]
pub enum Answer {
    /// The value.
    Value(SecretValue),
    /// A refusal, with its reason.
    Refused(String),
}

/// Asks, and writes the value to standard output.
pub fn run(args: &GetArgs, out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    let unit = UnitName::parse_lenient(&args.unit)?;
    let credential = CredentialId::parse(&args.credential)?;
    match ask(&args.socket, &unit, &credential)? {
        Answer::Value(value) => {
            out.write_all(value.expose())?; // exposed: this is what was asked for
            Ok(out.flush()?)
        }
        Answer::Refused(reason) => {
            Err(format!("credential {credential} for {unit} refused: {reason}").into())
        }
    }
}

/// Asks as systemd does: binds the address that says unit and credential, connects, sends nothing, reads to the end.
pub(super) fn ask(
    socket: &Path,
    unit: &UnitName,
    credential: &CredentialId,
) -> Result<Answer, Box<dyn Error>> {
    if unit.as_str().len() + credential.as_str().len() > Claim::MAX {
        return Err(format!(
            "unit and credential have more than {} bytes together, which systemd can't ask for",
            Claim::MAX
        )
        .into());
    }
    let address = format!("{:016x}/unit/{unit}/{credential}", fastrand::u64(..));
    let address = SocketAddr::from_abstract_name(address)?;
    let mut stream = UnixStream::from(sys::connect_from(&address, socket).map_err(|error| {
        format!("can't connect to {}: {error}; is onecred.socket started?", socket.display())
    })?);
    stream.shutdown(Shutdown::Write)?;
    let mut bytes = Vec::with_capacity(4096);
    Read::by_ref(&mut stream).take(SYSTEMD_TAKES as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() <= SYSTEMD_TAKES {
        return Ok(Answer::Value(SecretValue::new(bytes)));
    }
    let first = bytes.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let reason = String::from_utf8_lossy(first);
    Ok(Answer::Refused(reason.strip_prefix(REFUSED).unwrap_or("it sends more than systemd takes").to_owned()))
}
