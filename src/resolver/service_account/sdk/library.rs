//! Loads the SDK core: resolves its symbols and verifies that its ABI is known. None of its other functions
//! run before that.

use std::mem::ManuallyDrop;

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

use super::abi::{self, CHECKSUMS, CONTRACT};
use super::file::{Fit, Unfit};

/// The functions of a verified library.
pub(super) struct Functions {
    pub(super) from_bytes: abi::FromBytes,
    pub(super) free_buffer: abi::FreeBuffer,
    pub(super) init_client: abi::Begin,
    pub(super) invoke: abi::Begin,
    pub(super) release_client: abi::Release,
    pub(super) poll: abi::Poll,
    pub(super) complete: abi::Complete,
    pub(super) free_future: abi::FreeFuture,
    /// Never unloaded: the library has its own threads, whose code must stay mapped.
    _library: ManuallyDrop<Library>,
}

pub(super) fn load(file: &Fit) -> Result<Functions, Unfit> {
    let other = |why: String| Unfit::OtherLibrary { path: file.path.clone(), why };
    // SAFETY: this runs the library's initialisers, as loading any foreign code does. Only root can change
    // the file, and it was compared with the pin, if there is one. A library that corrupts this process
    // affects only a worker that has no secret yet.
    let library = unsafe { Library::open(Some(file.for_loader()), RTLD_NOW | RTLD_LOCAL) };
    let library = ManuallyDrop::new(library.map_err(|error| Unfit::NoLibrary {
        path: file.path.clone(),
        why: format!("the loader says: {}", reason(&error)),
    })?);
    let version: abi::ContractVersion =
        symbol(&library, "ffi_op_uniffi_core_uniffi_contract_version").map_err(other)?;
    // SAFETY: in every version of UniFFI, this function takes no arguments and returns a u32.
    let version = unsafe { version() };
    if version != CONTRACT {
        return Err(other(format!("its contract version is {version} instead of {CONTRACT}")));
    }
    for (name, known) in CHECKSUMS {
        let checksum: abi::Checksum =
            symbol(&library, &format!("uniffi_op_uniffi_core_checksum_func_{name}")).map_err(other)?;
        // SAFETY: by the contract version, which was just verified, this function takes no arguments and
        // returns a u16.
        let checksum = unsafe { checksum() };
        if checksum != known {
            return Err(other(format!("the checksum of its {name} is {checksum} instead of {known}")));
        }
    }
    let of = |name: &str| format!("ffi_op_uniffi_core_{name}");
    let function = |name: &str| format!("uniffi_op_uniffi_core_fn_func_{name}");
    Ok(Functions {
        from_bytes: symbol(&library, &of("rustbuffer_from_bytes")).map_err(other)?,
        free_buffer: symbol(&library, &of("rustbuffer_free")).map_err(other)?,
        init_client: symbol(&library, &function("init_client")).map_err(other)?,
        invoke: symbol(&library, &function("invoke")).map_err(other)?,
        release_client: symbol(&library, &function("release_client")).map_err(other)?,
        poll: symbol(&library, &of("rust_future_poll_rust_buffer")).map_err(other)?,
        complete: symbol(&library, &of("rust_future_complete_rust_buffer")).map_err(other)?,
        free_future: symbol(&library, &of("rust_future_free_rust_buffer")).map_err(other)?,
        _library: library,
    })
}

/// A function of the library. `F` is the type in [`abi`] for the function `name`.
fn symbol<F: Copy>(library: &Library, name: &str) -> Result<F, String> {
    // SAFETY: nothing is called here. The contract version and the checksums guarantee that the symbol has
    // the type F, and each call refers to that. The pointer stays valid because the library is never
    // unloaded.
    let symbol = unsafe { library.get::<F>(name.as_bytes()) };
    symbol.map(|symbol| *symbol).map_err(|_| format!("it has no function {name}"))
}

/// The loader's own message, which libloading has as the source of the error.
fn reason(error: &libloading::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}
