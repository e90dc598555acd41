//! Tests of the manual: each page is complete, and each command and page that it names exists.

use std::collections::BTreeSet;
use std::path::Path;

use clap::Parser;

use super::*;
use crate::cli::Cli;
use crate::config;

/// Pages of other projects that pages, units and the catalog may name.
const FOREIGN: [&str; 11] = [
    "busctl(1)",
    "grep(1)",
    "journalctl(1)",
    "man(7)",
    "memfd_create(2)",
    "polkit(8)",
    "systemctl(1)",
    "systemd-creds(1)",
    "systemd.exec(5)",
    "systemd.socket(5)",
    "systemd.time(7)",
];

fn all() -> Vec<Page> {
    pages().expect("pages")
}

/// The page as `name(section)`.
fn reference(page: &Page) -> String {
    format!("{}({})", page.name, page.section)
}

/// A page's section, without its heading.
fn section<'p>(page: &'p Page, heading: &str) -> Option<&'p str> {
    let (_, after) = page.text.split_once(&format!("\n.SH {heading}\n"))?;
    Some(after.split("\n.SH ").next().unwrap_or(after))
}

/// What a page shows, without its format.
fn plain(text: &str) -> String {
    let text = text.replace("\\fB", "").replace("\\fR", "").replace("\\*(Aq", "'");
    text.replace("\\-", "-").replace("\\\\", "\\")
}

/// The words like `name(1)` in a text.
fn references(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| c.is_whitespace() || c == ',');
    let is_reference = |word: &&str| {
        let section = word.strip_suffix(')').and_then(|word| word.rsplit_once('('));
        section.is_some_and(|(name, section)| {
            !name.is_empty() && section.len() == 1 && section.parse::<u8>().is_ok()
        })
    };
    words.map(|word| word.trim_end_matches(['.', ':', ';'])).filter(is_reference).map(str::to_owned).collect()
}

/// The pages that do not exist among those that a text names.
fn unknown(text: &str, pages: &[Page]) -> Vec<String> {
    let known: BTreeSet<String> = pages.iter().map(reference).chain(FOREIGN.map(str::to_owned)).collect();
    references(text).difference(&known).cloned().collect()
}

#[test]
fn each_verb_has_a_page_with_its_sections() {
    let pages = all();
    let verbs: Vec<_> = pages.iter().filter(|page| page.section == 1).collect();
    assert!(verbs.len() > 25, "{}", verbs.len());
    for page in verbs {
        for heading in ["NAME", "SYNOPSIS", "DESCRIPTION", "EXAMPLES", "\"SEE ALSO\""] {
            assert!(section(page, heading).is_some(), "{} has no section {heading}", page.name);
        }
        let examples = section(page, "EXAMPLES").unwrap_or_default().matches(".EX").count();
        assert!((1..=4).contains(&examples), "{} has {examples} examples", page.name);
    }
    for hidden in ["onecred-generate", "onecred-core-worker", "onecred-complete"] {
        assert!(pages.iter().all(|page| page.name != hidden), "{hidden} is hidden");
    }
}

#[test]
fn each_text_belongs_to_a_verb() {
    let names: BTreeSet<String> = all().into_iter().map(|page| page.name).collect();
    let titles = VERBS.iter().flat_map(|text| text.lines().filter_map(|line| line.strip_prefix("# ")));
    for title in titles {
        assert!(names.contains(&title.replace(' ', "-")), "{title} is not a verb");
    }
}

#[test]
fn exit_codes_are_a_list() {
    let pages = all();
    let codes = |name: &str| {
        let page = pages.iter().find(|page| page.name == name).expect("a page");
        plain(section(page, "\"EXIT STATUS\"").expect("a section"))
    };
    assert_eq!(
        codes("onecred-refresh").trim(),
        ".TP\n0\nall are up to date\n.TP\n1\nsome failed, or onecred can't be reached\n.TP\n2\nwrong command line\n.TP\n3\npermission denied"
    );
    assert!(codes("onecred-token-check").contains(".TP\n2\nwrong command line"));
    let run = pages.iter().find(|page| page.name == "onecred-run").expect("a page");
    assert!(section(run, "NOTES").expect("a note").starts_with("root and the program"));
    assert!(codes("onecred-run").starts_with("the program's own\n.TP\n203\nit cannot be executed"));
}

#[test]
fn every_example_is_a_command_that_exists() {
    let mut seen = 0;
    for page in all() {
        let blocks = page.text.split("\n.EX\n").skip(1).filter_map(|block| block.split("\n.EE").next());
        for line in blocks.flat_map(|block| {
            plain(block).replace("\\\n", " ").lines().map(str::to_owned).collect::<Vec<_>>()
        }) {
            for words in commands(&line) {
                seen += 1;
                let parsed = Cli::try_parse_from(&words);
                assert!(parsed.is_ok(), "{}: {line}: {:?}", page.name, parsed.map(drop));
            }
        }
    }
    assert!(seen > 55, "{seen} were seen");
    assert!(Cli::try_parse_from(&commands("onecred token sett")[0]).is_err());
}

/// The words of each onecred command in a line of shell.
fn commands(line: &str) -> Vec<Vec<String>> {
    let (mut all, mut word, mut quote) = (vec![Vec::new()], None::<String>, None);
    let end = |word: &mut Option<String>, all: &mut Vec<Vec<String>>| {
        all.last_mut().expect("a command").extend(word.take());
    };
    for character in line.chars() {
        match (quote, character) {
            (Some(open), close) if open == close => quote = None,
            (Some(_), _) => word.get_or_insert_default().push(character),
            (None, '"' | '\'') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None, ' ') => end(&mut word, &mut all),
            (None, '|' | '&' | ';' | '<' | '>') => {
                end(&mut word, &mut all);
                all.push(Vec::new());
            }
            (None, _) => word.get_or_insert_default().push(character),
        }
    }
    end(&mut word, &mut all);
    for words in &mut all {
        let assignments =
            words.iter().take_while(|word| word.as_str() == "sudo" || word.contains('=')).count();
        words.drain(..assignments);
    }
    all.retain(|words| words.first().is_some_and(|word| word == "onecred"));
    all
}

#[test]
fn every_page_that_is_named_exists() {
    let pages = all();
    for page in &pages {
        let own = reference(page);
        let see = section(page, "\"SEE ALSO\"").expect("a section");
        assert!(!references(&plain(see)).is_empty(), "{own} names no page");
        assert!(!references(&plain(see)).contains(&own), "{own} names itself");
        let missing = unknown(&plain(&page.text), &pages);
        assert!(missing.is_empty(), "{own} names {missing:?}");
    }
    assert_eq!(unknown("see onecred-nothing(1), onecred(1).", &pages), ["onecred-nothing(1)"]);
}

#[test]
fn the_catalog_and_the_units_name_pages_that_exist() {
    let pages = all();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("units");
    let catalog = root.join("catalog/onecred.catalog");
    let units =
        std::fs::read_dir(root.join("systemd")).expect("units").map(|entry| entry.expect("an entry").path());
    let mut seen = 0;
    for file in units.chain([catalog]).filter(|path| path.is_file()) {
        let text = std::fs::read_to_string(&file).expect("text");
        assert!(text.contains("Documentation") && text.contains("man:"), "{} names no page", file.display());
        for line in text.lines().filter(|line| line.starts_with("Documentation")) {
            let named = line.replace("man:", " ");
            seen += references(&named).len();
            assert_eq!(unknown(&named, &pages), [""; 0], "{}: {line}", file.display());
        }
    }
    assert!(seen > 25, "{seen} were seen");
}

#[test]
fn the_example_of_a_configuration_can_be_loaded() {
    let page = all().into_iter().find(|page| page.name == "secrets.json").expect("a page");
    let example = plain(section(&page, "EXAMPLE").expect("an example"));
    let json = example.split(".EX\n").nth(1).and_then(|rest| rest.split(".EE").next()).expect("a block");
    let loaded = config::from_text(Path::new("example"), json).unwrap_or_else(|report| panic!("{report:?}"));
    assert_eq!(loaded.warnings, [], "{json}");
    assert_eq!(loaded.settings.templates.len(), 1);
}

/// Each key of the schema is on the page of the configuration, in the order of the reference.
#[test]
fn each_key_of_the_configuration_is_described() {
    let page = all().into_iter().find(|page| page.name == "secrets.json").expect("a page");
    let text = plain(&page.text);
    let schema = config::schema();
    for (part, definition) in schema["$defs"].as_object().expect("definitions") {
        let section =
            plain(section(&page, &part.to_uppercase()).unwrap_or_else(|| panic!("no section {part}")));
        for key in definition["properties"].as_object().into_iter().flatten().map(|(key, _)| key) {
            let known = ["$schema", "//"].contains(&key.as_str()) || section.contains(&format!("\n{key} ("));
            assert!(known, "{part} has no {key}: {section}");
        }
    }
    assert!(text.contains("\nmaxAge (string, default \"30s\")\n"), "{text}");
}

/// docs/dbus.md, from which the page is generated, has each member of the interface with its signature.
#[test]
fn each_member_of_the_bus_is_described() {
    let page = all().into_iter().find(|page| page.name == "org.onecred.Credentials1").expect("a page");
    let text = plain(&page.text);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let interface =
        std::fs::read_to_string(root.join("integration/fixtures/introspection.xml")).expect("text");
    let attribute = |line: &str, name: &str| {
        let (_, after) =
            line.split_once(&format!(" {name}=\"")).unwrap_or_else(|| panic!("no {name}: {line}"));
        after.split('"').next().unwrap_or_default().to_owned()
    };
    let mut seen = 0;
    for part in interface.split_inclusive("</interface>") {
        for member in part.split("\n    <").skip(1) {
            let head = member.lines().next().unwrap_or_default();
            let arguments = |direction: &str| {
                let lines = member.lines().filter(|line| {
                    line.contains("<arg ") && (direction.is_empty() || line.contains(direction))
                });
                lines
                    .map(|line| format!("{} {}", attribute(line, "type"), attribute(line, "name")))
                    .collect::<Vec<_>>()
                    .join(", ")
            };
            let described = match head.split(' ').next() {
                Some("method") => {
                    let (takes, returns) = (arguments("\"in\""), arguments("\"out\""));
                    let arrow = if returns.is_empty() { String::new() } else { format!(" → {returns}") };
                    format!("{}({takes}){arrow}", attribute(head, "name"))
                }
                Some("signal") => format!("{}({})", attribute(head, "name"), arguments("")),
                Some("property") => attribute(head, "name"),
                _ => continue,
            };
            seen += 1;
            assert!(text.contains(&described), "the page does not have {described}");
            if head.starts_with("property") {
                let signature = format!(" ({})", attribute(head, "type"));
                let mut tags = text.lines().filter_map(|line| line.strip_suffix(signature.as_str()));
                assert!(
                    tags.any(|names| names.split(", ").any(|name| name == described)),
                    "no line describes {described}{signature}"
                );
            }
        }
    }
    assert!(seen > 50, "{seen} were seen");
    assert!(text.matches("busctl").count() > 10);
}
