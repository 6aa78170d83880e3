//! The architecture, enforced: what must not depend on what, and what must not be written where.
//!
//! Each test collects every breach before it fails, and each message says why the rule is there. A rule that has
//! become wrong is changed here, with its reason, not worked round.

mod dependencies;
mod links;
mod source;
mod words;

use std::fs;
use std::path::{Path, PathBuf};

/// The top of the repository.
fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Every file below the top whose name ends in `.extension`, as paths relative to the top, sorted.
fn files(extension: &str) -> Vec<PathBuf> {
    fn walk(directory: &Path, extension: &str, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).expect("a folder of the repository can be read") {
            let entry = entry.expect("an entry of the repository can be read");
            let path = entry.path();
            let name = entry.file_name();
            let name = name.to_string_lossy();
            // `target` folders hold build output; a dot folder is git's or an editor's.
            if name == "target" || name == "artifacts" || (name.starts_with('.') && name != ".ci") {
                continue;
            }
            if path.is_dir() {
                walk(&path, extension, found);
            } else if path.extension().is_some_and(|it| it == extension) {
                found.push(path.strip_prefix(root()).expect("walked from the top").to_owned());
            }
        }
    }
    let mut found = Vec::new();
    walk(root(), extension, &mut found);
    found.sort();
    found
}

/// The text of a file given relative to the top.
fn read(path: &Path) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Fails with all `breaches` at once, under the rule's `reason`.
fn report(rule: &str, reason: &str, breaches: &[String]) {
    assert!(breaches.is_empty(), "\n{rule}\n  why: {reason}\n\n  {}\n", breaches.join("\n  "));
}
