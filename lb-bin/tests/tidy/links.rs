//! Documents that point somewhere point at something.

use std::path::{Component, Path, PathBuf};

use crate::{files, read, report, root};

/// Text of `markdown` without fenced code blocks; line count unchanged.
fn without_code(markdown: &str) -> Vec<&str> {
    let mut fenced = false;
    markdown
        .lines()
        .map(|line| {
            let fence = line.trim_start().starts_with("```");
            if fence {
                fenced = !fenced;
            }
            if fenced || fence { "" } else { line }
        })
        .collect()
}

/// The anchor that a renderer gives a heading.
fn anchor(heading: &str) -> String {
    heading
        .trim()
        .to_lowercase()
        .chars()
        .filter_map(|it| match it {
            ' ' => Some('-'),
            it if it.is_alphanumeric() || it == '-' || it == '_' => Some(it),
            _ => None,
        })
        .collect()
}

fn anchors(markdown: &str) -> Vec<String> {
    let headings = without_code(markdown).into_iter().filter(|line| line.starts_with('#'));
    headings.map(|line| anchor(line.trim_start_matches('#'))).collect()
}

/// Targets of `[text](target)` in a line.
fn targets(line: &str) -> Vec<&str> {
    line.match_indices("](").filter_map(|(at, _)| line[at + 2..].split(')').next()).collect()
}

fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                out.pop();
            }
            Component::CurDir => {}
            part => out.push(part),
        }
    }
    out
}

#[test]
fn every_link_leads_somewhere() {
    let mut breaches = Vec::new();
    for path in files("md") {
        let text = read(&path);
        for (number, line) in without_code(&text).into_iter().enumerate() {
            for target in targets(line) {
                if target.starts_with("http://") || target.starts_with("https://") {
                    continue;
                }
                let (file, wanted) =
                    target.split_once('#').map_or((target, None), |(file, at)| (file, Some(at)));
                let to =
                    if file.is_empty() { path.clone() } else { normal(&path.with_file_name("").join(file)) };
                let place = format!("{}:{}: {target}", path.display(), number + 1);
                if !root().join(&to).exists() {
                    breaches.push(format!("{place}: no such file"));
                } else if let Some(wanted) = wanted
                    && !anchors(&read(&to)).iter().any(|it| it == wanted)
                {
                    breaches.push(format!("{place}: no such heading"));
                }
            }
        }
    }
    report(
        "Links in documents resolve",
        "a reader who meets a dead link trusts the page less than none",
        &breaches,
    );
}

/// Names in backticks that look like paths of ours exist: documents name files, and files move.
#[test]
fn every_named_file_exists() {
    let tops = ["lb-core/", "lb-io/", "lb-control/", "lb-bin/", "benches/", "fuzz/", "docs/", ".ci/"];
    let mut breaches = Vec::new();
    for path in files("md") {
        let text = read(&path);
        for (number, line) in without_code(&text).into_iter().enumerate() {
            for name in line.split('`').skip(1).step_by(2) {
                let plain = !name.contains(['*', '{', '<', ' ', ':']);
                if plain && tops.iter().any(|top| name.starts_with(top)) && !root().join(name).exists() {
                    breaches.push(format!("{}:{}: `{name}`: no such file", path.display(), number + 1));
                }
            }
        }
    }
    report("Files named in documents exist", "a map of a country that is gone misleads", &breaches);
}

#[test]
fn anchors_are_as_rendered() {
    assert_eq!(anchor(" The way of a request"), "the-way-of-a-request");
    assert_eq!(anchor(" `lb run`, and `lb check`"), "lb-run-and-lb-check");
    assert_eq!(targets("see [a](b.md) and [c](d.md#e)"), ["b.md", "d.md#e"]);
}
