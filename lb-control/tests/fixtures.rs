//! Config files and what must be found in them. A file in `config/bad` says what is expected by lines
//! `#~ CODE LINE:COLUMN [what was meant]`, with the file's name before the line for included ones; files in
//! `config/good` have the same lines for warnings, and must be taken.

use std::path::{Path, PathBuf};

use lb_control::config::{Loaded, Origin, Purpose, codes, load_blocking};

fn load(path: &Path) -> Loaded {
    load_blocking(&Origin::File(path.to_owned()), Purpose::Check, None).expect("a runtime")
}

/// The findings in the form of the `#~` lines.
fn found(loaded: &Loaded, path: &Path) -> Vec<String> {
    let main = path.display().to_string();
    let directory = format!("{}/", path.parent().expect("a directory").display());
    // git does not keep the mode of the fixtures' keys, so whether they are open to everyone is chance.
    let findings = loaded.report.diagnostics().into_iter().filter(|finding| finding.code != codes::OPEN_KEYS);
    let lines = findings.map(|finding| {
        let place = match finding.span {
            Some(span) => {
                let place = loaded.report.sources.locate(span).to_string();
                let short =
                    place.strip_prefix(&format!("{main}:")).or_else(|| place.strip_prefix(&directory));
                short.unwrap_or(&place).to_owned()
            }
            None => "-".to_owned(),
        };
        let meant = finding.meant.as_ref().map(|meant| format!(" {meant}")).unwrap_or_default();
        format!("{} {place}{meant}", finding.code)
    });
    lines.collect()
}

fn expected(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).expect("a fixture");
    text.lines().filter_map(|line| line.strip_prefix("#~ ")).map(str::to_owned).collect()
}

fn fixtures(directory: &str) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(directory)
        .expect("fixtures")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    paths.sort();
    assert!(!paths.is_empty());
    paths
}

#[test]
fn findings_are_where_and_what_they_should_be() {
    let mut wrong = String::new();
    for path in fixtures("tests/config/bad") {
        let loaded = load(&path);
        assert!(loaded.plan.is_none() && loaded.report.failed(), "{} was taken", path.display());
        let (found, expected) = (found(&loaded, &path), expected(&path));
        if found != expected {
            let found: String = found.iter().map(|line| format!("#~ {line}\n")).collect();
            let text = loaded.report.text("");
            wrong.push_str(&format!("--- {}\n{found}\n{text}\n", path.display()));
        }
    }
    assert!(wrong.is_empty(), "found otherwise than expected:\n{wrong}");
}

#[test]
fn good_files_are_taken() {
    let mut wrong = String::new();
    for path in fixtures("tests/config/good") {
        let loaded = load(&path);
        let (found, expected) = (found(&loaded, &path), expected(&path));
        if found != expected || loaded.plan.is_none() {
            let found: String = found.iter().map(|line| format!("#~ {line}\n")).collect();
            wrong.push_str(&format!("--- {}\n{found}\n{}\n", path.display(), loaded.report.text("")));
        }
    }
    assert!(wrong.is_empty(), "found otherwise than expected:\n{wrong}");
}

#[test]
fn every_finding_of_bad_files_is_drawn_and_written_as_json() {
    for path in fixtures("tests/config/bad") {
        let report = load(&path).report;
        let text = report.text("Nothing was changed.");
        assert!(text.ends_with("Nothing was changed.\n"), "{text}");
        let json: serde_json::Value = serde_json::from_str(&report.json()).expect("JSON");
        assert_eq!(json["valid"], false);
        for (finding, json) in
            report.diagnostics().iter().zip(json["diagnostics"].as_array().expect("a list"))
        {
            assert!(text.contains(&format!("[{}]: {}", finding.code, finding.message)), "{text}");
            assert_eq!(json["code"], finding.code);
        }
    }
}
