//! The result of a command inside a machine.
use std::process::Output;

/// A finished command and its output.
#[derive(Debug)]
pub struct Ran {
    command: String,
    output: Output,
}

impl Ran {
    pub(super) fn new(command: String, output: Output) -> Self {
        Self { command, output }
    }

    /// Whether it succeeded.
    pub fn succeeded(&self) -> bool {
        self.output.status.success()
    }

    /// Its exit code; `None` if a signal ended it.
    pub fn code(&self) -> Option<i32> {
        self.output.status.code()
    }

    /// Its standard output as text.
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout).into_owned()
    }

    /// Its standard error as text.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }

    /// Its output if it succeeded; otherwise the test fails.
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(self.succeeded(), "{self}");
        self.stdout()
    }

    /// Its output in bytes if it succeeded; otherwise the test fails.
    #[track_caller]
    pub fn ok_bytes(self) -> Vec<u8> {
        assert!(self.succeeded(), "{self}");
        self.output.stdout
    }

    /// Its error message if it failed; otherwise the test fails.
    #[track_caller]
    pub fn fails(self) -> String {
        assert!(!self.succeeded(), "should have failed: {self}");
        self.stderr()
    }
}

impl std::fmt::Display for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}`: {}\n{}{}", self.command, self.output.status, self.stdout(), self.stderr())
    }
}
