//! Tests of the completions: what is listed for a command line, and what the shells make of the list.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::CommandFactory;

use super::cursor::{Known, Names, Values, complete, values};
use super::*;
use crate::cli::Cli;

/// A machine with a few names, which records the directory of the configuration.
#[derive(Default)]
struct Few {
    config: Option<PathBuf>,
}

impl Known for Few {
    fn names(&mut self, names: Names, config: Option<&Path>) -> Vec<String> {
        self.config = config.map(Path::to_owned);
        let names: &[&str] = match names {
            Names::Secrets => &["db-password", "api-key"],
            Names::SecretsAndTemplates => &["db-password", "api-key", "app.env"],
            Names::Sources => &["default", "staging"],
            Names::Units => &["web.service", "app@eu.service", "app.service", "app.service"],
        };
        names.iter().map(|name| (*name).to_owned()).collect()
    }
}

fn definition() -> clap::Command {
    let mut command = Cli::command();
    command.build();
    command
}

/// The lines for a command line, without descriptions.
fn listed(words: &str, machine: &mut Few) -> String {
    let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
    let text = complete(&definition(), &words, machine);
    text.lines().map(|line| line.split('\t').next().unwrap_or(line)).collect::<Vec<_>>().join(" ")
}

#[test]
fn what_fits_at_the_cursor_is_listed() {
    for (words, expected) in [
        // verbs, without internal ones
        ("re", "refresh remove reload release resolve"),
        ("co", "core"),
        ("gen", ""),
        ("token ", "set check help"),
        ("help to", "token"),
        ("nonsense ", ""),
        // names
        ("get ", "api-key db-password"),
        ("get db", "db-password"),
        ("get x", ""),
        ("refresh db-password ", "api-key app.env db-password"),
        ("explain a", "app.service app@eu.service"),
        ("explain app.service ap", "api-key app.env"),
        ("explain app.service db-password ", ""),
        ("remove --dry-run db", "db-password"),
        ("get --as a", "app.service app@eu.service"),
        ("get --as=w", "--as=web.service"),
        ("get --as app db", "db-password"),
        ("token set --source ", "default staging"),
        ("token check --source=s", "--source=staging"),
        ("add ", ""),
        ("add new op://v/i/f --unit app@", "app@eu.service"),
        // options: hidden ones and those that are already there are omitted
        ("get --", "--as --socket --help"),
        ("get --as app --", "--socket --help"),
        ("add --plain --unit app --d", "--dry-run"),
        ("add --unit app --u", "--unit"),
        ("add --drop", ""),
        ("token set --file --no", "--no-check"),
        ("metrics -o file --o", ""),
        // values that the definition or the shell knows
        ("token set --with-key host", "host host+tpm2"),
        ("check ", ":files"),
        ("check --config ", ":directories"),
        ("add --config=/e", ":directories"),
        ("token set --file ", ":files"),
        ("run ", ""),
        ("run --all -- e", ":commands"),
        ("run --all -- env ", ":files"),
        ("import op-env app.env --output=", ":files"),
    ] {
        assert_eq!(listed(words, &mut Few::default()), expected, "{words}");
    }
    assert_eq!(complete(&definition(), &[], &mut Few::default()), "");
}

#[test]
fn verbs_and_options_are_described() {
    let lines = |words: &[&str]| {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        complete(&definition(), &words, &mut Few::default())
    };
    assert_eq!(lines(&["stat"]), "status\tShow service health and problems\n");
    assert_eq!(lines(&["status", "--j"]), "--json\tPrint JSON, for programs\n");
}

#[test]
fn names_come_from_the_configuration_on_the_command_line() {
    for words in ["remove --config /x ", "remove --config=/x "] {
        let mut machine = Few::default();
        listed(words, &mut machine);
        assert_eq!(machine.config.as_deref(), Some(Path::new("/x")), "{words}");
    }
}

/// The arguments whose values cannot be listed.
const FREE: [(&str, &str); 7] = [
    ("add", "name"),
    ("add", "reference"),
    ("add", "id"),
    ("run", "env"),
    ("run", "prefix"),
    ("install", "allow_unknown_sha256"),
    ("resolve", "tokens"),
];

#[test]
fn every_other_value_is_listed() {
    let mut verbs = vec![definition()];
    let mut free = Vec::new();
    while let Some(verb) = verbs.pop() {
        verbs.extend(
            verb.get_subcommands().filter(|verb| !verb.is_hide_set() && verb.get_name() != "help").cloned(),
        );
        let takes = |argument: &&clap::Arg| argument.get_num_args().is_some_and(|range| range.takes_values());
        for argument in verb.get_arguments().filter(takes).filter(|argument| !argument.is_hide_set()) {
            if values(verb.get_name(), argument) == Values::Free {
                free.push((verb.get_name().to_owned(), argument.get_id().to_string()));
            }
        }
    }
    free.sort();
    let mut expected = FREE.map(|(verb, argument)| (verb.to_owned(), argument.to_owned()));
    expected.sort();
    assert_eq!(free, expected);
}

/// A directory with the scripts, a file, and a program onecred that records its words and prints an answer.
fn prepared() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    for (name, script) in SCRIPTS {
        fs::write(dir.path().join(name), script).expect("written");
    }
    fs::write(dir.path().join("config.json"), "").expect("written");
    let program = dir.path().join("onecred");
    fs::write(&program, "#!/bin/sh\nprintf '<%s>' \"$@\" >\"$ASKED\"\nprintf '%b' \"$ANSWER\"\n")
        .expect("written");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("executable");
    dir
}

/// What a shell prints, sorted, and the words with which onecred was called. `None` if the shell is not
/// installed.
fn asked(shell: &str, code: &str, answer: &str) -> Option<(Vec<String>, String)> {
    let dir = prepared();
    let path = format!("{}:{}", dir.path().display(), std::env::var("PATH").unwrap_or_default());
    let words = dir.path().join("asked");
    let mut command = Command::new(shell);
    command.args(["-c", code]).current_dir(dir.path()).stdin(Stdio::null());
    command.env("PATH", path).env("HOME", dir.path()).env("ASKED", &words).env("ANSWER", answer);
    let Ok(output) = command.output() else {
        eprintln!("skipped: {shell} is not installed");
        return None;
    };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{shell} -c {code}: {}: {said}", output.status);
    let mut lines: Vec<String> = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
    lines.sort();
    Some((lines, fs::read_to_string(&words).unwrap_or_default()))
}

/// Command lines, what onecred answers, the words with which it must be called, and what bash must insert.
/// Other shells insert whole words.
const LINES: [(&str, &str, &str, &[&str]); 6] = [
    ("onecred re", r"refresh\tLook up\nreload\tLoad\n", "<re>", &["refresh", "reload"]),
    ("onecred get ", r"api-key\ndb-password\n", "<get><>", &["api-key", "db-password"]),
    (
        "onecred get --as app@",
        r"app@.service\napp@eu.service\n",
        "<get><--as><app@>",
        &[".service", "eu.service"],
    ),
    ("onecred token check --source=", r"--source=default\n", "<token><check><--source=>", &["default"]),
    ("onecred check conf", r":files\n", "<check><conf>", &["config.json"]),
    ("onecred metrics --output=conf", r":files\n", "<metrics><--output=conf>", &["config.json"]),
];

#[test]
fn bash_inserts_what_is_listed() {
    for (line, answer, words, inserted) in LINES {
        let code = format!(
            "set -eu; COMP_WORDBREAKS=$' \\t\\n\"\\'@><=;|&(:'; . ./onecred.bash; COMP_LINE='{line}'; COMP_POINT=${{#COMP_LINE}}; \
             _onecred; printf '%s\\n' \"${{COMPREPLY[@]}}\"; complete -p onecred >/dev/null"
        );
        let (lines, asked) = asked("bash", &code, answer).expect("bash is installed");
        assert_eq!(
            (lines, asked.as_str()),
            (inserted.iter().map(ToString::to_string).collect(), &*format!("<complete><-->{words}")),
            "{line}"
        );
    }
}

#[test]
fn fish_inserts_what_is_listed() {
    for (line, answer, words, _) in LINES {
        let Some((lines, asked)) =
            asked("fish", &format!("source onecred.fish; complete -C '{line}'"), answer)
        else {
            return;
        };
        let expected = match answer {
            ":files\\n" => line.rsplit(' ').next().unwrap_or_default().replace("conf", "config.json"),
            _ => answer.replace("\\n", "\n").replace("\\t", "\t"),
        };
        assert_eq!(
            (lines.join("\n").trim(), asked.as_str()),
            (expected.trim(), &*format!("<complete><-->{words}")),
            "{line}"
        );
    }
}

#[test]
fn zsh_inserts_what_is_listed() {
    for (line, answer, words, _) in LINES {
        let typed = line.split(' ').map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
        let code = format!(
            "_describe() {{ print -rl -- \"${{(@P)2}}\" }}; _files() {{ print -r files }}; compset() {{ : }}; compdef() {{ : }}; \
             source ./_onecred; words=({typed}); CURRENT=$#words; PREFIX=$words[CURRENT]; _onecred"
        );
        let Some((lines, asked)) = asked("zsh", &code, answer) else { return };
        let expected = match answer {
            ":files\\n" => "files".to_owned(),
            _ => answer.replace("\\n", "\n").replace("\\t", ":"),
        };
        assert_eq!(
            (lines.join("\n").trim(), asked.as_str()),
            (expected.trim(), &*format!("<complete><-->{words}")),
            "{line}"
        );
    }
}
