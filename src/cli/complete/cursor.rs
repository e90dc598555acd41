//! Determines from the definition of the command line what fits at the cursor.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use clap::builder::ValueHint;
use clap::{Arg, ArgAction, Command};

/// Names that only the machine knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Names {
    Secrets,
    SecretsAndTemplates,
    Sources,
    Units,
}

/// Looks up names.
pub(super) trait Known {
    /// The names, in any order. `config` is the configuration's directory, if the command line sets it.
    fn names(&mut self, names: Names, config: Option<&Path>) -> Vec<String>;
}

/// The possible values of an argument.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Values {
    Names(Names),
    /// Words that the definition lists.
    Listed,
    Files,
    Directories,
    Commands,
    /// Anything else.
    Free,
}

/// The values of an argument of a verb.
pub(super) fn values(verb: &str, argument: &Arg) -> Values {
    match (verb, argument.get_id().as_str()) {
        // a new secret
        ("add", "name" | "id") => Values::Free,
        ("run", "command") => Values::Commands,
        (_, "source") => Values::Names(Names::Sources),
        (_, "unit" | "units") => Values::Names(Names::Units),
        ("refresh", "names") | ("explain", "credential") => Values::Names(Names::SecretsAndTemplates),
        (_, "name") => Values::Names(Names::Secrets),
        _ if !argument.get_possible_values().is_empty() => Values::Listed,
        _ if argument.get_value_hint() != ValueHint::AnyPath => Values::Free,
        _ if argument.get_value_names().is_some_and(|names| names[0] == "DIR") => Values::Directories,
        _ => Values::Files,
    }
}

/// What precedes the last word.
struct Cursor<'c> {
    command: &'c Command,
    /// The option whose value follows.
    option: Option<&'c Arg>,
    used: Vec<&'c Arg>,
    positionals: usize,
    /// Whether `--` has ended the options.
    options_ended: bool,
    config: Option<PathBuf>,
}

/// Lists what fits for the last word, one a line.
pub(super) fn complete(command: &Command, words: &[String], known: &mut dyn Known) -> String {
    let Some((last, before)) = words.split_last() else { return String::new() };
    let mut cursor = Cursor {
        command,
        option: None,
        used: Vec::new(),
        positionals: 0,
        options_ended: false,
        config: None,
    };
    before.iter().for_each(|word| cursor.pass(word));
    let mut list = List { text: String::new(), known, config: cursor.config.as_deref() };
    cursor.list(last, &mut list);
    list.text
}

impl<'c> Cursor<'c> {
    fn pass(&mut self, word: &str) {
        if let Some(option) = self.option.take()
            && is_value(option, word)
        {
            self.set(option, word);
        } else if self.options_ended || word == "-" || !word.starts_with('-') {
            match self.command.find_subcommand(word) {
                Some(verb) if !self.options_ended => {
                    (self.command, self.positionals) = (verb, 0);
                    self.used.clear();
                }
                _ => self.positionals += 1,
            }
        } else if word == "--" {
            self.options_ended = true;
        } else if let Some((name, value)) = word.split_once('=') {
            if let Some(option) = self.find(name) {
                self.used.push(option);
                self.set(option, value);
            }
        } else if let Some(option) = self.find(word) {
            self.used.push(option);
            self.option = takes_value(option).then_some(option);
        }
    }

    fn set(&mut self, option: &Arg, value: &str) {
        if option.get_id() == "config" {
            self.config = Some(value.into());
        }
    }

    fn find(&self, name: &str) -> Option<&'c Arg> {
        self.command.get_arguments().find(|argument| match name.strip_prefix("--") {
            Some(long) => argument.get_long() == Some(long),
            None => argument.get_short().is_some_and(|short| name == format!("-{short}")),
        })
    }

    fn list(&self, word: &str, list: &mut List<'_>) {
        let verb = self.command.get_name();
        if let Some(option) = self.option
            && is_value(option, word)
        {
            return list.values(verb, option, "", word);
        }
        if !self.options_ended && word.starts_with('-') {
            return match word.split_once('=') {
                Some((name, value)) => {
                    if let Some(option) = self.find(name) {
                        list.values(verb, option, &format!("{name}="), value);
                    }
                }
                None => self.options().for_each(|(name, help)| list.word("", word, &name, &help)),
            };
        }
        if !self.options_ended && self.positionals == 0 {
            for verb in self.command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
                list.word("", word, verb.get_name(), &described(verb.get_about()));
            }
        }
        let positionals: Vec<&Arg> = self.command.get_positionals().collect();
        let repeated =
            positionals.last().filter(|last| last.get_num_args().is_some_and(|n| n.max_values() > 1));
        match positionals.get(self.positionals).or(repeated) {
            // needs `--` before
            Some(argument) if argument.is_last_set() && !self.options_ended => {}
            Some(argument) if self.positionals > 0 && values(verb, argument) == Values::Commands => {
                list.line(":files");
            }
            Some(argument) => list.values(verb, argument, "", word),
            None => {}
        }
    }

    /// The visible options that can be added.
    fn options(&self) -> impl Iterator<Item = (String, String)> {
        let is_free = |argument: &&Arg| {
            let repeatable = matches!(argument.get_action(), ArgAction::Append);
            !argument.is_hide_set()
                && (repeatable || self.used.iter().all(|used| used.get_id() != argument.get_id()))
        };
        let options = self.command.get_arguments().filter(is_free);
        options.filter_map(|argument| {
            Some((format!("--{}", argument.get_long()?), described(argument.get_help())))
        })
    }
}

fn takes_value(option: &Arg) -> bool {
    option.get_num_args().is_some_and(|range| range.takes_values())
}

/// Whether a word after an option is the value of this option, whose value may be optional.
fn is_value(option: &Arg, word: &str) -> bool {
    !word.starts_with('-') || option.get_num_args().is_some_and(|range| range.min_values() > 0)
}

fn described(help: Option<&clap::builder::StyledStr>) -> String {
    help.map(ToString::to_string).unwrap_or_default().lines().next().unwrap_or_default().to_owned()
}

/// The lines for the shell.
struct List<'k> {
    text: String,
    known: &'k mut dyn Known,
    config: Option<&'k Path>,
}

impl List<'_> {
    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    /// Adds a word if it begins with what is already typed. `before` precedes both.
    fn word(&mut self, before: &str, typed: &str, word: &str, help: &str) {
        if word.starts_with(typed) {
            let _ = match help {
                "" => writeln!(self.text, "{before}{word}"),
                _ => writeln!(self.text, "{before}{word}\t{help}"),
            };
        }
    }

    fn values(&mut self, verb: &str, argument: &Arg, before: &str, typed: &str) {
        match values(verb, argument) {
            Values::Names(names) => {
                let mut names = self.known.names(names, self.config);
                names.sort();
                names.dedup();
                names.iter().for_each(|name| self.word(before, typed, name, ""));
            }
            Values::Listed => {
                for value in argument.get_possible_values().iter().filter(|value| !value.is_hide_set()) {
                    self.word(before, typed, value.get_name(), &described(value.get_help()));
                }
            }
            Values::Files => self.line(":files"),
            Values::Directories => self.line(":directories"),
            Values::Commands => self.line(":commands"),
            Values::Free => {}
        }
    }
}
