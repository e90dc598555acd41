//! `onecred schema`: prints the JSON Schema of the configuration, for editors and other tools.

use std::io::{self, Write};

/// Prints the schema.
pub fn run(out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{:#}", crate::config::schema())
}
