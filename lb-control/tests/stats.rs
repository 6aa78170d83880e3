//! `/stats` over made-up numbers that grow.

mod support;

use std::time::{Duration, Instant};

use lb_control::stats::document::{self, Arm, Stats, VERSION};
use lb_control::stats::{BACKENDS_SHOWN_MAX, ROUTES_SHOWN_MAX, SERVERS_SHOWN_MAX};
use lb_control::{
    ArmReading, AttemptNumbers, ExchangeNumbers, ListenerReading, Reading, ServerReading, WorkerReading,
};
use lb_core::{Health, Why};
use support::Running;

/// How long anything may take before the test gives up.
const PATIENCE: Duration = Duration::from_secs(30);

fn config(canary: &str) -> String {
    format!(
        r#"
[admin]
listen = "127.0.0.1:0"
[[listener]]
name = "web"
bind = "127.0.0.1:0"
[[route]]
name = "shop"
path_prefix = "/shop"
backend = "old"
{canary}
[[route]]
name = "hello"
reply = {{ body = "hello" }}
[[backend]]
name = "old"
server = [
  {{ name = "a", address = "127.0.0.1:8001", weight = 3 }},
  {{ name = "b", address = "127.0.0.1:8002", backup = true }},
]
[[backend]]
name = "new"
server = [{{ name = "n", address = "127.0.0.1:8003" }}]
"#
    )
}

const CANARY: &str = r#"canary = { backend = "new", cookie = "canary", share = "2.5%", release = "7" }"#;

fn arm(route: &str, name: &'static str, backend: &str) -> ArmReading {
    let requests = vec![(200, 0), (503, 0)];
    let exchanges = ExchangeNumbers { requests, active: 2, ..ExchangeNumbers::default() };
    ArmReading { route: route.into(), arm: name, backend: backend.into(), exchanges }
}

fn server(backend: &str, name: &str, port: u16) -> ServerReading {
    let attempts = AttemptNumbers { responses: vec![(200, 0)], ..AttemptNumbers::default() };
    let address = Some(std::net::SocketAddr::from(([127, 0, 0, 1], port)));
    ServerReading { backend: backend.into(), name: name.into(), address, attempts }
}

fn ask(running: &Running) -> Stats {
    let (status, body) = running.get("/stats");
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"))
}

/// Exchanges come until the document is as it should be.
fn pass(running: &Running, what: &str, holds: impl Fn(&Stats) -> bool) -> Stats {
    let deadline = Instant::now() + PATIENCE;
    loop {
        for (place, arm) in running.workers.arms.lock().unwrap().iter_mut().enumerate() {
            let slow = if place == 1 { 10 } else { 1 };
            arm.exchanges.exchange.record(Duration::from_millis(30 * slow));
            arm.exchanges.wait.record(Duration::from_millis(20 * slow));
            arm.exchanges.requests[0].1 += 3;
            arm.exchanges.requests[1].1 += 1;
        }
        for server in running.workers.servers.lock().unwrap().iter_mut() {
            server.attempts.responses[0].1 += 3;
            server.attempts.connect_failures += 1;
            server.attempts.attempt.record(Duration::from_millis(40));
        }
        let stats = ask(running);
        if holds(&stats) {
            return stats;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}: {stats:#?}");
    }
}

fn start(dir: &tempfile::TempDir) -> Running {
    let file = dir.path().join("lb.toml");
    std::fs::write(&file, config(CANARY)).expect("write");
    let running = Running::start(&file);
    let worker = WorkerReading { requests: vec![(404, 5)], active: 7, ..WorkerReading::default() };
    let listener = ListenerReading { name: "web".into(), active: 7, ..ListenerReading::default() };
    *running.workers.reading.lock().unwrap() =
        Reading { driver: "epoll".into(), workers: vec![worker], listeners: vec![listener] };
    *running.workers.arms.lock().unwrap() = vec![
        arm("shop", "stable", "old"),
        arm("shop", "canary", "new"),
        arm("hello", "", ""),
        arm("", "", ""),
    ];
    *running.workers.servers.lock().unwrap() = vec![server("old", "a", 8001), server("new", "n", 8003)];
    running
}

fn stable_and_canary(stats: &Stats) -> [&Arm; 2] {
    let shop = &stats.routes[1];
    assert_eq!(shop.name, "shop");
    [&shop.arms[0], &shop.arms[1]]
}

#[test]
fn what_comes_is_shown() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let running = start(&dir);
    let stats = pass(&running, "numbers of arms, servers and listeners", |stats| {
        let arms = stats.routes.iter().flat_map(|route| &route.arms);
        let came = arms.map(|arm| arm.lately.as_ref().is_some_and(|it| it.count > 0));
        came.clone().all(|came| came)
            && came.count() == 4
            && stats.backends[0].servers[0].lately.as_ref().is_some_and(|it| it.count > 0)
            && stats.listeners[0].lately.is_some()
    });
    assert_eq!(stats.version, VERSION);
    assert_eq!((stats.process.driver.as_str(), stats.process.state.as_str()), ("epoll", "starting"));
    assert!(stats.at >= stats.process.started && stats.process.started > 1.7e9);
    let hash = running.control.table().0.snapshot.hash().to_string();
    assert_eq!(stats.snapshot, document::Snapshot { hash, generation: 1 });
    assert_eq!((stats.workers[0].connections, stats.listeners[0].connections), (7, 7));

    let routes: Vec<&str> = stats.routes.iter().map(|route| route.name.as_str()).collect();
    assert_eq!(routes, ["", "shop", "hello"]);
    let [stable, canary] = stable_and_canary(&stats);
    assert_eq!((stable.share_target, canary.share_target), (Some(0.975), Some(0.025)));
    assert_eq!((stable.share_served, canary.share_served), (Some(0.5), Some(0.5)));
    assert_eq!((stable.release.as_deref(), canary.release.as_deref()), (None, Some("7")));
    assert_eq!((canary.arm.as_str(), canary.backend.as_str(), canary.exchanges_active), ("canary", "new", 2));
    assert!(canary.share_since >= Some(stats.process.started), "{canary:?}");
    let lately = canary.lately.as_ref().expect("waited for");
    assert_eq!(lately.failures, Some(0.25));
    assert_eq!(lately.statuses["2xx"], 3 * lately.statuses["5xx"]);
    assert!((lately.rate * lately.seconds - lately.count as f64).abs() < 1e-6, "{lately:?}");
    let (client, server) = (lately.client.expect("times"), lately.server.expect("times"));
    assert!((client.p50 - 0.3).abs() < 0.3 / 16.0 && (server.p99 - 0.2).abs() < 0.2 / 16.0, "{lately:?}");
    assert_eq!((stable.comparisons.len(), canary.comparisons.len()), (3, 6));

    let [old, new] = &stats.backends[..] else { panic!("{:?}", stats.backends) };
    assert_eq!((old.states["up"], old.states["down"]), (2, 0));
    let [a, b] = &old.servers[..] else { panic!("{:?}", old.servers) };
    assert_eq!((a.name.as_str(), a.address.as_str(), a.weight, a.backup), ("a", "127.0.0.1:8001", 3, false));
    assert_eq!((a.admin.as_str(), a.health.as_str(), b.backup), ("ready", "up", true));
    assert_eq!(b.lately, None, "nobody has read it");
    let lately = a.lately.as_ref().expect("waited for");
    assert_eq!((lately.failures, lately.count), (Some(0.25), 4 * lately.unanswered));
    assert_eq!(old.attempts.as_ref().map(|it| it.count), Some(lately.count));
    assert!(new.exchanges.as_ref().is_some_and(|it| it.client.is_some()), "{new:?}");
}

#[test]
fn what_changes_is_shown_with_its_time() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let running = start(&dir);
    let first = ask(&running);
    let kinds = |stats: &Stats| -> Vec<String> { stats.changes.iter().map(|it| it.kind.clone()).collect() };
    assert_eq!(kinds(&first), ["start"]);
    assert!(first.snapshot.hash.starts_with(first.changes[0].subject.rsplit(' ').next().unwrap()));

    let file = dir.path().join("lb.toml");
    let reload = |canary: &str| {
        std::fs::write(&file, config(canary)).expect("write");
        running.control.reload_and_wait().expect("the thread runs");
        let stats = ask(&running);
        let words = |it: &lb_control::stats::document::Change| format!("{} {}", it.subject, it.words);
        let newest = stats.changes.iter().find(|it| it.kind != "reload").map(words);
        (stats, newest.unwrap_or_default())
    };
    let (same, newest) = reload(CANARY);
    assert!(newest.contains("in force at the start"), "{newest}");
    assert_eq!(stable_and_canary(&same)[1].share_since, stable_and_canary(&first)[1].share_since);
    let (raised, newest) = reload(&CANARY.replace("2.5%", "10%"));
    assert_eq!(newest, "shop/canary share 2.5 % → 10 %");
    assert!(stable_and_canary(&raised)[1].share_since > stable_and_canary(&first)[1].share_since);
    assert_eq!(kinds(&raised)[..2], ["reload", "share"]);
    let (other, newest) = reload(&CANARY.replace("2.5%", "10%").replace("\"7\"", "\"8\""));
    assert_eq!(newest, "shop/canary release 7 → 8");
    let (ended, newest) = reload("");
    assert_eq!(newest, "shop/canary ended; it had 10 %");
    assert_eq!(ended.routes[1].arms.len(), 1);
    let (_, newest) = reload(CANARY);
    assert_eq!(newest, "shop/canary began with 2.5 %, release 7");
    assert_eq!(other.snapshot.generation + 2, ask(&running).snapshot.generation);

    let (refused, _) = reload("canary = { backend = \"nowhere\", cookie = \"canary\", share = \"1%\" }");
    let newest = &refused.changes[0];
    assert!(newest.worse && newest.words.contains("no backend is named `nowhere`"), "{newest:?}");
    let numbers: Vec<u64> = refused.changes.iter().map(|it| it.number).collect();
    assert!(numbers.is_sorted_by(|left, right| *left == right + 1) && numbers.ends_with(&[1]), "{numbers:?}");
}

#[test]
fn states_of_servers_are_shown_with_their_reason() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let running = start(&dir);
    let (table, _) = running.control.table();
    let servers = table.live.servers();
    servers[0].set_health(Health::Down(Why::Timeout));
    servers[1].set_admin(lb_core::spec::Admin::Drain);
    let stats = ask(&running);
    let old = &stats.backends[0];
    assert_eq!((old.servers[0].health.as_str(), old.servers[1].admin.as_str()), ("down (timeout)", "drain"));
    assert_eq!((old.states["down"], old.states["drain"], old.states["up"]), (1, 1, 0));
}

#[test]
fn the_document_has_its_bounds() {
    use std::fmt::Write as _;
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut config = "[admin]\nlisten = \"127.0.0.1:0\"\n".to_owned();
    config += "[metrics]\nseries_max = 100000000\n";
    config += "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n";
    for route in 0..ROUTES_SHOWN_MAX + 3 {
        write!(config, "[[route]]\nname = \"r{route}\"\npath = \"/{route}\"\nbackend = \"b0\"\n").unwrap();
    }
    // The first ones have so many servers that there is no room for the one of the last that is shown.
    let per_backend = SERVERS_SHOWN_MAX / 4;
    for backend in 0..BACKENDS_SHOWN_MAX + 2 {
        let servers = if backend < 4 { per_backend } else { 1 };
        let list = (0..servers).map(|server| {
            let address = format!("10.{}.{}.{}:80", backend % 250, server / 250, server % 250);
            format!("{{ name = \"s{server}\", address = \"{address}\" }}")
        });
        let list: Vec<String> = list.collect();
        write!(config, "[[backend]]\nname = \"b{backend}\"\nserver = [{}]\n", list.join(", ")).unwrap();
    }
    let file = dir.path().join("lb.toml");
    std::fs::write(&file, config).expect("write");
    let stats = ask(&Running::start(&file));
    let servers: usize = stats.backends.iter().map(|backend| backend.servers.len()).sum();
    assert_eq!((stats.routes.len(), stats.backends.len()), (1 + ROUTES_SHOWN_MAX, BACKENDS_SHOWN_MAX));
    assert_eq!(servers, SERVERS_SHOWN_MAX);
    let omitted = document::Omitted {
        routes: 3,
        backends: 2,
        servers: BACKENDS_SHOWN_MAX as u64 - 4,
        unwatched_arms: 0,
    };
    assert_eq!(stats.omitted, omitted);
    assert_eq!(stats.backends[4].states["up"], 1, "what is not listed is counted");
}
