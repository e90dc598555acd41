//! A program that runs a fake 1Password service with one service account; see
//! `onecred_integration::fake_account`.

use std::process::ExitCode;

use onecred_integration::fake::program;
use onecred_integration::fake_account::Account;

fn main() -> ExitCode {
    program::main::<Account>("fake-account")
}
