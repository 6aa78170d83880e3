//! From files to one tree: reading, `include`, and merging.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::codes;
use super::source::{SourceFile, Span};
use super::tree::{self, Entry, Table, Value};
use crate::report::{Diagnostic, Report};

/// Files in one configuration at most.
pub const MAX_FILES: usize = 10_000;

/// Bytes in one file at most.
pub const MAX_FILE_BYTES: u64 = 64 << 20;

/// Reads the file that was named and all it includes. Everything that fails is reported, and the tree holds
/// what could be understood.
pub fn file(path: &Path, report: &mut Report) -> Table {
    let name = path.display().to_string();
    match read(path) {
        Ok(text) => from_text(SourceFile::new(name, path, text), report),
        Err(why) => {
            report.sources.add(SourceFile::new(name.clone(), path, ""));
            report.add(Diagnostic::error(codes::UNREADABLE, format!("cannot read `{name}`: {why}")));
            Table::default()
        }
    }
}

/// The same for a text that is already there.
pub fn from_text(source: SourceFile, report: &mut Report) -> Table {
    let base = source.path.parent().unwrap_or(Path::new("")).to_owned();
    let mut root = add(source, report);
    let Some(at) = root.entries.iter().position(|entry| entry.key == "include") else { return root };
    let include = root.entries.remove(at);
    for (pattern, span) in patterns(&include, report) {
        for path in expand(&base, &pattern, span, report) {
            if report.sources.files().len() >= MAX_FILES {
                let message = format!("more than {MAX_FILES} files are included");
                report.add(Diagnostic::error(codes::TOO_MUCH, message).at(span));
                return root;
            }
            let name = path.display().to_string();
            match read(&path) {
                Ok(text) => {
                    let table = add(SourceFile::new(name, path, text), report);
                    merge(&mut root, table, true, report);
                }
                Err(why) => {
                    let message = format!("cannot read `{name}`: {why}");
                    report.add(Diagnostic::error(codes::UNREADABLE, message).at(span));
                }
            }
        }
    }
    root
}

/// Reads a text file within its bound.
pub(super) fn read(path: &Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(|error| plain(&error))?;
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(|error| plain(&error))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(format!("it is larger than {} MiB", MAX_FILE_BYTES >> 20));
    }
    String::from_utf8(bytes)
        .map_err(|error| format!("byte {} is not UTF-8", error.utf8_error().valid_up_to()))
}

/// An I/O error in a person's words, without the number.
pub(crate) fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((words, _)) => words.to_lowercase(),
        None => text,
    }
}

fn add(source: SourceFile, report: &mut Report) -> Table {
    let index = report.sources.add(source);
    let (table, malformed) = tree::parse(index, &report.sources.file(index).text);
    for mistake in malformed {
        report.add(Diagnostic::error(codes::SYNTAX, mistake.message).at(mistake.span));
    }
    table
}

fn patterns(include: &Entry, report: &mut Report) -> Vec<(String, Span)> {
    let items = match &include.node.value {
        Value::Array(items) => items.as_slice(),
        _ => std::slice::from_ref(&include.node),
    };
    let mut patterns = Vec::new();
    for item in items {
        match &item.value {
            Value::String(text) => patterns.push((text.clone(), item.span)),
            other => report.add(
                Diagnostic::error(codes::BAD_VALUE, format!("`include` cannot be {}", other.kind()))
                    .at(item.span)
                    .expected("file names or patterns such as [\"conf.d/*.toml\"]"),
            ),
        }
    }
    patterns
}

/// The files that a pattern names, sorted by name. `*` and `?` work in the last part of the path.
fn expand(base: &Path, pattern: &str, span: Span, report: &mut Report) -> Vec<PathBuf> {
    let path = base.join(pattern);
    let Some(name) = path.file_name().and_then(|name| name.to_str()).filter(|name| name.contains(['*', '?']))
    else {
        return vec![path];
    };
    let directory = path.parent().unwrap_or(Path::new(""));
    if directory.to_string_lossy().contains(['*', '?']) {
        report.add(
            Diagnostic::error(codes::BAD_VALUE, "a pattern may stand only in the last part of a path")
                .at(span)
                .expected("a pattern such as \"conf.d/*.toml\""),
        );
        return Vec::new();
    }
    let listed = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let mut names: Vec<String> = match fs::read_dir(listed) {
        Ok(entries) => entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|file| matches(name.as_bytes(), file.as_bytes()))
            .take(MAX_FILES + 1)
            .collect(),
        Err(error) => {
            let message = format!("cannot list `{}`: {}", listed.display(), plain(&error));
            report.add(Diagnostic::error(codes::UNREADABLE, message).at(span));
            return Vec::new();
        }
    };
    names.sort();
    if names.is_empty() {
        let message = format!("no file matches `{pattern}`");
        report.add(Diagnostic::warning(codes::NOTHING_INCLUDED, message).at(span));
    }
    names.into_iter().map(|file| directory.join(file)).collect()
}

/// Whether a file name fits a pattern of `*` and `?`. A leading dot must be written out.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    if name.first() == Some(&b'.') && pattern.first() != Some(&b'.') {
        return false;
    }
    // Only the last star is ever taken back, so this is at worst pattern times name.
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(&byte) if byte == b'?' || byte == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    n = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// Adds the keys of another file: arrays of tables are continued, tables merged, single values kept apart.
fn merge(into: &mut Table, from: Table, top: bool, report: &mut Report) {
    for entry in from.entries {
        if top && entry.key == "include" {
            report.add(
                Diagnostic::error(codes::EXCLUSIVE, "an included file cannot include others")
                    .at(entry.key_span)
                    .note("name them in the first file"),
            );
            continue;
        }
        let Some(known) = into.entries.iter_mut().find(|known| known.key == entry.key) else {
            into.entries.push(entry);
            continue;
        };
        match (&mut known.node.value, entry.node.value) {
            (Value::Array(items), Value::Array(more)) if top => items.extend(more),
            (Value::Table(table), Value::Table(more)) => merge(table, more, false, report),
            _ => {
                let place = report.sources.locate(known.key_span).to_string();
                report.add(
                    Diagnostic::error(codes::SET_TWICE, format!("`{}` is already set in {place}", entry.key))
                        .at(entry.key_span),
                );
            }
        }
    }
}

/// Gives every table of an array the entries of `defaults` that it lacks.
pub fn apply_defaults(items: &mut Value, defaults: &Table) {
    match items {
        Value::Array(items) => items.iter_mut().for_each(|item| apply_defaults(&mut item.value, defaults)),
        Value::Table(table) => {
            for default in &defaults.entries {
                match table.entries.iter_mut().find(|entry| entry.key == default.key) {
                    None => table.entries.push(Entry { inherited: true, ..default.clone() }),
                    Some(entry) => {
                        if let (Value::Table(_), Value::Table(inner)) =
                            (&entry.node.value, &default.node.value)
                        {
                            apply_defaults(&mut entry.node.value, inner);
                        }
                    }
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_names() {
        for (pattern, name, expected) in [
            ("*.toml", "a.toml", true),
            ("*.toml", ".toml", false),
            (".*", ".toml", true),
            ("*.toml", "a.tom", false),
            ("?.toml", "ab.toml", false),
            ("a*b*c", "axxbxbyc", true),
            ("a*b*c", "axxbxby", false),
            ("**", "x", true),
            ("", "x", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn includes_continue_lists_and_refuse_second_values() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).expect("write");
        write("lb.toml", "include = [\"d/*.toml\"]\n[engine]\nworkers = 1\n[[route]]\nname = \"a\"\n");
        std::fs::create_dir(dir.path().join("d")).expect("directory");
        write("d/2.toml", "[[route]]\nname = \"c\"\n[engine]\nworkers = 2\ndriver = \"auto\"\n");
        write("d/1.toml", "include = []\n[[route]]\nname = \"b\"\n");
        let mut report = Report::new();
        let root = file(&dir.path().join("lb.toml"), &mut report);
        let Some(Value::Array(routes)) = root.get("route").map(|node| &node.value) else {
            panic!("{root:?}")
        };
        let names: Vec<&str> = routes
            .iter()
            .map(|route| match &route.value {
                Value::Table(table) => match &table.get("name").expect("name").value {
                    Value::String(text) => text.as_str(),
                    other => panic!("{other:?}"),
                },
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(names, ["a", "b", "c"]);
        let codes: Vec<&str> = report.diagnostics().iter().map(|found| found.code).collect();
        assert_eq!(codes, [codes::EXCLUSIVE, codes::SET_TWICE], "{}", report.text(""));
    }
}
