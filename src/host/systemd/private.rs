//! Calls to the service manager over its private socket, which works without a D-Bus daemon, for example at early boot.
//!
//! The socket uses the D-Bus protocol without a bus, so calls need neither Hello nor names. zbus can't parse the replies, because systemd
//! puts a well-known name where the specification has a unique one. So this module parses them itself: whether the call succeeded, and the text of an error.

use std::io;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;
use zbus::message::Message;
use zbus::{DynamicType, Variant};

/// Where systemd listens, for root only.
const SOCKET: &str = "/run/systemd/private";
/// How long to wait for an answer.
const LOST: Duration = Duration::from_secs(30);
/// The maximum size of a message in bytes: larger than any reply to these calls, and any signal that arrives before it.
const LARGEST: usize = 1 << 20;
/// The fixed part of a message's header.
const FIXED: usize = 16;
/// Message types.
const METHOD_RETURN: u8 = 2;
const ERROR: u8 = 3;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The manager can't be reached, or did not answer: it may be reloading.
    #[error("systemd can't be reached at {SOCKET}: {0}")]
    Io(#[from] io::Error),
    /// The manager returned an error.
    #[error("systemd refused: {0}")]
    Refused(String),
}

/// A process's properties in `StartTransientUnit`, and those of auxiliary units.
type Properties<'a> = Vec<(&'a str, Variant<'a>)>;

/// Starts a unit. Returns when the job is queued.
pub async fn start_unit(name: &str) -> Result<(), CallError> {
    call(Path::new(SOCKET), "StartUnit", &(name, "replace")).await
}

/// Moves a process into a scope that is not stopped at shutdown. Returns when the job is queued.
///
/// With `DefaultDependencies=` the scope would be stopped at the beginning of a shutdown.
pub async fn start_scope(name: &str, description: &str, pid: u32) -> Result<(), CallError> {
    let properties: Properties<'_> = vec![
        ("Description", description.to_owned().into()),
        ("PIDs", vec![pid].into()),
        ("Slice", "system.slice".to_owned().into()),
        ("DefaultDependencies", false.into()),
        ("CollectMode", "inactive-or-failed".to_owned().into()),
        ("MemorySwapMax", 0_u64.into()),
        ("ManagedOOMPreference", "omit".to_owned().into()),
    ];
    let others: Vec<(&str, Properties<'_>)> = Vec::new();
    call(Path::new(SOCKET), "StartTransientUnit", &(name, "fail", properties, others)).await
}

/// Sets a unit's `MemoryMax=` in bytes until the next boot. Returns when it is set.
pub async fn set_memory_max(unit: &str, bytes: u64) -> Result<(), CallError> {
    let properties: Properties<'_> = vec![("MemoryMax", bytes.into())];
    call(Path::new(SOCKET), "SetUnitProperties", &(unit, true, properties)).await
}

async fn call(socket: &Path, method: &str, body: &(impl Serialize + DynamicType)) -> Result<(), CallError> {
    let message = Message::method_call("/org/freedesktop/systemd1", method)
        .interface("org.freedesktop.systemd1.Manager")
        .build(body)
        .map_err(io::Error::other)?;
    match timeout(LOST, exchange(socket, message.data())).await {
        Ok(reply) => reply?.map_err(CallError::Refused),
        Err(_elapsed) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
    }
}

/// Sends a call, and reads until its reply: an error's text, if it is one.
async fn exchange(socket: &Path, call: &[u8]) -> io::Result<Result<(), String>> {
    let mut stream = UnixStream::connect(socket).await?;
    authenticate(&mut stream).await?;
    stream.write_all(call).await?;
    loop {
        let mut header = [0; FIXED];
        stream.read_exact(&mut header).await?;
        let (kind, fields, body) = sizes(&header)?;
        let mut rest = vec![0; fields + body];
        stream.read_exact(&mut rest).await?;
        match kind {
            METHOD_RETURN => return Ok(Ok(())),
            ERROR => return Ok(Err(error_text(&rest[fields..]))),
            _ => {} // a signal: the manager sends all signals to every connection
        }
    }
}

/// The D-Bus handshake (SASL EXTERNAL): the manager gets the user ID from the kernel.
async fn authenticate(stream: &mut UnixStream) -> io::Result<()> {
    let uid = nix::unistd::geteuid().to_string();
    let uid: String = uid.bytes().map(|byte| format!("{byte:02x}")).collect();
    // send BEGIN in the same write, as systemd's own client does: if BEGIN arrived together with the call, the manager would not process the call until more data arrives
    stream.write_all(format!("\0AUTH EXTERNAL {uid}\r\nBEGIN\r\n").as_bytes()).await?;
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") && line.len() < 1024 {
        line.push(stream.read_u8().await?);
    }
    if !line.starts_with(b"OK ") {
        return Err(io::Error::other("it does not accept this user"));
    }
    Ok(())
}

/// The type of a message, the size of its header's fields with their padding, and that of its body, in bytes.
fn sizes(header: &[u8; FIXED]) -> io::Result<(u8, usize, usize)> {
    let number = |at: usize| {
        let bytes = [header[at], header[at + 1], header[at + 2], header[at + 3]];
        let number = if header[0] == b'B' { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) };
        number as usize
    };
    let (body, fields) = (number(4), number(12));
    if !matches!(header[0], b'l' | b'B') || body > LARGEST || fields > LARGEST {
        return Err(io::Error::other("its answer is not a D-Bus message"));
    }
    Ok((header[1], fields.next_multiple_of(8), body))
}

/// The text in an error's body: four bytes of length, the text, and a NUL.
fn error_text(body: &[u8]) -> String {
    let text = body.get(4..).unwrap_or_default();
    let end = text.iter().position(|&byte| byte == 0).unwrap_or(text.len());
    String::from_utf8_lossy(&text[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixListener;

    use super::*;

    /// A message as systemd sends it: little endian, with these fields and this body.
    fn message(kind: u8, fields: &[u8], body: &[u8]) -> Vec<u8> {
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap().to_le_bytes();
        let mut all =
            [&[b'l', kind, 0, 1][..], &length(body), &7_u32.to_le_bytes(), &length(fields), fields].concat();
        all.resize(all.len().next_multiple_of(8), 0);
        all.extend_from_slice(body);
        all
    }

    /// Plays systemd, which sends this, and returns what it was sent after the handshake.
    async fn played(answer: Vec<u8>, accepts: bool) -> (Result<(), CallError>, Vec<u8>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("private");
        let listener = UnixListener::bind(&path).unwrap();
        let manager = tokio::spawn(async move {
            let mut stream = listener.accept().await.unwrap().0;
            let mut line = Vec::new();
            while !line.ends_with(b"\r\n") {
                line.push(stream.read_u8().await.unwrap());
            }
            assert!(line.starts_with(b"\0AUTH EXTERNAL 3"), "a user ID in hexadecimal digits");
            stream.write_all(if accepts { b"OK 0123\r\n" } else { b"REJECTED\r\n" }).await.unwrap();
            let mut call = vec![0; 1024];
            let mut len = 0;
            // "BEGIN" and the call
            while accepts && !call[..len].windows(7).any(|part| part == b"replace") {
                len += stream.read(&mut call[len..]).await.unwrap();
            }
            stream.write_all(&answer).await.unwrap();
            call.truncate(len);
            call
        });
        let result = call(&path, "StartUnit", &("app.service", "replace")).await;
        (result, manager.await.unwrap())
    }

    #[tokio::test]
    async fn a_call_is_answered_after_signals() {
        let signal = message(4, &[1; 21], &[2; 5]);
        let text = "Unit app.service not found.";
        let body = [&27_u32.to_le_bytes()[..], text.as_bytes(), b"\0"].concat();
        let (done, call) =
            played([signal.clone(), message(METHOD_RETURN, &[3; 11], b"")].concat(), true).await;
        assert!(done.is_ok(), "{done:?}");
        assert!(call.starts_with(b"BEGIN\r\n") && call.windows(9).any(|part| part == b"StartUnit"));
        let (refused, _) = played([signal, message(ERROR, &[3; 16], &body)].concat(), true).await;
        assert!(matches!(&refused, Err(CallError::Refused(why)) if why == text), "{refused:?}");
    }

    #[tokio::test]
    async fn what_is_no_answer_is_an_error() {
        for answer in
            [Vec::new(), b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), message(ERROR, b"", &[])[..9].to_vec()]
        {
            let (result, _) = played(answer.clone(), true).await;
            assert!(matches!(result, Err(CallError::Io(_))), "{answer:?}: {result:?}");
        }
        let (result, _) = played(Vec::new(), false).await;
        assert!(result.is_err_and(|error| error.to_string().contains("does not accept this user")));
        assert_eq!([error_text(b""), error_text(b"\x05\0\0\0a")], ["", "a"]);
    }
}
