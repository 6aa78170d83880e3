//! Names whose addresses change while traffic flows.

mod checked;
mod name_server;
mod unresolved;

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::Value;

use self::name_server::{Mode, NXDOMAIN, NameServer, REFUSED, SERVFAIL};
use crate::harness::client::get;
use crate::harness::origin::{Ended, ok};
use crate::harness::tools::{program, signal};
use crate::harness::*;

const NAME: &str = "app.internal";

on_both_drivers! {
    rotated_addresses_fail_no_request,
    an_address_that_left_is_drained,
}

/// An origin on each of these addresses of loopback, all on one port. Each says where it is and repeats the path and what
/// was sent, so that a foreign answer would show.
fn origins(lasts: impl Iterator<Item = u8> + Clone) -> (u16, Vec<Origin>) {
    let port = common_port(lasts.clone());
    let origin = |last| {
        Origin::scripted_on(at(last, port), move |conversation| {
            while let Some(request) = conversation.request() {
                let body = format!("{last} {} {}", request.target(), request.text());
                if conversation.write(ok(body)).is_err() {
                    break;
                }
            }
        })
    };
    (port, lasts.map(origin).collect())
}

fn at(last: u8, port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, last], port))
}

/// A port that is free at each of these addresses.
fn common_port(lasts: impl Iterator<Item = u8> + Clone) -> u16 {
    loop {
        let port = TcpListener::bind(at(1, 0)).unwrap().local_addr().unwrap().port();
        if lasts.clone().all(|last| TcpListener::bind(at(last, port)).is_ok()) {
            return port;
        }
    }
}

/// A listener, a route, and a backend of one entry for the name. Questions follow each other quickly.
fn config(servers: &[SocketAddr], resolver: &str, entry: &str, backend: &str) -> String {
    let servers: Vec<String> = servers.iter().map(|address| format!("\"{address}\"")).collect();
    format!(
        "[resolver]\nservers = [{}]\ntimeout = \"200ms\"\nretries = 1\nttl_min = \"100ms\"\nttl_max = \"200ms\"\n\
         remove_after = \"2s\"\n{resolver}\n\
         [[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n\
         [[route]]\nname = \"all\"\nbackend = \"app\"\n\
         [[backend]]\nname = \"app\"\n{backend}\nserver = [{{ name = \"a\", {entry} }}]\n",
        servers.join(", ")
    )
}

fn all_of(port: u16) -> String {
    format!("address = \"{NAME}:{port}\", resolve = \"all\"")
}

/// Who answers one request; fails if anything but the right answer comes.
#[track_caller]
fn who(web: SocketAddr) -> u8 {
    verified(&get(web, "a", "/x"), "/x", "")
}

#[track_caller]
fn verified(response: &Message, path: &str, sent: &str) -> u8 {
    assert_eq!(response.status(), 200, "{response:?}");
    let text = response.text();
    let (last, rest) = text.split_once(' ').unwrap_or_else(|| panic!("{text:?}"));
    assert_eq!(rest, format!("{path} {sent}"));
    last.parse().unwrap_or_else(|_| panic!("{text:?}"))
}

/// What `/names` says about the one name.
#[track_caller]
fn shown(lb: &Lb) -> Value {
    let names: Value = serde_json::from_str(&lb.admin_get("/names").text()).expect("JSON");
    assert_eq!(names["version"], 1);
    names["names"][0].clone()
}

fn addresses(shown: &Value, state: &str) -> BTreeSet<String> {
    let all = shown["all"].as_array().into_iter().flatten();
    let found = all.filter(|it| it["state"] == state).filter_map(|it| it["address"].as_str());
    found.map(str::to_owned).collect()
}

/// Keeps requests flowing while `drive` runs. Every one must succeed with the right body; returns how many there were.
fn under_load(web: SocketAddr, drive: impl FnOnce(&AtomicUsize, &[AtomicUsize; 256])) -> usize {
    let stop = AtomicBool::new(false);
    let served = AtomicUsize::new(0);
    let by_server: [AtomicUsize; 256] = std::array::from_fn(|_| AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for number in 0..4 {
            let (stop, served, by_server) = (&stop, &served, &by_server);
            scope.spawn(move || {
                let mut kept = Client::connect(web);
                let mut round = 0;
                while !stop.load(Ordering::Relaxed) {
                    round += 1;
                    let path = format!("/{number}/{round}");
                    let last = if number % 2 == 0 {
                        let sent = format!("sent {round}");
                        let request = format!(
                            "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{sent}",
                            sent.len()
                        );
                        verified(&kept.exchange(request), &path, &sent)
                    } else {
                        verified(&get(web, "a", &path), &path, "")
                    };
                    by_server[usize::from(last)].fetch_add(1, Ordering::Relaxed);
                    served.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let drive = std::panic::AssertUnwindSafe(|| drive(&served, &by_server));
        let driven = std::panic::catch_unwind(drive);
        stop.store(true, Ordering::Relaxed);
        if let Err(panic) = driven {
            std::panic::resume_unwind(panic);
        }
    });
    served.into_inner()
}

/// Waits until a server has answered `count` requests from now on.
fn until_serves(by_server: &[AtomicUsize; 256], last: u8, count: usize) {
    let of = &by_server[usize::from(last)];
    let before = of.load(Ordering::Relaxed);
    until(&format!("127.0.0.{last} to serve"), || of.load(Ordering::Relaxed) >= before + count);
}

fn rotated_addresses_fail_no_request(driver: Driver) {
    const ROUNDS: u8 = 30;
    let first = 101;
    let (port, mut origins) = origins(first..first + ROUNDS + 2);
    let server = NameServer::start();
    server.set(NAME, &[first, first + 1]);
    let text = config(&[server.address], "", &all_of(port), "");
    let lb = Lb::start(driver, text.clone());
    let served = under_load(lb.web(), |served, by_server| {
        let until_there_are = |lasts: &[u8]| {
            let wanted: BTreeSet<String> = lasts.iter().map(|last| format!("127.0.0.{last}")).collect();
            until(&format!("only {lasts:?} to serve"), || {
                let shown = shown(&lb);
                addresses(&shown, "present") == wanted && addresses(&shown, "leaving").is_empty()
            });
        };
        for round in 1..=ROUNDS {
            let lasts = [first + round + 1, first + round];
            server.set(NAME, &lasts);
            if round % 6 == 5 {
                // A configuration that comes while addresses change loses none of them.
                lb.reload(&format!("{text}# {round}\n"));
            }
            until_serves(by_server, lasts[0], 3);
            let before = served.load(Ordering::Relaxed);
            until("more to be served", || served.load(Ordering::Relaxed) > before + 20);
            if round % 5 == 0 {
                // Those that are gone may die: nobody is sent there any more.
                until_there_are(&lasts);
                until("a table without them", || lb.metric("lb_backend_servers", &["state=\"up\""]) == 2.0);
                until_serves(by_server, lasts[0], 50);
                for origin in &origins[..usize::from(round)] {
                    origin.wait_for("its connections to be closed", |it| it.iter().all(|it| it.1.is_some()));
                    origin.kill();
                }
            }
        }
        // The same few, one after the other: they come back before they are gone.
        let few = [first + ROUNDS, first + ROUNDS + 1];
        for round in 0..20 {
            server.set(NAME, &[few[round % 2]]);
            until_asked(&lb, &["answer"], 1.0);
        }
        server.set(NAME, &few);
        until_there_are(&few);
    });
    origins.clear();
    assert!(served > 600, "{served}");
    let page = lb.admin_get("/metrics").text();
    assert!(!page.contains("lb_requests_total{code=\"5"), "{page}");
    assert!(lb.metric("lb_resolver_tables_total", &[]) >= f64::from(ROUNDS), "{page}");
}

fn an_address_that_left_is_drained(driver: Driver) {
    let (port, new) = origins([22u8].into_iter());
    let (gate, server) = (Gate::new(), NameServer::start());
    let opened = gate.clone();
    let old = Origin::scripted_on(SocketAddr::from(([127, 0, 0, 21], port)), move |conversation| {
        while let Some(request) = conversation.request() {
            if request.target() == "/slow" {
                opened.wait();
            }
            if conversation.write(ok("21 /x ")).is_err() {
                break;
            }
        }
    });
    server.set(NAME, &[21]);
    // Without the other address nothing would close an idle connection for an hour.
    let backend = "timeouts = { idle_up = \"1h\" }";
    let text = config(&[server.address], "", &all_of(port), backend);
    let lb = Setup::new(driver, text).workers(1).start();
    let mut slow = Client::connect(lb.web());
    slow.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    old.wait_for("the slow request", |it| it.iter().any(|(bytes, _)| bytes.starts_with(b"GET /slow")));
    assert_eq!(who(lb.web()), 21);
    assert_eq!(old.connections(), 2, "one is busy, one is idle");

    server.set(NAME, &[22]);
    until("the new address to serve", || who(lb.web()) == 22);
    old.wait_for("the idle connection to be closed", |it| {
        it.iter().any(|(bytes, ended)| bytes.starts_with(b"GET /x") && *ended == Some(Ended::Eof))
    });
    assert!((0..20).all(|_| who(lb.web()) == 22), "nobody new is sent there");
    gate.open();
    assert_eq!(slow.response().text(), "21 /x ");
    old.wait_for("its connection to be closed, too", |it| it.iter().all(|(_, ended)| ended.is_some()));
    assert_eq!(new[0].connections(), 1);
    assert!(lb.log().contains("127.0.0.21 left the answer"), "{}", lb.log());
    assert_eq!(lb.log().matches("127.0.0.21 no longer serves").count(), 1, "{}", lb.log());
}

/// Waits until so many more questions have ended with one of these results.
#[track_caller]
fn until_asked(lb: &Lb, results: &[&str], count: f64) {
    let asked = || -> f64 {
        let of = |result: &&str| lb.metric("lb_resolver_asks_total", &[&format!("result=\"{result}\"")]);
        results.iter().map(of).sum()
    };
    let before = asked();
    until(&format!("questions to end with {results:?}"), || asked() >= before + count);
}

#[test]
fn traffic_goes_on_whatever_name_servers_do_and_recovers() {
    let (port, _origins) = origins(31..41u8);
    let server = NameServer::start();
    server.set(NAME, &[31]);
    let lb = Lb::start(Driver::Auto, config(&[server.address], "", &all_of(port), ""));
    let modes: [(Mode, &[&str]); 7] = [
        (SERVFAIL, &["server_failed"]),
        (NXDOMAIN, &["no_name"]),
        (REFUSED, &["refused"]),
        (Mode::Empty, &["empty"]),
        (Mode::Silent, &["timeout"]),
        (Mode::WrongId, &["timeout"]),
        (Mode::Garbage, &["timeout", "malformed", "unreachable", "code"]),
    ];
    let served = under_load(lb.web(), |_, by_server| {
        let mut last = 31;
        for (mode, results) in modes {
            server.set_mode(mode);
            until_asked(&lb, results, 2.0);
            let name = shown(&lb);
            assert!(name["failures"].as_u64().is_some_and(|count| count > 0), "{mode:?}: {name}");
            assert!(results.iter().any(|it| name["failure"]["reason"] == *it), "{mode:?}: {name}");
            assert_eq!(addresses(&name, "present"), [format!("127.0.0.{last}")].into(), "{mode:?}");
            until_serves(by_server, last, 20);
            last += 1;
            server.set(NAME, &[last]);
            until_serves(by_server, last, 3);
            assert_eq!(shown(&lb)["failures"], Value::Null, "{mode:?}");
        }
        // An answer that does not fit is asked for again by TCP, and is an answer.
        let (_, before) = server.queries();
        server.set(NAME, &[last + 1]);
        server.set_mode(Mode::Truncated);
        until_serves(by_server, last + 1, 3);
        until_asked(&lb, &["answer"], 3.0);
        assert!(server.queries().1 > before);
    });
    assert!(served > 200, "{served}");
    assert_eq!(lb.log().matches("its last addresses stay").count(), 7, "one line each:\n{}", lb.log());
}

#[test]
fn a_name_server_may_die_and_come_back() {
    let (port, _origins) = origins(41..43u8);
    let server = NameServer::start();
    server.set(NAME, &[41]);
    let lb = Lb::start(Driver::Auto, config(&[server.address], "", &all_of(port), ""));
    under_load(lb.web(), |_, by_server| {
        let address = server.address;
        drop(server);
        until_asked(&lb, &["timeout", "unreachable"], 2.0);
        until_serves(by_server, 41, 20);
        let server = NameServer::start_on(address);
        server.set(NAME, &[42]);
        until_serves(by_server, 42, 3);
    });
}

#[test]
fn another_name_server_answers_where_one_does_not() {
    let (port, _origins) = origins(43..45u8);
    let [bad, good] = [NameServer::start(), NameServer::start()];
    bad.set_mode(REFUSED);
    good.set(NAME, &[43]);
    let text = config(&[bad.address, good.address], "", &all_of(port), "");
    let lb = Lb::start(Driver::Auto, text);
    assert_eq!(who(lb.web()), 43);
    for mode in [SERVFAIL, Mode::Silent, Mode::Garbage] {
        bad.set_mode(mode);
        for last in [44, 43] {
            good.set(NAME, &[last]);
            until("the new address to serve", || who(lb.web()) == last);
        }
    }
    // It is asked first who answered last, so the bad one is left alone.
    let (before, _) = bad.queries();
    until_asked(&lb, &["answer"], 5.0);
    assert_eq!(bad.queries().0, before);
}

#[test]
fn starting_does_not_wait_for_ever_for_a_name() {
    let (port, _origins) = origins([45u8].into_iter());
    let server = NameServer::start();
    for mode in [NXDOMAIN, Mode::Silent] {
        server.set_mode(mode);
        let text = config(&[server.address], "start_wait = \"300ms\"", &all_of(port), "");
        let lb = Lb::start(Driver::Auto, text);
        let refused = get(lb.web(), "a", "/x");
        assert_eq!((refused.status(), refused.field("x-lb-reason")), (503, Some("no_server")));
        assert!(lb.log().contains("LB153") && lb.log().contains(NAME), "{}", lb.log());
        let told = lb.admin_get("/explain?url=http://a/x").text();
        assert!(told.contains(&format!("names    {NAME}")) && told.contains("no address"), "{told}");
        server.set(NAME, &[45]);
        until("the name to be answered", || get(lb.web(), "a", "/x").status() == 200);
        assert_eq!(who(lb.web()), 45);
    }
    server.set_mode(NXDOMAIN);
    let text = config(&[server.address], "required = true", &all_of(port), "");
    let why = Setup::new(Driver::Auto, text.clone()).try_start().err().expect("it must not start");
    assert!(why.contains("LB060") && why.contains("NXDOMAIN"), "{why}");
    let checked = Setup::new(Driver::Auto, text.replace("required = true", "")).command(&["check"]);
    let told = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(checked.status.success() && told.contains("warning[LB153]"), "{told}");
}

#[test]
fn a_session_stays_where_its_address_does() {
    let (port, _origins) = origins(51..55u8);
    let server = NameServer::start();
    server.set(NAME, &[51, 52]);
    let lb = Lb::start(Driver::Auto, config(&[server.address], "", &all_of(port), "sticky = true"));
    let ask = |cookie: &str| {
        let mut client = Client::connect(lb.web());
        let request = format!("GET /x HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\n\r\n");
        let response = client.exchange(request);
        let set = response.field("set-cookie").map(|it| it.split(';').next().unwrap_or("").to_owned());
        (verified(&response, "/x", ""), set)
    };
    let (home, cookie) = ask("none=1");
    let cookie = cookie.expect("a session begins");
    let other = 103 - home;
    for lasts in [vec![home, 53, other], vec![54, home], vec![home, other]] {
        server.set(NAME, &lasts);
        let wanted: BTreeSet<String> = lasts.iter().map(|last| format!("127.0.0.{last}")).collect();
        until("the answer to be taken up", || {
            let shown = shown(&lb);
            addresses(&shown, "present") == wanted && addresses(&shown, "leaving").is_empty()
        });
        for _ in 0..10 {
            assert_eq!(ask(&cookie), (home, None), "{lasts:?}");
        }
    }
    server.set(NAME, &[other]);
    until("the session to move", || ask(&cookie).0 == other);
    let (_, moved) = ask(&cookie);
    assert_eq!(ask(&moved.expect("a new home has a new cookie")), (other, None));
}

#[test]
fn answers_that_are_parts_move_nobody() {
    let (port, _origins) = origins(61..69u8);
    let server = NameServer::start();
    let mut parts = (0..).map(|round: u8| [0, 1, 2].map(|at| 61 + (round.wrapping_mul(3) + at) % 8));
    server.set(NAME, &parts.next().unwrap());
    let lb = Lb::start(Driver::Auto, config(&[server.address], "", &all_of(port), ""));
    under_load(lb.web(), |_, _| {
        until("the answers to be known as parts", || {
            server.set(NAME, &parts.next().unwrap());
            until_asked(&lb, &["answer"], 1.0);
            let shown = shown(&lb);
            shown["answers_are_parts"] == true && addresses(&shown, "present").len() == 8
        });
        until("the table to be made", || {
            let generation = lb.metric("lb_snapshot_generation", &[]);
            until_asked(&lb, &["answer"], 3.0);
            lb.metric("lb_snapshot_generation", &[]) == generation
        });
        let generation = lb.metric("lb_snapshot_generation", &[]);
        for _ in 0..12 {
            server.set(NAME, &parts.next().unwrap());
            until_asked(&lb, &["answer"], 1.0);
        }
        assert_eq!(lb.metric("lb_snapshot_generation", &[]), generation);
    });
}

#[test]
fn a_service_has_ports_weights_and_backups() {
    let service = "_http._tcp.cart.internal";
    let (port, mut primaries) = origins(71..73u8);
    let (other_port, _backup) = origins([73u8].into_iter());
    let server = NameServer::start();
    server.set("one.internal", &[71]);
    server.set("two.internal", &[72]);
    server.set("old.internal", &[73]);
    let records =
        [(10, 30, port, "one.internal"), (10, 10, port, "two.internal"), (20, 1, other_port, "old.internal")];
    server.set_service(service, &records);
    let entry = format!("address = \"{service}\", resolve = \"srv\"");
    let lb = Setup::new(Driver::Auto, config(&[server.address], "", &entry, "")).workers(1).start();
    let mut counts = [0; 3];
    (0..40).for_each(|_| counts[usize::from(who(lb.web()) - 71)] += 1);
    assert_eq!(counts, [30, 10, 0]);
    let shown = shown(&lb);
    assert_eq!((&shown["kind"], &shown["all"][2]["priority"]), (&"service".into(), &20.into()), "{shown}");
    primaries.clear();
    until("the backup to serve", || get(lb.web(), "a", "/x").status() == 200);
    assert_eq!(who(lb.web()), 73);
    server.set_service(service, &records[2..]);
    until("the backup to be the only one", || addresses(&self::shown(&lb), "present").len() == 1);
    assert_eq!(who(lb.web()), 73);
}

#[test]
fn an_entry_may_take_one_address_and_keeps_it() {
    let (port, _origins) = origins(81..84u8);
    let server = NameServer::start();
    server.set(NAME, &[82, 81, 83]);
    let entry = format!("address = \"{NAME}:{port}\"");
    let lb = Lb::start(Driver::Auto, config(&[server.address], "", &entry, ""));
    for lasts in [[82, 81, 83], [81, 83, 82], [83, 82, 81]] {
        server.set(NAME, &lasts);
        until_asked(&lb, &["answer"], 2.0);
        assert!((0..10).all(|_| who(lb.web()) == 82), "the order means nothing");
    }
    server.set(NAME, &[83, 81]);
    until("another one to be taken", || (0..10).all(|_| who(lb.web()) == 83));
}

/// dnsmasq, a name server of others' making.
struct Dnsmasq {
    child: Child,
    address: SocketAddr,
    directory: tempfile::TempDir,
}

impl Dnsmasq {
    fn start() -> Dnsmasq {
        let directory = tempfile::Builder::new().prefix("lb-dnsmasq-").tempdir().unwrap();
        let address = tools::unused_address();
        std::fs::write(directory.path().join("hosts"), "").unwrap();
        let child = Command::new(program("dnsmasq"))
            .args([
                "--keep-in-foreground",
                "--no-resolv",
                "--no-hosts",
                "--conf-file=/dev/null",
                "--local-ttl=1",
            ])
            .args([
                "--listen-address=127.0.0.1",
                "--bind-interfaces",
                "--log-facility=-",
                "--user=",
                "--group=",
            ])
            .arg(format!("--port={}", address.port()))
            .arg(format!("--pid-file={}", directory.path().join("pid").display()))
            .arg(format!("--addn-hosts={}", directory.path().join("hosts").display()))
            .arg("--srv-host=_http._tcp.cart.internal,app.internal,8080,5,7")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("dnsmasq starts (the script `test` at the top installs it)");
        let mut dnsmasq = Dnsmasq { child, address, directory };
        until("dnsmasq to listen", || {
            assert!(dnsmasq.child.try_wait().unwrap().is_none(), "dnsmasq ended");
            std::net::TcpStream::connect(address).is_ok()
        });
        dnsmasq
    }

    fn set(&self, lasts: &[u8]) {
        let lines: String = lasts.iter().map(|last| format!("127.0.0.{last} {NAME}\n")).collect();
        std::fs::write(self.directory.path().join("hosts"), lines).unwrap();
        signal(self.child.id(), "HUP");
    }
}

impl Drop for Dnsmasq {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn dnsmasq_is_understood() {
    let (port, _origins) = origins(91..94u8);
    let dnsmasq = Dnsmasq::start();
    dnsmasq.set(&[91, 92]);
    let lb = Lb::start(Driver::Auto, config(&[dnsmasq.address], "", &all_of(port), ""));
    under_load(lb.web(), |_, by_server| {
        for (lasts, new) in [([91, 92], 92), ([92, 93], 93), ([93, 91], 91)] {
            dnsmasq.set(&lasts);
            until_serves(by_server, new, 5);
        }
        // It knows the name no more: what it said last stays.
        dnsmasq.set(&[]);
        until_asked(&lb, &["no_name", "empty", "refused", "server_failed"], 2.0);
        until_serves(by_server, 91, 5);
    });
    let entry = "address = \"_http._tcp.cart.internal\", resolve = \"srv\"";
    dnsmasq.set(&[91]);
    let lb = Lb::start(Driver::Auto, config(&[dnsmasq.address], "", entry, ""));
    until("the service to be known", || shown(&lb)["all"][0]["address"] == "127.0.0.91:8080");
    assert_eq!(shown(&lb)["all"][0]["weight"], 7);
}
