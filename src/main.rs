//! The binary: reads the command line and runs a verb.

use std::process::ExitCode;

use clap::Parser;
use zeroizing_alloc::ZeroAlloc;

/// Whatever is freed is wiped, also the copies that libraries make of what passes through them.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<std::alloc::System> = ZeroAlloc(std::alloc::System);

fn main() -> ExitCode {
    onecred::cli::run(onecred::cli::Cli::parse())
}
