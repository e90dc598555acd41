//! Requests credentials as systemd does, and judges each answer as systemd would.

use super::{
    outcome::Outcome,
    values::{lot, next},
};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use nix::sys::socket::{
    AddressFamily, Shutdown, SockFlag, SockType, UnixAddr, bind, connect, shutdown, socket,
};
use onecred_integration::installed::{SEALED, SOCKET};
use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    digest::{SHA256, digest},
};
use std::{
    fs::{self, File},
    io::{self, Read},
    os::fd::{AsRawFd, OwnedFd},
};

/// The total size that systemd accepts for the credentials of a unit, and that 252 accepts for an encrypted
/// one.
const TAKEN: usize = 1 << 20;
const TAKEN_SEALED: usize = TAKEN + (128 << 10);
const HOST_KEY: &str = "/var/lib/systemd/credential.secret";
const HEADER: usize = 48;

/// A socket's form of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `LoadCredential=`
    Plain,
    /// `LoadCredentialEncrypted=`
    Sealed,
}

impl Form {
    /// Parses its name.
    pub fn parse(word: &str) -> Self {
        if word == Self::Sealed.name() { Self::Sealed } else { Self::Plain }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        if self == Self::Sealed { "sealed" } else { "plain" }
    }

    /// The path of the socket.
    pub fn socket(self) -> &'static str {
        if self == Self::Sealed { SEALED } else { SOCKET }
    }

    /// The directive of a unit.
    pub fn key(self) -> &'static str {
        if self == Self::Sealed { "LoadCredentialEncrypted" } else { "LoadCredential" }
    }
}

/// Requests credentials for a unit.
pub struct Asker {
    unit: String,
    form: Form,
    to: UnixAddr,
    key: Option<LessSafeKey>,
    lot: u64,
    buffer: Vec<u8>,
}

impl Asker {
    /// Requests at the socket of this form.
    pub fn of(unit: &str, form: Form) -> io::Result<Self> {
        let key = match form {
            Form::Plain => None,
            Form::Sealed => Some(host_key()?),
        };
        Ok(Self {
            unit: unit.into(),
            form,
            to: UnixAddr::new(form.socket())?,
            key,
            lot: lot(),
            buffer: vec![0; 1 << 18],
        })
    }

    /// Requests a credential, reads until EOF and judges the answer. Returns the version too if the value is
    /// right.
    pub fn ask(&mut self, id: &str, least: u64) -> io::Result<(Outcome, u64)> {
        let mut got = Vec::new();
        match self.connected(id).and_then(|socket| self.read(&mut File::from(socket), &mut got, usize::MAX)) {
            Ok(()) => {}
            // systemd would not start anything either
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
                ) =>
            {
                return Ok((Outcome::Unopened, 0));
            }
            Err(error) => return Err(error),
        }
        Ok(self.judge(&got, id, least))
    }

    /// A connection that waits for its answer.
    pub fn connected(&mut self, id: &str) -> io::Result<OwnedFd> {
        let fd = self.bound(id, SockFlag::empty())?;
        connect(fd.as_raw_fd(), &self.to)?;
        shutdown(fd.as_raw_fd(), Shutdown::Write)?;
        Ok(fd)
    }

    /// A socket that is bound to the address of the request and not connected.
    pub fn bound(&mut self, id: &str, flags: SockFlag) -> io::Result<OwnedFd> {
        let fd = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC | flags, None)?;
        loop {
            let own = format!(
                "{:x}{:08x}/unit/{}.service/{id}",
                next(&mut self.lot),
                next(&mut self.lot),
                self.unit
            );
            match bind(fd.as_raw_fd(), &UnixAddr::new_abstract(own.as_bytes())?) {
                Err(nix::errno::Errno::EADDRINUSE) => {}
                bound => return bound.map(|()| fd).map_err(Into::into),
            }
        }
    }

    /// Reads until EOF, or until this many bytes, or one byte more than systemd accepts.
    pub fn read(&mut self, socket: &mut File, got: &mut Vec<u8>, most: usize) -> io::Result<()> {
        let most = most.min(if self.form == Form::Sealed { TAKEN_SEALED } else { TAKEN } + 1);
        while got.len() < most {
            let room = self.buffer.len().min(most - got.len());
            match socket.read(&mut self.buffer[..room]) {
                Ok(0) => break,
                Ok(n) => got.extend_from_slice(&self.buffer[..n]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// What systemd would do with these bytes.
    pub fn judge(&self, got: &[u8], id: &str, least: u64) -> (Outcome, u64) {
        let version = |value: &[u8]| super::values::version_of(value).unwrap_or(1);
        match &self.key {
            None if got.len() > TAKEN => (Outcome::Refused, 0),
            None => (Outcome::of(got, &self.unit, id, least), version(got)),
            Some(_) if got.len() > TAKEN_SEALED => (Outcome::Refused, 0),
            Some(key) => match open(key, got, id) {
                Some(value) => (Outcome::of(&value, &self.unit, id, least), version(&value)),
                None => (Outcome::Unopened, 0),
            },
        }
    }
}

fn host_key() -> io::Result<LessSafeKey> {
    let file = fs::read(HOST_KEY)?;
    let key = digest(&SHA256, file.get(16..).unwrap_or_default());
    let key = UnboundKey::new(&AES_256_GCM, key.as_ref()).map_err(|_| io::ErrorKind::InvalidData)?;
    Ok(LessSafeKey::new(key))
}

/// Decrypts a systemd-creds blob with this key and ID.
fn open(key: &LessSafeKey, text: &[u8], id: &str) -> Option<Vec<u8>> {
    let blob = BASE64_STANDARD.decode(text).ok()?;
    let (header, rest) = blob.split_at_checked(HEADER)?;
    let mut rest = rest.to_vec();
    let nonce = Nonce::try_assume_unique_for_key(&header[32..44]).ok()?;
    let plain = key.open_in_place(nonce, Aad::from(header), &mut rest).ok()?;
    let length = u32::from_le_bytes(plain.get(16..20)?.try_into().ok()?) as usize;
    let name = plain.get(20..20 + length)?;
    (name == id.as_bytes()).then(|| plain.get((20 + length).next_multiple_of(8)..).map(<[u8]>::to_vec))?
}
