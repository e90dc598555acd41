//! A program that runs a fake 1Password Connect server; see `onecred_integration::fake_connect`.

use std::process::ExitCode;

use onecred_integration::fake::program;
use onecred_integration::fake_connect::Connect;

fn main() -> ExitCode {
    program::main::<Connect>("fake-connect")
}
