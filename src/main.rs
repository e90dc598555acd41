//! The binary: parses the command line and runs a verb.

use std::process::ExitCode;

use clap::Parser;
use zeroizing_alloc::ZeroAlloc;

/// Wipes all memory when it is freed, including the copies that libraries make of secrets.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<std::alloc::System> = ZeroAlloc(std::alloc::System);

fn main() -> ExitCode {
    onecred::cli::run(onecred::cli::Cli::parse())
}
