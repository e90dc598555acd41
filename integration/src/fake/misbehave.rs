//! Applies a fault to a reply: changes it, and decides how it is sent.

use serde_json::Value;

use super::clock;
use super::fault::Kind;
use super::reply::Reply;
use super::service::Asked;
use super::state::Data;
use super::state::Service;

/// How a reply is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delivery {
    Whole,
    Drip { bytes: usize, ms: u64 },
    Truncate { at: usize },
    Huge { bytes: u64, declared: bool },
    Cut { at: usize, reset: bool },
}

/// Applies the fault to the reply.
pub(super) fn spoil(
    kind: Option<Kind>,
    mut reply: Reply,
    asked: &Asked,
    service: &dyn Service,
    data: &Data,
) -> (Reply, Delivery) {
    let mut delivery = Delivery::Whole;
    match kind {
        None | Some(Kind::Hang | Kind::Delay { .. }) => {}
        Some(Kind::Status { code, retry_after, message }) => {
            reply = service.error(code, &message.unwrap_or_else(|| usual_message(code).to_owned()));
            if let Some(when) = retry_after {
                let seconds = when.strip_prefix("date+").and_then(|seconds| seconds.parse().ok());
                reply.headers.push(("retry-after", seconds.map_or(when, clock::http_date_in)));
            }
        }
        Some(Kind::Drip { bytes, ms }) => delivery = Delivery::Drip { bytes: bytes.max(1), ms },
        Some(Kind::Close { at }) => delivery = Delivery::Cut { at, reset: false },
        Some(Kind::Reset { at }) => delivery = Delivery::Cut { at, reset: true },
        Some(Kind::Truncate { at }) => delivery = Delivery::Truncate { at },
        Some(Kind::Huge { bytes, declared }) => delivery = Delivery::Huge { bytes, declared },
        Some(Kind::MalformedJson) => {
            reply.body.pop();
            reply.body.extend_from_slice(b",,}");
        }
        Some(Kind::InvalidUtf8) => {
            let in_string = reply.body.windows(2).position(|two| two == b":\"").map_or(0, |at| at + 2);
            reply.body.insert(in_string, 0xff);
        }
        Some(Kind::ContentType { value }) => reply.content_type = value,
        Some(Kind::WithoutHeader { name }) if name == "content-type" => reply.content_type.clear(),
        Some(Kind::WithoutHeader { name }) => reply.headers.retain(|(header, _)| *header != name),
        Some(Kind::Gzip) => {
            reply.body = gzip(&reply.body);
            reply.headers.push(("content-encoding", "gzip".to_owned()));
        }
        Some(Kind::GzipBomb { mib }) => {
            reply.body = bomb(mib);
            reply.headers.push(("content-encoding", "gzip".to_owned()));
        }
        Some(Kind::Redirect { code, to }) => {
            reply = Reply::of(code, "text/html; charset=utf-8", b"moved".to_vec());
            reply.headers.push(("location", to));
        }
        Some(Kind::Deep { depth }) => reply.body = [b"[".repeat(depth), b"]".repeat(depth)].concat(),
        Some(Kind::DuplicateKeys) => {
            if let Ok(value) = serde_json::from_slice(&reply.body) {
                reply.body = doubled(&value).into_bytes();
            }
        }
        Some(kind @ (Kind::OtherItem | Kind::WrongSignature | Kind::WrongKey | Kind::EndSession)) => {
            reply = service.spoil(&kind, data, asked, reply);
        }
        Some(Kind::Body { code, content_type, text }) => {
            reply = Reply::of(code, &content_type, text.into_bytes())
        }
    }
    (reply, delivery)
}

fn usual_message(code: u16) -> &'static str {
    match code {
        401 => "Invalid token signature",
        403 => "Authorization: token does not have access to vault",
        404 => "item not found",
        408 => "sync did not complete within timeout, please retry the request",
        429 => "rate limit exceeded",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "made to fail",
    }
}

/// JSON text in which every key appears twice: first with its value, then with another.
fn doubled(value: &Value) -> String {
    match value {
        Value::Object(entries) => {
            let one = |(key, value): (&String, &Value)| {
                let decoy = match value {
                    Value::String(_) => "\"a decoy\"",
                    Value::Array(_) => "[]",
                    Value::Object(_) => "{}",
                    _ => "0",
                };
                let key = Value::from(key.as_str());
                format!("{key}:{},{key}:{decoy}", doubled(value))
            };
            format!("{{{}}}", entries.iter().map(one).collect::<Vec<_>>().join(","))
        }
        Value::Array(values) => format!("[{}]", values.iter().map(doubled).collect::<Vec<_>>().join(",")),
        other => other.to_string(),
    }
}

/// A gzip file of spaces: one block with Deflate's fixed codes, consisting mainly of "copy 258 times the
/// previous byte", 13 bits each.
fn bomb(mib: u32) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    let (mut bits, mut count) = (0u64, 0);
    let mut put = |code: u64, length: u32| {
        bits |= code << count;
        count += length;
        while count >= 8 {
            out.push(bits as u8);
            (bits, count) = (bits >> 8, count - 8);
        }
    };
    put(0b011, 3); // the last block, with fixed codes
    put(0b0000_1010, 8); // a space: 0x30 + 0x20, highest bit first
    for _ in 0..u64::from(mib) * (1 << 20) / 258 {
        put(0b1010_0011, 8); // a length of 258, and a distance of 1
        put(0, 5);
    }
    put(0, 7 + 7); // the end, and bits that fill the last byte
    // a client that has read this far does not need the checksum
    out.extend_from_slice(&[0; 8]);
    out
}

/// A gzip file of stored blocks: it is not really compressed, but a client cannot see this before reading it.
fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    for block in plain.chunks(0xffff) {
        let length = block.len() as u16;
        out.push(0);
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&(!length).to_le_bytes());
        out.extend_from_slice(block);
    }
    out.extend_from_slice(&[1, 0, 0, 0xff, 0xff]);
    let crc = plain.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(
            crc ^ u32::from(*byte),
            |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 },
        )
    });
    out.extend_from_slice(&(!crc).to_le_bytes());
    out.extend_from_slice(&(plain.len() as u32).to_le_bytes());
    out
}
