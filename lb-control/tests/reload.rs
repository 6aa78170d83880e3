//! Reload: what it takes up, what it refuses, what survives it.

mod support;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lb_control::Reloaded;
use lb_core::ServerIndex;

use support::Running;

struct Files {
    dir: tempfile::TempDir,
}

impl Files {
    fn new() -> Files {
        Files { dir: tempfile::tempdir().expect("temporary directory") }
    }

    fn main(&self) -> PathBuf {
        self.dir.path().join("lb.toml")
    }

    fn write(&self, config: &str) -> &Files {
        std::fs::write(self.main(), config).expect("write");
        self
    }

    fn start(&self) -> Running {
        Running::start(&self.main())
    }
}

fn config(listener: &str, servers: &[(&str, &str)]) -> String {
    let servers: Vec<String> =
        servers.iter().map(|(name, at)| format!("{{ name = \"{name}\", address = \"{at}\" }}")).collect();
    format!(
        "[admin]\nlisten = \"127.0.0.1:0\"\n{listener}\n[[route]]\nname = \"all\"\nbackend = \"app\"\n\
         [[backend]]\nname = \"app\"\nsticky = true\nserver = [{}]\n",
        servers.join(", ")
    )
}

const WEB: &str = "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n";

#[track_caller]
fn reload(running: &Running) -> Reloaded {
    running.control.reload_and_wait().expect("the thread runs")
}

#[test]
fn a_new_table_is_published_and_live_state_goes_with_it() {
    let files = Files::new();
    files.write(&config(WEB, &[("a", "10.0.0.1:80"), ("b", "10.0.0.2:80")]));
    let running = files.start();
    let (before, _) = running.control.table();
    files.write(&config(WEB, &[("c", "10.0.0.3:80"), ("b", "10.0.0.2:80"), ("a", "10.0.0.9:80")]));
    let reloaded = reload(&running);
    assert!(reloaded.applied, "{}", reloaded.report.text(""));
    let (after, generation) = running.control.table();
    assert_eq!(generation, 2);
    assert_ne!(before.snapshot.hash(), after.snapshot.hash());
    assert!(
        Arc::ptr_eq(before.server_live(ServerIndex(1)), after.server_live(ServerIndex(1))),
        "b stays itself"
    );
    assert!(
        !Arc::ptr_eq(before.server_live(ServerIndex(0)), after.server_live(ServerIndex(2))),
        "a has moved"
    );
    let published = running.workers.published.lock().expect("not poisoned");
    assert_eq!(published.len(), 1);
    assert!(Arc::ptr_eq(&published[0], &after));
    drop(published);
    let (_, metrics) = running.get("/metrics");
    assert!(metrics.contains("lb_snapshot_generation 2\n"), "{metrics}");
    assert!(metrics.contains("lb_reloads_total{result=\"applied\"} 1\n"), "{metrics}");
    assert!(metrics.contains(&format!("hash=\"{}\"", after.snapshot.hash())), "{metrics}");
}

#[test]
fn an_unchanged_file_keeps_keys_and_hash() {
    let files = Files::new();
    // Without secret file and state directory the keys exist in memory alone; a reload must not make new ones.
    files.write(&config(WEB, &[("a", "10.0.0.1:80")]));
    let running = files.start();
    let (before, _) = running.control.table();
    assert!(reload(&running).applied);
    assert_eq!(before.snapshot.hash(), running.control.table().0.snapshot.hash());
}

#[test]
fn a_bad_file_changes_nothing() {
    let files = Files::new();
    files.write(&config(WEB, &[("a", "10.0.0.1:80")]));
    let running = files.start();
    let (before, _) = running.control.table();
    for bad in ["[[route", "[[listener]]\nname = 1\n", "include = [\"gone.toml\"]\n"] {
        files.write(bad);
        let reloaded = reload(&running);
        assert!(!reloaded.applied && reloaded.report.failed(), "{bad}");
    }
    std::fs::remove_file(files.main()).expect("remove");
    assert!(!reload(&running).applied);
    assert!(Arc::ptr_eq(&before, &running.control.table().0));
    assert!(running.workers.published.lock().expect("not poisoned").is_empty());
    assert!(running.get("/metrics").1.contains("lb_reloads_total{result=\"refused\"} 4\n"));
    files.write(&config(WEB, &[("a", "10.0.0.1:80")]));
    assert!(reload(&running).applied, "and a good one is taken after it");
}

#[test]
fn changed_listeners_are_refused_with_their_names() {
    let files = Files::new();
    let two = format!("{WEB}[[listener]]\nname = \"api\"\nbind = \"127.0.0.1:0\"\n");
    files.write(&config(&two, &[("a", "10.0.0.1:80")]));
    let running = files.start();
    for (listeners, words) in [
        (WEB.to_owned(), "listener `api` is gone"),
        (format!("{two}[[listener]]\nname = \"new\"\nbind = \"127.0.0.1:0\"\n"), "listener `new` is new"),
        (two.replace("127.0.0.1:0", "[::1]:0"), "listener `api` has other addresses"),
    ] {
        files.write(&config(&listeners, &[("a", "10.0.0.1:80")]));
        let reloaded = reload(&running);
        let text = reloaded.report.text("Nothing was changed.");
        assert!(!reloaded.applied && text.contains(words), "{text}");
        assert!(text.contains("restart"), "{text}");
    }
    // Their order alone is no change: a table names its listeners.
    let turned = "[[listener]]\nname = \"api\"\nbind = \"127.0.0.1:0\"\n".to_owned() + WEB;
    files.write(&config(&turned, &[("a", "10.0.0.1:80")]));
    assert!(reload(&running).applied);
    // What else belongs to a listener is taken up.
    files.write(&config(&two.replace("bind", "trusted = [\"10.0.0.0/8\"]\nbind"), &[("a", "10.0.0.1:80")]));
    assert!(reload(&running).applied);
}

#[test]
fn settings_that_need_a_restart_are_named() {
    let files = Files::new();
    files.write(&config(WEB, &[("a", "10.0.0.1:80")]));
    let running = files.start();
    files.write(&format!(
        "[engine]\nworkers = 3\n[log]\naccess = \"stderr\"\n[trace]\nsample = \"1%\"\n{}",
        config(WEB, &[("a", "10.0.0.1:80")])
    ));
    // Each time: what runs has not changed.
    for _ in 0..2 {
        let reloaded = reload(&running);
        let text = reloaded.report.text("");
        assert!(reloaded.applied, "{text}");
        for table in ["[engine]", "[log]", "[trace]"] {
            assert!(text.contains(&format!("what {table} says is applied at the next start")), "{text}");
        }
        assert!(!text.contains("[admin]"), "{text}");
    }
}

#[test]
fn nothing_new_is_taken_up_while_draining() {
    let files = Files::new();
    files.write(&config(WEB, &[("a", "10.0.0.1:80")]));
    let running = files.start();
    running.control.drain(Duration::from_secs(1));
    assert!(!reload(&running).applied);
}

#[test]
fn a_name_that_stops_resolving_keeps_its_last_address() {
    let files = Files::new();
    files.write(&config(WEB, &[("a", "localhost:80")]));
    let running = files.start();
    let (before, _) = running.control.table();
    let address = before.snapshot.server(ServerIndex(0)).address();
    assert!(address.ip().is_loopback(), "{address}");
    assert!(reload(&running).applied);
    assert_eq!(running.control.table().0.snapshot.server(ServerIndex(0)).address(), address);
    // A new name without an answer gives no server, and is warned of.
    let unknown = config(WEB, &[("a", "localhost:80"), ("b", "no-such-name.invalid:80")]);
    files.write(&unknown);
    let reloaded = reload(&running);
    let text = reloaded.report.text("");
    assert!(reloaded.applied && text.contains("LB153") && text.contains("no-such-name.invalid"), "{text}");
    assert_eq!(running.control.table().0.snapshot.servers().len(), 1);
    // Where every name is required it is refused, and what runs stays.
    files.write(&format!("[resolver]\nrequired = true\n{unknown}"));
    let reloaded = reload(&running);
    let text = reloaded.report.text("");
    assert!(!reloaded.applied && text.contains("LB060") && text.contains("no-such-name.invalid"), "{text}");
    let (_, names) = running.get("/names");
    let names: serde_json::Value = serde_json::from_str(&names).expect("JSON");
    assert_eq!(names["names"][0]["name"], "localhost");
    assert_eq!(names["names"][1]["failure"]["reason"], "no_name");
}
