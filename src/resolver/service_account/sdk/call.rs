//! Calls: a request goes in, its future is driven to its end, the answer comes out, and what held it is overwritten.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{LazyLock, Mutex, PoisonError};

use zeroize::Zeroizing;

use super::abi::{Begin, CallStatus, ForeignBytes, Future, READY, RustBuffer};
use super::library::Functions;

/// Why a call brought nothing.
#[derive(Debug)]
pub(crate) enum CoreError {
    /// What the core says: its name for it, where it has one, and a message.
    Said {
        /// Such as `RateLimitExceeded`.
        name: String,
        /// A sentence.
        message: String,
    },
    /// It panicked, or broke its own ABI.
    Broken(String),
}

/// Calls one of the core's asynchronous functions, and waits on this thread for what it brings.
pub(super) fn wait(
    functions: &Functions,
    begin: Begin,
    request: &[u8],
) -> Result<Zeroizing<Vec<u8>>, CoreError> {
    let request = lower(functions, request)?;
    // SAFETY: `begin` is one of the functions that take a buffer of the core's and give a future; the buffer is given away by this.
    let future = unsafe { begin(request) };
    if future.is_null() {
        return Err(CoreError::Broken("it gave no future".into()));
    }
    let driven = drive(functions, future);
    let mut status = CallStatus::new();
    let result = driven.map(|()| {
        // SAFETY: the future is the core's own, is ready, and is completed this once; the status is ours and alive.
        unsafe { (functions.complete)(future, &raw mut status) }
    });
    // SAFETY: the future is the core's own, and nothing uses it after this.
    unsafe { (functions.free_future)(future) };
    lift(functions, result?, status)
}

/// Tells the core to forget a client.
pub(super) fn release(functions: &Functions, client: &[u8]) -> Result<(), CoreError> {
    let mut status = CallStatus::new();
    let request = lower(functions, client)?;
    // SAFETY: the function takes a buffer of the core's, which is given away by this, and a status, which is ours and alive.
    unsafe { (functions.release_client)(request, &raw mut status) };
    lift(functions, RustBuffer::empty(), status).map(drop)
}

/// Those who wait for a future, by number. A number that comes too late finds nobody: no pointer of ours is in the core's hands.
static WAITING: LazyLock<Mutex<HashMap<usize, Sender<i8>>>> = LazyLock::new(Mutex::default);

extern "C" fn woken(number: usize, code: i8) {
    let waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(sender) = waiting.get(&number) {
        let _ = sender.send(code);
    }
}

fn drive(functions: &Functions, future: Future) -> Result<(), CoreError> {
    static NUMBERS: AtomicUsize = AtomicUsize::new(1);
    let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
    let (sender, receiver) = channel();
    WAITING.lock().unwrap_or_else(PoisonError::into_inner).insert(number, sender);
    let outcome = loop {
        // SAFETY: the future is the core's own and not completed yet; the continuation is a function, and takes any number.
        unsafe { (functions.poll)(future, woken, number) };
        match receiver.recv() {
            Ok(READY) => break Ok(()),
            Ok(_again) => {}
            Err(_) => break Err(CoreError::Broken("nobody is left to wake its future".into())),
        }
    };
    WAITING.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
    outcome
}

/// A copy of our bytes that belongs to the core. It frees that itself, and does not wipe it: the process's end does.
fn lower(functions: &Functions, bytes: &[u8]) -> Result<RustBuffer, CoreError> {
    let len = i32::try_from(bytes.len()).map_err(|_| CoreError::Broken("the request is too large".into()))?;
    let mut status = CallStatus::new();
    // SAFETY: the bytes are ours and alive during the call, which copies them; the status is ours and alive.
    let buffer =
        unsafe { (functions.from_bytes)(ForeignBytes { len, data: bytes.as_ptr() }, &raw mut status) };
    if status.code == CallStatus::SUCCESS {
        return Ok(buffer);
    }
    drop(take(functions, status.error));
    Err(CoreError::Broken("it can't take the request".into()))
}

/// What a call has brought: the result, or by its status an error. Both buffers are taken out of the core's hands in any case.
fn lift(
    functions: &Functions,
    result: RustBuffer,
    status: CallStatus,
) -> Result<Zeroizing<Vec<u8>>, CoreError> {
    let (code, result, error) = (status.code, take(functions, result), take(functions, status.error));
    match code {
        CallStatus::SUCCESS => result,
        CallStatus::ERROR => Err(said(&error?)),
        _ => Err(CoreError::Broken("it panicked".into())), // its words are not passed on: they could quote anything
    }
}

/// Copies a buffer of the core's, overwrites it and gives it back.
fn take(functions: &Functions, buffer: RustBuffer) -> Result<Zeroizing<Vec<u8>>, CoreError> {
    let (Ok(len), Ok(capacity)) = (usize::try_from(buffer.len), usize::try_from(buffer.capacity)) else {
        return Err(CoreError::Broken("the size of its answer is negative".into()));
    };
    if buffer.data.is_null() || capacity == 0 {
        return Ok(Zeroizing::default());
    }
    if len > capacity {
        return Err(CoreError::Broken("its answer is longer than what holds it".into()));
    }
    // SAFETY: by the ABI `data` points to `capacity` bytes, the first `len` of them written, which are ours until they are given back.
    let bytes = Zeroizing::new(unsafe { std::slice::from_raw_parts(buffer.data, len) }.to_vec());
    for offset in 0..capacity {
        // SAFETY: as above; nobody else looks at them. The write is volatile, so that it is not left out.
        unsafe { buffer.data.add(offset).write_volatile(0) };
    }
    let mut status = CallStatus::new();
    // SAFETY: the buffer came from the core and goes back to it this once; the status is ours and alive.
    unsafe { (functions.free_buffer)(buffer, &raw mut status) };
    Ok(bytes)
}

/// An error's payload: the number of its variant, its length, and UTF-8, which is JSON with a name and a message in most cases.
pub(in super::super) fn said(payload: &[u8]) -> CoreError {
    #[derive(serde::Deserialize)]
    struct Named {
        name: String,
        message: String,
    }
    let text = payload
        .split_at_checked(8)
        .filter(|(head, text)| head[4..] == u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes())
        .and_then(|(_, text)| std::str::from_utf8(text).ok());
    match text {
        None => CoreError::Broken("its error is not of the form that was agreed".into()),
        Some(text) => match serde_json::from_str::<Named>(text) {
            Ok(Named { name, message }) => CoreError::Said { name, message },
            Err(_) => CoreError::Said { name: String::new(), message: text.to_owned() },
        },
    }
}
