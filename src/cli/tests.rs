//! Tests of the command line: the text of `--help`, and the usability of what is generated from it.

use std::path::Path;

use clap::CommandFactory;

use super::*;

/// The help of all verbs, one after another.
fn help_of(command: &mut clap::Command, path: &str, text: &mut String) {
    // not wrapped, because that depends on the terminal
    let help = command.clone().term_width(0).render_long_help();
    text.push_str(&format!("==== {path} --help\n{help}\n"));
    for verb in command.get_subcommands_mut().filter(|verb| verb.get_name() != "help") {
        let path = format!("{path} {}", verb.get_name());
        help_of(verb, &path, text);
    }
}

/// The help, which people and scripts rely on, changes only deliberately: `UPDATE_EXPECTED=1 cargo test --lib
/// help` accepts the new text.
#[test]
fn help_is_what_it_was() {
    let mut command = Cli::command();
    command.build();
    let mut text = String::new();
    help_of(&mut command, "onecred", &mut text);
    let text = text.lines().map(|line| line.trim_end().to_owned() + "\n").collect::<String>();
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cli/help.txt");
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        std::fs::write(&kept, &text).unwrap();
    }
    let before = std::fs::read_to_string(&kept).unwrap_or_default();
    let first = text.lines().zip(before.lines().chain(std::iter::repeat(""))).find(|(now, then)| now != then);
    assert!(
        text == before,
        "--help has changed: {first:?} (now, before); if it is meant to: UPDATE_EXPECTED=1 cargo test --lib help"
    );
}

#[test]
fn the_command_line_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn what_is_generated_is_in_its_place() {
    let dir = tempfile::tempdir().unwrap();
    for what in [generate::What::Man, generate::What::Completions] {
        generate::run(&generate::GenerateArgs { what, dir: dir.path().join("made") }).unwrap();
    }
    for file in [
        "man1/onecred.1",
        "man1/onecred-token-set.1",
        "man5/secrets.json.5",
        "man5/org.onecred.Credentials1.5",
        "man8/onecred.service.8",
        "onecred.bash",
        "_onecred",
        "onecred.fish",
    ] {
        assert!(dir.path().join("made").join(file).metadata().is_ok_and(|file| file.len() > 500), "{file}");
    }
}
