//! Specs, requests and tables for tests.

use lb_core::spec::*;
use lb_core::{Cursors, Decision, Permit, RequestView, Table, Verdict, compile, decide};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// A spec with keys, a listener, and nothing else.
pub fn spec() -> Spec {
    Spec {
        secrets: Secrets {
            signing: vec![SigningKey { id: "first".into(), key: SecretKey::new([1; 16]) }],
            share: Some(SecretKey::new([2; 16])),
        },
        listeners: vec![ListenerSpec { name: "web".into(), ..ListenerSpec::default() }],
        ..Spec::default()
    }
}

pub fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A server with a literal address made of its name.
pub fn server(name: &str, weight: u32) -> ServerSpec {
    let number = name.bytes().fold(1_u32, |sum, byte| sum.wrapping_mul(131).wrapping_add(byte.into()));
    let (last, port) = (number % 250 + 1, number / 250 % 60_000 + 1_000);
    ServerSpec {
        name: name.into(),
        address: Address::Literal(address(&format!("10.0.0.{last}:{port}"))),
        weight: Some(weight),
        ..ServerSpec::default()
    }
}

pub fn backup(name: &str) -> ServerSpec {
    ServerSpec { backup: true, weight: None, ..server(name, 1) }
}

pub fn backend(name: &str, balance: Policy, servers: Vec<ServerSpec>) -> BackendSpec {
    BackendSpec { name: name.into(), balance, servers, ..BackendSpec::default() }
}

pub fn route(name: &str, to: &str) -> RouteSpec {
    RouteSpec { name: name.into(), backend: Some(to.into()), ..RouteSpec::default() }
}

/// One route over two backends of three servers and a backup each, the canary with the given share.
pub fn split(share: &str, change: impl FnOnce(&mut CanarySpec)) -> Spec {
    let mut canary = CanarySpec {
        backend: "new".into(),
        share: share.parse().unwrap(),
        cookie: Some("canary".into()),
        release: "r1".into(),
        ..CanarySpec::default()
    };
    change(&mut canary);
    let servers = |kind: &str| {
        let mut servers: Vec<_> = (1..=3).map(|n| server(&format!("{kind}-{n}"), 1)).collect();
        servers.push(backup(&format!("{kind}-backup")));
        servers
    };
    Spec {
        routes: vec![RouteSpec { canary: Some(canary), ..route("shop", "old") }],
        backends: vec![
            backend("old", Policy::RoundRobin, servers("old")),
            backend("new", Policy::RoundRobin, servers("new")),
        ],
        ..spec()
    }
}

pub fn table(spec: &Spec) -> Table {
    Table::new(compile(spec).unwrap_or_else(|problems| panic!("{problems:#?}")).snapshot, None)
}

/// A client that keeps its cookies, and the clock.
pub struct Client {
    pub cookies: Vec<(String, String)>,
    pub headers: Vec<(String, String)>,
    pub source: IpAddr,
    pub path: String,
    pub now: Duration,
    pub random: u128,
    pub cursors: Cursors,
}

impl Client {
    pub fn new(random: u128) -> Client {
        Client {
            cookies: Vec::new(),
            headers: Vec::new(),
            source: "192.0.2.1".parse().unwrap(),
            path: "/".into(),
            now: Duration::from_secs(1),
            random,
            cursors: Cursors::default(),
        }
    }

    pub fn with_cookie(mut self, name: &str, value: &str) -> Client {
        self.cookies.push((name.into(), value.into()));
        self
    }

    pub fn cookie(&self, name: &str) -> Option<&str> {
        self.cookies.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    pub fn verdict(&self, table: &Table) -> Verdict {
        let mut fields = self.headers.clone();
        let cookies: Vec<String> =
            self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        fields.push(("Cookie".into(), cookies.join("; ")));
        let view = RequestView {
            listener: 0,
            method: b"GET",
            host: b"shop.example.com",
            path: self.path.as_bytes(),
            query: None,
            fields: &fields,
            source: self.source,
            secure: false,
        };
        decide(table, &self.cursors, &view, self.now, self.random)
    }

    pub fn decide(&self, table: &Table) -> Decision {
        match self.verdict(table) {
            Verdict::Forward(decision) => decision,
            other => panic!("{other:?}"),
        }
    }

    /// Decides, takes, and keeps the cookies of the response.
    pub fn request(&mut self, table: &Table) -> (Decision, Permit) {
        let decision = self.decide(table);
        let permit = decision.take(table, &mut self.cursors, self.now).expect("no bound");
        self.keep_cookies(table, &decision);
        (decision, permit)
    }

    pub fn keep_cookies(&mut self, table: &Table, decision: &Decision) -> Vec<String> {
        let mut out = Vec::new();
        let any = decision.write_cookies(table, false, &mut out);
        let text = String::from_utf8(out).unwrap();
        assert_eq!(any, !text.is_empty());
        let mut names = Vec::new();
        for line in text.split_terminator("\r\n") {
            let pair = line.strip_prefix("set-cookie: ").unwrap().split("; ").next().unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            self.cookies.retain(|(known, _)| known != name);
            self.cookies.push((name.into(), value.into()));
            names.push(name.to_owned());
        }
        names
    }
}

/// Names of arm and server of a decision.
pub fn whereto(table: &Table, decision: &Decision) -> (&'static str, String) {
    let arm = table.snapshot.route(decision.route()).arm(decision.arm()).name;
    (arm, table.snapshot.server(decision.server()).name().to_owned())
}

/// Live state of a server by its name.
pub fn live<'a>(table: &'a Table, name: &str) -> &'a lb_core::ServerLive {
    table.live.servers().iter().find(|live| live.name() == name).unwrap()
}

/// Random bits out of a number.
pub fn bits(number: u64) -> u128 {
    use lb_core::hash::mix;
    u128::from(mix(number)) << 64 | u128::from(mix(!number))
}
