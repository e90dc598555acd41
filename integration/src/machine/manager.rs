//! Properties of units, read from systemd's private socket: systemctl is a process, and makes PID 1 send all
//! properties of the unit.
//!
//! The socket uses the D-Bus protocol without a bus. zbus rejects the replies, because their sender is not a
//! unique name, so this module reads them.
use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    time::Duration,
};
use zbus::message::Message;

const SOCKET: &str = "/run/systemd/private";
/// How long systemd may take to answer. It does not answer while it reloads.
const PATIENCE: Duration = Duration::from_secs(10);
const METHOD_RETURN: u8 = 2;
const ERROR: u8 = 3;

/// Properties that every kind of unit has, and that systemctl prints as they are.
const OF_ALL: [&str; 6] = ["ActiveState", "Job", "SubState", "LoadState", "FragmentPath", "InvocationID"];
/// Properties of one kind of unit.
const OF_KIND: [&str; 6] = ["StatusText", "Result", "MainPID", "ExecMainStatus", "NRestarts", "NConnections"];

/// The interface of a property, if this module can read it.
fn interface_of(unit: &str, property: &str) -> Option<&'static str> {
    if OF_ALL.contains(&property) {
        return Some("org.freedesktop.systemd1.Unit");
    }
    match unit.rsplit_once('.')?.1 {
        _ if !OF_KIND.contains(&property) => None,
        "service" => Some("org.freedesktop.systemd1.Service"),
        "socket" => Some("org.freedesktop.systemd1.Socket"),
        _ => None,
    }
}

/// The object of a unit. systemd loads the unit when a property of it is read.
fn path_of(unit: &str) -> String {
    let label = unit.bytes().enumerate().map(|(n, byte)| match byte {
        b'a'..=b'z' | b'A'..=b'Z' => char::from(byte).to_string(),
        b'0'..=b'9' if n > 0 => char::from(byte).to_string(),
        _ => format!("_{byte:02x}"),
    });
    format!("/org/freedesktop/systemd1/unit/{}", label.collect::<String>())
}

/// Properties as systemctl prints them. `None` if only systemctl can read one of them.
///
/// Call it in the machine.
pub(super) fn properties(unit: &str, names: &[&str]) -> io::Result<Option<Vec<String>>> {
    let interfaces: Option<Vec<_>> = names.iter().map(|name| interface_of(unit, name)).collect();
    let Some(interfaces) = interfaces else { return Ok(None) };
    let mut stream = connect()?;
    let mut values = Vec::with_capacity(names.len());
    for question in interfaces.iter().zip(names) {
        let call = Message::method_call(path_of(unit), "Get")
            .interface("org.freedesktop.DBus.Properties")
            .build(&question)
            .map_err(io::Error::other)?;
        stream.write_all(call.data())?;
        let Some(value) = text(&reply(&mut stream)?) else { return Ok(None) };
        values.push(value);
    }
    Ok(Some(values))
}

fn connect() -> io::Result<UnixStream> {
    let mut stream = UnixStream::connect(SOCKET)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    // the user ID is root's in hexadecimal digits
    stream.write_all(b"\0AUTH EXTERNAL 30\r\nBEGIN\r\n")?;
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        line.extend(byte);
    }
    Ok(stream)
}

/// Reads until the reply, and returns its body.
fn reply(stream: &mut UnixStream) -> io::Result<Vec<u8>> {
    loop {
        let mut header = [0; 16];
        stream.read_exact(&mut header)?;
        let (fields, body) = (number(&header, 12).next_multiple_of(8), number(&header, 4));
        let mut rest = vec![0; fields + body];
        stream.read_exact(&mut rest)?;
        match header[1] {
            METHOD_RETURN => return Ok(rest.split_off(fields)),
            ERROR => return Err(io::Error::other("systemd has no such property")),
            _ => {} // a signal
        }
    }
}

/// A number of four bytes, little endian; zero if there are fewer.
fn number(bytes: &[u8], at: usize) -> usize {
    let four = bytes.get(at..at + 4).and_then(|four| four.try_into().ok());
    u32::from_le_bytes(four.unwrap_or_default()) as usize
}

/// The text of a variant: a string, a number, bytes in hexadecimal digits, or the number of a job, if there is one.
fn text(body: &[u8]) -> Option<String> {
    let kind = body.get(1..1 + usize::from(*body.first()?))?;
    let at = (kind.len() + 2).next_multiple_of(4);
    let after = |length: usize| body.get(at + 4..at + 4 + length);
    match kind {
        b"s" | b"o" => Some(String::from_utf8_lossy(after(number(body, at))?).into_owned()),
        b"u" => Some(number(body, at).to_string()),
        b"i" => Some((number(body, at) as u32).cast_signed().to_string()),
        b"(uo)" => Some(number(body, 8)).map(|job| if job == 0 { String::new() } else { job.to_string() }),
        b"ay" => Some(after(number(body, at))?.iter().map(|byte| format!("{byte:02x}")).collect()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_are_read() {
        let rows: [(&[u8], Option<&str>); 8] = [
            (b"\x01s\0\0\x06\0\0\0active\0", Some("active")),
            (b"\x01u\0\0\x2a\0\0\0", Some("42")),
            (b"\x01i\0\0\xff\xff\xff\xff", Some("-1")),
            (b"\x02ay\0\x02\0\0\0\x0a\xff", Some("0aff")),
            (b"\x04(uo)\0\0\0\x07\0\0\0\x01\0\0\0/\0", Some("7")),
            (b"\x04(uo)\0\0\0\0\0\0\0\x01\0\0\0/\0", Some("")),
            (b"\x01t\0\0\0\0\0\0\x01\0\0\0\0\0\0\0", None),
            (b"\x01s\0\0\x06\0\0\0act", None),
        ];
        for (body, expected) in rows {
            assert_eq!(text(body).as_deref(), expected, "{body:?}");
        }
    }

    #[test]
    fn objects_have_escaped_names() {
        assert_eq!(path_of("1a-b@c.service"), "/org/freedesktop/systemd1/unit/_31a_2db_40c_2eservice");
        assert_eq!(interface_of("a.mount", "Result"), None);
        assert_eq!(interface_of("a.mount", "ActiveState"), Some("org.freedesktop.systemd1.Unit"));
    }
}
