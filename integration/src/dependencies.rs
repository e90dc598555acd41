//! Checks the layout of the sources: modules import only lower layers, and the modules of a directory do not
//! import each other in a cycle.
//!
//! Every path that starts with `crate::`, `super::` or `self::` counts, in `use` and elsewhere. Tests and the
//! rules of the fuzz targets are ignored: they may use anything. ARCHITECTURE.md explains the order.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::Path,
};

use syn::{
    Attribute, Ident, ItemMod, ItemUse, UseTree,
    visit::{self, Visit},
};

/// The layers of the crate, the lowest first. Modules in one entry may not import each other.
const CRATE: &[&[&str]] = &[&["domain", "host"], &["ipc"], &["config"], &["provider", "resolver"], &["cli"]];

/// The layers of `provider`, the lowest first.
const PROVIDER: &[&[&str]] = &[
    &["base"],
    &["store"],
    &["observe"],
    &["fetch"],
    &["publish"],
    &["consumers"],
    &["context"],
    &["request"],
    &["dbus"],
    &["run"],
];

/// A module's path, such as `["provider", "store"]`.
type Module = Vec<String>;

/// An import: the module that has it, and the path it names.
#[derive(Debug)]
struct Import {
    from: Module,
    path: Vec<String>,
}

/// Collects the paths in a file.
struct Paths<'a> {
    module: Module,
    found: &'a mut Vec<Import>,
}

impl Paths<'_> {
    /// Records a path as an absolute one.
    fn note(&mut self, path: &[String]) {
        let mut base = self.module.clone();
        let mut rest = path;
        match rest.first().map(String::as_str) {
            Some("crate") => base.clear(),
            Some("self") => {}
            Some("super") => {
                while rest.first().is_some_and(|first| first == "super") {
                    base.pop();
                    rest = &rest[1..];
                }
                base.extend_from_slice(rest);
                self.found.push(Import { from: self.module.clone(), path: base });
                return;
            }
            _ => return,
        }
        base.extend_from_slice(&rest[1..]);
        self.found.push(Import { from: self.module.clone(), path: base });
    }

    fn note_use(&mut self, prefix: &mut Vec<String>, tree: &UseTree) {
        match tree {
            UseTree::Path(path) => {
                prefix.push(path.ident.to_string());
                self.note_use(prefix, &path.tree);
                prefix.pop();
            }
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.note_use(prefix, tree)),
            UseTree::Name(name) => self.note_with(prefix, &name.ident),
            UseTree::Rename(rename) => self.note_with(prefix, &rename.ident),
            UseTree::Glob(_) => self.note(prefix),
        }
    }

    fn note_with(&mut self, prefix: &[String], ident: &Ident) {
        let mut path = prefix.to_vec();
        if ident != "self" {
            path.push(ident.to_string());
        }
        self.note(&path);
    }
}

/// Whether it is compiled only for tests or the fuzzer.
fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().filter(|attribute| attribute.path().is_ident("cfg")).any(|attribute| {
        let tokens = attribute.meta.require_list().map(|list| list.tokens.to_string());
        tokens.is_ok_and(|tokens| tokens == "test" || tokens.contains("fuzzing"))
    })
}

impl<'ast> Visit<'ast> for Paths<'_> {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        let attributes: &[Attribute] = match item {
            syn::Item::Fn(item) => &item.attrs,
            syn::Item::Impl(item) => &item.attrs,
            syn::Item::Struct(item) => &item.attrs,
            syn::Item::Use(item) => &item.attrs,
            syn::Item::Mod(item) => &item.attrs,
            syn::Item::Const(item) => &item.attrs,
            _ => &[],
        };
        if !is_for_tests(attributes) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        self.module.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.module.pop();
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.note_use(&mut Vec::new(), &item.tree);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.note(&segments);
        visit::visit_path(self, path);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if !is_for_tests(&item.attrs) {
            visit::visit_impl_item_fn(self, item);
        }
    }
}

/// The modules of a crate and their imports.
#[derive(Default)]
struct Sources {
    modules: BTreeSet<Module>,
    imports: Vec<Import>,
}

impl Sources {
    fn of(root: &Path) -> Self {
        let mut sources = Self::default();
        sources.read(root, &Module::new());
        sources
    }

    fn read(&mut self, folder: &Path, module: &Module) {
        let mut entries: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        for path in entries {
            let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let below = || [module.as_slice(), std::slice::from_ref(&stem)].concat();
            if path.is_dir() {
                self.read(&path, &below());
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let is_root = matches!(stem.as_str(), "mod" | "lib" | "main");
                self.add(&fs::read_to_string(&path).unwrap(), if is_root { module.clone() } else { below() });
            }
        }
    }

    fn add(&mut self, text: &str, module: Module) {
        if module.iter().any(|name| name.ends_with("tests")) {
            return;
        }
        let file = syn::parse_file(text).unwrap_or_else(|error| panic!("{}: {error}", module.join("::")));
        Paths { module: module.clone(), found: &mut self.imports }.visit_file(&file);
        self.modules.insert(module);
    }

    /// The module that a path leads to: the longest prefix that is a module.
    fn target(&self, path: &[String]) -> Module {
        let lengths = (0..=path.len()).rev();
        lengths
            .map(|length| path[..length].to_vec())
            .find(|module| self.modules.contains(module))
            .unwrap_or_default()
    }

    /// For each directory, which of its modules import which others, with an example.
    fn siblings(&self) -> BTreeMap<Module, BTreeMap<(String, String), String>> {
        let mut all: BTreeMap<Module, BTreeMap<(String, String), String>> = BTreeMap::new();
        for Import { from, path } in &self.imports {
            let to = self.target(path);
            let common = from.iter().zip(&to).take_while(|(one, other)| one == other).count();
            if let (Some(one), Some(other)) = (from.get(common), to.get(common)) {
                let example = format!("{} imports {}", from.join("::"), path.join("::"));
                all.entry(from[..common].to_vec())
                    .or_default()
                    .entry((one.clone(), other.clone()))
                    .or_insert(example);
            }
        }
        all
    }
}

/// The imports of a directory that violate the order.
fn against_order(layers: &[&[&str]], imports: &BTreeMap<(String, String), String>) -> Vec<String> {
    let height = |module: &str| layers.iter().position(|layer| layer.contains(&module));
    let mut wrong = Vec::new();
    for ((from, to), example) in imports {
        match (height(from), height(to)) {
            (Some(from), Some(to)) if to < from => {}
            (Some(_), Some(_)) => wrong.push(format!("{example}: {to} is not below {from}")),
            _ => wrong.push(format!("{example}: {from} or {to} has no place in the order of layers")),
        }
    }
    wrong
}

/// All modules that a module imports, directly or indirectly.
fn reached<'a>(start: &'a String, imports: &'a BTreeMap<(String, String), String>) -> BTreeSet<&'a String> {
    let (mut seen, mut next) = (BTreeSet::new(), vec![start]);
    while let Some(module) = next.pop() {
        let targets = imports.keys().filter(|(from, _)| from == module).map(|(_, to)| to);
        next.extend(targets.filter(|to| seen.insert(*to)));
    }
    seen
}

/// The cycles in a directory: modules that import each other, directly or indirectly.
fn circles(imports: &BTreeMap<(String, String), String>) -> Vec<String> {
    let in_circle = |(from, to): &(String, String)| reached(to, imports).contains(from);
    imports
        .iter()
        .filter(|(edge, _)| in_circle(edge))
        .map(|(_, example)| format!("{example}, in a circle"))
        .collect()
}

/// All violations in a crate's imports.
fn wrong(sources: &Sources, layers: &[(&str, &[&[&str]])]) -> String {
    let mut all = String::new();
    for (folder, imports) in sources.siblings() {
        let folder = folder.join("::");
        let order = layers
            .iter()
            .find(|(name, _)| *name == folder)
            .map(|(_, layers)| against_order(layers, &imports));
        for line in order.unwrap_or_default().into_iter().chain(circles(&imports)) {
            let _ = writeln!(all, "{line}");
        }
    }
    all
}

#[test]
fn the_layout_is_kept() {
    let root = crate::installed::repository();
    let product = wrong(&Sources::of(&root.join("src")), &[("", CRATE), ("provider", PROVIDER)]);
    let integration = wrong(&Sources::of(&root.join("integration/src")), &[]);
    let storm = wrong(&Sources::of(&root.join("integration/storm")), &[]);
    assert!(
        product.is_empty() && integration.is_empty() && storm.is_empty(),
        "\n{product}{integration}{storm}"
    );
}

#[test]
fn wrong_imports_are_found() {
    let of = |files: &[(&str, &str)]| {
        let mut sources = Sources::default();
        sources.modules.insert(Module::new());
        for (module, text) in files {
            sources.add(text, module.split("::").map(str::to_owned).collect());
        }
        wrong(&sources, &[("", &[&["low"], &["middle", "beside"], &["high"]])])
    };
    let modules = |text| [("low", ""), ("middle", text), ("beside", ""), ("high", ""), ("high::part", "")];
    for right in [
        "use crate::low::Thing;",
        "use super::low::{self, Thing};",
        "#[cfg(test)] mod tests { use crate::high; }",
        "#[cfg(test)] use crate::high;",
        "use std::high::Thing;",
    ] {
        assert_eq!(of(&modules(right)), "", "{right}");
    }
    for bad in [
        "use crate::high::Thing;",
        "use crate::{low, high};",
        "use super::high as other;",
        "fn f() { crate::high::part::g() }",
        "struct S(super::high::T);",
        "use crate::beside::*;",
        "mod inner { use super::super::high::T; }",
        "use crate::unknown_file::T; use crate::high::T;",
    ] {
        assert!(of(&modules(bad)).contains("is not below middle"), "{bad}: {}", of(&modules(bad)));
    }
    let circle = [
        ("high", ""),
        ("high::a", "use super::b::B;"),
        ("high::b", "use super::c::C;"),
        ("high::c", "use crate::high::a::A;"),
    ];
    assert_eq!(of(&circle).lines().count(), 3, "{}", of(&circle));
}
