//! Tests that every onecred command in the documentation, in a block or within a sentence, exists.

use std::fs;
use std::path::Path;

use clap::CommandFactory;

use super::*;

/// The arguments of each onecred command on a page.
fn commands(page: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut in_block = false;
    for line in page.lines() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        } else if in_block {
            let line = line.split(" #").next().unwrap_or(line);
            all.extend(line.split(['|', ';']).filter_map(|part| {
                let words = part.trim().trim_start_matches("sudo ").trim_start_matches("ExecStart=/usr/bin/");
                words.strip_prefix("onecred ").map(str::to_owned)
            }));
        } else {
            let spans = line.split('`').skip(1).step_by(2);
            all.extend(spans.filter_map(|span| {
                span.trim_start_matches("… | ").strip_prefix("onecred ").map(str::to_owned)
            }));
        }
    }
    all
}

/// What is wrong with a command.
fn wrong(words: &str) -> Option<String> {
    let mut command = Cli::command();
    command.build();
    let mut here = &command;
    for word in words.split_whitespace().take_while(|word| *word != "--") {
        let is_known = |name: &str| {
            let name = name.split('=').next().unwrap_or(name);
            here.get_arguments().any(|argument| argument.get_long() == Some(name))
        };
        match word.strip_prefix("--") {
            Some(option) if !is_known(option) => return Some(format!("{} has no {word}", here.get_name())),
            Some(_) => {}
            None => match here.find_subcommand(word) {
                Some(verb) => here = verb,
                None if here.has_subcommands() => return Some(format!("there is no verb {word}")),
                None => {}
            },
        }
    }
    None
}

#[test]
fn every_command_in_the_documentation_is_one() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = vec![root.join("README.md"), root.join("CHANGELOG.md")];
    let folder = fs::read_dir(root.join("docs")).expect("the folder");
    pages.extend(folder.map(|entry| entry.expect("an entry").path()));
    let mut seen = 0;
    for page in pages.iter().filter(|page| page.extension().is_some_and(|ending| ending == "md")) {
        for command in commands(&fs::read_to_string(page).expect("text")) {
            seen += 1;
            assert_eq!(wrong(&command), None, "{}: onecred {command}", page.display());
        }
    }
    assert!(seen > 60, "{seen} were seen alone");
    assert!(wrong("token sett").is_some() && wrong("get --hex x").is_some());
}
