//! The targets of the fuzzer: everything that reads what others have written. Not part of the program; `fuzz/README.md` says how to run them.
//!
//! Each takes any bytes, and panics where a promise is broken: not only that nothing panics, but what the parser says of the input.

mod input;

pub(crate) use input::{Input, again, text};

/// One thing to try.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, and that of its corpus.
    pub name: &'static str,
    /// Tries it on any bytes.
    pub run: fn(&[u8]),
    /// The maximum memory that it may take at once: so many bytes, and so many more for each byte of the
    /// input.
    pub memory: (usize, usize),
}

/// All there are.
pub const TARGETS: [Target; 16] = [
    Target { name: "peer", run: crate::domain::name::fuzz::peer, memory: (8 << 10, 64) },
    Target { name: "cgroup", run: crate::domain::name::fuzz::cgroup, memory: (8 << 10, 128) },
    Target { name: "reference", run: crate::domain::reference::fuzz::reference, memory: (16 << 10, 600) },
    Target { name: "config", run: crate::config::fuzz::config, memory: (512 << 10, 400) },
    Target { name: "opnix", run: crate::config::fuzz::opnix, memory: (512 << 10, 400) },
    Target { name: "template", run: crate::domain::template::fuzz::template, memory: (64 << 10, 64) },
    Target { name: "blob", run: crate::domain::seal::fuzz::blob, memory: (16 << 10, 64) },
    Target { name: "wire", run: crate::ipc::fuzz::wire, memory: (64 << 10, 200) },
    Target { name: "answers", run: crate::ipc::fuzz::answers, memory: (64 << 10, 200) },
    Target { name: "snapshot", run: crate::provider::store::fuzz::snapshot, memory: (64 << 10, 1000) },
    Target { name: "book", run: crate::resolver::service_account::fuzz_book, memory: (1024 << 10, 400) },
    Target { name: "connect", run: crate::resolver::fuzz::connect, memory: (64 << 10, 200) },
    Target { name: "core", run: crate::resolver::service_account::fuzz::core, memory: (64 << 10, 200) },
    Target { name: "token", run: crate::resolver::service_account::fuzz::token, memory: (16 << 10, 64) },
    Target { name: "otp", run: crate::resolver::fuzz::otp, memory: (8 << 10, 16) },
    Target { name: "key", run: crate::resolver::fuzz::key, memory: (64 << 10, 64) },
];

#[cfg(test)]
mod tests;
