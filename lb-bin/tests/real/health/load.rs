//! One of three servers fails under constant load, is found out, and comes back. Bodies are verified, and clients do
//! not try again: what fails must be what cannot be hidden.

use std::fs;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use super::relay::{Mode, Relay};
use super::{FAST, until_ready, until_up};
use crate::harness::lb::servers;
use crate::harness::tools::{Nginx, program, signal, unused_address};
use crate::harness::*;

const THREADS: usize = 8;

/// Requests that must pass before and after each change.
const PASSING: usize = 400;

on_both_drivers! {
    killed,
    frozen,
    answers_500,
    resets_in_the_middle,
    slowed_to_two_seconds,
    cut_off_by_the_network,
}

/// A request that failed.
#[derive(Debug)]
struct Failure {
    begun_at: Instant,
    post: bool,
    /// The response's head had come before it broke.
    head_came: bool,
    status: Option<u16>,
    what: String,
}

#[derive(Default)]
struct Load {
    over: AtomicBool,
    done: AtomicUsize,
    failures: Mutex<Vec<Failure>>,
}

impl Load {
    fn pass(&self, count: usize) {
        let wanted = self.done.load(Ordering::SeqCst) + count;
        until(&format!("{count} requests to pass"), || self.done.load(Ordering::SeqCst) >= wanted);
    }

    fn run(&self, web: SocketAddr, thread: usize) {
        let mut kept: Option<Client> = None;
        for number in 0.. {
            if self.over.load(Ordering::SeqCst) {
                return;
            }
            let (target, post) = (format!("/{thread}/{number}"), number % 5 == 0);
            let mut client = kept.take().unwrap_or_else(|| Client::connect(web));
            let begun_at = Instant::now();
            match one(&mut client, &target, post) {
                Ok(()) if number % 4 != 0 => kept = Some(client),
                Ok(()) => {}
                Err((head_came, status, what)) => {
                    let failure = Failure { begun_at, post, head_came, status, what };
                    self.failures.lock().unwrap().push(failure);
                }
            }
            self.done.fetch_add(1, Ordering::SeqCst);
        }
    }
}

type Broken = (bool, Option<u16>, String);

fn one(client: &mut Client, target: &str, post: bool) -> Result<(), Broken> {
    let request = match post {
        true => format!("POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"),
        false => format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"),
    };
    client.try_send(&request).map_err(|error| (false, None, error.to_string()))?;
    let mut message = match client.wire().head() {
        Ok(Some(head)) => head,
        other => return Err((false, None, format!("{other:?}"))),
    };
    let length = message.response_length("GET");
    let body = client.wire().body(&mut message, length);
    let status = message.status();
    body.map_err(|error| (true, Some(status), error.to_string()))?;
    if status != 200 {
        return Err((false, Some(status), format!("{status} {:?}", message.field("x-lb-reason"))));
    }
    let text = message.text();
    let is_right = text.split_once(' ').is_some_and(|(name, rest)| name.len() == 1 && rest == target);
    assert!(is_right, "{target} was answered with {text:?}");
    Ok(())
}

/// A network namespace of its own, and the link to it. Goes with everything when dropped.
struct Apart {
    network: String,
    name: String,
    near: String,
    address: SocketAddr,
}

impl Apart {
    /// `None` where we may not make one.
    fn new() -> Option<Apart> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        // Names and networks that no other test, nor another run of them, has.
        let number = COUNT.fetch_add(1, Ordering::SeqCst) as u32 * 4 + std::process::id() % 4096 * 16;
        let [_, high, low, _] = (number << 8).to_be_bytes();
        let host = |last: u8| std::net::Ipv4Addr::new(10, 200 + high % 32, low, last);
        let (name, near, far) = (format!("lbt{number}"), format!("lbt{number}n"), format!("lbt{number}f"));
        if !ip(&["netns", "add", &name]) {
            return None;
        }
        let network = format!("{}/30", host(0));
        // Where the link goes down there is no other way to it, such as the machine's gateway, behind which somebody else
        // may answer.
        assert!(ip(&["route", "add", "unreachable", &network, "metric", "4096"]));
        let apart =
            Apart { name: name.clone(), near: near.clone(), network, address: (host(2), 8080).into() };
        let addresses = [1, 2].map(|last| format!("{}/30", host(last)));
        let inside = ["-n", name.as_str()];
        assert!(ip(&["link", "add", &near, "type", "veth", "peer", "name", &far, "netns", &name]));
        assert!(ip(&["addr", "add", &addresses[0], "dev", &near]) && ip(&["link", "set", &near, "up"]));
        assert!(ip(&[inside[0], inside[1], "addr", "add", &addresses[1], "dev", &far]));
        assert!(ip(&[inside[0], inside[1], "link", "set", &far, "up"]));
        Some(apart)
    }

    fn link(&self, state: &str) {
        assert!(ip(&["link", "set", &self.near, state]));
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        ip(&["link", "del", &self.near]);
        ip(&["netns", "del", &self.name]);
        ip(&["route", "del", "unreachable", &self.network, "metric", "4096"]);
    }
}

fn ip(words: &[&str]) -> bool {
    Command::new(program("ip"))
        .args(words)
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// nginx that says its name and the target, or 500 while there is a file `bad` in its folder.
fn origin(name: &str, address: SocketAddr) -> Nginx {
    origin_by(&[], name, address)
}

fn origin_by(before: &[&str], name: &str, address: SocketAddr) -> Nginx {
    let server = format!(
        "location / {{ if (-f @DIR@/bad) {{ return 500 \"bad\"; }} return 200 \"{name} $request_uri\"; }}"
    );
    Nginx::start_by(before, address, &server)
}

/// Runs the load while `b` fails by `harm` and is well again by `heal`. Checks what every case has in common, and
/// returns what failed before it was found out.
fn under_load(driver: Driver, b: SocketAddr, harm: impl FnOnce(), heal: impl FnOnce()) -> Vec<Failure> {
    let (a, c) = (origin("a", unused_address()), origin("c", unused_address()));
    // One retry, as by default: a pooled connection that turns out to be closed is none, and a new one follows it.
    let config = format!(
        "{}balance = \"least_request\"\ntimeouts = {{ response = \"5s\" }}\n\
         health = {{ path = \"/healthz\", {FAST}, fall = 2 }}\n",
        servers(&[("a", a.address), ("b", b), ("c", c.address)])
    );
    let lb = Lb::start(driver, config);
    until_ready(&lb);
    let load = Load::default();
    let found_out = std::thread::scope(|scope| {
        // Whatever fails below, the load must end for the scope to end.
        struct Over<'a>(&'a AtomicBool);
        impl Drop for Over<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        let _over = Over(&load.over);
        for thread in 0..THREADS {
            let (load, web) = (&load, lb.web());
            scope.spawn(move || load.run(web, thread));
        }
        let picks = || lb.metric("lb_server_picks_total", &["server=\"b\""]);
        load.pass(PASSING);
        assert!(picks() > 0.0, "b takes its part");
        harm();
        until_up(&lb, "b", false);
        let found_out = Instant::now();
        load.pass(2 * THREADS);
        let before = picks();
        load.pass(PASSING);
        assert_eq!(picks(), before, "nobody is sent to it any more");
        heal();
        until_up(&lb, "b", true);
        let before = picks();
        until("b to take its part again", || picks() > before + 20.0);
        found_out
    });
    let failures = load.failures.into_inner().unwrap();
    eprintln!("{} requests, {} failed", load.done.into_inner(), failures.len());
    for failure in failures.iter().take(THREADS) {
        eprintln!("  {}", failure.what);
    }
    let late: Vec<_> = failures.iter().filter(|failure| failure.begun_at > found_out).collect();
    assert!(late.is_empty(), "begun after it was found out: {late:#?}");
    failures
}

fn killed(driver: Driver) {
    let address = unused_address();
    let mut b = Some(origin("b", address));
    let pids = b.as_ref().expect("it runs").pids();
    let mut back = None;
    let failures = under_load(
        driver,
        address,
        || {
            pids.iter().for_each(|pid| signal(*pid, "KILL"));
            drop(b.take());
        },
        || back = Some(origin("b", address)),
    );
    assert!(failures.len() <= THREADS, "more than were under way: {failures:#?}");
    for failure in &failures {
        assert!(failure.post || failure.head_came, "could have been repeated: {failure:?}");
    }
}

fn frozen(driver: Driver) {
    let b = origin("b", unused_address());
    let pids = b.pids();
    let all = |name: &str| pids.iter().for_each(|pid| signal(*pid, name));
    let failures = under_load(driver, b.address, || all("STOP"), || all("CONT"));
    // Those that it had when it froze wait for it until the response's timeout: whether it did them is not known.
    assert!(failures.len() <= THREADS, "more than were under way: {failures:#?}");
    assert!(failures.iter().all(|failure| failure.status == Some(504)), "{failures:#?}");
}

fn answers_500(driver: Driver) {
    let b = origin("b", unused_address());
    let bad = b.path().join("bad");
    let failures =
        under_load(driver, b.address, || fs::write(&bad, "").unwrap(), || fs::remove_file(&bad).unwrap());
    assert!(failures.iter().all(|failure| failure.status == Some(500)), "{failures:#?}");
}

fn resets_in_the_middle(driver: Driver) {
    let b = origin("b", unused_address());
    let relay = Relay::before(b.address);
    let failures = under_load(driver, relay.address, || relay.set(Mode::Cut), || relay.set(Mode::Pass));
    // The head had gone on when the body broke: nothing can hide that.
    for failure in &failures {
        assert!(failure.head_came || failure.post, "could have been repeated: {failure:?}");
    }
}

fn slowed_to_two_seconds(driver: Driver) {
    let b = origin("b", unused_address());
    let relay = Relay::before(b.address);
    let failures = under_load(driver, relay.address, || relay.set(Mode::Slow), || relay.set(Mode::Pass));
    assert!(failures.is_empty(), "late is not wrong: {failures:#?}");
}

fn cut_off_by_the_network(driver: Driver) {
    let Some(apart) = Apart::new() else {
        eprintln!("passed over: this machine lets us make no network namespace");
        return;
    };
    let _b = origin_by(&[&program("ip"), "netns", "exec", &apart.name], "b", apart.address);
    let failures = under_load(driver, apart.address, || apart.link("down"), || apart.link("up"));
    assert!(failures.len() <= THREADS, "more than were under way: {failures:#?}");
    for failure in &failures {
        // What it had waits for it until the response's timeout, unless the system says sooner that there is no way
        // to it: then what may be repeated is, elsewhere, as are connects that fail.
        let cannot_be_hidden = failure.status == Some(504) || failure.post || failure.head_came;
        assert!(cannot_be_hidden, "could have been repeated: {failure:?}");
    }
}
