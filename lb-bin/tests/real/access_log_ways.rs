//! Where access log lines go, and what becomes of requests and lines when they cannot go there.

mod daemon;
mod disk;

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixDatagram;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::access_log::JSON;
use crate::harness::lb::one_server;
use crate::harness::origin::ok;
use crate::harness::tools::run_ok;
use crate::harness::*;

on_both_drivers! {
    a_full_disk_is_counted_and_delays_nobody,
    a_stuck_disk_delays_nobody_and_loses_only_what_has_no_room,
    a_syslog_daemon_that_dies_comes_back,
    syslog_by_udp,
}

fn dropped(lb: &Lb) -> usize {
    lb.metric("lb_access_log_lines_dropped_total", &[]) as usize
}

/// Complete lines.
fn count_of(text: &str) -> usize {
    text.matches('\n').count()
}

fn ask(client: &mut Client, target: &str) {
    assert_eq!(client.exchange(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")).status(), 200);
}

fn a_full_disk_is_counted_and_delays_nobody(driver: Driver) {
    let origin = Origin::answering(|_| ok("ok"));
    let directory = TempDir::new().unwrap();
    let log = directory.path().join("access.log");
    symlink("/dev/full", &log).unwrap();
    let setup = Setup::new(driver, one_server(&origin)).workers(1).log(JSON);
    let lb = setup.log_to(log.to_str().unwrap()).start();
    let mut client = Client::connect(lb.web());
    until("lost lines to be counted", || {
        ask(&mut client, "/lost");
        dropped(&lb) >= 3
    });
    fs::remove_file(&log).unwrap();
    lb.signal("USR1");
    until("lines to be written again", || {
        ask(&mut client, "/kept");
        fs::read_to_string(&log).is_ok_and(|text| text.contains("/kept"))
    });
}

/// A pipe that nobody reads takes 64 KiB, and then a write to it never ends.
fn a_stuck_disk_delays_nobody_and_loses_only_what_has_no_room(driver: Driver) {
    let origin = Origin::answering(|_| ok("ok"));
    let directory = TempDir::new().unwrap();
    let pipe = directory.path().join("log");
    run_ok(Command::new("mkfifo").arg(&pipe));
    let setup = Setup::new(driver, one_server(&origin)).workers(1).log(JSON);
    let lb = setup.log_to(pipe.to_str().unwrap()).start();
    let mut client = Client::connect(lb.web());
    let long = format!("/{}", "x".repeat(2_000));
    let mut asked = 0;
    until("lines to be dropped", || {
        (0..100).for_each(|_| ask(&mut client, &long));
        asked += 100;
        dropped(&lb) > 0
    });
    // Somebody reads again: nothing needs to be done for lines to go on.
    let (told, lines) = std::sync::mpsc::channel();
    let reader = BufReader::new(fs::File::open(&pipe).unwrap());
    std::thread::spawn(move || reader.lines().map_while(Result::ok).try_for_each(|line| told.send(line)));
    let mut read: Vec<Value> = Vec::new();
    let is_last = |line: &Value| line["target"] == "/last";
    until("lines to come again", || {
        ask(&mut client, "/last");
        asked += 1;
        read.extend(lines.try_iter().map(|line| serde_json::from_str(&line).expect("a line is whole")));
        read.iter().any(is_last)
    });
    until("each exchange to be read or counted", || {
        read.extend(lines.try_iter().map(|line| serde_json::from_str(&line).expect("a line is whole")));
        read.len() + dropped(&lb) == asked
    });
}

/// The message's header without what is this machine's, and its line.
fn message(bytes: &[u8]) -> (String, Value) {
    let text = std::str::from_utf8(bytes).unwrap();
    let [mark, time, host, name, process, id, data, line] =
        <[&str; 8]>::try_from(text.splitn(8, ' ').collect::<Vec<_>>()).expect("all of a header");
    let line: Value = serde_json::from_str(line).unwrap();
    assert_eq!(line["time"], time, "the message's time is the line's");
    assert!(!host.is_empty() && process.parse::<u32>().is_ok(), "{text}");
    (format!("{mark} {name} {id} {data}"), line)
}

fn a_syslog_daemon_that_dies_comes_back(driver: Driver) {
    let origin = Origin::answering(|_| ok("ok"));
    let directory = TempDir::new().unwrap();
    let socket = directory.path().join("log");
    let daemon = UnixDatagram::bind(&socket).unwrap();
    daemon.set_read_timeout(Some(PATIENCE)).unwrap();
    let log = format!("{JSON}\n[log.syslog]\naddress = \"unix:{}\"\nname = \"edge\"", socket.display());
    let lb = Setup::new(driver, one_server(&origin)).workers(1).log(&log).log_to("syslog").start();
    let mut client = Client::connect(lb.web());
    let mut buffer = vec![0; 100_000];
    let receive = |daemon: &UnixDatagram, buffer: &mut [u8]| {
        let len = daemon.recv(buffer).expect("a message");
        message(&buffer[..len])
    };
    ask(&mut client, "/one");
    let (header, line) = receive(&daemon, &mut buffer);
    assert_eq!((header.as_str(), &line["target"]), ("<134>1 edge access -", &"/one".into()));
    // A malformed request is a warning.
    drop(Client::connect(lb.web()).exchange("GET / HTTP/1.1\r\n\r\n"));
    assert_eq!(receive(&daemon, &mut buffer).0, "<132>1 edge access -");
    drop(daemon);
    fs::remove_file(&socket).unwrap();
    until("lost lines to be counted", || {
        ask(&mut client, "/lost");
        dropped(&lb) > 0
    });
    let daemon = UnixDatagram::bind(&socket).unwrap();
    daemon.set_nonblocking(true).unwrap();
    until("lines to come again", || {
        ask(&mut client, "/again");
        daemon.recv(&mut buffer).is_ok_and(|len| message(&buffer[..len]).1["target"] == "/again")
    });
}

fn syslog_by_udp(driver: Driver) {
    let origin = Origin::answering(|_| ok("ok"));
    let daemon = UdpSocket::bind("127.0.0.1:0").unwrap();
    daemon.set_read_timeout(Some(PATIENCE)).unwrap();
    let address = daemon.local_addr().unwrap();
    let log = format!("[log.syslog]\naddress = \"{address}\"\nfacility = \"daemon\"");
    let lb = Setup::new(driver, one_server(&origin)).log(&log).log_to("syslog").start();
    ask(&mut Client::connect(lb.web()), "/by-udp");
    let mut buffer = [0; 2_000];
    let len = daemon.recv(&mut buffer).unwrap();
    let text = std::str::from_utf8(&buffer[..len]).unwrap();
    assert!(
        text.starts_with("<30>1 ") && text.contains(" access - ") && text.contains("GET /by-udp "),
        "{text}"
    );
}
