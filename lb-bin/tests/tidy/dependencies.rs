//! Which crate may know which.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

use crate::{report, root};

/// The resolved graph of normal and build dependencies: package name → names it depends on.
fn graph() -> BTreeMap<String, BTreeSet<String>> {
    // Without a platform cargo wants packages of other systems, which were never downloaded.
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform", &platform])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");

    let text = |value: &Value| value.as_str().expect("a string").to_owned();
    let list = |value: &Value| value.as_array().expect("a list").clone();
    let names: BTreeMap<String, String> =
        list(&metadata["packages"]).iter().map(|it| (text(&it["id"]), text(&it["name"]))).collect();
    let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for node in list(&metadata["resolve"]["nodes"]) {
        let edges = graph.entry(names[&text(&node["id"])].clone()).or_default();
        for dependency in list(&node["deps"]) {
            if list(&dependency["dep_kinds"]).iter().any(|kind| kind["kind"] != "dev") {
                edges.insert(names[&text(&dependency["pkg"])].clone());
            }
        }
    }
    graph
}

fn reachable<'a>(graph: &'a BTreeMap<String, BTreeSet<String>>, from: &'a str) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    let mut todo = vec![from];
    while let Some(name) = todo.pop() {
        for next in graph.get(name).into_iter().flatten() {
            if seen.insert(next.as_str()) {
                todo.push(next);
            }
        }
    }
    seen
}

#[test]
fn crates_point_inwards() {
    let graph = graph();
    let ours = ["lb-core", "lb-io", "lb-control", "lb-bin"];
    let allowed: BTreeMap<&str, &[&str]> = [
        ("lb-core", &[][..]),
        ("lb-io", &["lb-core"][..]),
        ("lb-control", &["lb-core"][..]),
        ("lb-bin", &["lb-core", "lb-io", "lb-control"][..]),
    ]
    .into();
    let mut breaches = Vec::new();
    for name in ours {
        for dependency in &graph[name] {
            if ours.contains(&dependency.as_str()) && !allowed[name].contains(&dependency.as_str()) {
                breaches.push(format!("{name} depends on {dependency}"));
            }
        }
    }
    report(
        "lb-bin ──► lb-control ──► lb-core ◄── lb-io ◄── lb-bin, and nothing else",
        "what decides knows nobody; what moves bytes and what wants meet only in lb-bin",
        &breaches,
    );
}

#[test]
fn crates_reach_only_what_they_may() {
    let graph = graph();
    let mut breaches = Vec::new();
    for (name, forbidden, reason) in [
        (
            "lb-core",
            &["tokio", "serde", "mio", "io-uring", "libc", "socket2", "http", "hyper", "tracing", "rand"][..],
            "what decides does no I/O and stays as good as free of dependencies",
        ),
        (
            "lb-io",
            &["tokio", "serde", "serde_json", "toml", "axum", "hyper", "futures", "tracing"][..],
            "a worker's thread belongs to its own executor",
        ),
        (
            "lb-control",
            &["io-uring", "lb-io"][..],
            "control speaks to workers through a trait; it never touches a ring",
        ),
    ] {
        let reached = reachable(&graph, name);
        for dependency in forbidden.iter().filter(|it| reached.contains(*it)) {
            breaches.push(format!("{name} reaches {dependency}: {reason}"));
        }
    }
    report("Crates stay on their side", "see each line; `cargo tree -i NAME` shows the way", &breaches);
}

#[test]
fn core_has_few_dependencies() {
    let graph = graph();
    let direct: Vec<&str> = graph["lb-core"].iter().map(String::as_str).collect();
    let allowed = ["arc-swap", "blake3", "regex"];
    let breaches: Vec<String> = direct
        .iter()
        .filter(|it| !allowed.contains(it))
        .map(|it| format!("lb-core depends on {it}"))
        .collect();
    report(
        "lb-core depends on arc-swap, blake3 and regex",
        "each dependency of it becomes one of every program that embeds it: add here only what cannot be 100 lines",
        &breaches,
    );
}
