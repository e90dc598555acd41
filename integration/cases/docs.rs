//! Tests of the documentation: the commands on each page are run, and the configurations on it are used.
//!
//! A comment before a block gives the reason if it cannot be run here: `<!-- not run: … -->`, or `<!-- run
//! last: … -->` if it would break the rest of its page. integration/nix evaluates blocks of Nix code.
use onecred_integration::{
    cases, fake_connect,
    fake_connect::vault,
    installed::repository,
    machine::Suite,
    setup::{Setup, field},
    stage::Stage,
    theme::Theme,
};
use serde_json::{Value, json};
use std::fs;

pub const THEME: Theme = Theme {
    name: "docs",
    stage,
    shared: false,
    cases: cases![the_readme, getting_started, how_to_guides, operations, the_bus, nixos, migration],
};

/// Pages without commands, and checks of all pages.
pub const PAGES: Theme = Theme {
    name: "docs-pages",
    stage,
    shared: true,
    cases: cases![
        security,
        configuration,
        nixos_options,
        every_page_is_played,
        the_bus_is_whole,
        every_named_test_exists,
    ],
};

/// Commands that are replaced, by their beginnings.
const STAND_INS: [(&str, &str); 6] = [
    // systemd-run creates this unit temporarily; the README does not
    ("onecred explain app", "test ! -e /run/systemd/system/app.service || onecred explain app db-password"),
    ("cargo build --release", ":"), // the binary under test is built already
    ("make install PREFIX=/usr", "test -x /usr/bin/onecred"), // the machine's root was made by it
    ("onecred token set --file", "onecred token set --file </root/token"), // instead of pasting it
    ("onecred token set", "onecred token set </root/token"),
    ("systemd-ask-password -n | ", "cat /root/token | "), // instead of typing it
];
const CONFIG: &str = "/etc/onecred/secrets.json";
const PASSWORD: &str = "op://Servers/postgres/password";

fn stage(suite: Suite) -> Stage {
    let mut next = 'a';
    let mut item = |title: &str, fields: &[(&str, &str)]| {
        let id = format!("{:a<26}", format!("docsitem{next}b"));
        next = char::from(next as u8 + 1);
        let fields: Vec<Value> = fields.iter().map(|(label, value)| field(label, value)).collect();
        json!({ "id": id, "title": title, "category": "LOGIN", "version": 1, "fields": fields })
    };
    let items = [
        item("postgres", &[("password", "hunter2"), ("username", "bob")]),
        item("openai", &[("credential", "sk-canary")]),
        item("api", &[("key", "k-canary")]),
        item("app", &[("env", "A=b\n")]),
    ];
    let mut document = vault::fixture();
    document["vaults"].as_array_mut().expect("vaults").push(json!({
        "id": format!("{:a<26}", "vaultserversb"), "name": "Servers", "contentVersion": 1, "items": items,
    }));
    let setup = Setup::connect(suite).holding(document).secret("db-password", PASSWORD, &["app"]);
    let stage = setup.plan(|plan| plan.file("/usr/bin/app", "#!/bin/sh\n", 0o755)).stage();
    stage.write("/root/token.txt", fake_connect::DEFAULT_TOKEN, 0o600);
    stage.write("/root/token", format!("{}\n", fake_connect::DEFAULT_TOKEN), 0o600);
    stage.write("/root/value.txt", "broken glass", 0o600);
    stage
}

/// A fenced block.
#[derive(Debug)]
struct Block {
    line: usize,
    language: String,
    text: String,
    mark: Option<String>,
}

fn read(page: &str) -> String {
    fs::read_to_string(repository().join(page)).unwrap_or_else(|error| panic!("{page}: {error}"))
}

fn blocks(text: &str) -> Vec<Block> {
    let (mut all, mut open, mut before) = (Vec::new(), None::<Block>, "");
    for (number, line) in text.lines().map(str::trim).enumerate() {
        match (line.strip_prefix("```"), open.take()) {
            (Some(_), Some(block)) => all.push(block),
            (Some(language), None) => {
                let mark = before.strip_prefix("<!-- ").and_then(|rest| rest.strip_suffix(" -->"));
                open = Some(Block {
                    line: number + 1,
                    language: language.to_owned(),
                    text: String::new(),
                    mark: mark.map(str::to_owned),
                });
            }
            (None, Some(mut block)) => {
                block.text.push_str(line);
                block.text.push('\n');
                open = Some(block);
            }
            (None, None) if !line.is_empty() => before = line,
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a fence is not closed");
    all
}

fn play(stage: &Stage, page: &str) {
    stage.sh("systemctl start dbus.socket && (onecred status || test $? = 1)").ok();
    let all = blocks(&read(page));
    let marked = |block: &Block, what: &str| block.mark.as_ref().is_some_and(|mark| mark.starts_with(what));
    let (last, rest): (Vec<_>, Vec<_>) = all.iter().partition(|block| marked(block, "run last: "));
    for block in rest.into_iter().chain(last).filter(|block| !marked(block, "not run: ")) {
        let place = format!("{page}:{}", block.line);
        match block.language.as_str() {
            "sh" => run(stage, &place, &block.text),
            "json" => configure(stage, &place, &block.text),
            "ini" => verify(stage, &place, &block.text),
            "nix" => {}
            other => panic!("{place}: nobody looks at blocks of {other:?}; say why not: <!-- not run: … -->"),
        }
    }
}

/// Runs the commands as root.
fn run(stage: &Stage, place: &str, text: &str) {
    let text = text.replace("\\\n", " ");
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let command = line.replace("sudo ", "");
        let stand_in = STAND_INS.iter().find(|(start, _)| command.starts_with(start));
        let command = stand_in.map_or(command.clone(), |(start, other)| match start.ends_with(' ') {
            true if other.ends_with(' ') => command.replacen(start, other, 1),
            _ => (*other).to_owned(),
        });
        let ran = stage.sh(&format!("cd /root; {command}"));
        // a command that follows something is ended by its time limit
        let watched = command.starts_with("timeout ") && ran.code() == Some(124);
        assert!(ran.succeeded() || watched, "{place}: {line}\n{ran}");
    }
}

/// Installs the file as the configuration, with the machine's own source, and with everything it refers to.
fn configure(stage: &Stage, place: &str, text: &str) {
    let mut config: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{place}: {error}"));
    let is_source = config.get("source").is_some();
    if !is_source {
        config["source"] = json!({ "kind": "connect", "url": "http://127.0.0.1:8080" });
    }
    if is_source || text.contains("{{db-password}}") {
        config["secrets"] = json!([{ "name": "db-password", "reference": PASSWORD, "units": ["app"] }]);
    }
    let file = if is_source { "/root/other.json" } else { CONFIG };
    stage.write(file, config.to_string(), 0o644);
    let ran = stage.sh(&format!("onecred check {file}"));
    assert!(ran.succeeded() && ran.stderr().is_empty(), "{place}: {ran}");
    if !is_source {
        stage.sh("onecred reload").ok();
    }
}

/// Lets systemd verify the lines as a part of a service.
fn verify(stage: &Stage, place: &str, text: &str) {
    let program = if text.contains("ExecStart=") { "" } else { "ExecStart=/usr/bin/app\n" };
    stage.units([("docs.service", format!("{text}{program}").as_str())]);
    let ran = stage.sh("systemd-analyze verify docs.service");
    assert!(ran.succeeded() && ran.stderr().is_empty(), "{place}: {ran}");
}

fn the_readme(stage: &Stage) {
    play(stage, "README.md");
}

fn getting_started(stage: &Stage) {
    // a machine without declarations, and the unit of the page
    let mut config: Value = serde_json::from_slice(&stage.read(CONFIG)).expect("the configuration");
    config["secrets"] = json!([]);
    stage.write(CONFIG, config.to_string(), 0o644);
    stage.units([("app.service", "[Service]\nType=oneshot\nExecStart=/usr/bin/app\n")]);
    play(stage, "docs/getting-started.md");
}

fn how_to_guides(stage: &Stage) {
    play(stage, "docs/templates.md");
    play(stage, "docs/files.md");
    play(stage, "docs/tokens.md");
    play(stage, "docs/rotation.md");
}

fn operations(stage: &Stage) {
    play(stage, "docs/operations.md");
}

fn the_bus(stage: &Stage) {
    play(stage, "docs/dbus.md");
}

fn nixos(stage: &Stage) {
    play(stage, "docs/nixos.md");
}

fn migration(stage: &Stage) {
    let theirs = json!({ "secrets": [{ "path": "api-key", "reference": "op://Servers/api/key" }] });
    stage.write("/root/secrets.json", theirs.to_string(), 0o644);
    stage.write("/root/prod.env", format!("DB_PASSWORD={PASSWORD}\n"), 0o600);
    play(stage, "docs/migration.md");
}

fn security(stage: &Stage) {
    play(stage, "docs/security.md");
    play(stage, "docs/failures.md");
    play(stage, "docs/glossary.md");
    play(stage, "docs/SUMMARY.md");
}

fn configuration(stage: &Stage) {
    play(stage, "docs/configuration.md");
}

fn nixos_options(stage: &Stage) {
    play(stage, "docs/nixos-options.md");
}

fn every_page_is_played(_: &Stage) {
    let this = fs::read_to_string(repository().join("integration/cases/docs.rs")).expect("this file");
    let folder = fs::read_dir(repository().join("docs")).expect("the folder");
    let mut pages: Vec<String> = folder
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
        .filter(|name| name.ends_with(".md"))
        .collect();
    pages.sort();
    assert!(pages.len() >= 6, "{pages:?}");
    for page in pages {
        assert!(this.contains(&format!("play(stage, \"docs/{page}\")")), "nobody plays docs/{page}");
    }
    // and no block is mistaken for prose
    let page = "a\n<!-- not run: b -->\n\n```sh\nc\n```\n   ```json\n   {}\n   ```\n";
    let found = blocks(page);
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!((found[0].mark.as_deref(), found[0].text.as_str()), (Some("not run: b"), "c\n"));
    assert_eq!((found[1].language.as_str(), found[1].text.as_str()), ("json", "{}\n"));
}

/// Every member of the interface is documented, and every method is called.
fn the_bus_is_whole(_: &Stage) {
    let interface = read("integration/fixtures/introspection.xml");
    let document = read("docs/dbus.md");
    for kind in ["method", "property", "signal"] {
        for member in interface.split(&format!("<{kind} name=\"")).skip(1) {
            let name = member.split('"').next().unwrap_or_default();
            assert!(document.contains(&format!("`{name}")), "docs/dbus.md does not name {kind} {name}");
        }
    }
    let commands: String = blocks(&document).into_iter().map(|block| block.text).collect();
    for member in interface.split("<method name=\"").skip(1) {
        let name = member.split('"').next().unwrap_or_default();
        let verb = format!("onecred {}", name.to_lowercase());
        assert!(commands.contains(name) || commands.contains(&verb), "no command calls {name}");
    }
}

/// The tests that a page names: in tables in a column `tests`, which is the last one, and in parentheses at the end
/// of a paragraph. A row without a test has an empty list.
fn named_tests(page: &str) -> Vec<Vec<&str>> {
    let (mut rows, mut in_table) = (Vec::new(), false);
    let spans = |text| str::split(text, '`').skip(1).step_by(2).collect();
    for line in page.lines() {
        let cells = line.strip_prefix('|').and_then(|line| line.strip_suffix('|'));
        match cells.and_then(|cells| cells.rsplit('|').next()) {
            Some(last) if !in_table => in_table = last.trim() == "tests",
            Some(last) if !last.starts_with("--") => rows.push(spans(last)),
            Some(_) => {}
            None => {
                in_table = false;
                let end = line.strip_suffix("`)").and_then(|line| line.rsplit_once(" (`"));
                rows.extend(end.map(|(_, names)| names.split("`, `").collect::<Vec<_>>()));
            }
        }
    }
    rows
}

fn every_named_test_exists(_: &Stage) {
    let themes = || crate::every_theme();
    let exists = |name: &str| match name.split_once("::") {
        Some((theme, case)) => {
            themes().any(|it| it.name == theme && it.cases.iter().any(|(name, _)| *name == case))
        }
        None if name.contains('/') => repository().join(name).exists(),
        None => themes().any(|it| it.name == name),
    };
    for (page, least, untested) in [("docs/security.md", 24, 0), ("docs/failures.md", 13, 1)] {
        let text = read(page);
        let rows = named_tests(&text);
        assert!(rows.len() >= least, "{page}: {rows:?}");
        assert_eq!(rows.iter().filter(|row| row.is_empty()).count(), untested, "{page}: {rows:?}");
        let missing: Vec<&str> = rows.into_iter().flatten().filter(|name| !exists(name)).collect();
        assert!(missing.is_empty(), "{page} names {missing:?}");
    }
}
