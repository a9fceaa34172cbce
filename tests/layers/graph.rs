//! Which file refers to which, read from the `use` lines and paths of the sources.

use std::collections::{BTreeMap, BTreeSet};

use super::Source;

/// The references of each file to others, by modules. A name that a module only re-exports (`pub use`) leads to the
/// file that defines it.
pub struct Graph {
    pub paths: BTreeMap<String, String>,
    /// For each module the names that it re-exports, with the module that each comes from.
    passed_on: BTreeMap<String, BTreeMap<String, String>>,
    pub edges: BTreeMap<String, BTreeSet<String>>,
}

impl Graph {
    pub fn of(sources: &[Source]) -> Self {
        let path = |source: &Source| (module_path(&source.path), source.path.clone());
        let mut graph = Graph {
            paths: sources.iter().map(path).collect(),
            passed_on: BTreeMap::new(),
            edges: BTreeMap::new(),
        };
        let named: Vec<_> = sources
            .iter()
            .map(|source| (module_path(&source.path), names(&source.code)))
            .collect();
        for (module, names) in &named {
            for (name, _) in names.iter().filter(|(_, public)| *public) {
                if let Some((file, item)) = graph.resolve(module, name) {
                    let last = name.rsplit("::").next().unwrap_or(name).to_owned();
                    if !item.is_empty() && file != *module {
                        let passed_on = graph.passed_on.entry(module.clone()).or_default();
                        passed_on.insert(last, file);
                    }
                }
            }
        }
        for (module, names) in &named {
            let mut edges = BTreeSet::new();
            for (name, public) in names {
                let Some((mut file, item)) = graph.resolve(module, name) else {
                    continue;
                };
                while let Some(next) = graph.passed_on.get(&file).and_then(|of| of.get(&item)) {
                    file.clone_from(next);
                }
                // A parent that re-exports items of its own children does not use them.
                let own = *public && file.starts_with(&format!("{module}::"));
                if file != *module && !own {
                    edges.insert(file);
                }
            }
            graph.edges.insert(module.clone(), edges);
        }
        graph
    }

    /// Returns the module that a path in another module leads to, and the item in it.
    fn resolve(&self, module: &str, name: &str) -> Option<(String, String)> {
        let mut parts = name.split("::").peekable();
        let mut at: Vec<&str> = module.split("::").collect();
        match parts.peek() {
            Some(&("crate" | "ezz")) => {
                parts.next();
                at.clear();
            }
            Some(&"self") => {
                parts.next();
            }
            Some(&"super") => {
                while parts.next_if_eq(&"super").is_some() {
                    at.pop();
                }
            }
            Some(first) => {
                let child = format!("{module}::{first}");
                self.paths.get(&child)?;
            }
            None => return None,
        }
        let mut found = at.join("::");
        for part in parts {
            let deeper = match found.as_str() {
                "" => part.to_owned(),
                _ => format!("{found}::{part}"),
            };
            if !self.paths.contains_key(&deeper) {
                let known = self.paths.contains_key(&found);
                return known.then(|| (found, part.to_owned()));
            }
            found = deeper;
        }
        self.paths
            .contains_key(&found)
            .then(|| (found, String::new()))
    }

    fn reached(&self, from: &str) -> BTreeSet<&String> {
        let mut reached = BTreeSet::new();
        let mut left: Vec<&String> = self.edges.get(from).into_iter().flatten().collect();
        while let Some(next) = left.pop() {
            if reached.insert(next) {
                left.extend(self.edges.get(next).into_iter().flatten());
            }
        }
        reached
    }

    /// Returns the paths of all files that reach themselves.
    pub fn in_circles(&self) -> Vec<&String> {
        let modules = self.paths.iter();
        let circles = modules.filter(|(module, _)| self.reached(module).contains(module));
        circles.map(|(_, path)| path).collect()
    }
}

/// Returns `plan::create` for `plan/create.rs`, and `plan` for `plan/mod.rs`.
fn module_path(path: &str) -> String {
    let path = path.strip_suffix(".rs").unwrap_or(path);
    path.strip_suffix("/mod").unwrap_or(path).replace('/', "::")
}

/// Returns the paths that a file names, and whether it re-exports them.
fn names(code: &str) -> Vec<(String, bool)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("use ") {
        let line = code[..at].rsplit('\n').next().unwrap_or_default().trim();
        let tree = code[at + 4..].split(';').next().unwrap_or_default();
        if line.is_empty() || line.starts_with("pub") {
            flatten("", tree, &mut |path| found.push((path, !line.is_empty())));
        }
    }
    for prefix in ["crate::", "super::"] {
        for (at, _) in code.match_indices(prefix) {
            let path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
            let end = code[at..].find(|c| !path(c));
            let text = &code[at..end.map_or(code.len(), |end| at + end)];
            found.push((text.trim_end_matches(':').to_owned(), false));
        }
    }
    found
}

/// Calls `each` with every path of `a::{b, c::{d as e, f}}`.
fn flatten(before: &str, tree: &str, each: &mut dyn FnMut(String)) {
    let (mut depth, mut begin) = (0, 0);
    let text = format!("{tree},");
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                let item = text[begin..at].trim();
                begin = at + 1;
                match item.split_once('{') {
                    Some((head, rest)) => {
                        let inner = rest.strip_suffix('}').unwrap_or(rest);
                        flatten(&format!("{before}{}", head.trim()), inner, each);
                    }
                    None if item.is_empty() => {}
                    None => {
                        let item = item.split(" as ").next().unwrap_or(item);
                        let path = format!("{before}{item}");
                        each(path.strip_suffix("::self").unwrap_or(&path).to_owned());
                    }
                }
            }
            _ => {}
        }
    }
}

/// A test of the reader itself: made-up files that form a circle through a re-exported name.
#[test]
fn a_circle_is_seen() {
    let source = |path: &str, code: &str| Source {
        path: path.to_owned(),
        code: code.to_owned(),
    };
    let made = [
        source("a/mod.rs", "mod b;\nmod c;\npub use b::{B as Other, Bee};"),
        source("a/b.rs", "use crate::a::c::{self, C};\n"),
        source("a/c.rs", "fn f() -> super::Bee {}"),
        source("d.rs", "pub(crate) use crate::{a::{Bee, c::C}};"),
    ];
    let graph = Graph::of(&made);
    assert_eq!(graph.in_circles(), ["a/b.rs", "a/c.rs"]);
    assert_eq!(
        graph.edges["d"].iter().collect::<Vec<_>>(),
        ["a::b", "a::c"]
    );
    assert!(graph.edges["a"].is_empty());
}
