//! Bindings to 1Password's SDK core, a library with a C ABI. Needs `unsafe`, and is used only in a worker
//! process.
#![allow(unsafe_code)]

mod abi;
mod call;
mod file;
mod library;

use zeroize::Zeroizing;

pub(crate) use call::CoreError;
#[cfg(any(test, fuzzing))]
pub(super) use call::said;
pub(crate) use file::{Fit, Unfit, fits_this_machine, sha256};

/// A loaded and verified SDK core.
pub(crate) struct Core(library::Functions);

impl Core {
    /// Loads a checked library.
    pub(crate) fn load(file: &Fit) -> Result<Self, Unfit> {
        library::load(file).map(Self)
    }

    /// Creates a client, which logs in. The answer is its number.
    pub(crate) fn init_client(&self, config: &[u8]) -> Result<Zeroizing<Vec<u8>>, CoreError> {
        call::wait(&self.0, self.0.init_client, config)
    }

    /// Makes a call for a client.
    pub(crate) fn invoke(&self, invocation: &[u8]) -> Result<Zeroizing<Vec<u8>>, CoreError> {
        call::wait(&self.0, self.0.invoke, invocation)
    }

    /// Releases a client.
    pub(crate) fn release_client(&self, client: &[u8]) -> Result<(), CoreError> {
        call::release(&self.0, client)
    }
}
