//! What becomes of servers that leave: when something happens, and what is said of it.

use super::*;
use lb_core::spec::{BackendSpec, RouteSpec, SecretKey, Secrets, ServerSpec, SigningKey, Spec, StickySpec};
use lb_core::{Cursors, Outcome, Permit, RequestView, Verdict};

/// When the workers' clock began.
const BEGINNING: Duration = Duration::from_secs(1_796_104_800);

fn now(s: u64) -> Now {
    Now { at: Duration::from_secs(s), wall: BEGINNING + Duration::from_secs(s) }
}

fn after(s: u64) -> Option<End> {
    Some(End::After(Duration::from_secs(s)))
}

fn at(s: u64) -> Option<End> {
    Some(End::At(Moment { unix_s: BEGINNING.as_secs() + s }))
}

/// A backend of the servers `a` and `b`, of which `a` is told to leave and has one client.
struct World {
    table: Arc<Table>,
    state: State,
    is_sticky: bool,
    cookie: String,
    permits: Vec<Permit>,
}

impl World {
    fn new(is_sticky: bool) -> World {
        let table = table(&[("a", Admin::Ready), ("b", Admin::Maintenance)], is_sticky, None);
        let mut world =
            World { table, state: State::default(), is_sticky, cookie: String::new(), permits: Vec::new() };
        world.state.fit(&world.table, &Arc::default(), now(0));
        assert_eq!(world.look(0), [""; 0], "what is there from the start is no news");
        world
    }

    /// The file is read with this about `a`.
    fn file(&mut self, s: u64, admin: Admin, end: Option<End>) {
        let servers = [("a", admin), ("b", Admin::Ready)];
        self.table = table(&servers, self.is_sticky, Some(&self.table));
        let mut settings = DrainSettings::default();
        let ends = end.map(|end| (Arc::from("a"), end)).into_iter().collect();
        settings.insert("app", self.is_sticky, ends);
        self.state.fit(&self.table, &Arc::new(settings), now(s));
    }

    fn look(&mut self, s: u64) -> Vec<String> {
        self.state.look(now(s)).into_iter().map(|(subject, words)| format!("{subject} {words}")).collect()
    }

    /// The client comes, and stays. Whether to `a`.
    fn come(&mut self, s: u64) -> bool {
        let fields = [("cookie".to_owned(), self.cookie.clone())];
        let view = RequestView {
            listener: 0,
            method: b"GET",
            host: b"shop.example",
            path: b"/",
            query: None,
            fields: &fields,
            source: [192, 0, 2, 1].into(),
            secure: false,
        };
        let mut cursors = Cursors::default();
        cursors.fit(&self.table);
        let verdict = lb_core::decide(&self.table, &cursors, &view, now(s).at, 0);
        let Verdict::Forward(decision) = verdict else { panic!("{verdict:?}") };
        let permit = decision.take(&self.table, &mut cursors, now(s).at).expect("no bound");
        let is_a = permit.name() == "a";
        let mut line = Vec::new();
        if is_a && decision.write_cookies(&self.table, false, &mut line) {
            let line = String::from_utf8(line).expect("a cookie");
            self.cookie = line.trim_start_matches("set-cookie: ").split(';').next().unwrap().to_owned();
        }
        self.permits.push(permit);
        is_a
    }

    /// Those who came leave.
    fn leave(&mut self, s: u64) {
        let outcome = Outcome::Responded { status: 200 };
        self.permits.drain(..).for_each(|permit| permit.finish(outcome, now(s).at));
    }

    fn shown(&self, s: u64) -> String {
        let shown = self.state.shown(now(s));
        let of_a = shown.iter().find(|(identity, _)| &*identity.name == "a");
        of_a.map_or(String::new(), |(_, shown)| shown.words(now(s).moment()))
    }
}

fn table(servers: &[(&str, Admin)], is_sticky: bool, before: Option<&Table>) -> Arc<Table> {
    let server = |(place, (name, admin)): (usize, &(&str, Admin))| ServerSpec {
        admin: *admin,
        ..ServerSpec::new(*name, ([10, 0, 0, 1], 8000 + place as u16).into())
    };
    let key = SecretKey::new([1; 16]);
    let spec = Spec {
        secrets: Secrets {
            signing: vec![SigningKey { id: "one".into(), key }],
            share: Some(SecretKey::new([2; 16])),
        },
        routes: vec![RouteSpec { name: "all".into(), backend: Some("app".into()), ..RouteSpec::default() }],
        backends: vec![BackendSpec {
            sticky: is_sticky.then(StickySpec::default),
            ..BackendSpec::new("app", servers.iter().enumerate().map(server))
        }],
        ..Spec::default()
    };
    let snapshot = lb_core::compile(&spec).unwrap_or_else(|why| panic!("{why:?}")).snapshot;
    Arc::new(Table::new(snapshot, before))
}

#[test]
fn a_drain_keeps_its_sessions_until_its_end_and_says_when_it_is_empty() {
    let mut world = World::new(true);
    assert!(world.come(1));
    world.file(10, Admin::Drain, after(600));
    assert_eq!(world.look(10), ["app/a drains until 06:10 UTC with 1 in flight", "app/b ready again"]);
    assert_eq!(world.shown(20), "drain, 1 in flight, until 06:10 UTC");
    assert_eq!(world.look(30), [""; 0]);
    world.leave(30);
    assert_eq!(world.shown(71), "drain, idle since 41 s, until 06:10 UTC");
    assert_eq!(world.look(71), [""; 0], "its client may only be thinking");
    assert!(world.come(72));
    assert_eq!(world.look(73), [""; 0]);
    assert_eq!(world.look(80), [""; 0]);
    world.leave(80);
    assert_eq!(world.look(139), [""; 0]);
    assert_eq!(world.look(140), ["app/a empty after 70 s: none of its sessions has come for 60 s"]);
    assert!(world.come(200));
    assert_eq!(world.look(200), ["app/a in use again: 1 in flight"]);
    assert_eq!(world.look(609), [""; 0]);
    assert!(world.table.live.servers()[0].drain_deadline().is_some());
    assert_eq!(world.look(610), ["app/a its drain is over: its sessions move, with 1 in flight"]);
    assert_eq!(world.shown(611), "drain, over, 1 in flight");
    assert!(!world.come(612), "its session has moved");
    assert_eq!(world.look(620), [""; 0]);
    world.leave(620);
    let empty = "app/a empty after 610 s: nothing is under way, and nobody comes any more";
    assert_eq!(world.look(621), [empty.replace("610 s", "10 min")]);
    assert_eq!(world.look(700), [""; 0]);
    assert_eq!(world.shown(700), "drain, over, empty since 80 s");
    let (_, shown) = world.state.shown(now(700)).pop().expect("it is leaving");
    assert_eq!((shown.empty_after, shown.in_flight), (Some(Duration::from_secs(610)), 0));
}

#[test]
fn a_reload_does_not_restart_the_clock_and_another_end_counts_from_the_same_beginning() {
    let mut world = World::new(true);
    assert!(world.come(1));
    world.file(10, Admin::Drain, after(600));
    world.look(10);
    world.file(300, Admin::Drain, after(600));
    assert_eq!(world.look(301), [""; 0]);
    assert_eq!(world.shown(301), "drain, 1 in flight, until 06:10 UTC");
    world.file(310, Admin::Drain, after(1200));
    assert_eq!(world.look(311), ["app/a drains until 06:20 UTC with 1 in flight"]);
    world.file(320, Admin::Drain, at(900));
    assert_eq!(world.look(321), ["app/a drains until 06:15 UTC with 1 in flight"]);
    // An end that a drain gets later counts from then.
    world.file(330, Admin::Drain, None);
    assert_eq!(world.look(331), ["app/a drains with 1 in flight"]);
    world.file(3600, Admin::Drain, after(60));
    assert_eq!(world.look(3600), ["app/a drains until 07:01 UTC with 1 in flight"]);
    // And so does a drain that began anew.
    world.file(3610, Admin::Ready, None);
    assert_eq!(world.look(3611), ["app/a ready again"]);
    assert_eq!(world.shown(3611), "");
    world.file(3620, Admin::Drain, after(60));
    assert_eq!(world.look(3620), ["app/a drains until 07:01 UTC with 1 in flight"]);
    assert_eq!(world.look(3679), [""; 0]);
    assert_eq!(world.look(3680).len(), 1);
}

#[test]
fn a_drain_that_is_given_more_time_after_its_end_ends_again() {
    let mut world = World::new(true);
    assert!(world.come(1));
    world.file(10, Admin::Drain, after(60));
    world.look(20);
    world.leave(20);
    let over = "app/a its drain is over: its sessions move, with 0 in flight";
    let empty = "app/a empty after 10 s: nothing is under way, and nobody comes any more";
    assert_eq!(world.look(70), [over, empty]);
    world.file(100, Admin::Drain, after(300));
    let quiet = "app/a empty after 10 s: none of its sessions has come for 60 s";
    assert_eq!(world.look(101), ["app/a drains until 06:05 UTC with 0 in flight", quiet]);
    assert!(world.come(102), "its session is its own again");
    assert_eq!(world.look(103), ["app/a in use again: 1 in flight"]);
    world.leave(103);
    assert_eq!(world.look(310)[..1], [over]);
}

#[test]
fn a_moment_follows_the_clock_on_the_wall() {
    let mut world = World::new(true);
    world.file(10, Admin::Drain, at(100));
    world.look(10);
    let deadline = |world: &World| world.table.live.servers()[0].drain_deadline().expect("one").as_secs();
    assert_eq!(deadline(&world), 100);
    // The system's clock is set forward by half a minute.
    world.state.look(Now { at: Duration::from_secs(20), wall: now(50).wall });
    assert_eq!(deadline(&world), 70);
    // One that has passed before we started.
    world.file(30, Admin::Drain, Some(End::At(Moment { unix_s: 5 })));
    assert_eq!(deadline(&world), 0);
    assert!(
        world.look(31).contains(&"app/a its drain is over: its sessions move, with 0 in flight".to_owned())
    );
}

#[test]
fn who_takes_nobody_is_empty_as_soon_as_nothing_is_under_way() {
    for (admin, is_sticky) in [(Admin::Maintenance, true), (Admin::Drain, false)] {
        let mut world = World::new(is_sticky);
        assert!(world.come(1));
        world.file(10, admin, None);
        let began = if admin == Admin::Drain { "drains" } else { "in maintenance" };
        assert_eq!(world.look(10)[..1], [format!("app/a {began} with 1 in flight")]);
        assert_eq!(world.look(500), [""; 0]);
        world.leave(500);
        assert_eq!(
            world.look(501),
            ["app/a empty after 8 min: nothing is under way, and nobody comes any more"]
        );
        assert_eq!(world.shown(598), format!("{}, empty since 98 s", admin.word()));
        // Idle ones say so at once.
        let mut idle = World::new(is_sticky);
        idle.file(10, admin, None);
        idle.look(10);
        assert_eq!(
            idle.look(11),
            ["app/a empty from the start: nothing is under way, and nobody comes any more"]
        );
    }
}

#[test]
fn who_comes_drained_is_no_news() {
    let drained = table(&[("a", Admin::Drain)], true, None);
    let mut state = State::default();
    let mut settings = DrainSettings::default();
    settings.insert("app", true, HashMap::from([("a".into(), End::At(Moment { unix_s: 5 }))]));
    state.fit(&drained, &Arc::new(settings), now(0));
    for s in [0, 1, 2, 100] {
        assert!(state.look(now(s)).is_empty(), "after {s} s");
    }
    let (_, shown) = state.shown(now(100)).pop().expect("it is leaving");
    assert_eq!((shown.over, shown.empty_after), (true, Some(Duration::ZERO)));
}

#[test]
fn many_at_once_are_told_as_one() {
    let names: Vec<String> = (0..TOLD_MAX + 7).map(|number| format!("s{number}")).collect();
    let all = |admin| names.iter().map(|name| (name.as_str(), admin)).collect::<Vec<_>>();
    let ready = table(&all(Admin::Ready), true, None);
    let mut state = State::default();
    state.fit(&ready, &Arc::default(), now(0));
    let drained = table(&all(Admin::Drain), true, Some(&ready));
    state.fit(&drained, &Arc::default(), now(1));
    let news = state.look(now(1));
    assert_eq!(news.len(), TOLD_MAX + 1);
    assert_eq!(news[TOLD_MAX], ("7 more servers".to_owned(), "changed too".to_owned()));
    let news = state.look(now(2));
    assert_eq!(
        (news.len(), news[TOLD_MAX].0.as_str()),
        (TOLD_MAX + 1, "7 more servers"),
        "empty, all of them"
    );
}

#[test]
fn requests_of_the_last_minutes_are_counted() {
    let mut world = World::new(true);
    assert!(world.come(0));
    world.leave(0);
    world.file(10, Admin::Drain, None);
    for s in (10..400).step_by(5) {
        if s % 20 == 0 {
            assert!(world.come(s));
            world.leave(s);
        }
        world.look(s);
    }
    let (_, shown) = world.state.shown(now(400)).pop().expect("it is leaving");
    let (count, within) = shown.lately;
    assert_eq!(within.as_secs(), 400 - 100, "ten steps of half a minute");
    assert_eq!(count, 15);
}
