//! A disk that is full and then is not, under load: every request is answered, every line is whole in the file or counted
//! as dropped, and nobody needs to do anything for it to go on.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::{count_of, dropped};
use crate::access_log::JSON;
use crate::harness::crowd::Crowd;
use crate::harness::lb::one_server;
use crate::harness::origin::ok;
use crate::harness::tools::{run, run_ok};
use crate::harness::*;

on_both_drivers! {
    a_disk_fills_up_and_is_cleared,
    a_file_reaches_its_limit_and_may_grow,
}

/// What there is room for at first, and what is freed.
const ROOM: usize = 256 << 10;
const FREED: usize = 32 << 20;

const LOST: &str = "access log lines are lost and counted: ";

/// Becomes its arguments in a mount namespace of its own, in which the test's folder has a small disk.
fn with_disk(size: usize) -> [String; 6] {
    let script =
        format!("mkdir \"$0/disk\" && mount -t tmpfs -o size={size} lb-test \"$0/disk\" && exec \"$@\"");
    ["unshare", "--mount", "sh", "-c", &script, "@DIR@"].map(str::to_owned)
}

fn a_disk_fills_up_and_is_cleared(driver: Driver) {
    let may = run(Command::new("unshare").args(["--mount", "mount", "-t", "tmpfs", "lb-test", "/mnt"]));
    if !may.status.success() {
        eprintln!(
            "passed over: this machine lets us mount nothing ({}); a file's limit has to stand for a full disk",
            tools::text(&may.stderr).trim()
        );
        return;
    }
    let origin = Origin::answering(|_| ok("ok"));
    let disk = with_disk(ROOM + FREED);
    let setup = Setup::new(driver, one_server(&origin)).log(JSON).log_to("@DIR@/disk/access.log");
    let lb = setup.started_by(&disk.each_ref().map(String::as_str)).start();
    // The disk as the process sees it; nobody else does.
    let inside = lb.directory().join("disk");
    assert!(!inside.join("access.log").exists(), "the disk is lb's own");
    let disk = Path::new(&format!("/proc/{}/root", lb.pid())).join(inside.strip_prefix("/").unwrap());
    let ballast = disk.join("ballast");
    fs::write(&ballast, vec![0; FREED]).unwrap();
    goes_on(&lb, &disk.join("access.log"), || fs::remove_file(&ballast).unwrap());
}

/// The system ends a process that writes more, unless it is asked not to.
fn a_file_reaches_its_limit_and_may_grow(driver: Driver) {
    let origin = Origin::answering(|_| ok("ok"));
    let lb = Setup::new(driver, one_server(&origin)).log(JSON).start();
    let limit = |bytes: usize| {
        let process = lb.pid().to_string();
        run_ok(Command::new("prlimit").args(["--pid", &process, &format!("--fsize={bytes}:")]));
    };
    limit(ROOM);
    goes_on(&lb, &lb.directory().join("access.log"), || limit(ROOM + FREED));
}

/// Fills what there is room for under load, makes room and waits for lines to come again.
fn goes_on(lb: &Lb, log: &Path, make_room: impl FnOnce()) {
    let text = || fs::read_to_string(log).unwrap();
    let asked = Crowd::around(lb.web(), 4, |crowd| {
        until("lines to be lost", || lb.log().contains(LOST) && dropped(lb) > 0);
        let full = text().len();
        crowd.turn_page();
        crowd.pass(400);
        assert_eq!(text().len(), full, "there is no room");
        make_room();
        let last = crowd.turn_page();
        until("lines to be written again", || text().contains(&format!("\"target\":\"{last}\"")));
        assert_eq!(crowd.failed(), 0);
    });
    until("each exchange to be in the file or counted", || count_of(&text()) + dropped(lb) == asked);
    assert!(dropped(lb) > 0);
    let text = text();
    assert!(text.ends_with("}\n"), "the last line has its end");
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert_eq!(line["status"], 200);
    }
    let told = lb.log();
    assert_eq!(told.matches(LOST).count(), 1, "{told}");
    assert_eq!(told.matches("access log lines are written again").count(), 1, "{told}");
}
