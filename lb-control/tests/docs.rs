//! The documentation of the config file: its examples are checked, its lists are complete.

use std::collections::BTreeSet;

use lb_control::config::{Origin, Purpose, codes, load_blocking};

const CONFIG_MD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/config.md");
const README_MD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");

fn blocks(text: &str) -> Vec<(usize, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (number, line) in text.lines().enumerate() {
        match (&mut open, line) {
            (None, "```toml") => open = Some((number + 1, String::new())),
            (Some(_), "```") => blocks.extend(open.take()),
            (Some((_, block)), line) => {
                block.push_str(line);
                block.push('\n');
            }
            (None, _) => {}
        }
    }
    blocks
}

/// Adds what an example leaves out: a listener, a route, the backends that it names.
fn completed(example: &str) -> String {
    let mut text = example.to_owned();
    if !text.contains("[[listener]]") {
        text.push_str("\n[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n");
    }
    let named: BTreeSet<String> = text
        .split("backend ")
        .skip(1)
        .filter_map(|rest| rest.trim_start().strip_prefix('=')?.split('"').nth(1))
        .map(str::to_owned)
        .collect();
    let defined: BTreeSet<String> = text
        .split("[[backend]]")
        .skip(1)
        .filter_map(|rest| rest.split('"').nth(1))
        .map(str::to_owned)
        .collect();
    for backend in named.difference(&defined) {
        text.push_str(&format!(
            "\n[[backend]]\nname = \"{backend}\"\nserver = [{{ name = \"a\", address = \"10.0.0.1:80\" }}]\n"
        ));
    }
    if !text.contains("[[route]]") {
        for backend in if defined.is_empty() { BTreeSet::from(["app".to_owned()]) } else { defined.clone() } {
            text.push_str(&format!("\n[[route]]\nname = \"to-{backend}\"\npath_prefix = \"/{backend}\"\nbackend = \"{backend}\"\n"));
        }
        if defined.is_empty() {
            text.push_str(
                "\n[[backend]]\nname = \"app\"\nserver = [{ name = \"a\", address = \"10.0.0.1:80\" }]\n",
            );
        }
    }
    text
}

#[test]
fn every_example_is_a_configuration() {
    // What an example says nothing about may be warned of.
    let about_surroundings =
        [codes::OWN_KEYS, codes::PASSING_KEYS, codes::NOTHING_INCLUDED, codes::UNRESOLVED_HERE];
    for path in [CONFIG_MD, README_MD] {
        let text = std::fs::read_to_string(path).expect("the documentation");
        let blocks = blocks(&text);
        assert!(!blocks.is_empty(), "{path}");
        for (line, example) in blocks {
            // Included files are not there, and no name server is asked.
            let example =
                example.replace("[\"conf.d/*.toml\"]", "[]").replace(".cart.internal", ".localhost");
            let text = completed(&example);
            let origin = Origin::Text { name: "example".to_owned(), text };
            let loaded = load_blocking(&origin, Purpose::Check, None).expect("a runtime");
            let told = loaded.report.text("");
            assert!(loaded.plan.is_some(), "{path}:{line}:\n{told}");
            for finding in loaded.report.diagnostics() {
                assert!(about_surroundings.contains(&finding.code), "{path}:{line}:\n{told}");
            }
        }
    }
}

#[test]
fn every_code_is_listed() {
    let text = std::fs::read_to_string(CONFIG_MD).expect("the documentation");
    let (ours, core) = (codes::ALL, lb_core::compile::codes::ALL);
    let mut all: Vec<(&str, &str)> = ours.iter().chain(core).copied().collect();
    all.sort();
    let listed: Vec<&str> = text.lines().filter(|line| line.starts_with("| LB")).collect();
    let expected: Vec<String> = all.iter().map(|(code, meaning)| format!("| {code} | {meaning} |")).collect();
    assert_eq!(listed, expected);
    let unique: BTreeSet<&str> = all.iter().map(|(code, _)| *code).collect();
    assert_eq!(unique.len(), all.len(), "a code is given twice");
}

#[test]
fn every_key_is_mentioned() {
    let text = std::fs::read_to_string(CONFIG_MD).expect("the documentation");
    let everything = include_str!("config/good/everything.toml");
    let (tree, malformed) = lb_control::config::tree::parse(0, everything);
    assert!(malformed.is_empty());
    let mut keys = BTreeSet::new();
    collect(&tree, &mut keys);
    // Names that the example chose itself.
    let chosen =
        ["x-from", "x-beta", "x-any", "x-none", "x-version", "x-a", "x-c", "debug", "group", "env", "team"];
    for key in keys.iter().filter(|key| !chosen.contains(&key.as_str()) && key.parse::<u16>().is_err()) {
        assert!(text.contains(key.as_str()), "docs/config.md does not mention `{key}`");
    }
}

fn collect(table: &lb_control::config::tree::Table, keys: &mut BTreeSet<String>) {
    use lb_control::config::tree::Value;
    for entry in &table.entries {
        keys.insert(entry.key.clone());
        let items = match &entry.node.value {
            Value::Array(items) => items.as_slice(),
            _ => std::slice::from_ref(&entry.node),
        };
        for item in items {
            if let Value::Table(inner) = &item.value {
                collect(inner, keys);
            }
        }
    }
}
