//! The admin listener over real sockets.

mod support;

use std::io::{Read as _, Write as _};
use std::time::Duration;

use lb_control::WorkerReading;
use lb_control::config::address::AdminAddress;
use lb_core::{Cursors, Outcome, RequestView, Verdict, decide};

use support::Running;

const CONFIG: &str = r#"
[admin]
listen = "ADMIN"

[[listener]]
name = "web"
bind = "127.0.0.1:0"

[[route]]
name = "shop"
host = "shop.example.com"
path_prefix = "/cart"
backend = "app"

[[backend]]
name = "app"
server = [{ name = "a", address = "10.0.0.1:80" }, { name = "b", address = "10.0.0.2:80" }]
"#;

fn start(admin: &str) -> (tempfile::TempDir, Running) {
    let dir = tempfile::tempdir().expect("temporary directory");
    let admin = admin.replace("DIR", &dir.path().display().to_string());
    let file = dir.path().join("lb.toml");
    std::fs::write(&file, CONFIG.replace("ADMIN", &admin)).expect("write");
    let running = Running::start(&file);
    (dir, running)
}

#[test]
fn alive_at_once_and_ready_between_start_and_drain() {
    let (_dir, running) = start("127.0.0.1:0");
    assert_eq!(running.get("/livez"), (200, "alive\n".to_owned()));
    assert_eq!(running.get("/readyz"), (503, "starting\n".to_owned()));
    running.control.ready();
    assert_eq!(running.get("/readyz"), (200, "ready\n".to_owned()));
    running.control.drain(Duration::from_secs(7));
    assert_eq!(running.get("/readyz"), (503, "draining\n".to_owned()));
    assert_eq!(running.get("/livez").0, 200);
    assert_eq!(*running.workers.drained.lock().expect("not poisoned"), Some(Duration::from_secs(7)));
    assert_eq!(running.get("/nothing").0, 404);
}

#[test]
fn metrics_are_sums_over_workers_and_live_state() {
    let (_dir, running) = start("127.0.0.1:0");
    running.control.ready();
    let worker = |requests: &[(u16, u64)]| WorkerReading {
        accepted: 3,
        active: 1,
        requests: requests.to_vec(),
        local_replies: vec![("no_route", 2)],
        bytes_sent: 10,
        ..WorkerReading::default()
    };
    {
        let mut reading = running.workers.reading.lock().expect("not poisoned");
        reading.driver = "epoll".to_owned();
        reading.workers = vec![worker(&[(200, 5)]), worker(&[(200, 1), (404, 2)])];
    }
    let (table, generation) = running.control.table();
    assert_eq!(generation, 1);
    let mut cursors = Cursors::default();
    cursors.fit(&table);
    let fields: [(&str, &str); 0] = [];
    let view = RequestView {
        listener: 0,
        method: b"GET",
        host: b"shop.example.com",
        path: b"/cart",
        query: None,
        fields: &fields,
        source: [127, 0, 0, 1].into(),
        secure: false,
    };
    let now = Duration::from_secs(1);
    let Verdict::Forward(decision) = decide(&table, &cursors, &view, now, 0) else { panic!("no server") };
    let server = table.snapshot.server(decision.server());
    decision.take(&table, &mut cursors, now).expect("no bound").finish(Outcome::ConnectFailed, now);
    let labels = format!("backend=\"app\",server=\"{}\",address=\"{}\"", server.name(), server.address());

    let (status, text) = running.get("/metrics");
    assert_eq!(status, 200);
    for line in text.lines() {
        assert!(line.starts_with("lb_") || line.starts_with("# "), "{line}");
    }
    for line in [
        "lb_requests_total{code=\"200\"} 6".to_owned(),
        "lb_requests_total{code=\"404\"} 2".to_owned(),
        "lb_local_replies_total{reason=\"no_route\"} 4".to_owned(),
        "lb_connections_accepted_total 6".to_owned(),
        "lb_connections_active 2".to_owned(),
        "lb_bytes_sent_total 20".to_owned(),
        "lb_workers 2".to_owned(),
        "lb_ready 1".to_owned(),
        "lb_snapshot_generation 1".to_owned(),
        format!("lb_snapshot_info{{hash=\"{}\"}} 1", table.snapshot.hash()),
        format!("lb_server_picks_total{{{labels}}} 1"),
        format!("lb_server_in_flight{{{labels}}} 0"),
        format!("lb_server_failures_total{{{labels},kind=\"connect\"}} 1"),
        format!("lb_server_up{{{labels}}} 0"),
    ] {
        assert!(text.lines().any(|found| found == line), "no `{line}` in\n{text}");
    }
}

#[test]
fn explain_answers_by_what_is_published() {
    let (_dir, running) = start("127.0.0.1:0");
    let (status, text) = running.get("/explain?url=http://shop.example.com/cart/7");
    assert_eq!(status, 200, "{text}");
    assert!(text.contains("shop") && text.contains("app/"), "{text}");
    let (status, json) = running.get("/explain?url=http://shop.example.com/cart/7&format=json");
    assert_eq!(status, 200);
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!((&json["listener"], &json["verdict"]), (&"web".into(), &"forward".into()));
    assert_eq!(json["find"]["route"]["name"], "shop");
    assert_eq!(json["pick"]["servers"].as_array().map(Vec::len), Some(2));
    assert_eq!(json["limits"]["connect_ms"], 3000);
    let (_, json) = running.get("/explain?url=http://other.example/&format=json&from=192.0.2.7");
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!((&json["status"], &json["reason"]), (&404.into(), &"no_route".into()));
    assert_eq!(json["source"], "192.0.2.7");
    for (query, words) in [
        ("", "url="),
        ("url=nowhere", "is not a URL"),
        ("url=/cart", "Host header"),
        ("url=http://a/&listener=wep", "did you mean `web`?"),
        ("url=http://a/&from=here", "is not an IP address"),
        ("link=http://a/", "`link` is not one of"),
    ] {
        let (status, text) = running.get(&format!("/explain?{query}"));
        assert_eq!(status, 400, "{query}: {text}");
        assert!(text.contains(words), "{query}: {text}");
    }
}

#[test]
fn a_unix_socket_is_private_replaced_when_stale_and_removed() {
    let (dir, running) = start("unix:DIR/admin.sock");
    let path = dir.path().join("admin.sock");
    assert_eq!(running.control.admin_address(), Some(&AdminAddress::Unix(path.clone())));
    assert_eq!(running.get("/livez").0, 200);
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).expect("a socket").permissions());
    assert_eq!(mode & 0o777, 0o600);
    let taken = lb_control::admin::AdminSocket::bind(&AdminAddress::Unix(path.clone()));
    assert_eq!(taken.expect_err("somebody listens").kind(), std::io::ErrorKind::AddrInUse);
    drop(running);
    assert!(!path.exists());

    drop(std::os::unix::net::UnixListener::bind(&path).expect("a socket that nobody listens on"));
    assert!(path.exists());
    let again = Running::start(&dir.path().join("lb.toml"));
    assert_eq!(again.get("/livez").0, 200);
}

#[test]
fn what_is_not_http_hurts_nobody() {
    let (_dir, running) = start("127.0.0.1:0");
    let Some(AdminAddress::Tcp(address)) = running.control.admin_address().cloned() else { panic!("TCP") };
    let mut stream = std::net::TcpStream::connect(address).expect("connect");
    stream.write_all(b"\0\xff\r\n\r\n not http at all\r\n\r\n").expect("send");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 400"), "{answer:?}");
    assert_eq!(running.get("/livez").0, 200);
}
