//! Converts OpNix's secrets.json to a configuration of onecred. It keeps positions, and reports what it
//! cannot convert.
//!
//! A secret's `path` becomes a target below /run/secrets, because secrets are published only in memory. Its
//! services are restarted on a change.

mod span;

use std::collections::BTreeMap;

use super::{
    checked::REFRESHES,
    json::{self, JsonValue, Member, Node},
};

/// The directory of OpNix's files with relative paths.
pub(crate) const FOLDER: &str = "/var/lib/opnix/secrets";
/// The directory of onecred's published files.
const TARGETS: &str = "/run/secrets";
/// The maximum length of names: secrets allow 128 bytes, and a duplicate name gets a number.
const LONGEST: usize = 100;
/// OpNix's default interval of polling.
const POLLED: &str = "6h";
/// The directories for links.
const LINKED: [&str; 5] = ["/etc/", "/run/", "/var/lib/", "/opt/", "/root/"];

/// The result of a conversion.
#[derive(Debug)]
pub(super) struct Converted {
    pub(super) tree: Node,
    /// What was not converted or was changed: the position, the key and the reason.
    pub(super) notes: Vec<(usize, String, String)>,
}

/// The output of `onecred import opnix`.
#[derive(Debug)]
pub struct Imported {
    /// The configuration.
    pub json: String,
    /// What was not converted or was changed, with the reason.
    pub notes: Vec<String>,
}

/// Converts the text of OpNix's file.
pub fn import_opnix(text: &str) -> Result<Imported, String> {
    let tree = json::parse(text).map_err(|mistake| {
        let line = 1 + text[..mistake.byte.min(text.len())].matches('\n').count();
        format!("line {line}: {}; {}", mistake.what, mistake.remedy)
    })?;
    let converted =
        convert(&tree).ok_or("not an OpNix file: OpNix's \"secrets\" have a \"path\" and no \"name\"")?;
    let line = |byte| 1 + text[..byte].matches('\n').count();
    let notes =
        converted.notes.iter().map(|(byte, what, why)| format!("line {}: {what}: {why}", line(*byte)));
    let notes = notes.collect();
    Ok(Imported { json: print(&converted.tree, 0) + "\n", notes })
}

/// Converts OpNix's file; `None` if the file is not OpNix's.
pub(super) fn convert(tree: &Node) -> Option<Converted> {
    let secrets = list(get(tree, "secrets")?);
    let is_ours = |secret: &Node| get(secret, "name").is_some();
    let is_theirs = |secret: &Node| get(secret, "path").is_some() && get(secret, "reference").is_some();
    let templated = get(tree, "pathTemplate").is_some() || get(tree, "systemdIntegration").is_some();
    if secrets.iter().any(is_ours) || !(templated || secrets.iter().any(is_theirs)) {
        return None;
    }
    let mut import = Import { notes: Vec::new(), names: BTreeMap::new() };
    let common = import.common_services(tree);
    let made = secrets.iter().filter_map(|secret| import.secret(tree, secret, &common)).collect();
    for Member { byte, key, .. } in members(tree) {
        if !["secrets", "pathTemplate", "defaults", "systemdIntegration", "$schema", "//"]
            .contains(&key.as_str())
        {
            import.note(*byte, format!("{key:?}"), "onecred has no equivalent");
        }
    }
    let secrets = Node { byte: tree.byte, value: JsonValue::Array(made) };
    let mut top = Vec::new();
    if let Some(refresh) = import.refresh(tree) {
        top.push(("defaults", object(refresh.byte, vec![("refresh", refresh)])));
    }
    top.push(("secrets", secrets));
    let tree = object(tree.byte, top);
    Some(Converted { tree, notes: import.notes })
}

struct Import {
    notes: Vec<(usize, String, String)>,
    names: BTreeMap<String, usize>,
}

impl Import {
    fn note(&mut self, byte: usize, what: impl Into<String>, why: impl Into<String>) {
        self.notes.push((byte, what.into(), why.into()));
    }

    fn secret(&mut self, tree: &Node, secret: &Node, common: &[Node]) -> Option<Node> {
        let path = match self.path(tree, secret).and_then(names_a_file) {
            Ok(path) => path,
            Err(why) => {
                self.note(secret.byte, "a secret is left out", why);
                return None;
            }
        };
        let place = get(secret, "path").map_or(secret.byte, |path| path.byte);
        let (target, link) = self.target(&path, place);
        let name = self.name(target.strip_prefix(TARGETS).unwrap_or(&target));
        let mut made = vec![("name", text(place, &name))];
        made.extend(get(secret, "reference").map(|reference| ("reference", reference.clone())));
        made.push(("target", text(place, &target)));
        for key in ["owner", "group"] {
            made.extend(get(secret, key).map(|node| (key, node.clone())));
        }
        made.extend(get(secret, "mode").map(|mode| ("mode", self.mode(mode, &name))));
        let links = self.links(secret, link, place, &name);
        if !links.is_empty() {
            made.push(("links", Node { byte: place, value: JsonValue::Array(links) }));
        }
        let (mut restart, reload) = self.services(secret, &name);
        restart.extend(common.iter().filter(|unit| !reload.contains(unit)).cloned());
        restart.dedup_by(|a, b| a.value == b.value);
        for (key, units) in [("restartUnits", restart), ("reloadUnits", reload)] {
            if !units.is_empty() {
                made.push((key, Node { byte: secret.byte, value: JsonValue::Array(units) }));
            }
        }
        for Member { byte, key, value } in members(secret) {
            match key.as_str() {
                "path" | "reference" | "owner" | "group" | "mode" | "services" | "variables" | "symlinks"
                | "//" => {}
                "kind" if matches!(str_of(value), Some("field" | "file")) => {} // the reference determines it
                _ => self.note(*byte, format!("{key:?} of {name}"), "onecred has no equivalent"),
            }
        }
        Some(object(secret.byte, made))
    }

    /// The path of the secret, or the path from the template, which OpNix uses only without a path.
    fn path(&self, tree: &Node, secret: &Node) -> Result<String, String> {
        let path = get(secret, "path").and_then(str_of).unwrap_or_default();
        let (template, key) = match get(tree, "pathTemplate").and_then(str_of) {
            Some(template) if path.is_empty() => (template, "pathTemplate"),
            _ if path.is_empty() => return Err("it has no \"path\"".into()),
            _ => (path, "path"),
        };
        let variable = |key: &str| {
            let of = |node: Option<&Node>| {
                node.and_then(|node| get(node, key)).and_then(str_of).map(str::to_owned)
            };
            of(get(secret, "variables")).or_else(|| of(get(tree, "defaults")))
        };
        let (mut made, mut rest) = (String::new(), template);
        while let Some((before, after)) = rest.split_once('{') {
            let (name, after) =
                after.split_once('}').ok_or_else(|| format!("a {{ in {key:?} is not closed"))?;
            let value = variable(name);
            made.push_str(before);
            made.push_str(
                &value.ok_or_else(|| format!("the secret does not set {name:?}, which {key:?} uses"))?,
            );
            rest = after;
        }
        Ok(made + rest)
    }

    /// The target for a file of OpNix, and its old path if that becomes a link.
    fn target(&mut self, path: &str, byte: usize) -> (String, Option<String>) {
        let below = path.strip_prefix(FOLDER).filter(|rest| rest.starts_with('/')).unwrap_or(path);
        let whole = format!("/{}", parts(below).join("/"));
        if below.starts_with(&format!("{TARGETS}/")) && below == path {
            return (whole, None);
        }
        let target = format!("{TARGETS}{whole}");
        if !path.starts_with('/') || below != path {
            return (target, None);
        }
        let why = "secrets are published only in memory, so the path becomes a symbolic link";
        self.note(byte, format!("{path} becomes {target}"), why);
        (target, Some(whole))
    }

    /// The links to a file: its old path, and OpNix's symlinks. The provider must be allowed to write to
    /// their directories.
    fn links(&mut self, secret: &Node, first: Option<String>, place: usize, name: &str) -> Vec<Node> {
        let listed = get(secret, "symlinks").map(list).unwrap_or_default();
        let listed = listed.iter().filter_map(|node| Some((node.byte, str_of(node)?.to_owned())));
        let all: Vec<(usize, String)> = first.map(|link| (place, link)).into_iter().chain(listed).collect();
        let mut links = Vec::new();
        for (byte, link) in all {
            if LINKED.iter().any(|folder| link.starts_with(folder)) {
                let why = "grant onecred.service write access with a ReadWritePaths= drop-in";
                self.note(byte, format!("the link {link} of {name}"), why);
                links.push(text(byte, &link));
            } else {
                let why = "links can be below /etc, /run, /var/lib, /opt and /root; make it yourself";
                self.note(byte, format!("the link {link} of {name} is left out"), why);
            }
        }
        links
    }

    fn name(&mut self, path: &str) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() || "._@-".contains(c) { c } else { '-' };
        let name: String = path.trim_matches('/').chars().map(plain).collect();
        // long paths differ at their ends
        let name = &name[name.len().saturating_sub(LONGEST)..];
        let name = name.trim_matches(['-', '.']).trim_start_matches(['-', '.', '@']);
        let name = if name.is_empty() { "secret" } else { name };
        let mut number = self.names.get(name).copied().unwrap_or(1);
        let mut own = name.to_owned();
        while self.names.contains_key(&own) {
            number += 1;
            own = format!("{name}-{number}");
        }
        self.names.insert(name.to_owned(), number);
        self.names.insert(own.clone(), number);
        own
    }

    fn mode(&mut self, mode: &Node, name: &str) -> Node {
        let bits = str_of(mode).and_then(|text| u32::from_str_radix(text, 8).ok());
        match bits {
            Some(bits) if bits & !0o755 != 0 => {
                let less = format!("{:04o}", bits & 0o755);
                let why = "only the owner may write a secret, without special bits";
                self.note(mode.byte, format!("the mode of {name} becomes {less}"), why);
                text(mode.byte, &less)
            }
            _ => mode.clone(),
        }
    }

    /// The units to restart and to reload when a secret changes.
    fn services(&mut self, secret: &Node, name: &str) -> (Vec<Node>, Vec<Node>) {
        let (mut restart, mut reload) = (Vec::new(), Vec::new());
        let Some(services) = get(secret, "services") else { return (restart, reload) };
        restart.extend(list(services).iter().cloned());
        for Member { byte, key, value } in members(services) {
            let unit = text(*byte, key);
            let no_restart = is(get(value, "restart"), false);
            match get(value, "signal").filter(|node| node.value != JsonValue::Null) {
                Some(signal) => {
                    let what = format!("the signal for {key} on a change of {name}");
                    self.note(
                        signal.byte,
                        what,
                        "the unit is reloaded instead: its ExecReload= has to send it",
                    );
                    reload.push(unit);
                }
                None if no_restart => {}
                None => restart.push(unit),
            }
            if let Some(after) = get(value, "after").filter(|after| !list(after).is_empty()) {
                let why = format!("add this to the unit: After=onecred-file@{name}.service");
                self.note(after.byte, format!("the \"after\" of {key}"), why);
            }
        }
        (restart, reload)
    }

    /// The interval of OpNix's polling, as a value of `refresh`.
    fn refresh(&mut self, tree: &Node) -> Option<Node> {
        let integration = get(tree, "systemdIntegration")?;
        let polling = get(integration, "polling")?;
        if is(get(integration, "enable"), false) || !is(get(polling, "enable"), true) {
            return None;
        }
        let interval = get(polling, "interval");
        let byte = interval.map_or(polling.byte, |interval| interval.byte);
        let written = interval.and_then(str_of).unwrap_or(POLLED);
        let Some(seconds) = span::seconds(written) else {
            let why = format!("it is not a time span, so it becomes {POLLED}");
            self.note(byte, format!("the interval {written:?}"), why);
            return Some(text(byte, POLLED));
        };
        let [shortest, longest] = REFRESHES.map(|limit| limit.as_secs());
        let limited = seconds.clamp(shortest, longest);
        if limited != seconds {
            self.note(byte, format!("the interval {written:?}"), format!("it becomes {limited}s"));
        }
        Some(text(byte, &format!("{limited}s")))
    }

    /// The units to restart on every change.
    fn common_services(&mut self, tree: &Node) -> Vec<Node> {
        let Some(integration) = get(tree, "systemdIntegration") else { return Vec::new() };
        let off = |key: &str| is(get(integration, key), false);
        for Member { byte, key, .. } in members(integration) {
            let why = match key.as_str() {
                "changeDetection" => "onecred compares versions, and keeps no file of hashes",
                "errorHandling" => {
                    "a secret that is not available affects only the units that need it, and onecred tries again"
                }
                "enable" | "services" | "restartOnChange" | "polling" => continue,
                _ => "onecred has no equivalent",
            };
            self.note(*byte, format!("\"systemdIntegration\": {key:?}"), why);
        }
        let none = off("enable") || off("restartOnChange");
        get(integration, "services").filter(|_| !none).map(list).unwrap_or_default().to_vec()
    }
}

fn parts(path: &str) -> Vec<&str> {
    path.split('/').filter(|part| !matches!(*part, "" | "." | "..")).collect()
}

fn names_a_file(path: String) -> Result<String, String> {
    match parts(path.strip_prefix(FOLDER).unwrap_or(&path)).as_slice() {
        [] | ["run", "secrets"] => Err(format!("its path {path:?} names no file")),
        _ => Ok(path),
    }
}

fn members(node: &Node) -> &[Member] {
    if let JsonValue::Object(members) = &node.value { members } else { &[] }
}

fn list(node: &Node) -> &[Node] {
    if let JsonValue::Array(entries) = &node.value { entries } else { &[] }
}

fn get<'n>(node: &'n Node, key: &str) -> Option<&'n Node> {
    members(node).iter().find(|member| member.key == key).map(|member| &member.value)
}

fn str_of(node: &Node) -> Option<&str> {
    if let JsonValue::Text(text) = &node.value { Some(text) } else { None }
}

fn is(node: Option<&Node>, value: bool) -> bool {
    node.is_some_and(|node| node.value == JsonValue::Bool(value))
}

fn text(byte: usize, text: &str) -> Node {
    Node { byte, value: JsonValue::Text(text.to_owned()) }
}

fn object(byte: usize, members: Vec<(&str, Node)>) -> Node {
    let member = |(key, value): (&str, Node)| Member { byte: value.byte, key: key.to_owned(), value };
    Node { byte, value: JsonValue::Object(members.into_iter().map(member).collect()) }
}

/// Formats JSON for people: the upper levels on separate lines, each secret on one line.
fn print(node: &Node, depth: usize) -> String {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let (open, close, inner): (_, _, Vec<String>) = match &node.value {
        JsonValue::Object(members) => {
            let member = |m: &Member| format!("{}: {}", quoted(&m.key), print(&m.value, depth + 1));
            ('{', '}', members.iter().map(member).collect())
        }
        JsonValue::Array(entries) => {
            ('[', ']', entries.iter().map(|entry| print(entry, depth + 1)).collect())
        }
        JsonValue::Null => return "null".to_owned(),
        JsonValue::Bool(value) => return value.to_string(),
        JsonValue::Number(number) => return number.to_string(),
        JsonValue::Text(text) => return quoted(text),
    };
    if inner.is_empty() {
        return format!("{open}{close}");
    }
    match (depth < 2, open) {
        (true, _) => {
            let (indent, outdent) = ("  ".repeat(depth + 1), "  ".repeat(depth));
            format!("{open}\n{indent}{}\n{outdent}{close}", inner.join(&format!(",\n{indent}")))
        }
        (false, '{') => format!("{{ {} }}", inner.join(", ")),
        (false, _) => format!("{open}{}{close}", inner.join(", ")),
    }
}

#[cfg(test)]
mod tests;
