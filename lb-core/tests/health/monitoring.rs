//! Checks and outliers over the servers of a table: who is down for picks, and why, in explanations too.

use lb_core::health::{CheckSettings, Fault, Monitor, News, Notice, Watching};
use lb_core::outlier::OutlierSettings;
use lb_core::spec::*;
use lb_core::{
    Cursors, Handle, Health, Identity, Outcome, RequestView, Snapshot, Table, Verdict, Why, compile, decide,
    explain,
};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

fn server(name: &str) -> ServerSpec {
    let last = name.as_bytes()[0];
    ServerSpec {
        name: name.into(),
        address: Address::Literal(([10, 0, 0, last], 80).into()),
        ..ServerSpec::default()
    }
}

fn snapshot(servers: Vec<ServerSpec>) -> Snapshot {
    let backend = BackendSpec { name: "app".into(), servers, ..BackendSpec::default() };
    let route = RouteSpec { name: "r".into(), backend: Some("app".into()), ..RouteSpec::default() };
    let spec = Spec { routes: vec![route], backends: vec![backend], ..Spec::default() };
    compile(&spec).unwrap().snapshot
}

const CHECKED: Watching = Watching {
    checks: Some(CheckSettings {
        interval: Duration::from_secs(2),
        fast_interval: Duration::from_millis(500),
        rise: 2,
        fall: 3,
        initial: lb_core::health::Initial::Down,
    }),
    outliers: None,
};

fn outliers() -> Watching {
    Watching { checks: None, outliers: Some(OutlierSettings::default()) }
}

fn identity(table: &Table, name: &str) -> Identity {
    table.live.servers().iter().find(|live| live.name() == name).unwrap().identity().clone()
}

fn health(table: &Table, name: &str) -> Health {
    table.live.servers().iter().find(|live| live.name() == name).unwrap().health()
}

fn turns(notices: &[Notice]) -> Vec<(&str, Health)> {
    let turned = |notice: &Notice| matches!(notice.news, News::Turned { .. });
    let turned = notices.iter().filter(|notice| turned(notice));
    turned
        .map(|notice| match notice.news {
            News::Turned { now, .. } => (&*notice.server.name, now),
            _ => unreachable!("filtered"),
        })
        .collect()
}

fn checks(notices: &[Notice]) -> Vec<(&str, u64)> {
    let check = |notice: &Notice| match notice.news {
        News::CheckWithin(time) => Some(time.as_millis() as u64),
        _ => None,
    };
    notices.iter().filter_map(|notice| Some((&*notice.server.name, check(notice)?))).collect()
}

const VIEW: RequestView<'static, ()> = RequestView {
    listener: 0,
    method: b"GET",
    host: b"example.test",
    path: b"/",
    query: None,
    fields: &(),
    source: std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
    secure: false,
};

fn attempt(table: &Table, cursors: &mut Cursors, now: Duration, outcome: impl Fn(&str) -> Outcome) {
    let Verdict::Forward(decision) = decide(table, cursors, &VIEW, now, 7) else { panic!("nobody serves") };
    let permit = decision.take(table, cursors, now).expect("no bound");
    let outcome = outcome(permit.name());
    permit.finish(outcome, now);
}

#[test]
fn not_used_before_its_first_good_check() {
    let handle = Handle::new(snapshot(vec![server("a")]));
    let mut monitor = Monitor::new();
    let notices = monitor.fit(&handle.load(), |_| CHECKED, SECOND);
    assert_eq!(checks(&notices), [("a", 0)]);
    assert_eq!(turns(&notices), [("a", Health::Down(Why::Unchecked))]);
    let table = handle.load();
    let words = explain(&table, &Cursors::default(), &VIEW, SECOND, 0).to_string();
    assert!(words.contains("a is down (not checked yet)"), "{words}");
    assert_eq!(monitor.undecided().count(), 1);

    let a = identity(&table, "a");
    let notices = monitor.checked(&a, Ok(()), 2 * SECOND);
    assert_eq!((checks(&notices), turns(&notices)), (vec![("a", 2_000)], vec![("a", Health::Up)]));
    assert_eq!(monitor.undecided().count(), 0);
    assert_eq!(monitor.standing(&a).unwrap().check.unwrap().since, 2 * SECOND);

    // A server that a reload brings is down before anybody can see it; the other goes on.
    let table = handle.publish_with(snapshot(vec![server("b"), server("a")]), |table| {
        let notices = monitor.fit(table, |_| CHECKED, 3 * SECOND);
        assert_eq!(checks(&notices), [("b", 0)]);
    });
    assert_eq!((health(&table, "a"), health(&table, "b")), (Health::Up, Health::Down(Why::Unchecked)));
}

#[test]
fn down_by_checks_and_up_again() {
    let table = Table::new(snapshot(vec![server("a"), server("b")]), None);
    let (a, b) = (identity(&table, "a"), identity(&table, "b"));
    let mut monitor = Monitor::new();
    monitor.fit(&table, |_| CHECKED, SECOND);
    monitor.checked(&a, Ok(()), SECOND);
    monitor.checked(&b, Ok(()), SECOND);
    let mut due = Vec::new();
    for second in 2..5 {
        let notices = monitor.checked(&a, Err(Fault::Timeout), second * SECOND);
        due.extend(checks(&notices).into_iter().map(|(_, due)| due));
    }
    assert_eq!(due, [500, 500, 2_000]);
    assert_eq!(health(&table, "a"), Health::Down(Why::Timeout));
    let mut cursors = Cursors::default();
    for _ in 0..5 {
        attempt(&table, &mut cursors, 5 * SECOND, |name| {
            assert_eq!(name, "b");
            Outcome::Responded { status: 200 }
        });
    }
    assert_eq!(turns(&monitor.checked(&a, Ok(()), 6 * SECOND)), []);
    assert_eq!(turns(&monitor.checked(&a, Ok(()), 7 * SECOND)), [("a", Health::Up)]);
    let stranger = Identity { name: "x".into(), ..a };
    assert_eq!(monitor.checked(&stranger, Ok(()), 8 * SECOND), []);
    assert_eq!(monitor.standing(&stranger), None);
}

#[test]
fn a_failed_attempt_asks_for_a_check() {
    let table = Table::new(snapshot(vec![server("a")]), None);
    let mut monitor = Monitor::new();
    monitor.fit(&table, |_| CHECKED, SECOND);
    monitor.checked(&identity(&table, "a"), Ok(()), SECOND);
    assert_eq!(monitor.look(2 * SECOND), []);
    let mut cursors = Cursors::default();
    attempt(&table, &mut cursors, 2 * SECOND, |_| Outcome::Failed);
    let notices = monitor.look(3 * SECOND);
    assert_eq!((checks(&notices), notices.len()), (vec![("a", 500)], 1));
    assert_eq!(monitor.look(4 * SECOND), [], "said once");
}

#[test]
fn maintenance_rests_and_begins_anew() {
    let table = Table::new(snapshot(vec![server("a")]), None);
    let a = identity(&table, "a");
    let live = &table.live.servers()[0];
    let mut monitor = Monitor::new();
    monitor.fit(&table, |_| CHECKED, SECOND);
    monitor.checked(&a, Ok(()), SECOND);
    live.set_admin(Admin::Maintenance);
    assert_eq!(turns(&monitor.look(2 * SECOND)), [("a", Health::Down(Why::Unchecked))]);
    // A check that was under way.
    assert_eq!(monitor.checked(&a, Ok(()), 3 * SECOND), []);
    live.set_admin(Admin::Ready);
    let notices = monitor.look(4 * SECOND);
    assert_eq!((checks(&notices), turns(&notices)), (vec![("a", 0)], vec![]));
    assert_eq!(turns(&monitor.checked(&a, Ok(()), 5 * SECOND)), [("a", Health::Up)]);
}

#[test]
fn ejected_shown_and_back() {
    let table = Table::new(snapshot(vec![server("a"), server("b"), server("c")]), None);
    let mut monitor = Monitor::new();
    assert_eq!(monitor.fit(&table, |_| outliers(), SECOND), []);
    let mut cursors = Cursors::default();
    let mut exchanges = |now, b_fails: bool| {
        for _ in 0..30 {
            attempt(&table, &mut cursors, now, |name| match name {
                "b" if b_fails => Outcome::Responded { status: 500 },
                _ => Outcome::Responded { status: 200 },
            });
        }
    };
    exchanges(SECOND, true);
    let notices = monitor.look(2 * SECOND);
    assert_eq!(turns(&notices), [("b", Health::Down(Why::FailedInRow))]);
    let ejection = monitor.standing(&identity(&table, "b")).unwrap().ejection.unwrap();
    let told = Notice { server: identity(&table, "b"), news: News::Ejected(ejection) };
    assert!(notices.contains(&told), "{notices:?}");
    assert_eq!(ejection.offence.to_string(), "10 attempts failed in a row");
    let words = explain(&table, &Cursors::default(), &VIEW, 2 * SECOND, 0).to_string();
    assert!(words.contains("b is down (ejected: failures in a row)"), "{words}");

    let mut now = 2 * SECOND;
    let mut news = Vec::new();
    while now < ejection.until {
        assert_eq!(turns(&news), []);
        exchanges(now, true);
        now += SECOND;
        news = monitor.look(now);
    }
    assert_eq!(turns(&news), [("b", Health::Up)]);
    exchanges(now, false);
    assert_eq!(monitor.look(now + SECOND), []);
}

/// The checks' word is what is shown, and an ejection that ends does not bring up what its checks say is down.
#[test]
fn checks_and_ejection_together() {
    let both = Watching { checks: CHECKED.checks, ..outliers() };
    let table = Table::new(snapshot(vec![server("a"), server("b")]), None);
    let (a, b) = (identity(&table, "a"), identity(&table, "b"));
    let mut monitor = Monitor::new();
    monitor.fit(&table, |_| both, SECOND);
    monitor.checked(&a, Ok(()), SECOND);
    monitor.checked(&b, Ok(()), SECOND);
    let mut cursors = Cursors::default();
    for _ in 0..20 {
        attempt(&table, &mut cursors, SECOND, |name| match name {
            "a" => Outcome::Responded { status: 500 },
            _ => Outcome::Responded { status: 200 },
        });
    }
    monitor.look(2 * SECOND);
    assert_eq!(health(&table, "a"), Health::Down(Why::FailedInRow));
    // A good check does not end it: the server answers its checks and fails its traffic.
    assert_eq!(turns(&monitor.checked(&a, Ok(()), 3 * SECOND)), []);
    for second in 4..7 {
        monitor.checked(&a, Err(Fault::Connect), second * SECOND);
    }
    assert_eq!(health(&table, "a"), Health::Down(Why::Connect));
    let notices = monitor.look(12 * SECOND);
    let returned = Notice { server: a.clone(), news: News::Returned };
    assert_eq!((notices, health(&table, "a")), (vec![returned], Health::Down(Why::Connect)));
    monitor.checked(&a, Ok(()), 13 * SECOND);
    assert_eq!(turns(&monitor.checked(&a, Ok(()), 14 * SECOND)), [("a", Health::Up)]);
}

#[test]
fn what_is_watched_may_change() {
    let table = Table::new(snapshot(vec![server("a"), server("b")]), None);
    let a = identity(&table, "a");
    let mut monitor = Monitor::new();
    monitor.fit(&table, |_| CHECKED, SECOND);
    assert_eq!(health(&table, "a"), Health::Down(Why::Unchecked));
    let notices = monitor.fit(&table, |_| Watching::default(), SECOND);
    assert_eq!(turns(&notices), [("a", Health::Up), ("b", Health::Up)], "nobody checks any more");
    assert_eq!(monitor.checked(&a, Err(Fault::Connect), SECOND), []);
    assert_eq!(monitor.standing(&a).unwrap().check, None);

    // One that was gone in between is not the same, though it has the same name and address.
    let without = Table::new(snapshot(vec![server("b")]), Some(&table));
    let again = Table::new(snapshot(vec![server("a"), server("b")]), Some(&without));
    let mut monitor = Monitor::new();
    monitor.fit(&table, |_| CHECKED, SECOND);
    monitor.checked(&a, Ok(()), SECOND);
    monitor.fit(&again, |_| CHECKED, 2 * SECOND);
    assert_eq!(health(&again, "a"), Health::Down(Why::Unchecked));
}

/// Backups are compared with backups, and a server of weight 0 with nobody.
#[test]
fn ranks_are_judged_apart() {
    let ranked = |name, backup, weight| ServerSpec { backup, weight, ..server(name) };
    let servers = vec![ranked("a", false, None), ranked("b", true, None), ranked("c", false, Some(0))];
    let table = Table::new(snapshot(servers), None);
    let mut monitor = Monitor::new();
    monitor.fit(&table, |_| outliers(), SECOND);
    let mut cursors = Cursors::default();
    for _ in 0..20 {
        attempt(&table, &mut cursors, SECOND, |_| Outcome::Responded { status: 500 });
    }
    assert_eq!(monitor.look(2 * SECOND), [], "it is the only primary");
}
