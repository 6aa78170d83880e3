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

/// The look of it, whole: what the documentation promises.
#[test]
fn a_report_looks_like_this() {
    let text = r#"[session]
secret_file = "tests/config/good/parts/keys"

[[listener]]
name = "web"
bind = "127.0.0.1:8080"

[[route]]
name    = "cart"
backend = "cart-ec2"
canary  = { backend = "cart-k8", share = "2%", cookie = "canary", release = "1" }

[[backend]]
name   = "cart-ec2"
server = [
  { name = "a",   address = "10.0.1.10:8000", weight = 10 },
  { name = "old", address = "10.0.9.1:8000", weight = 10, backup = true },
]

[[backend]]
name   = "cart-k8s"
server = [{ name = "elb", address = "10.0.1.11:80" }]
"#;
    // Git keeps no such modes, and keys that others can read are warned of.
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions("tests/config/good/parts/keys", private).expect("set permissions");
    let origin = Origin::Text { name: "lb.toml".to_owned(), text: text.to_owned() };
    let loaded = load_blocking(&origin, Purpose::Check, None).expect("a runtime");
    let text = loaded.report.text("Nothing was changed.");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "error[LB012]: no backend is named `cart-k8`");
    assert_eq!(lines[1], "   lb.toml:11:23");
    assert_eq!(
        lines[2],
        "11 | canary  = { backend = \"cart-k8\", share = \"2%\", cookie = \"canary\", release = \"1\" }"
    );
    assert_eq!(lines[3], "   |                       ^^^^^^^^^ did you mean `cart-k8s`?");
    assert!(text.contains("warning[LB103]: server `old` has a weight"), "{text}");
    assert!(text.ends_with("Nothing was changed.\n"), "{text}");
}

#[test]
fn a_file_that_serves_nothing_is_warned_of() {
    let origin = Origin::Text { name: "lb.toml".to_owned(), text: String::new() };
    let loaded = load_blocking(&origin, Purpose::Check, None).expect("a runtime");
    assert!(loaded.plan.is_some() && loaded.report.has(codes::NO_LISTENER), "{}", loaded.report.text(""));
}

#[test]
fn files_that_are_no_text_are_refused() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("lb.toml");
    std::fs::write(&path, b"[engine]\nworkers = \xff\n").expect("write");
    let loaded = load(&path);
    assert!(loaded.plan.is_none() && loaded.report.has(codes::UNREADABLE), "{}", loaded.report.text(""));
    assert!(loaded.report.text("").contains("byte 19 is not UTF-8"), "{}", loaded.report.text(""));
    assert!(load(dir.path()).report.has(codes::UNREADABLE), "a directory is no file");
}
