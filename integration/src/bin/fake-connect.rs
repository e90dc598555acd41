//! A fake 1Password Connect server as a program; see `onecred_integration::fake_connect`.

use std::process::ExitCode;

use onecred_integration::fake::program;
use onecred_integration::fake_connect::Connect;

fn main() -> ExitCode {
    program::main::<Connect>("fake-connect")
}
