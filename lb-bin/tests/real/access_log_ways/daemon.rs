//! A real syslog daemon: it understands our messages, and may stop, die and come back.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use super::{ask, dropped};
use crate::access_log::JSON;
use crate::harness::crowd::Crowd;
use crate::harness::lb::one_server;
use crate::harness::origin::ok;
use crate::harness::tools::{program, signal};
use crate::harness::*;

on_both_drivers! {
    a_daemon_understands_messages_by_both_ways,
    a_daemon_that_is_stopped_delays_nobody,
    a_daemon_that_is_killed_is_found_again,
}

/// rsyslog, which listens at a unix socket and by UDP, and writes what it has understood to a file, an object a line.
struct Rsyslog {
    child: Option<Child>,
    udp: SocketAddr,
    directory: TempDir,
}

impl Rsyslog {
    fn start() -> Rsyslog {
        let directory = tempfile::Builder::new().prefix("lb-rsyslog-").tempdir().unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let property = |name: &str, outname: &str, more: &str| {
            format!("  property(name=\"{name}\" outname=\"{outname}\" format=\"jsonf\"{more})\n")
        };
        let properties = [
            property("syslogfacility-text", "facility", ""),
            property("syslogseverity-text", "severity", ""),
            property("protocol-version", "version", ""),
            property("timereported", "time", " dateformat=\"rfc3339\""),
            property("hostname", "host", ""),
            property("app-name", "name", ""),
            property("procid", "process", ""),
            property("msgid", "id", ""),
            property("structured-data", "data", ""),
            property("msg", "message", ""),
        ];
        // Messages at a unix socket are taken for what libc's syslog(3) writes there, unless told otherwise.
        let config = format!(
            "global(workDirectory=\"@DIR@\" maxMessageSize=\"64k\")\n\
             module(load=\"imuxsock\" SysSock.Use=\"off\")\nmodule(load=\"imudp\")\n\
             input(type=\"imuxsock\" Socket=\"@DIR@/socket\" UseSpecialParser=\"off\" ParseHostname=\"on\"\n\
                   UseSysTimeStamp=\"off\" IgnoreTimestamp=\"off\")\n\
             input(type=\"imudp\" address=\"{}\" port=\"{}\")\n\
             template(name=\"parts\" type=\"list\" option.jsonf=\"on\") {{\n{}}}\n\
             action(type=\"omfile\" file=\"@DIR@/messages\" template=\"parts\")\n",
            udp.ip(),
            udp.port(),
            properties.concat(),
        )
        .replace("@DIR@", &directory.path().display().to_string());
        fs::write(directory.path().join("rsyslog.conf"), config).unwrap();
        let mut daemon = Rsyslog { child: None, udp, directory };
        daemon.run();
        daemon
    }

    /// Starts the process, or another one where it was killed.
    fn run(&mut self) {
        let path = self.directory.path();
        let child = Command::new(program("rsyslogd"))
            .arg("-n")
            .arg("-f")
            .arg(path.join("rsyslog.conf"))
            .arg("-i")
            .arg(path.join("pid"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(path.join("errors")).unwrap())
            .spawn()
            .expect("rsyslog starts (the script `test` at the top installs it)");
        let child = self.child.insert(child);
        let (socket, udp) = (path.join("socket"), self.udp);
        until("rsyslog to listen", || {
            if let Ok(Some(status)) = child.try_wait() {
                let errors = fs::read_to_string(path.join("errors")).unwrap_or_default();
                panic!("rsyslog ended with {status}: {errors}");
            }
            let unix = UnixDatagram::unbound().unwrap().connect(&socket).is_ok();
            unix && UdpSocket::bind(udp).is_err()
        });
    }

    fn signal(&self, name: &str) {
        signal(self.child.as_ref().expect("it runs").id(), name);
    }

    fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    /// What it has understood so far, without what it says itself.
    fn messages(&self) -> Vec<Value> {
        self.complete().lines().filter_map(not_its_own).collect()
    }

    fn last(&self) -> Option<Value> {
        self.complete().lines().rev().find_map(not_its_own)
    }

    fn complete(&self) -> String {
        let mut text = fs::read_to_string(self.directory.path().join("messages")).unwrap_or_default();
        text.truncate(text.rfind('\n').unwrap_or(0));
        text
    }
}

fn not_its_own(text: &str) -> Option<Value> {
    let message: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    (message["name"] != "rsyslogd").then_some(message)
}

impl Drop for Rsyslog {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The access log's line in a message.
fn line(message: &Value) -> Value {
    let text = message["message"].as_str().expect("a message");
    serde_json::from_str(text.trim_start()).unwrap_or_else(|error| panic!("{error}: {message}"))
}

fn start(driver: Driver, address: &str, origin: &Origin) -> Lb {
    let log =
        format!("{JSON}\n[log.syslog]\naddress = \"{address}\"\nfacility = \"local3\"\nname = \"edge\"");
    Setup::new(driver, one_server(origin)).log(&log).log_to("syslog").start()
}

fn a_daemon_understands_messages_by_both_ways(driver: Driver) {
    let (origin, daemon) = (Origin::answering(|_| ok("ok")), Rsyslog::start());
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    for address in [format!("unix:{}", daemon.socket().display()), daemon.udp.to_string()] {
        let lb = start(driver, &address, &origin);
        let target = format!("/quoted\"{address}?a=%41&b={}", "x".repeat(1_500));
        ask(&mut Client::connect(lb.web()), &target);
        drop(Client::connect(lb.web()).exchange("GET / HTTP/1.1\r\n\r\n"));
        let process = lb.pid().to_string();
        let its = || -> Vec<Value> {
            daemon.messages().into_iter().filter(|message| message["process"] == process.as_str()).collect()
        };
        until("both messages", || its().len() == 2);
        let mut messages = its();
        messages.sort_by_key(|message| message["severity"].to_string());
        let [good, bad] = [&messages[0], &messages[1]];
        assert_eq!(line(good)["target"], target.as_str());
        assert_eq!(line(bad)["reason"], "missing_host");
        for (message, severity) in [(good, "info"), (bad, "warning")] {
            let expected = [
                ("facility", "local3"),
                ("severity", severity),
                ("version", "1"),
                ("host", host.trim()),
                ("name", "edge"),
                ("id", "access"),
                ("data", "-"),
            ];
            for (part, value) in expected {
                assert_eq!(message[part], value, "{part} by {address} in {message}");
            }
            let seconds = |time: &Value| time.as_str().expect("a time")[..23].to_owned();
            assert_eq!(seconds(&message["time"]), seconds(&line(message)["time"]), "{message}");
        }
        assert_eq!(dropped(&lb), 0);
    }
}

/// Its queue fills up, and what does not fit is counted; what did fit is read when it goes on.
fn a_daemon_that_is_stopped_delays_nobody(driver: Driver) {
    let (origin, daemon) = (Origin::answering(|_| ok("ok")), Rsyslog::start());
    let lb = start(driver, &format!("unix:{}", daemon.socket().display()), &origin);
    let asked = Crowd::around(lb.web(), 4, |crowd| {
        until("messages to arrive", || daemon.last().is_some());
        daemon.signal("STOP");
        until("lines to be lost", || dropped(&lb) > 0);
        crowd.pass(400);
        daemon.signal("CONT");
        let last = crowd.turn_page();
        until("messages to arrive again", || {
            daemon.last().is_some_and(|message| line(&message)["target"] == last.as_str())
        });
        assert_eq!(crowd.failed(), 0);
    });
    until("each exchange to be in the file or counted", || daemon.messages().len() + dropped(&lb) == asked);
    let told = lb.log();
    assert!(told.contains("access log lines are lost and counted: "), "{told}");
    assert!(told.contains("access log lines are written again"), "{told}");
}

fn a_daemon_that_is_killed_is_found_again(driver: Driver) {
    let (origin, mut daemon) = (Origin::answering(|_| ok("ok")), Rsyslog::start());
    for address in [format!("unix:{}", daemon.socket().display()), daemon.udp.to_string()] {
        let lb = start(driver, &address, &origin);
        Crowd::around(lb.web(), 4, |crowd| {
            let arrives = |daemon: &Rsyslog, target: &str| {
                let process = lb.pid().to_string();
                let is_it = |message: Value| {
                    message["process"] == process.as_str() && line(&message)["target"] == target
                };
                until("messages to arrive", || daemon.last().is_some_and(is_it));
            };
            arrives(&daemon, "/0");
            daemon.kill();
            until("lines to be lost", || dropped(&lb) > 0);
            crowd.pass(400);
            daemon.run();
            let last = crowd.turn_page();
            arrives(&daemon, &last);
            assert_eq!(crowd.failed(), 0);
        });
    }
}
