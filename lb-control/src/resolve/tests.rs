//! Names, their members and all of them together, without a name server and without waiting.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use lb_core::spec::{Address, BackendSpec, ServerSpec, Spec};
use proptest::prelude::*;

use super::members::{LOOK, Members};
use super::name::{JITTER_PERCENT, Name, PARTS_TIME, RETRY_FIRST, RETRY_MAX, Ttl};
use super::names::Names;
use super::*;
use crate::config::source::Span;
use crate::config::{NamedServer, Way};

const TTL: Ttl = Ttl { min: Duration::from_secs(1), max: Duration::from_secs(60) };

fn target(last: u8) -> Target {
    Target::plain(IpAddr::from([10, 0, 0, last]))
}

fn v6(last: u16) -> Target {
    Target::plain(IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, last]))
}

fn answer(lasts: &[u8]) -> Answer {
    Answer {
        targets: lasts.iter().map(|last| target(*last)).collect(),
        ttl: Duration::from_secs(5),
        gap: None,
    }
}

fn targets(lasts: &[u8]) -> Vec<Target> {
    lasts.iter().map(|last| target(*last)).collect()
}

/// A name that is asked every five seconds.
struct Asked {
    name: Name,
    now: Instant,
}

impl Asked {
    fn new() -> Asked {
        let now = Instant::now();
        Asked { name: Name::new(now), now }
    }

    fn answer(&mut self, answer: Answer) -> Vec<Target> {
        self.now += Duration::from_secs(5);
        self.name.begin();
        self.name.answered(answer, TTL, self.now, 0);
        self.name.present()
    }

    fn fail(&mut self, failure: Failure) -> Duration {
        self.name.begin();
        self.name.failed(failure, TTL, self.now, 0);
        self.name.due().expect("it was answered") - self.now
    }
}

#[test]
fn a_name_is_asked_again_when_its_ttl_is_over() {
    let seconds = Duration::from_secs;
    for (ttl, kept) in [(0, 1), (1, 1), (5, 5), (60, 60), (86_400, 60)] {
        for random in [0, 50, 100, u64::MAX] {
            let now = Instant::now();
            let mut name = Name::new(now);
            assert_eq!(name.due(), Some(now));
            name.begin();
            assert_eq!(name.due(), None, "one question at a time");
            name.answered(Answer { ttl: seconds(ttl), ..answer(&[1]) }, TTL, now, random);
            let next = name.due().expect("it was answered") - now;
            let latest = seconds(kept) + seconds(kept) * JITTER_PERCENT as u32 / 100;
            assert!((seconds(kept)..=latest).contains(&next), "{ttl} s: {next:?}");
        }
    }
}

#[test]
fn failures_change_nothing_and_ask_sooner() {
    let mut asked = Asked::new();
    let first: Vec<Duration> = (0..8).map(|_| asked.fail(Failure::Timeout)).collect();
    assert_eq!(first[..3], [RETRY_FIRST, RETRY_FIRST * 2, RETRY_FIRST * 4]);
    assert_eq!(first[7], RETRY_MAX, "a name that never answered");
    assert!(asked.name.present().is_empty() && asked.name.was_asked());
    assert_eq!(asked.answer(answer(&[1, 2])), targets(&[1, 2]));
    assert_eq!(asked.name.failing(), None);
    for failure in
        [Failure::NoName, Failure::Empty, Failure::Refused, Failure::ServerFailed, Failure::Malformed]
    {
        let next = asked.fail(failure.clone());
        assert!(next <= Duration::from_secs(5), "recovery within one TTL: {next:?}");
        assert_eq!(asked.name.present(), targets(&[1, 2]));
        assert_eq!(asked.name.failing().map(|(_, why)| why), Some(&failure));
    }
    assert_eq!(asked.fail(Failure::Timeout), Duration::from_secs(5));
}

#[test]
fn the_order_of_an_answer_means_nothing() {
    let mut asked = Asked::new();
    let sorted = asked.answer(answer(&[3, 1, 2, 1]));
    assert_eq!(sorted, targets(&[1, 2, 3]));
    assert_eq!(asked.name.first(), Some(target(3)));
    assert_eq!(asked.answer(answer(&[2, 3, 1])), sorted);
    assert!(!asked.name.is_in_parts());
}

#[test]
fn a_family_that_could_not_be_asked_for_is_not_gone() {
    let both = |gap: Option<Part>, targets: Vec<Target>| Answer {
        targets,
        ttl: Duration::from_secs(5),
        gap: gap.map(|part| Gap { part, failure: Failure::Timeout }),
    };
    let mut asked = Asked::new();
    asked.answer(both(None, vec![target(1), v6(1)]));
    assert_eq!(asked.answer(both(Some(Part::Ipv6), vec![target(2)])), [target(2), v6(1)]);
    assert_eq!(asked.answer(both(Some(Part::Ipv6), vec![target(2)])), [target(2), v6(1)], "however often");
    assert_eq!(asked.answer(both(Some(Part::Ipv4), vec![v6(2)])), [target(2), v6(2)]);
    assert_eq!(asked.answer(both(Some(Part::Hosts), vec![target(3)])), [target(2), target(3), v6(2)]);
    assert_eq!(asked.answer(both(None, vec![target(3)])), [target(3)]);
}

#[test]
fn answers_in_parts_are_known_by_their_returns() {
    let mut asked = Asked::new();
    // Three of six at a time.
    for parts in [[1, 2, 3], [4, 5, 6], [1, 3, 5], [2, 4, 6], [1, 2, 6]] {
        asked.answer(answer(&parts));
    }
    assert!(asked.name.is_in_parts());
    assert_eq!(asked.name.present(), targets(&[1, 2, 3, 4, 5, 6]));
    // One that is in no answer any more leaves after ten of them and two minutes.
    for round in 0..30u32 {
        let parts = [[1, 2, 3], [4, 5, 1], [2, 3, 4]][round as usize % 3];
        let present = asked.answer(answer(&parts));
        let is_there = present.contains(&target(6));
        let unseen = Duration::from_secs(5) * (round + 1);
        assert_eq!(is_there, round < 9 || unseen < PARTS_TIME, "{round}");
    }
    // When nothing comes back any more, the answers are whole again.
    (0..20).for_each(|_| drop(asked.answer(answer(&[7]))));
    assert!(!asked.name.is_in_parts());
    assert_eq!(asked.name.present(), targets(&[7]));
}

#[test]
fn a_deployment_that_is_taken_back_is_no_part() {
    let mut asked = Asked::new();
    for lasts in [[1, 2], [3, 4], [1, 2]] {
        assert_eq!(asked.answer(answer(&lasts)), targets(&lasts));
    }
    assert_eq!(asked.answer(answer(&[3, 4])), targets(&[3, 4]));
    assert!(!asked.name.is_in_parts());
}

#[test]
fn too_large_an_answer_is_cut_and_moves_nobody() {
    let many = |from: u32, to: u32| Answer {
        targets: (from..to).map(|at| Target::plain(IpAddr::from((10u32 << 24 | at).to_be_bytes()))).collect(),
        ttl: Duration::from_secs(5),
        gap: None,
    };
    let mut asked = Asked::new();
    let first = asked.answer(many(100, 1000));
    assert_eq!(first.len(), ADDRESSES_MAX);
    let mut turned = many(0, 1000);
    turned.targets.reverse();
    assert_eq!(asked.answer(turned), first, "those that are known stay");
}

/// Members, whom of which are up, and the time in seconds.
struct Serving {
    members: Members,
    up: BTreeSet<u8>,
    start: Instant,
}

const REMOVE_AFTER: Duration = Duration::from_secs(30);

impl Serving {
    fn new(lasts: &[u8]) -> Serving {
        let mut serving = Serving {
            members: Members::default(),
            up: lasts.iter().copied().collect(),
            start: Instant::now(),
        };
        assert_eq!(serving.follow(0, lasts), !lasts.is_empty());
        serving
    }

    fn follow(&mut self, second: u64, lasts: &[u8]) -> bool {
        self.members.follow(&targets(lasts), self.start + Duration::from_secs(second))
    }

    /// Who serves after a look.
    fn look(&mut self, second: u64) -> Vec<u8> {
        let up: Vec<Target> = self.up.iter().map(|last| target(*last)).collect();
        let now = self.start + Duration::from_secs(second);
        self.members.look(now, REMOVE_AFTER, |target| up.contains(target));
        let last = |target: &Target| match target.address.ip() {
            IpAddr::V4(ip) => ip.octets()[3],
            IpAddr::V6(_) => 0,
        };
        self.members.all().iter().map(|member| last(&member.target)).collect()
    }
}

#[test]
fn an_address_that_left_goes_when_as_many_new_ones_are_up() {
    let mut serving = Serving::new(&[1, 2, 3]);
    assert_eq!(serving.members.next_look(), None);
    assert!(serving.follow(1, &[4, 5, 6]));
    assert_eq!(serving.members.next_look(), Some(serving.start + Duration::from_secs(1) + LOOK));
    assert_eq!(serving.look(2), [1, 2, 3, 4, 5, 6]);
    serving.up.insert(4);
    assert_eq!(serving.look(3).len(), 5, "one for one");
    serving.up.extend([5, 6]);
    assert_eq!(serving.look(4), [4, 5, 6]);
    assert_eq!(serving.members.next_look(), None);
}

#[test]
fn those_that_cannot_serve_go_first() {
    let mut serving = Serving::new(&[1, 2, 3]);
    serving.follow(1, &[4]);
    serving.up = BTreeSet::from([2, 3, 4]);
    assert_eq!(serving.look(2), [2, 3, 4]);
}

#[test]
fn an_address_that_nobody_replaces_goes_after_a_while() {
    let mut serving = Serving::new(&[1, 2, 3]);
    assert!(!serving.follow(1, &[1, 2]), "it serves on");
    assert_eq!(serving.look(2), [1, 2, 3]);
    assert_eq!(serving.look(30), [1, 2, 3]);
    assert_eq!(serving.look(31), [1, 2]);
}

#[test]
fn an_address_that_comes_back_has_never_left() {
    let mut serving = Serving::new(&[1, 2]);
    serving.follow(1, &[2]);
    assert!(!serving.follow(5, &[1, 2]));
    assert_eq!(serving.members.next_look(), None);
    assert_eq!(serving.look(100), [1, 2]);
}

#[test]
fn new_ones_that_do_not_come_up_replace_nobody() {
    let mut serving = Serving::new(&[1, 2]);
    for (round, lasts) in [[3, 4], [5, 6], [7, 8]].iter().enumerate() {
        serving.follow(1 + round as u64, lasts);
        let serves = serving.look(2 + round as u64);
        assert!([1, 2].iter().all(|last| serves.contains(last)), "{serves:?}");
        assert!(serves.len() <= 4, "those that left without having been up go first: {serves:?}");
    }
}

proptest! {
    /// Whatever answers come and whoever is up: those in the answer serve, nobody serves twice or for longer than they
    /// may, and while any that served is up, somebody that is up serves.
    #[test]
    fn members_keep_their_laws(
        steps in proptest::collection::vec(
            (proptest::collection::btree_set(0u8..12, 1..6), proptest::collection::btree_set(0u8..12, 0..12), 1u64..20),
            1..40,
        )
    ) {
        let mut serving = Serving::new(&[]);
        let mut second = 0;
        let mut left: std::collections::BTreeMap<u8, u64> = Default::default();
        for (answer, up, pause) in steps {
            second += pause;
            let answer: Vec<u8> = answer.into_iter().collect();
            serving.up = up.clone();
            let before: Vec<u8> = serving.look(second);
            serving.follow(second, &answer);
            left.retain(|last, _| !answer.contains(last));
            for last in before.iter().filter(|last| !answer.contains(last)) {
                left.entry(*last).or_insert(second);
            }
            let serves = serving.look(second);
            let distinct: BTreeSet<u8> = serves.iter().copied().collect();
            prop_assert_eq!(distinct.len(), serves.len());
            prop_assert!(answer.iter().all(|last| serves.contains(last)));
            for last in serves.iter().filter(|last| !answer.contains(last)) {
                prop_assert!(second - left[last] < REMOVE_AFTER.as_secs());
            }
            left.retain(|last, _| serves.contains(last));
            let could = before.iter().any(|last| {
                up.contains(last) && (answer.contains(last) || left.get(last).is_some_and(|at| *at == second))
            });
            prop_assert!(!could || serves.iter().any(|last| up.contains(last)), "{before:?} {serves:?} {up:?}");
        }
    }

    /// Whatever comes as an answer, and however it is mixed with failures: what is remembered is bounded, nothing is lost
    /// by a failure, and the next question comes within the greatest TTL.
    #[test]
    fn names_keep_their_laws(
        steps in proptest::collection::vec(
            (proptest::collection::vec(any::<u8>(), 0..30), 0u64..100_000, any::<u64>(), 0u64..100),
            1..60,
        )
    ) {
        let mut now = Instant::now();
        let mut name = Name::new(now);
        for (lasts, ttl, random, pause) in steps {
            now += Duration::from_secs(pause);
            name.begin();
            let before = name.present();
            if lasts.is_empty() {
                name.failed(Failure::Empty, TTL, now, random);
                prop_assert_eq!(name.present(), before);
            } else {
                name.answered(Answer { ttl: Duration::from_secs(ttl), ..answer(&lasts) }, TTL, now, random);
                let present = name.present();
                prop_assert!(lasts.iter().all(|last| present.contains(&target(*last))));
            }
            let present = name.present();
            prop_assert!(present.len() <= ADDRESSES_MAX);
            prop_assert!(present.windows(2).all(|pair| pair[0] < pair[1]));
            let due = name.due().expect("it was answered");
            prop_assert!(due > now && due <= now + TTL.max + TTL.max * JITTER_PERCENT as u32 / 100);
        }
    }
}

fn named(name: &str, way: Way, server: usize) -> NamedServer {
    let kind = if way == Way::Service { Kind::Service } else { Kind::Addresses };
    let port = if way == Way::Service { 0 } else { 80 };
    let span = Span { file: 0, start: 0, end: 0 };
    NamedServer {
        backend: 0,
        backend_name: "app".to_owned(),
        server,
        question: Question { name: name.to_owned(), kind },
        port,
        way,
        span,
    }
}

fn addresses(names: &Names, servers: &[NamedServer]) -> Vec<Address> {
    let backend =
        BackendSpec { servers: vec![ServerSpec::default(); servers.len()], ..BackendSpec::default() };
    let mut spec = Spec { backends: vec![backend], ..Spec::default() };
    names.fill(servers, &mut spec);
    spec.backends[0].servers.iter().map(|server| server.address.clone()).collect()
}

fn resolved(lasts: &[u8]) -> Address {
    Address::Resolved(lasts.iter().map(|last| ([10, 0, 0, *last], 80).into()).collect())
}

#[test]
fn entries_share_a_name_and_take_of_it_what_they_want() {
    let now = Instant::now();
    let servers = [named("a", Way::All, 0), named("a", Way::First, 1), named("b", Way::First, 2)];
    let mut names = Names::default();
    names.fit(servers.iter(), now);
    let due = names.begin_due(now, 16);
    assert_eq!(due.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(), ["a", "b"], "each once");
    assert!(names.begin_due(now, 16).is_empty());
    assert!(!names.were_asked(servers.iter()));
    let news = names.answered(&due[0], Ok(answer(&[3, 1, 2])), TTL, now, 0).expect("new addresses");
    assert_eq!((news.worse, news.words.as_str()), (false, "10.0.0.1, 10.0.0.2, 10.0.0.3 is new"));
    let news = names.answered(&due[1], Err(Failure::NoName), TTL, now, 0).expect("a failure");
    assert!(news.worse && news.words.contains("NXDOMAIN"), "{news:?}");
    assert!(names.were_asked(servers.iter()) && names.take_changed() && !names.take_changed());
    assert_eq!(addresses(&names, &servers), [resolved(&[1, 2, 3]), resolved(&[3]), resolved(&[])]);
    let told = names.of_backend("app", now);
    assert_eq!(told[0], ("a".to_owned(), "3 addresses; answered 0 s ago, kept for 5 s".to_owned()));
    assert!(told[1].1.starts_with("no address; ") && told[1].1.ends_with("(NXDOMAIN), failed 1 in a row"));
    assert!(names.of_backend("other", now).is_empty());
    assert_eq!(names.why_none(&servers[1]), None);
    assert!(names.why_none(&servers[2]).is_some_and(|why| why.contains("NXDOMAIN")));
    // The same addresses in another order are no change, and the one that serves stays.
    assert_eq!(names.answered(&due[0], Ok(answer(&[2, 3, 1])), TTL, now, 0), None);
    assert!(!names.take_changed());
    // The one that serves leaves: another one joins, and it goes after that one has shown that it is up.
    let now = now + Duration::from_secs(5);
    let news = names.answered(&due[0], Ok(answer(&[2, 1])), TTL, now, 0).expect("a change");
    assert_eq!(news.words, "10.0.0.3 left the answer");
    assert_eq!(addresses(&names, &servers)[1], resolved(&[2, 3]));
    let later = now + LOOK;
    assert!(names.look(now, REMOVE_AFTER, |_, _| true).is_empty(), "not before it could show it");
    let news = names.look(later, REMOVE_AFTER, |_, _| true);
    assert_eq!(news.len(), 1, "nobody stands for the one of three: {news:?}");
    assert_eq!(addresses(&names, &servers)[..2], [resolved(&[1, 2, 3]), resolved(&[2])]);
    names.look(now + REMOVE_AFTER + LOOK, REMOVE_AFTER, |_, _| true);
    assert_eq!(addresses(&names, &servers)[..2], [resolved(&[1, 2]), resolved(&[2])]);
    // What no configuration names any more is forgotten, and a late answer to it is nobody's.
    names.fit(servers[2..].iter(), now);
    assert_eq!(names.len(), 1);
    assert_eq!(names.answered(&due[0], Ok(answer(&[9])), TTL, now, 0), None);
}

#[test]
fn a_service_has_weights_and_backups() {
    let now = Instant::now();
    let servers = [named("_http._tcp.a", Way::Service, 0)];
    let mut names = Names::default();
    names.fit(servers.iter(), now);
    let due = names.begin_due(now, 16);
    let record = |last: u8, port: u16, priority: u16, weight: u16| Target {
        address: ([10, 0, 0, last], port).into(),
        priority,
        weight,
    };
    let targets = vec![record(2, 8080, 20, 5), record(1, 8081, 10, 60), record(1, 8080, 10, 20)];
    names.answered(&due[0], Ok(Answer { targets, ..answer(&[]) }), TTL, now, 0);
    let of = |last: u8, port: u16, weight: u32, backup: bool| lb_core::spec::Target {
        address: ([10, 0, 0, last], port).into(),
        weight,
        backup,
    };
    let wanted = vec![of(1, 8080, 20, false), of(1, 8081, 60, false), of(2, 8080, 5, true)];
    assert_eq!(addresses(&names, &servers), [Address::Service(wanted)]);
}

#[test]
fn many_names_are_asked_a_bounded_number_at_a_time() {
    let now = Instant::now();
    let servers: Vec<NamedServer> = (0..50).map(|at| named(&format!("n{at:02}"), Way::All, at)).collect();
    let mut names = Names::default();
    names.fit(servers.iter(), now);
    let mut asked = BTreeSet::new();
    while asked.len() < servers.len() {
        let due = names.begin_due(now, ask::ASKS_AT_ONCE);
        assert!(!due.is_empty() && due.len() <= ask::ASKS_AT_ONCE);
        for question in due {
            names.answered(&question, Ok(answer(&[1])), TTL, now, 0);
            assert!(asked.insert(question), "none is asked twice");
        }
    }
    assert_eq!(names.next(false), None);
    assert_eq!(names.next(true), Some(now + Duration::from_secs(5)));
    assert_eq!(names.results()[0], 50);
}
