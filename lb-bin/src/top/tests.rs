//! Screens as text, in `screens/`. To accept a change: `LB_BLESS=1 cargo test -p lb-bin --bin lb top`, and look at it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use lb_control::stats::document::{
    self, Arm, Backend, Change, Comparison, Lately, Leaving, Listener, Omitted, Process, Quantiles, Route,
    Server, Stats, Worker,
};

use super::model::{Key, Model, Unreachable};
use super::panels::{Order, Subject};
use super::screen::{page, screen};

const NOW: f64 = 1_763_777_000.0;

/// `ms` is the median; the others are twice and five times as long.
fn lately(rate: f64, failures: f64, ms: f64) -> Option<Lately> {
    let count = (rate * 10.0) as u64;
    let failed = (failures * count as f64) as u64;
    let times = Quantiles { p50: ms / 1e3, p90: ms / 5e2, p99: ms / 2e2 };
    let statuses = [("2xx".to_owned(), count - failed), ("5xx".to_owned(), failed)];
    Some(Lately {
        seconds: 10.0,
        count,
        rate,
        failures: (count > 0).then_some(failures),
        statuses: statuses.into_iter().filter(|(_, count)| *count > 0).collect(),
        unanswered: 0,
        client: (count > 0).then_some(times),
        server: (count > 0).then_some(times),
    })
}

fn server(name: &str, port: u16, lately: Option<Lately>) -> Server {
    Server {
        name: name.to_owned(),
        address: format!("10.0.0.1:{port}"),
        admin: "ready".to_owned(),
        health: "up".to_owned(),
        weight: 1,
        in_flight: 2,
        lately,
        ..Server::default()
    }
}

fn backend(name: &str, lately: Option<Lately>, servers: Vec<Server>) -> Backend {
    let mut states: BTreeMap<String, u64> = BTreeMap::new();
    // A name without an address is no server yet.
    for server in servers.iter().filter(|server| !server.health.starts_with("no address")) {
        let word = if server.admin != "ready" {
            server.admin.as_str()
        } else if server.health == "up" && server.removed_for_s.is_none() {
            "up"
        } else {
            "down"
        };
        *states.entry(word.to_owned()).or_default() += 1;
    }
    Backend {
        name: name.to_owned(),
        states,
        in_flight: 3,
        exchanges: lately.clone(),
        attempts: lately,
        servers,
        ..Backend::default()
    }
}

fn change(number: u64, ago: f64, worse: bool, subject: &str, words: &str) -> Change {
    let (subject, words) = (subject.to_owned(), words.to_owned());
    Change { number, at: NOW - ago, kind: "reload".to_owned(), worse, subject, words }
}

fn comparison(of: &str, state: &str, numbers: Option<[f64; 2]>) -> Comparison {
    Comparison {
        of: of.to_owned(),
        against: "stable".to_owned(),
        state: state.to_owned(),
        unit: Some(if of == "failures" { "share" } else { "seconds" }.to_owned()),
        now: numbers.map(|it| it[0]),
        usual: numbers.map(|it| it[1]),
        for_s: (state == "jumped").then_some(47),
        ..Comparison::default()
    }
}

fn split(name: &str, canary: f64, comparisons: Vec<Comparison>) -> Route {
    let arm = |word: &str, backend: &str, share, ms: f64, comparisons| Arm {
        arm: word.to_owned(),
        backend: backend.to_owned(),
        share_target: Some(share),
        share_since: Some(NOW - 725.0),
        release: (word == "canary").then(|| "2026-11".to_owned()),
        share_served: Some(share),
        share_served_minute: Some(share),
        exchanges_active: 2,
        lately: lately(800.0 * share, 0.0, ms),
        comparisons,
    };
    Route {
        name: name.to_owned(),
        arms: vec![
            arm("stable", "old", 1.0 - canary, 12.0, Vec::new()),
            arm("canary", "new", canary, 120.0, comparisons),
        ],
    }
}

fn plain(name: &str, backend: &str, lately: Option<Lately>) -> Route {
    let arm = Arm { arm: "stable".to_owned(), backend: backend.to_owned(), lately, ..Arm::default() };
    Route { name: name.to_owned(), arms: vec![arm] }
}

fn base() -> Stats {
    Stats {
        version: document::VERSION,
        at: NOW,
        process: Process {
            version: "0.1.0".to_owned(),
            driver: "io_uring".to_owned(),
            state: "ready".to_owned(),
            started: NOW - 7300.0,
        },
        snapshot: document::Snapshot { hash: "8f12e94613fb0a77".to_owned(), generation: 4 },
        workers: vec![Worker::default(); 2],
        listeners: vec![Listener {
            name: "web".to_owned(),
            connections: 24,
            lately: lately(812.0, 0.02, 12.0),
            ..Listener::default()
        }],
        ..Stats::default()
    }
}

/// A release under way: the canary is slow, a server is down, another one is drained.
fn release() -> Stats {
    let wait = comparison("wait", "jumped", Some([0.21, 0.02]));
    let failures = comparison("failures", "jumped", Some([0.12, 0.001]));
    let mut down = server("b", 8002, lately(0.0, 0.0, 0.0));
    down.health = "down (timeout)".to_owned();
    let mut drained = server("c", 8003, lately(0.4, 0.0, 30.0));
    drained.admin = "drain".to_owned();
    drained.leaving =
        Some(Leaving { since_s: 300.0, until: Some(NOW + 1505.0), idle_s: Some(41.2), ..Leaving::default() });
    let mut out = server("d", 8004, lately(12.0, 0.5, 30.0));
    out.removed_for_s = Some(6.4);
    let mut spare = server("spare", 8009, lately(0.0, 0.0, 0.0));
    spare.backup = true;
    let mut full = server("a", 8001, lately(700.0, 0.0, 12.0));
    full.max_requests = Some(2);
    let mut nowhere = server("e", 0, None);
    (nowhere.address, nowhere.health) = ("e.internal:80".to_owned(), "no address (no such name)".to_owned());
    nowhere.in_flight = 0;
    let old = vec![full, down, drained, out, spare, nowhere];
    let mut old = backend("old", lately(712.4, 0.01, 12.0), old);
    (old.waiting, old.may_wait) = (12, Some(1000));
    old.waits = Some(Quantiles { p50: 0.02, p90: 0.3, p99: 1.2 });
    Stats {
        routes: vec![
            Route {
                name: String::new(),
                arms: vec![Arm { lately: lately(3.0, 0.0, 0.2), ..Arm::default() }],
            },
            split("shop", 0.1, vec![wait, failures, comparison("exchange", "calm", Some([0.02, 0.02]))]),
            split("cart", 0.025, vec![comparison("wait", "calm", Some([0.02, 0.02]))]),
            split("help", 0.0, vec![comparison("wait", "unknown", None)]),
            plain("static", "files", lately(210.0, 0.0, 0.8)),
        ],
        backends: vec![
            old,
            backend("new", lately(80.0, 0.12, 120.0), vec![server("n", 8003, lately(80.0, 0.12, 120.0))]),
            backend("files", lately(210.0, 0.0, 0.8), vec![server("f", 8004, lately(210.0, 0.0, 0.8))]),
        ],
        changes: vec![
            change(9, 47.0, true, "shop/canary", "wait jumped against stable: 210.0 ms instead of 20.0 ms"),
            change(8, 130.0, true, "old/b", "down (timeout)"),
            change(7, 725.0, false, "configuration 8f12e94613fb", "in force, generation 4"),
            change(6, 725.0, false, "shop/canary", "share 2.5 % → 10 %"),
            change(1, 7300.0, false, "configuration 55e0d2c41a99", "in force at the start"),
        ],
        ..base()
    }
}

/// 500 servers in 20 backends; every 50th has an ailment.
fn many() -> Stats {
    let names = 0..20_u16;
    let servers = |backend: u16| -> Vec<Server> {
        let one = |at: u16| {
            let number = backend * 25 + at;
            let mut one =
                server(&format!("web-{number:03}"), 8000 + number, lately(f64::from(number), 0.0, 5.0));
            match number % 50 {
                7 => one.health = "down (connect)".to_owned(),
                13 => one.lately = lately(40.0, 0.2, 5.0),
                21 => one.admin = "maintenance".to_owned(),
                _ => {}
            }
            one
        };
        (0..25).map(one).collect()
    };
    let route = |at: u16| {
        plain(
            &format!("service-{at:02}"),
            &format!("service-{at:02}"),
            lately(f64::from(at) * 50.0, 0.0, 5.0),
        )
    };
    let named =
        |at: u16| backend(&format!("service-{at:02}"), lately(f64::from(at) * 50.0, 0.0, 5.0), servers(at));
    Stats {
        routes: names.clone().map(route).collect(),
        backends: names.map(named).collect(),
        changes: (0..40)
            .map(|at| {
                change(
                    40 - at,
                    at as f64 * 61.0,
                    at % 3 == 0,
                    &format!("service-00/web-{at:03}"),
                    "down (connect)",
                )
            })
            .collect(),
        omitted: Omitted { servers: 3, ..Omitted::default() },
        ..base()
    }
}

fn model(stats: Stats) -> Model {
    let mut model = Model::new("127.0.0.1:9900".to_owned(), None);
    model.take(Ok(Arc::new(stats)));
    model
}

fn drawn(model: &mut Model, width: u16, height: u16) -> String {
    let lines = screen(model, width, height);
    assert_eq!(lines.len(), usize::from(height), "as high as the screen");
    let lines = lines.iter().map(|line| {
        assert!(line.width() <= usize::from(width), "{} in {width} columns: {line}", line.width());
        line.to_string().trim_end().to_owned() + "\n"
    });
    lines.collect()
}

#[track_caller]
fn check(name: &str, text: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/top/screens/{name}.txt"));
    if std::env::var("LB_BLESS").is_ok_and(|word| word == "1") {
        std::fs::write(&file, text).expect("write");
    }
    let wanted = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(wanted == text, "{name} is not as in {}:\n{text}", file.display());
}

#[test]
fn screens() {
    check("release-80x24", &drawn(&mut model(release()), 80, 24));
    check("release-200x50", &drawn(&mut model(release()), 200, 50));
    check("many-80x24", &drawn(&mut model(many()), 80, 24));
    check("many-200x50", &drawn(&mut model(many()), 200, 50));
    check("release-page", &page(&model(release()), 160));
    check("nothing-80x24", &drawn(&mut model(base()), 80, 24));
    check("asking-80x24", &drawn(&mut Model::new("unix:/run/lb/admin.sock".to_owned(), None), 80, 24));
}

#[test]
fn what_cannot_be_asked_is_said() {
    let why = "cannot ask 127.0.0.1:9900: connection refused".to_owned();
    let problem = || Unreachable { seconds: 12.7, why: why.clone() };
    let mut never = Model::new("127.0.0.1:9900".to_owned(), None);
    never.take(Err(problem()));
    check("never-reached-80x24", &drawn(&mut never, 80, 24));
    let mut lost = model(release());
    lost.take(Err(problem()));
    check("lost-80x24", &drawn(&mut lost, 80, 24));
    lost.take(Ok(Arc::new(release())));
    assert_eq!(drawn(&mut lost, 80, 24), drawn(&mut model(release()), 80, 24), "it is back");
}

fn keys(model: &mut Model, keys: &[Key]) -> String {
    drawn(model, 80, 24);
    for key in keys {
        assert!(model.key(*key), "{key:?} ends it");
        drawn(model, 80, 24);
    }
    drawn(model, 80, 24)
}

fn typed(text: &str) -> Vec<Key> {
    let keys = text.chars().map(Key::Char);
    [Key::Char('/')].into_iter().chain(keys).chain([Key::Enter]).collect()
}

#[test]
fn every_server_can_be_reached() {
    let mut model = model(many());
    check("many-last-80x24", &keys(&mut model, &[Key::Enter, Key::End]));
    let mut seen = String::new();
    keys(&mut model, &[Key::Home]);
    for _ in 0..500 / 15 {
        seen += &drawn(&mut model, 80, 24);
        keys(&mut model, &[Key::PageDown]);
    }
    seen += &drawn(&mut model, 80, 24);
    let missing: Vec<u16> = (0..500).filter(|number| !seen.contains(&format!("/web-{number:03} "))).collect();
    assert_eq!(missing, Vec::<u16>::new());
    keys(&mut model, &[Key::Up, Key::Char('k')]);
    assert_ne!(drawn(&mut model, 80, 24), keys(&mut model, &[Key::Down]));
}

#[test]
fn what_is_wrong_comes_first() {
    let first = |model: &mut Model| {
        let screen = keys(model, &[]);
        let servers = screen.lines().skip_while(|line| !line.contains("SERVERS")).nth(1).expect("a server");
        servers.trim_start_matches(['!', '~', ' ']).split(' ').next().expect("a name").to_owned()
    };
    let mut model = model(many());
    // All that are down or fail are bad; the busiest of them is first.
    assert_eq!(first(&mut model), "service-18/web-457");
    keys(&mut model, &[Key::Char('s')]);
    assert_eq!((model.order, first(&mut model).as_str()), (Order::Rate, "service-19/web-499"));
    keys(&mut model, &[Key::Char('s'), Key::Char('s')]);
    assert_eq!((model.order, first(&mut model).as_str()), (Order::Name, "service-00/web-000"));
    keys(&mut model, &[Key::Char('s')]);
    assert_eq!(model.order, Order::BadFirst);
}

#[test]
fn a_filter_brings_what_belongs_together() {
    let mut model = model(release());
    let screen = keys(&mut model, &typed("STATIC"));
    check("filtered-80x24", &screen);
    let screen = keys(&mut model, &[Key::Escape]);
    assert!(screen.contains("old/b"), "{screen}");
    let screen = keys(&mut model, &typed("10.0.0.1:8009"));
    assert!(screen.contains("old/spare") && !screen.contains("old/a"), "{screen}");
    let typing = keys(&mut model, &[Key::Char('/'), Key::Backspace, Key::Char('q')]);
    assert!(typing.contains("filter: 10.0.0.1:800q"), "{typing}");
    keys(&mut model, &[Key::Escape]);
    assert_eq!(model.filter, "10.0.0.1:8009", "what was being typed is left");
}

#[test]
fn keys_do_what_the_last_line_says() {
    let mut model = model(release());
    keys(&mut model, &[Key::Tab]);
    assert_eq!(model.focus, Subject::Changes);
    keys(&mut model, &[Key::Tab]);
    assert_eq!(model.focus, Subject::Canaries);
    keys(&mut model, &[Key::BackTab, Key::BackTab, Key::BackTab]);
    assert_eq!(model.focus, Subject::Backends);
    let zoomed = keys(&mut model, &[Key::Enter]);
    assert!(zoomed.contains("▸ BACKENDS") && !zoomed.contains("ROUTES"), "{zoomed}");
    keys(&mut model, &[Key::Enter, Key::Char('p')]);
    model.take(Ok(Arc::new(base())));
    assert!(drawn(&mut model, 80, 24).contains("old"), "it stands still");
    keys(&mut model, &[Key::Char('p')]);
    model.take(Ok(Arc::new(base())));
    assert!(!drawn(&mut model, 80, 24).contains("old"));
    assert!(!model.key(Key::Char('q')) && !model.key(Key::Interrupt));
}

#[test]
fn any_screen_is_drawn() {
    let subjects = [release(), many(), base(), Stats::default()];
    for stats in subjects {
        let mut model = model(stats);
        for width in [60, 61, 79, 119, 120, 160, 300] {
            for height in [12, 13, 24, 100] {
                for _ in Subject::ALL {
                    drawn(&mut model, width, height);
                    model.key(Key::Tab);
                }
            }
        }
        let small = screen(&mut model, 59, 24);
        assert!(small[0].to_string().contains("60 x 12 are needed"));
        assert_eq!(screen(&mut model, 200, 11).len(), 1);
    }
}

#[test]
fn what_a_terminal_would_obey_is_not_shown() {
    let mut stats = release();
    stats.changes[0].words = "\u{1b}[31mred\u{7}".to_owned();
    stats.process.driver = "\u{1b}]0;title\u{7}".to_owned();
    let mut model = model(stats);
    for text in [drawn(&mut model, 200, 50), page(&model, 160)] {
        assert!(!text.contains(['\u{1b}', '\u{7}']) && text.contains("\u{fffd}[31mred"), "{text}");
    }
}
