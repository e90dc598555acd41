//! A compromised resolver: replaces the resolver in its unit, and answers each question according to a file.
//!
//! `liar FILE`: the file contains one of the words below. Everything else is answered as a good resolver
//! would.
use nix::{
    fcntl::{FcntlArg, SealFlag, fcntl},
    sys::{
        memfd::{MFdFlags, memfd_create},
        socket::{ControlMessage, ControlMessageOwned, MsgFlags, accept, recvmsg, sendmsg},
    },
};
use serde_json::{Value, json};
use std::{
    env,
    fs::{self, File},
    io::{self, IoSlice, IoSliceMut, Read, Seek, Write},
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
        unix::net::UnixDatagram,
    },
    thread,
};

const GREETING: &[u8] = b"onecred 1\n";
/// The value that it invents.
const LIE: &[u8] = b"a lie";

fn main() -> io::Result<()> {
    let file = env::args().nth(1).unwrap_or_default();
    if let Some(manager) = env::var_os("NOTIFY_SOCKET") {
        UnixDatagram::unbound()?.send_to(b"READY=1", manager)?;
    }
    loop {
        let socket = adopt(accept(3)?);
        let word = fs::read_to_string(&file).unwrap_or_default();
        thread::spawn(move || {
            if let Ok(question) = receive(&socket) {
                let _ = answer(&socket, word.trim(), &question); // the peer may have hung up
            }
        });
    }
}

fn adopt(fd: RawFd) -> OwnedFd {
    // SAFETY: the kernel has just created this descriptor, so it has no other owner.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn receive(socket: &OwnedFd) -> io::Result<Value> {
    let (mut greeting, mut space) = ([0; 64], nix::cmsg_space!([RawFd; 2]));
    let mut slices = [IoSliceMut::new(&mut greeting)];
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut space), MsgFlags::empty())?;
    let mut text = Vec::new();
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = part {
            for (at, fd) in fds.into_iter().enumerate() {
                let mut file = File::from(adopt(fd));
                if at == 0 {
                    file.rewind()?;
                    file.read_to_end(&mut text)?;
                }
            }
        }
    }
    Ok(serde_json::from_slice(&text)?)
}

fn sealed(bytes: &[u8], size: u64) -> io::Result<OwnedFd> {
    let mut file = File::from(memfd_create("lie", MFdFlags::MFD_ALLOW_SEALING)?);
    file.write_all(bytes)?;
    file.set_len(size.max(bytes.len() as u64))?;
    fcntl(
        &file,
        FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK),
    )?;
    Ok(file.into())
}

fn send(socket: &OwnedFd, greeting: &[u8], files: &[OwnedFd]) -> io::Result<()> {
    let fds: Vec<RawFd> = files.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&fds)];
    let rights = if fds.is_empty() { &[][..] } else { &rights };
    sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(greeting)], rights, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}

/// The answer of a good resolver, but with invented values.
fn good(question: &Value) -> (Value, Vec<u8>) {
    if let Some(fetch) = question.get("fetch") {
        let asked = fetch["fields"].as_array().map_or(0, Vec::len);
        let fields = vec![json!({ "Ok": { "len": LIE.len(), "expires": null } }); asked];
        let id = json!({ "vault": "v", "item": "i" });
        let answer = json!({ "Ok": { "id": id, "version": 1, "vault_version": null, "fields": fields } });
        return (answer, LIE.repeat(asked));
    }
    let asked = question["check"]["items"].as_array().map_or(0, Vec::len);
    match question.get("check") {
        Some(_) => (json!({ "Ok": { "items": vec![json!("changed"); asked] } }), Vec::new()),
        None => (json!({ "Ok": { "sources": [] } }), Vec::new()),
    }
}

fn answer(socket: &OwnedFd, word: &str, question: &Value) -> io::Result<()> {
    let (mut meta, values) = good(question);
    let values = sealed(&values, 0)?;
    let say = |meta: &str, values: OwnedFd| send(socket, GREETING, &[sealed(meta.as_bytes(), 0)?, values]);
    match word {
        "good" => say(&meta.to_string(), values),
        "twice" => {
            let (meta, files) = (meta.to_string(), [values.try_clone()?, values]);
            let [one, two] = files;
            say(&meta, one)?;
            say(&meta, two)
        }
        "nothing" => Ok(()),
        "never" => loop {
            thread::park();
        },
        "half" => send(socket, &GREETING[..4], &[values]),
        "bare" => send(socket, GREETING, &[]),
        "crowd" => {
            send(socket, GREETING, &(0..250).map(|_| sealed(b"{}", 0)).collect::<io::Result<Vec<_>>>()?)
        }
        "endless" => loop {
            send(socket, &[b'x'; 100_000], &[])?;
        },
        "large-words" => say(&format!("{meta}{}", " ".repeat(4 << 20)), values),
        "vast-words" => send(socket, GREETING, &[sealed(b"{", 1 << 40)?, values]),
        "vast-values" => say(&meta.to_string(), sealed(b"x", 1 << 40)?),
        "large-values" => {
            meta["Ok"]["fields"][0]["Ok"]["len"] = json!(16 << 20);
            say(&meta.to_string(), sealed(b"x", 16 << 20)?)
        }
        "many-fields" => {
            let fields = r#"{"Ok":{"len":0,"expires":null}},"#.repeat(120_000);
            meta["Ok"]["fields"] = json!(["FIELDS"]);
            say(&meta.to_string().replace("\"FIELDS\"", fields.trim_end_matches(',')), values)
        }
        "deep" => say(&"[".repeat(4 << 20), values),
        "other-kind" => say(&json!({ "Ok": { "items": ["changed"] } }).to_string(), values),
        "wrong-item" => {
            meta["Ok"]["id"] = json!({ "vault": "../../..", "item": "etc/shadow" });
            say(&meta.to_string(), values)
        }
        "long-failure" => {
            let failure = json!({ "class": "denied", "cause": "x\n\u{1b}[2J".repeat(1 << 18), "remedy": "", "retry_after": null });
            say(&json!({ "Err": failure }).to_string(), values)
        }
        "short-failure" => {
            let failure = json!({ "class": "denied", "cause": "no\nMay 01 host app[1]: forged", "remedy": "\u{1b}[2J", "retry_after": null });
            say(&json!({ "Err": failure }).to_string(), values)
        }
        "statuses" => {
            let calls: serde_json::Map<String, Value> =
                (0..40_000).map(|n| (format!("ok{n}"), json!(n))).collect();
            let source = json!({ "name": "default", "kind": "file", "state": "ready", "last_failure": null,
                "last_success": null, "calls": calls, "quota": null, "core": null });
            say(&json!({ "Ok": { "sources": [source] } }).to_string(), values)
        }
        _ => Err(io::Error::other("no such word")),
    }
}
