//! Calls the SDK core: passes a request, drives its future to completion, takes the answer, and overwrites
//! the buffers that contained it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{LazyLock, Mutex, PoisonError};

use zeroize::Zeroizing;

use super::abi::{Begin, CallStatus, ForeignBytes, Future, READY, RustBuffer};
use super::library::Functions;

/// Why a call failed.
#[derive(Debug)]
pub(crate) enum CoreError {
    /// The SDK core reported an error, with a name if it has one, and a message.
    Said {
        /// Such as `RateLimitExceeded`.
        name: String,
        /// A sentence.
        message: String,
    },
    /// It panicked or violated its ABI.
    Broken(String),
}

/// Calls an asynchronous function of the SDK core and blocks this thread until it completes.
pub(super) fn wait(
    functions: &Functions,
    begin: Begin,
    request: &[u8],
) -> Result<Zeroizing<Vec<u8>>, CoreError> {
    let request = lower(functions, request)?;
    // SAFETY: `begin` is a function that takes a buffer of the core and returns a future. This call gives up
    // ownership of the buffer.
    let future = unsafe { begin(request) };
    if future.is_null() {
        return Err(CoreError::Broken("it returned no future".into()));
    }
    let driven = drive(functions, future);
    let mut status = CallStatus::new();
    let result = driven.map(|()| {
        // SAFETY: the future belongs to the core, is ready, and is completed only here. The status is a live
        // local variable.
        unsafe { (functions.complete)(future, &raw mut status) }
    });
    // SAFETY: the future belongs to the core, and nothing uses it afterwards.
    unsafe { (functions.free_future)(future) };
    lift(functions, result?, status)
}

/// Releases a client.
pub(super) fn release(functions: &Functions, client: &[u8]) -> Result<(), CoreError> {
    let mut status = CallStatus::new();
    let request = lower(functions, client)?;
    // SAFETY: the function takes a buffer of the core, whose ownership this call gives up, and a status,
    // which is a live local variable.
    unsafe { (functions.release_client)(request, &raw mut status) };
    lift(functions, RustBuffer::empty(), status).map(drop)
}

/// The threads that wait for futures, by number. A wake-up that comes too late finds no entry. The core never
/// receives a pointer into this process.
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
        // SAFETY: the future belongs to the core and is not complete. The continuation is a function that
        // accepts any number.
        unsafe { (functions.poll)(future, woken, number) };
        match receiver.recv() {
            Ok(READY) => break Ok(()),
            Ok(_again) => {}
            Err(_) => break Err(CoreError::Broken("its future is never woken".into())),
        }
    };
    WAITING.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
    outcome
}

/// Copies bytes into a buffer of the SDK core. The core frees that buffer without wiping it; the memory is
/// gone when the process ends.
fn lower(functions: &Functions, bytes: &[u8]) -> Result<RustBuffer, CoreError> {
    let len = i32::try_from(bytes.len()).map_err(|_| CoreError::Broken("the request is too large".into()))?;
    let mut status = CallStatus::new();
    // SAFETY: the bytes are alive during the call, which copies them. The status is a live local variable.
    let buffer =
        unsafe { (functions.from_bytes)(ForeignBytes { len, data: bytes.as_ptr() }, &raw mut status) };
    if status.code == CallStatus::SUCCESS {
        return Ok(buffer);
    }
    drop(take(functions, status.error));
    Err(CoreError::Broken("it can't take the request".into()))
}

/// Takes the result of a call: a value, or an error according to its status. Frees both buffers of the core
/// in any case.
fn lift(
    functions: &Functions,
    result: RustBuffer,
    status: CallStatus,
) -> Result<Zeroizing<Vec<u8>>, CoreError> {
    let (code, result, error) = (status.code, take(functions, result), take(functions, status.error));
    match code {
        CallStatus::SUCCESS => result,
        CallStatus::ERROR => Err(said(&error?)),
        // the message is dropped, because it could contain anything
        _ => Err(CoreError::Broken("it panicked".into())),
    }
}

/// Copies a buffer of the SDK core, overwrites it and returns it for freeing.
fn take(functions: &Functions, buffer: RustBuffer) -> Result<Zeroizing<Vec<u8>>, CoreError> {
    let (Ok(len), Ok(capacity)) = (usize::try_from(buffer.len), usize::try_from(buffer.capacity)) else {
        return Err(CoreError::Broken("the size of its answer is negative".into()));
    };
    if buffer.data.is_null() || capacity == 0 {
        return Ok(Zeroizing::default());
    }
    if len > capacity {
        return Err(CoreError::Broken("its answer is longer than its buffer".into()));
    }
    // SAFETY: by the ABI, `data` points to `capacity` bytes. The first `len` of them are initialised, and
    // they are ours until the buffer is returned.
    let bytes = Zeroizing::new(unsafe { std::slice::from_raw_parts(buffer.data, len) }.to_vec());
    for offset in 0..capacity {
        // SAFETY: as above; nothing else accesses the bytes. The write is volatile so that the compiler does
        // not remove it.
        unsafe { buffer.data.add(offset).write_volatile(0) };
    }
    let mut status = CallStatus::new();
    // SAFETY: the buffer comes from the core and is returned only here. The status is a live local variable.
    unsafe { (functions.free_buffer)(buffer, &raw mut status) };
    Ok(bytes)
}

/// Parses the payload of an error: the number of its variant, its length, and UTF-8 text, usually JSON with a
/// name and a message.
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
        None => CoreError::Broken("its error does not have the expected form".into()),
        Some(text) => match serde_json::from_str::<Named>(text) {
            Ok(Named { name, message }) => CoreError::Said { name, message },
            Err(_) => CoreError::Said { name: String::new(), message: text.to_owned() },
        },
    }
}
