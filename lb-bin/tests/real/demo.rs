//! `lb demo`, as somebody tries it who has read only the README.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::harness::lb::BINARY;
use crate::harness::tools::{run_ok, signal};
use crate::harness::until;

#[test]
fn it_shows_split_canary_and_stickiness() {
    let mut child = Command::new(BINARY)
        .args(["demo", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let first = lines.next().unwrap().unwrap();
    let address = first.strip_prefix("listening on http://").unwrap_or_else(|| panic!("{first:?}"));
    let base = format!("http://{}/", address.split(' ').next().unwrap());
    let told: Vec<String> = lines.by_ref().take(6).map(Result::unwrap).collect();
    assert!(told.iter().any(|line| line.contains("curl --cookie canary=always")), "{told:?}");

    let directory = tempfile::tempdir().unwrap();
    let jar = directory.path().join("jar").display().to_string();
    let curl = |words: &[&str]| {
        run_ok(
            Command::new("curl")
                .args(["--silent", "--show-error", "--fail", "--max-time", "20"])
                .args(words)
                .arg(&base),
        )
    };
    assert!(curl(&["--cookie", "canary=always"]).contains("new-1"));
    let old = curl(&["--cookie", "canary=never"]);
    assert!(old.contains("old-1") || old.contains("old-2"), "{old}");
    let home = |page: &str| {
        ["old-1", "old-2", "new-1"].into_iter().find(|name| page.contains(name)).map(str::to_owned)
    };
    let first = home(&curl(&["--cookie-jar", &jar, "--cookie", &jar]));
    for _ in 0..5 {
        assert_eq!(home(&curl(&["--cookie-jar", &jar, "--cookie", &jar])), first);
    }
    signal(child.id(), "INT");
    until("the demo to end", || child.try_wait().unwrap().is_some());
    assert!(child.wait().unwrap().success());
}
