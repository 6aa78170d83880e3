//! The schedule without sockets: what is started when, and what becomes of results.

use super::settings::{BackendHealth, Probe, Target};
use super::*;
use lb_core::health::{CheckSettings, Initial};
use lb_core::spec::{Address, Admin, BackendSpec, RouteSpec, ServerSpec, Spec};

/// The monitor goes with the watcher from the thread that starts to control's.
#[test]
fn a_keeper_may_change_threads() {
    fn is_send<T: Send>() {}
    is_send::<Monitor>();
    is_send::<Watcher>();
}

fn settings(change: impl FnOnce(&mut Checks)) -> Arc<HealthSettings> {
    let mut checks = Checks {
        settings: CheckSettings::default(),
        timeout: Duration::from_secs(1),
        probe: Probe::Connect,
        target: Target::default(),
    };
    change(&mut checks);
    let mut settings = HealthSettings::default();
    settings.insert("app", BackendHealth { checks: Some(checks), ..BackendHealth::default() });
    Arc::new(settings)
}

fn table(count: u16, admin: Admin, before: Option<&Table>) -> Table {
    let server = |number| ServerSpec {
        name: format!("s{number}"),
        address: Address::Literal(([127, 0, 0, 1], 8000 + number).into()),
        admin,
        ..ServerSpec::default()
    };
    let servers = (0..count).map(server).collect();
    let backend = BackendSpec { name: "app".into(), servers, ..BackendSpec::default() };
    let route = RouteSpec { name: "all".into(), backend: Some("app".into()), ..RouteSpec::default() };
    let spec = Spec { routes: vec![route], backends: vec![backend], ..Spec::default() };
    Table::new(lb_core::compile(&spec).expect("a good spec").snapshot, before)
}

const NOW: Duration = Duration::from_secs(100);

/// Starts all that can be started so late.
fn started(watcher: &Watcher, later: Duration, under_way: usize) -> Vec<Start> {
    let at = Instant::now() + later;
    let mut starts: Vec<Start> = Vec::new();
    while let Some(start) = watcher.state().start(at, under_way + starts.len()) {
        starts.push(start);
    }
    starts
}

fn finish(watcher: &Watcher, start: &Start, found: Found) {
    let (server, number) = (start.server.clone(), start.number);
    let done = Done { server, number, found, took: Duration::from_millis(3), buffer: Vec::new() };
    watcher.state().finish(&done, NOW);
}

fn good() -> Found {
    Found::new(Sort::Connected, "connected")
}

fn told(watcher: &Watcher) -> Vec<String> {
    watcher.state().told.drain(..).map(|told| format!("{} {}", told.server, told.words)).collect()
}

#[test]
fn first_checks_start_at_once_but_not_all_together() {
    let (watcher, table) = (Watcher::default(), table(100, Admin::Ready, None));
    watcher.fit(&table, &settings(|_| {}), NOW);
    assert!(table.live.servers().iter().all(|server| server.health() == Health::Down(Why::Unchecked)));
    let starts = started(&watcher, Duration::ZERO, 0);
    assert_eq!(starts.len(), FIRST_CHECKS_MAX);
    assert_eq!(watcher.undecided().len(), 100);
    // Each that ends makes room for one.
    for start in &starts {
        finish(&watcher, start, good());
    }
    let rest = started(&watcher, Duration::ZERO, 0);
    assert_eq!(rest.len(), 100 - FIRST_CHECKS_MAX);
    rest.iter().for_each(|start| finish(&watcher, start, good()));
    assert!(watcher.undecided().is_empty());
    assert!(table.live.servers().iter().all(|server| server.health() == Health::Up));
    // The next ones are apart: nothing before 0.8 of the interval, all at 1.2 of it.
    assert!(started(&watcher, Duration::from_millis(1500), 0).is_empty());
    let some = started(&watcher, Duration::from_millis(2000), 0).len();
    assert!((20..80).contains(&some), "{some}");
    assert_eq!(started(&watcher, Duration::from_millis(2500), 0).len(), 100 - some);
}

#[test]
fn checks_under_way_are_bounded() {
    let (watcher, table) = (Watcher::default(), table(10, Admin::Ready, None));
    watcher.fit(&table, &settings(|_| {}), NOW);
    assert_eq!(started(&watcher, Duration::ZERO, CHECKS_MAX - 3).len(), 3);
    assert_eq!(started(&watcher, Duration::ZERO, 0).len(), 7, "none is lost");
}

#[test]
fn changes_are_told_with_what_was_found() {
    let (watcher, table) = (Watcher::default(), table(1, Admin::Ready, None));
    watcher.fit(&table, &settings(|checks| checks.settings.fall = 2), NOW);
    let seconds = std::cell::Cell::new(0);
    let next = || {
        seconds.set(seconds.get() + 10);
        started(&watcher, Duration::from_secs(seconds.get()), 0).pop().expect("it is due")
    };
    finish(&watcher, &next(), good());
    assert_eq!(told(&watcher), ["app/s0 down until its first good check", "app/s0 up: connected"]);
    let refused = || Found::new(Sort::NotConnected, "connection refused");
    finish(&watcher, &next(), refused());
    // One that we could not carry out is none: it neither helps nor harms.
    finish(&watcher, &next(), Found::new(Sort::NotAsked, "too many open files"));
    assert_eq!(told(&watcher), [""; 0]);
    finish(&watcher, &next(), refused());
    assert_eq!(told(&watcher), ["app/s0 down: connection refused"]);
    assert_eq!(table.live.servers()[0].health(), Health::Down(Why::Connect));
    finish(&watcher, &next(), good());
    finish(&watcher, &next(), good());
    assert_eq!(told(&watcher), ["app/s0 up again: connected"]);
    let (_, shown) = watcher.shown(NOW).pop().expect("one server");
    assert_eq!((shown.totals.good, shown.totals.bad, shown.totals.not_asked), (3, 2, 1));
    assert_eq!(shown.turned.expect("it turned").1, "up again: connected");
}

#[test]
fn a_reload_keeps_what_is_known() {
    let (watcher, first) = (Watcher::default(), table(2, Admin::Ready, None));
    watcher.fit(&first, &settings(|_| {}), NOW);
    started(&watcher, Duration::ZERO, 0).iter().for_each(|start| finish(&watcher, start, good()));
    assert!(watcher.undecided().is_empty());
    let second = table(3, Admin::Ready, Some(&first));
    watcher.refit(&second, NOW);
    let health: Vec<Health> = second.live.servers().iter().map(|server| server.health()).collect();
    assert_eq!(health, [Health::Up, Health::Up, Health::Down(Why::Unchecked)]);
    assert!(watcher.undecided().is_empty(), "we have been ready once");
    let starts = started(&watcher, Duration::ZERO, 0);
    assert_eq!(starts.iter().map(|start| &*start.server.name).collect::<Vec<_>>(), ["s2"]);
    // Its server is gone when its check ends.
    watcher.refit(&first, NOW);
    finish(&watcher, &starts[0], good());
    assert_eq!(watcher.shown(NOW).len(), 2);
}

#[test]
fn other_settings_apply_at_once() {
    let (watcher, table) = (Watcher::default(), table(1, Admin::Ready, None));
    watcher.fit(&table, &settings(|_| {}), NOW);
    started(&watcher, Duration::ZERO, 0).iter().for_each(|start| finish(&watcher, start, good()));
    watcher.fit(&table, &settings(|_| {}), NOW);
    assert!(started(&watcher, Duration::ZERO, 0).is_empty(), "the same settings change nothing");
    watcher.fit(&table, &settings(|checks| checks.target.port = Some(9)), NOW);
    let old = started(&watcher, Duration::ZERO, 0).pop().expect("at once");
    assert_eq!(old.asked.address.port(), 9);
    assert_eq!(table.live.servers()[0].health(), Health::Up, "until it is known otherwise");
    watcher.fit(&table, &settings(|checks| checks.target.port = Some(10)), NOW);
    let new = started(&watcher, Duration::ZERO, 0).pop().expect("at once");
    finish(&watcher, &old, Found::new(Sort::NotConnected, "connection refused"));
    assert_eq!(watcher.shown(NOW)[0].1.totals.bad, 0, "what was asked before says nothing");
    finish(&watcher, &new, good());
    // Without checks it is up and rests.
    watcher.fit(&table, &Arc::default(), NOW);
    assert!(started(&watcher, Duration::from_secs(60), 0).is_empty());
    assert_eq!(table.live.servers()[0].health(), Health::Up);
}

#[test]
fn maintenance_rests() {
    let (watcher, first) = (Watcher::default(), table(1, Admin::Maintenance, None));
    watcher.fit(&first, &settings(|checks| checks.settings.initial = Initial::Up), NOW);
    assert!(started(&watcher, Duration::from_secs(60), 0).is_empty());
    assert!(watcher.undecided().is_empty());
    let second = table(1, Admin::Ready, Some(&first));
    watcher.refit(&second, NOW);
    assert_eq!(second.live.servers()[0].health(), Health::Up);
    assert_eq!(started(&watcher, Duration::from_millis(1), 0).len(), 1);
}

#[test]
fn ejections_are_told_with_their_reason() {
    let mut settings = HealthSettings::default();
    let outliers = Some(lb_core::outlier::OutlierSettings::default());
    settings.insert("app", BackendHealth { outliers, ..BackendHealth::default() });
    let (watcher, table) = (Watcher::default(), table(2, Admin::Ready, None));
    watcher.fit(&table, &Arc::new(settings), NOW);
    let mut cursors = lb_core::Cursors::default();
    cursors.fit(&table);
    for number in 0..10 {
        let fields: [(&str, &str); 0] = [];
        let view = lb_core::RequestView {
            listener: 0,
            method: b"GET",
            host: b"a",
            path: b"/",
            query: None,
            fields: &fields,
            source: [127, 0, 0, 1].into(),
            secure: false,
        };
        let lb_core::Verdict::Forward(decision) = lb_core::decide(&table, &cursors, &view, NOW, number)
        else {
            panic!("no server");
        };
        let permit = decision.take(&table, &mut cursors, NOW).expect("no bound");
        let status = if permit.address().port() == 8000 { 500 } else { 200 };
        permit.finish(lb_core::Outcome::Responded { status }, NOW);
    }
    watcher.state().look(NOW + Duration::from_secs(1));
    assert_eq!(told(&watcher), ["app/s0 ejected for 10 s: 5 attempts failed in a row"]);
    let (_, shown) = watcher.shown(NOW + Duration::from_secs(2)).swap_remove(0);
    assert_eq!(shown.ejected.expect("it is out").1, Duration::from_secs(9));
    watcher.state().look(NOW + Duration::from_secs(12));
    assert_eq!(told(&watcher), ["app/s0 up: its ejection is over"]);
    assert_eq!(watcher.shown(NOW)[0].1.totals.ejections, 1);
}
