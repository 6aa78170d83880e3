//! Checks of other programs: nginx, Redis, PostgreSQL; and of servers that mean harm.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::{FAST, checked, server, until_ready, until_up};
use crate::harness::lb::{backend, servers};
use crate::harness::tools::{Nginx, run_ok, signal, unused_address};
use crate::harness::*;

on_both_drivers! {
    nginx_is_asked_as_told,
    redis,
    postgresql,
    hostile_servers_harm_nobody,
}

fn nginx_is_asked_as_told(driver: Driver) {
    let nginx = Nginx::start(
        "location = /moved { return 302 /well; }\n\
         location = /well { return 200 \"all is well\"; }\n\
         location = /named { if ($host != \"probe.internal\") { return 421; } if ($http_x_probe != \"1\") { return 403; } \
         if ($request_method != \"HEAD\") { return 405; } return 204; }",
    );
    let one = |name: &str, health: &str| {
        let list = backend(name, &[(name, nginx.address)]);
        format!(
            "[[route]]\nname = \"{name}\"\npath = \"/{name}\"\nbackend = \"{name}\"\n\
             {list}health = {{ {health}, {FAST} }}\n"
        )
    };
    let config = [
        "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n".to_owned(),
        one("moved", "path = \"/moved\", expect = 200"),
        one("moved-well", "path = \"/moved\", expect = \"3xx\""),
        one("body", "path = \"/well\", body = \"is well\""),
        one("no-body", "path = \"/well\", body = \"is ill\""),
        one(
            "named",
            "path = \"/named\", method = \"HEAD\", host = \"probe.internal\", headers = { x-probe = \"1\" }, expect = 204",
        ),
        one("unnamed", "path = \"/named\""),
        one("connects", "kind = \"tcp\""),
        one("says", "send = \"GET /well HTTP/1.0\\r\\n\\r\\n\", expect = \"all is well\""),
    ];
    let lb = Lb::start(driver, config.concat());
    until_ready(&lb);
    for (name, up, words) in [
        ("moved", false, "status 302, expected 200"),
        ("moved-well", true, "status 302"),
        ("body", true, "status 200"),
        ("no-body", false, "no `is ill` in its body"),
        ("named", true, "status 204"),
        ("unnamed", false, "status 421, expected 200-399"),
        ("connects", true, "connected"),
        ("says", true, "answered `all is well`"),
    ] {
        let shown = server(&lb, name);
        assert_eq!(
            (shown["up"].clone(), shown["check"]["last"]["words"].clone()),
            (up.into(), words.into()),
            "{name}"
        );
    }
}

/// A program of the test's own. Dropping it kills it.
struct Running {
    child: Child,
    _directory: TempDir,
}

impl Running {
    fn start(command: &mut Command, directory: TempDir, address: SocketAddr) -> Running {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = child.spawn().expect("it starts (the script `test` at the top installs it)");
        let mut running = Running { child, _directory: directory };
        until(&format!("{:?} to listen", command.get_program()), || {
            let ended = running.child.try_wait().expect("a child can be asked");
            assert!(ended.is_none(), "{command:?} ended: {ended:?}");
            TcpStream::connect(address).is_ok()
        });
        running
    }

    fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn folder(prefix: &str) -> TempDir {
    tempfile::Builder::new().prefix(prefix).tempdir().unwrap()
}

/// A configuration with one backend that is checked like this.
fn one(address: SocketAddr, health: &str) -> String {
    format!("{}health = {{ {health}, {FAST}, fall = 2 }}\n", servers(&[("a", address)]))
}

fn redis(driver: Driver) {
    let start = |address: SocketAddr, more: &[&str]| {
        let directory = folder("lb-redis-");
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--port", &address.port().to_string(), "--save", "", "--dir"]);
        command.arg(directory.path()).args(more);
        Running::start(&mut command, directory, address)
    };
    let address = unused_address();
    let redis = start(address, &[]);
    let lb = Lb::start(driver, one(address, "kind = \"redis\""));
    let words = || server(&lb, "a")["check"]["last"]["words"].clone();
    until_ready(&lb);
    assert_eq!((server(&lb, "a")["up"].clone(), words()), (true.into(), "answered +PONG".into()));
    redis.signal("STOP");
    until_up(&lb, "a", false);
    assert_eq!(server(&lb, "a")["health"], "down (timeout)");
    assert_eq!(words(), "no whole answer within 1 s");
    redis.signal("CONT");
    until_up(&lb, "a", true);
    drop(redis);
    until_up(&lb, "a", false);
    assert_eq!(
        (server(&lb, "a")["health"].clone(), words()),
        ("down (connect)".into(), "connection refused".into())
    );
    let _redis = start(address, &["--requirepass", "secret"]);
    until_up(&lb, "a", true);
    assert_eq!(words(), "answered, and wants a password");
}

/// A PostgreSQL program; Debian keeps them by version.
fn postgres_program(name: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> =
        versions.map(|version| version.path().join("bin").join(name)).filter(|path| path.exists()).collect();
    found.sort();
    found.pop().unwrap_or_else(|| name.into())
}

/// PostgreSQL does not run as root: then it runs as nobody, who gets the folder.
fn as_nobody(program: &Path, directory: &Path) -> Command {
    use std::os::unix::fs::MetadataExt as _;
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        return Command::new(program);
    }
    std::os::unix::fs::chown(directory, Some(65534), Some(65534)).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]).arg(program);
    command
}

fn postgresql(driver: Driver) {
    let directory = folder("lb-postgres-");
    let (data, address) = (directory.path().join("data"), unused_address());
    let mut init = as_nobody(&postgres_program("initdb"), directory.path());
    run_ok(init.args(["--no-sync", "--auth=trust", "--username=postgres", "-D"]).arg(&data));
    let mut command = as_nobody(&postgres_program("postgres"), directory.path());
    command.arg("-D").arg(&data).args(["-p", &address.port().to_string(), "-c", "fsync=off", "-k"]);
    command.arg(directory.path()).args(["-c", "listen_addresses=127.0.0.1"]);
    let postgres = Running::start(&mut command, directory, address);

    let lb = Lb::start(
        driver,
        one(address, "kind = \"postgres\", user = \"postgres\", initial = \"up\", rise = 1"),
    );
    let words = || server(&lb, "a")["check"]["last"]["words"].clone();
    until("it to take sessions", || words() == "began a session");
    // A role that does not exist is an answer, too: what is asked is whether sessions are served.
    let good = || lb.metric("lb_server_checks_total", &["result=\"good\""]);
    let before = good();
    lb.reload(&one(address, "kind = \"postgres\""));
    until("checks in the other name", || good() >= before + 2.0);
    assert_eq!(server(&lb, "a")["up"], true);

    // It is told to end when its sessions have: until then it refuses new ones.
    let mut session = TcpStream::connect(address).unwrap();
    session.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut startup = vec![0, 0, 0, 0, 0, 3, 0, 0];
    startup.extend(b"user\0postgres\0database\0postgres\0\0");
    startup[3] = startup.len() as u8;
    session.write_all(&startup).unwrap();
    let mut answer = Vec::new();
    while !answer.windows(6).any(|it| it == b"Z\0\0\0\x05I") {
        let mut buffer = [0; 4096];
        let count = session.read(&mut buffer).expect("it answers");
        assert!(count > 0, "a session was to begin: {:?}", String::from_utf8_lossy(&answer));
        answer.extend(&buffer[..count]);
    }
    postgres.signal("TERM");
    until_up(&lb, "a", false);
    assert_eq!(
        (server(&lb, "a")["health"].clone(), words()),
        ("down (answer)".into(), "answered `the database system is shutting down`".into())
    );
    drop(session);
    until("it to be gone", || words() == "connection refused");
}

fn hostile_servers_harm_nobody(driver: Driver) {
    let scripted = |script: fn(&mut origin::Conversation)| {
        Origin::scripted(move |conversation| {
            if conversation.request().is_some() {
                script(conversation);
            }
        })
    };
    let endless_head = scripted(|it| {
        let _ = it.write("HTTP/1.1 200 OK\r\n");
        while it.write("x-more: and more of it, and still more\r\n".repeat(100)).is_ok() {}
    });
    let endless_body = scripted(|it| {
        let _ = it.write("HTTP/1.1 200 OK\r\n\r\n");
        while it.write("x".repeat(100_000)).is_ok() {}
    });
    let byte_by_byte = scripted(|it| {
        let _ = it.write("HTTP/1.1 200 OK\r\n");
        while it.write("x").is_ok() {}
    });
    let interim = scripted(|it| while it.write("HTTP/1.1 100 Continue\r\n\r\n").is_ok() {});
    let silent = scripted(|it| it.until_closed());
    let mute = Origin::scripted(|it| it.until_closed());
    let noise = scripted(|it| {
        let _ = it.write(pattern(9, 100_000));
    });
    let loops = scripted(|it| {
        let _ = it.write("HTTP/1.1 301 Moved\r\nlocation: /\r\ncontent-length: 0\r\n\r\n");
    });
    let (well, _) = checked("well");
    let list = [
        ("endless-head", &endless_head, false),
        ("endless-body", &endless_body, true),
        ("byte-by-byte", &byte_by_byte, false),
        ("interim", &interim, false),
        ("silent", &silent, false),
        ("mute", &mute, false),
        ("noise", &noise, false),
        ("loops", &loops, true),
        ("well", &well, true),
    ];
    let addresses: Vec<_> = list.iter().map(|(name, origin, _)| (*name, origin.address)).collect();
    let health = format!("health = {{ path = \"/healthz\", {FAST} }}\n");
    let lb = Lb::start(driver, servers(&addresses) + &health);
    until_ready(&lb);
    let checks = |name: &str| lb.metric("lb_server_checks_total", &[&format!("server=\"{name}\"")]);
    let round = |count: f64| {
        let before: Vec<f64> = list.iter().map(|(name, _, _)| checks(name)).collect();
        for ((name, _, up), before) in list.iter().zip(before) {
            until(&format!("{name} to be asked again"), || checks(name) >= before + count);
            assert_eq!(server(&lb, name)["up"], *up, "{name}: {}", server(&lb, name)["check"]);
        }
    };
    round(2.0);
    let before = lb.resident_bytes();
    round(6.0);
    let after = lb.resident_bytes();
    assert!(after < before + (16 << 20), "{before} bytes before and {after} after");
}
