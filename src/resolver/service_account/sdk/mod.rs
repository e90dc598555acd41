//! 1Password's own core, a library in C's ABI: the second room with `unsafe` in it. It is used in a worker process alone.
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

/// A core that was loaded and verified.
pub(crate) struct Core(library::Functions);

impl Core {
    /// Loads a library that was found fit.
    pub(crate) fn load(file: &Fit) -> Result<Self, Unfit> {
        library::load(file).map(Self)
    }

    /// Makes a client, which logs in. The answer is its number.
    pub(crate) fn init_client(&self, config: &[u8]) -> Result<Zeroizing<Vec<u8>>, CoreError> {
        call::wait(&self.0, self.0.init_client, config)
    }

    /// Has a client do something.
    pub(crate) fn invoke(&self, invocation: &[u8]) -> Result<Zeroizing<Vec<u8>>, CoreError> {
        call::wait(&self.0, self.0.invoke, invocation)
    }

    /// Forgets a client.
    pub(crate) fn release_client(&self, client: &[u8]) -> Result<(), CoreError> {
        call::release(&self.0, client)
    }
}
