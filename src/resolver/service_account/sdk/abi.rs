//! The C ABI of the SDK core as UniFFI 0.26 generates it: signatures of its functions, and what identifies
//! it.

use std::ffi::c_void;

/// The version of the UniFFI contract that this module implements.
pub(super) const CONTRACT: u32 = 25;

/// The functions that identify the SDK core, and the checksums of their signatures. `invoke_sync` is never
/// called.
pub(super) const CHECKSUMS: [(&str, u16); 4] =
    [("init_client", 45066), ("invoke", 29143), ("invoke_sync", 49373), ("release_client", 57155)];

/// Bytes that the SDK core has allocated and only it can free.
#[repr(C)]
pub(super) struct RustBuffer {
    pub(super) capacity: i32,
    pub(super) len: i32,
    pub(super) data: *mut u8,
}

impl RustBuffer {
    pub(super) const fn empty() -> Self {
        Self { capacity: 0, len: 0, data: std::ptr::null_mut() }
    }
}

/// The status of a call.
#[repr(C)]
pub(super) struct CallStatus {
    pub(super) code: i8,
    pub(super) error: RustBuffer,
}

impl CallStatus {
    pub(super) const SUCCESS: i8 = 0;
    pub(super) const ERROR: i8 = 1;

    pub(super) const fn new() -> Self {
        Self { code: Self::SUCCESS, error: RustBuffer::empty() }
    }
}

/// Bytes of this process that the SDK core copies.
#[repr(C)]
pub(super) struct ForeignBytes {
    pub(super) len: i32,
    pub(super) data: *const u8,
}

/// A pending call; opaque.
pub(super) type Future = *const c_void;
/// The callback with which the SDK core reports that a future is ready or must be polled again.
pub(super) type Continuation = extern "C" fn(usize, i8);
/// The code of a future that is ready.
pub(super) const READY: i8 = 0;

pub(super) type ContractVersion = unsafe extern "C" fn() -> u32;
pub(super) type Checksum = unsafe extern "C" fn() -> u16;
pub(super) type FromBytes = unsafe extern "C" fn(ForeignBytes, *mut CallStatus) -> RustBuffer;
pub(super) type FreeBuffer = unsafe extern "C" fn(RustBuffer, *mut CallStatus);
pub(super) type Begin = unsafe extern "C" fn(RustBuffer) -> Future;
pub(super) type Release = unsafe extern "C" fn(RustBuffer, *mut CallStatus);
pub(super) type Poll = unsafe extern "C" fn(Future, Continuation, usize);
pub(super) type Complete = unsafe extern "C" fn(Future, *mut CallStatus) -> RustBuffer;
pub(super) type FreeFuture = unsafe extern "C" fn(Future);
