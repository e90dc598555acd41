//! The pages of the manual: one for each verb, generated from the definition of the command line and from
//! `verbs/*.md`, and those of the service, the configuration and the D-Bus interface, generated from Markdown.

mod markdown;

use std::io;

use clap::CommandFactory;
use clap::builder::Resettable;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

/// The sections of the verbs' pages that the definition of the command line does not have.
const VERBS: [&str; 2] = [include_str!("verbs/secrets.md"), include_str!("verbs/setup.md")];

const MANUAL: &str = "onecred manual";
const SOURCE: &str = concat!("onecred ", env!("CARGO_PKG_VERSION"));
/// An empty date. Without the quotes, the words of the footer would move.
const NO_DATE: &str = "\"\"";

/// A page of the manual.
pub(super) struct Page {
    /// Its name, without the section.
    pub(super) name: String,
    /// Its section.
    pub(super) section: u8,
    /// Its text in the format of man(7).
    pub(super) text: String,
}

/// A page that does not describe a verb.
struct Topic {
    name: &'static str,
    section: u8,
    about: &'static str,
    texts: &'static [&'static str],
    see_also: &'static [&'static str],
}

const TOPICS: [Topic; 3] = [
    Topic {
        name: "onecred.service",
        section: 8,
        about: "units of onecred, which gives credentials to other units",
        texts: &[include_str!("service.md")],
        see_also: &[
            "onecred(1)",
            "onecred-status(1)",
            "onecred-explain(1)",
            "secrets.json(5)",
            "org.onecred.Credentials1(5)",
            "systemd.exec(5)",
            "systemd.socket(5)",
            "systemd-creds(1)",
            "journalctl(1)",
        ],
    },
    Topic {
        name: "secrets.json",
        section: 5,
        about: "configuration of onecred",
        texts: &[include_str!("../../../docs/configuration.md"), include_str!("configuration.md")],
        see_also: &[
            "onecred(1)",
            "onecred-check(1)",
            "onecred-reload(1)",
            "onecred-add(1)",
            "onecred-import(1)",
            "onecred.service(8)",
            "systemd.exec(5)",
            "systemd.time(7)",
        ],
    },
    Topic {
        name: "org.onecred.Credentials1",
        section: 5,
        about: "D-Bus interface of onecred",
        texts: &[include_str!("../../../docs/dbus.md")],
        see_also: &[
            "onecred(1)",
            "onecred-get(1)",
            "onecred-list(1)",
            "onecred.service(8)",
            "secrets.json(5)",
            "busctl(1)",
            "polkit(8)",
            "memfd_create(2)",
        ],
    },
];

/// All pages.
pub(super) fn pages() -> io::Result<Vec<Page>> {
    let mut pages = Vec::new();
    let mut command = super::Cli::command().disable_help_subcommand(true);
    command.build();
    let mut verbs = vec![command];
    while let Some(verb) = verbs.pop() {
        verbs.extend(verb.get_subcommands().filter(|verb| !verb.is_hide_set()).cloned());
        pages.push(of_verb(&verb)?);
    }
    pages.extend(TOPICS.iter().map(of_topic));
    Ok(pages)
}

fn of_topic(topic: &Topic) -> Page {
    let mut page = Roff::new();
    page.control("TH", [topic.name, &topic.section.to_string(), NO_DATE, SOURCE, MANUAL]);
    page.control("SH", ["NAME"]).text([roman(format!("{} - {}", topic.name, topic.about))]);
    page.control("SH", ["DESCRIPTION"]);
    for text in topic.texts {
        markdown::append(&mut page, text);
    }
    markdown::append_see_also(&mut page, topic.see_also);
    Page { name: topic.name.into(), section: topic.section, text: page.render() }
}

fn of_verb(verb: &clap::Command) -> io::Result<Page> {
    let exit_codes = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
    let mut written = Vec::new();
    let man =
        Man::new(verb.clone().after_help(Resettable::Reset)).date(NO_DATE).source(SOURCE).manual(MANUAL);
    man.render(&mut written)?;
    let mut page = Roff::new();
    append_exit_status(&mut page, &exit_codes);
    let name = verb.get_bin_name().unwrap_or_else(|| verb.get_name());
    if let Some(sections) = sections_of(name) {
        markdown::append(&mut page, sections.text);
        let main: &[&str] = if name == "onecred" { &[] } else { &["onecred(1)"] };
        markdown::append_see_also(&mut page, &[main, &sections.see_also].concat());
    }
    let mut text = String::from_utf8_lossy(&written).into_owned();
    // definitions that the page already has
    let (page, definitions) = (page.render(), Roff::new().render());
    text.push_str(page.strip_prefix(&definitions).unwrap_or(&page));
    Ok(Page { name: name.replace(' ', "-"), section: 1, text })
}

/// What `verbs/*.md` have for a verb.
struct Sections {
    text: &'static str,
    see_also: Vec<&'static str>,
}

/// Finds the sections of a verb, such as `onecred token set`.
fn sections_of(name: &str) -> Option<Sections> {
    let all = VERBS.iter().flat_map(|text| text.split("\n# ").skip(1));
    let (_, text) = all.filter_map(|part| part.split_once('\n')).find(|(title, _)| *title == name)?;
    let (text, pages) = text.split_once("See also: ")?;
    Some(Sections { text, see_also: pages.split(',').map(str::trim).collect() })
}

/// Writes a verb's exit codes as a list. What comes before them becomes a section of its own.
fn append_exit_status(page: &mut Roff, after_help: &str) {
    let Some((note, codes)) = after_help.split_once("Exit codes: ") else { return };
    if let Some(note) = note.trim().strip_prefix("Note: ") {
        page.control("SH", ["NOTES"]).text([roman(note)]);
    }
    page.control("SH", ["EXIT STATUS"]);
    for (code, meaning) in exit_codes(codes) {
        match code {
            "" => page.text([roman(meaning)]),
            _ => page.control("TP", []).text([roman(code)]).text([roman(meaning)]),
        };
    }
}

/// The exit codes in a sentence such as `0 done, 1 failed, 2 wrong command line`, each with its meaning. What
/// comes before the first has no code.
fn exit_codes(sentence: &str) -> Vec<(&str, String)> {
    let mut codes: Vec<(&str, String)> = Vec::new();
    for word in sentence.split_whitespace() {
        let ended = codes.last().is_none_or(|(_, meaning)| meaning.ends_with([',', ';', '.']));
        match codes.last_mut() {
            _ if ended && word.parse::<u8>().is_ok() => codes.push((word, String::new())),
            Some((_, meaning)) if meaning.is_empty() => meaning.push_str(word),
            Some((_, meaning)) => *meaning = format!("{meaning} {word}"),
            None => codes.push(("", word.to_owned())),
        }
    }
    for (_, meaning) in &mut codes {
        meaning.truncate(meaning.trim_end_matches([',', ';', '.']).len());
    }
    codes
}

#[cfg(test)]
mod tests;
