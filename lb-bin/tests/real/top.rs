//! `/stats` and `lb top`, in pipes and in a terminal.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

use crate::harness::lb::{BINARY, backend};
use crate::harness::tools::{run, run_ok, signal, text, unused_address};
use crate::harness::*;

on_both_drivers! {
    stats_say_what_came,
}

const CANARY: &str = "canary = { backend = \"new\", cookie = \"canary\", share = \"0%\", release = \"7\" }";

fn config(old: &Origin, new: &Origin) -> String {
    format!(
        "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n\
         [[route]]\nname = \"shop\"\npath_prefix = \"/shop\"\nbackend = \"old\"\n{CANARY}\n{}{}",
        backend("old", &[("o", old.address), ("gone", unused_address())]),
        backend("new", &[("n", new.address)]),
    )
}

fn stats(lb: &Lb) -> serde_json::Value {
    serde_json::from_str(&lb.admin_get("/stats").text()).expect("JSON")
}

fn stats_say_what_came(driver: Driver) {
    let (old, new) = (Origin::named("old"), Origin::named("new"));
    let lb = Lb::start(driver, config(&old, &new));
    let mut client = Client::connect(lb.web());
    let mut seen = serde_json::Value::Null;
    until("what came of both arms and of their servers", || {
        for (path, cookie) in [("/shop", "never"), ("/shop", "always"), ("/nowhere", "never")] {
            let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nCookie: canary={cookie}\r\n\r\n");
            client.exchange(request);
        }
        seen = stats(&lb);
        let arms = &seen["routes"][1]["arms"];
        let came = |it: &serde_json::Value| it["lately"]["count"].as_u64() > Some(0);
        came(&arms[0])
            && came(&arms[1])
            && came(&seen["routes"][0]["arms"][0])
            && came(&seen["backends"][0]["servers"][0])
            && came(&seen["listeners"][0])
            && seen["workers"].as_array().is_some_and(|workers| workers.iter().any(came))
    });
    assert_eq!(seen["process"]["driver"], driver.name(), "{seen:#}");
    let [refused, shop] = [&seen["routes"][0], &seen["routes"][1]];
    assert_eq!((&refused["name"], &shop["name"]), (&"".into(), &"shop".into()), "{seen:#}");
    let statuses = refused["arms"][0]["lately"]["statuses"].as_object().expect("statuses");
    assert_eq!(statuses.keys().collect::<Vec<_>>(), ["4xx"], "{seen:#}");
    let [stable, canary] = [&shop["arms"][0], &shop["arms"][1]];
    assert_eq!((&stable["share_target"], &canary["share_target"]), (&1.0.into(), &0.0.into()));
    assert!(canary["share_served"].as_f64().is_some_and(|share| share > 0.0 && share < 1.0), "{seen:#}");
    for times in ["client", "server"] {
        let times = &canary["lately"][times];
        assert!(
            times["p50"].as_f64() > Some(0.0) && times["p99"].as_f64() >= times["p50"].as_f64(),
            "{seen:#}"
        );
    }
    assert_eq!(seen["changes"][0]["kind"], "start", "{seen:#}");
    // The server that nobody listens for was tried, and is out for a time.
    let gone = &seen["backends"][0]["servers"][1];
    assert!(gone["lately"]["unanswered"].as_u64() > Some(0), "{seen:#}");
}

fn top(words: &[&str]) -> Output {
    run(Command::new(BINARY).arg("top").args(words))
}

#[test]
fn once_is_for_scripts() {
    let (old, new) = (Origin::named("old"), Origin::named("new"));
    let lb = Lb::start(Driver::Auto, config(&old, &new));
    let admin = lb.admin.to_string();
    let output = top(&["--once", "--at", &admin]);
    let page = text(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    for part in ["shop/canary", "old/o", "new/n", "ready for ", "in force at the start"] {
        assert!(page.contains(part), "no {part} in\n{page}");
    }
    assert!(!page.contains('\u{1b}'), "{page:?}");
    let filtered = text(&top(&["--once", "--at", &admin, "new/n"]).stdout);
    assert!(filtered.contains("new/n") && !filtered.contains("old/o"), "{filtered}");

    let json = run_ok(Command::new(BINARY).args(["top", "--once", "--format", "json", "--at", &admin]));
    let document: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(document["version"], 1);

    let output = top(&["--at", &admin]);
    assert_eq!(output.status.code(), Some(2), "there is no terminal: {output:?}");
    assert!(text(&output.stderr).contains("--once"), "{output:?}");
    // The harness lets the system choose the port.
    let output = top(&["--once", "-c", &lb.config_file().display().to_string()]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(text(&output.stderr).contains("leaves the port open"), "{output:?}");

    for words in [&["--format", "json"][..], &[]] {
        let nobody = unused_address().to_string();
        let output = top(&[&["--once", "--at", &nobody], words].concat());
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let told = text(&output.stderr);
        assert!(told.starts_with("lb: not reachable: ") && told.contains(&nobody), "{told}");
        assert!(output.stdout.is_empty(), "{output:?}");
    }
}

#[test]
fn a_file_says_whom_to_ask() {
    let (old, new) = (Origin::named("old"), Origin::named("new"));
    let lb = Lb::start(Driver::Auto, config(&old, &new));
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("other.toml");
    // Who listens everywhere is asked here.
    for admin in [lb.admin.to_string(), format!("0.0.0.0:{}", lb.admin.port())] {
        let config = format!(
            "[admin]\nlisten = \"{admin}\"\n[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n\
             [[route]]\nname = \"all\"\nreply = {{ status = 200, body = \"here\" }}\n"
        );
        std::fs::write(&file, config).unwrap();
        let output = top(&["--once", "-c", &file.display().to_string()]);
        assert!(output.status.success() && text(&output.stdout).contains("shop/canary"), "{output:?}");
    }
    std::fs::write(&file, "[admin]\nlisten = 7\n").unwrap();
    let output = top(&["--once", "-c", &file.display().to_string()]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(text(&output.stderr).contains("Nobody was asked."), "{output:?}");
    let output = top(&["--once", "--interval", "1ms"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[test]
fn programs_read_a_document_a_line() {
    let origin = Origin::named("old");
    let lb = Lb::start(Driver::Auto, config(&origin, &origin));
    let mut child = Command::new(BINARY)
        .args(["top", "--format", "json", "--interval", "100ms", "--at", &lb.admin.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let times: Vec<f64> = lines
        .take(3)
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(&line.unwrap()).expect("JSON")["at"].as_f64().unwrap()
        })
        .collect();
    assert!(times.is_sorted_by(|earlier, later| earlier < later), "{times:?}");
    // Nobody reads on, which ends it.
    until("it to end", || child.try_wait().unwrap().is_some());
    assert!(child.wait().unwrap().success());
}

/// `lb demo` with its admin listener where it is told. Dropping it kills it.
struct Demo(Child);

impl Demo {
    fn start(admin: SocketAddr) -> Demo {
        let mut child = Command::new(BINARY)
            .args(["demo", "--listen", "127.0.0.1:0", "--admin", &admin.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let stdout = child.stdout.take().unwrap();
        let demo = Demo(child);
        let first = BufReader::new(stdout).lines().next().expect("a line").unwrap();
        assert!(first.starts_with("listening on"), "{first}");
        demo
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A terminal of the test's own, with a shell in it.
struct Terminal {
    directory: TempDir,
}

impl Terminal {
    fn start() -> Terminal {
        let directory = tempfile::Builder::new().prefix("lb-tmux-").tempdir().unwrap();
        let terminal = Terminal { directory };
        terminal.tmux(&[
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-x",
            "80",
            "-y",
            "24",
            "env PS1='ready> ' sh",
        ]);
        terminal.wait_for("ready>");
        terminal
    }

    fn tmux(&self, words: &[&str]) -> String {
        let socket = self.directory.path().join("socket");
        // Its lines are UTF-8 whatever the locale of the test.
        run_ok(Command::new("tmux").arg("-u").arg("-S").arg(socket).args(words).env_remove("TMUX"))
    }

    fn keys(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    #[track_caller]
    fn wait_for(&self, part: &str) -> String {
        let mut screen = String::new();
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            screen.replace_range(.., &self.screen());
            if screen.contains(part) {
                return screen;
            }
            assert!(std::time::Instant::now() < deadline, "no {part:?} on\n{screen}");
        }
    }

    /// Begins `lb top` and waits until it shows something.
    fn top(&self, admin: SocketAddr, shown: &str) -> String {
        let line = format!("{BINARY} top --interval 100ms --at {admin}; echo ended-$?");
        self.keys(&[&line, "Enter"]);
        self.wait_for(shown)
    }

    /// That everything is as it was before.
    #[track_caller]
    fn is_restored(&self, ended: &str) {
        let screen = self.wait_for(ended);
        let state = self.tmux(&["display-message", "-p", "#{alternate_on} #{cursor_flag}"]);
        assert_eq!(state.trim(), "0 1", "the first screen, with its cursor:\n{screen}");
        self.keys(&["stty -a | tr ';' '\\n' | grep -c -- '-icanon\\|-echo '; echo looked", "Enter"]);
        let screen = self.wait_for("\nlooked");
        assert!(screen.contains("\n0\nlooked"), "the terminal is raw:\n{screen}");
        self.keys(&["clear", "Enter"]);
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let socket = self.directory.path().join("socket");
        let _ = Command::new("tmux").arg("-S").arg(socket).arg("kill-server").status();
    }
}

#[test]
fn a_person_can_look_and_leave() {
    let admin = unused_address();
    let _demo = Demo::start(admin);
    let terminal = Terminal::start();
    let screen = terminal.top(admin, "old/old-2");
    for part in ["shop/stable", "shop/canary", "new/new-1", "SERVERS", "q quit", "ready for"] {
        assert!(screen.contains(part), "no {part} on\n{screen}");
    }
    terminal.keys(&["/"]);
    terminal.wait_for("filter:");
    terminal.keys(&["new", "Enter"]);
    terminal.wait_for("/ filter new");
    assert!(!terminal.screen().contains("old/old-2"), "{}", terminal.screen());
    terminal.keys(&["Escape"]);
    terminal.wait_for("old/old-2");
    terminal.tmux(&["resize-window", "-x", "200", "-y", "50"]);
    terminal.wait_for("srv p90");
    terminal.keys(&["q"]);
    terminal.is_restored("ended-0");

    terminal.top(admin, "old/old-2");
    terminal.keys(&["C-c"]);
    terminal.is_restored("ended-0");

    terminal.top(admin, "old/old-2");
    let pane = terminal.tmux(&["display-message", "-p", "#{pane_pid}"]);
    let children = run_ok(Command::new("ps").args(["-o", "pid=", "--ppid", pane.trim()]));
    signal(children.trim().parse().expect("one child"), "TERM");
    terminal.is_restored("ended-0");
}

#[test]
fn a_restart_is_survived() {
    let admin = unused_address();
    let terminal = Terminal::start();
    terminal.top(admin, "NOT REACHABLE");
    let demo = Demo::start(admin);
    let screen = terminal.wait_for("old/old-2");
    assert!(!screen.contains("NOT REACHABLE"), "{screen}");
    drop(demo);
    let screen = terminal.wait_for("NOT REACHABLE");
    assert!(screen.contains("what follows is from before") && screen.contains("old/old-2"), "{screen}");
    let _demo = Demo::start(admin);
    until("it to be back", || !terminal.screen().contains("NOT REACHABLE"));
    terminal.keys(&["q"]);
    terminal.is_restored("ended-0");
}
