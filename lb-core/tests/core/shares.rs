//! Shares count sessions, and move only those that they must.

use crate::support::*;
use lb_core::spec::*;
use lb_core::{ArmIndex, ArmReason, Health, RefusalReason, Verdict, Why};
use proptest::prelude::*;
use std::time::Duration;

const SESSIONS: u64 = 100_000;

#[test]
fn the_served_share_is_the_share() {
    for share in ["0%", "0.01%", "2%", "10%", "50%", "100%"] {
        let table = table(&split(share, |_| ()));
        let count = (0..SESSIONS).filter(|session| {
            let decision = Client::new(bits(*session)).decide(&table);
            assert!(!decision.fallback());
            decision.arm() != ArmIndex::STABLE
        });
        let count = count.count() as f64;
        let part = f64::from(share.parse::<Share>().unwrap().hundredths()) / 10_000.0;
        let expected = part * SESSIONS as f64;
        let deviation = (expected * (1.0 - part)).sqrt();
        assert!((count - expected).abs() <= 4.5 * deviation, "{share}: {count} of {SESSIONS}");
    }
}

#[test]
fn buckets_are_even() {
    let table = table(&split("10%", |_| ()));
    let mut count = [0_u32; 100];
    for session in 0..SESSIONS {
        count[usize::from(Client::new(bits(session)).decide(&table).bucket().unwrap() / 100)] += 1;
    }
    // Chi-squared with 99 degrees of freedom: 160 is beyond one in 10,000.
    let expected = SESSIONS as f64 / 100.0;
    let chi_squared: f64 = count.iter().map(|it| (f64::from(*it) - expected).powi(2) / expected).sum();
    assert!(chi_squared < 160.0, "{chi_squared}");
}

#[test]
fn another_release_picks_others() {
    let first = table(&split("10%", |_| ()));
    let second = table(&split("10%", |canary| canary.release = "r2".into()));
    let is_canary = |table, session| Client::new(bits(session)).decide(table).arm() != ArmIndex::STABLE;
    let both = (0..SESSIONS).filter(|it| is_canary(&first, *it) && is_canary(&second, *it)).count();
    // 10 % of 10 %, by chance.
    assert!((850..1150).contains(&both), "{both}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Raising moves exactly the sessions between the two shares, and lowering exactly those back.
    #[test]
    fn raising_moves_only_those_it_must(low in 0_u16..=10_000, high in 0_u16..=10_000, seed: u64) {
        let (low, high) = (low.min(high), low.max(high));
        let with = |hundredths| {
            table(&split("0%", |canary| canary.share = Share::from_hundredths(hundredths).unwrap()))
        };
        let (before, after) = (with(low), with(high));
        for session in 0..50 {
            let mut client = Client::new(bits(seed ^ session));
            let (first, _permit) = client.request(&before);
            let bucket = first.bucket().unwrap();
            prop_assert_eq!(first.arm() != ArmIndex::STABLE, bucket < low);
            let (raised, _permit) = client.request(&after);
            prop_assert_eq!(raised.bucket(), first.bucket());
            prop_assert_eq!(raised.arm() != ArmIndex::STABLE, bucket < high);
            let (lowered, _permit) = client.request(&before);
            prop_assert_eq!(lowered.arm(), first.arm());
        }
    }

    /// Two nodes that know nothing of each other but the secret agree on every session.
    #[test]
    fn nodes_agree(share in 0_u16..=10_000, seed: u64) {
        let spec = split("0%", |canary| canary.share = Share::from_hundredths(share).unwrap());
        let (one, other) = (table(&spec), table(&spec));
        prop_assert_eq!(one.snapshot.hash(), other.snapshot.hash());
        for session in 0..50 {
            let mut client = Client::new(bits(seed ^ session));
            let (here, _permit) = client.request(&one);
            client.random = bits(!session);
            let there = client.decide(&other);
            prop_assert_eq!(here.arm(), there.arm());
            prop_assert_eq!(here.bucket(), there.bucket());
            prop_assert_eq!(here.session(), there.session());
        }
    }
}

/// A client of the canary and one of the stable arm, both known by their cookies.
fn two_clients(table: &lb_core::Table) -> (Client, Client) {
    let mut clients = (0..).map(|session| {
        let mut client = Client::new(bits(session));
        let (decision, _permit) = client.request(table);
        (decision.arm(), client)
    });
    let (_, canary) = clients.by_ref().find(|(arm, _)| *arm != ArmIndex::STABLE).unwrap();
    let (_, stable) = clients.find(|(arm, _)| *arm == ArmIndex::STABLE).unwrap();
    (canary, stable)
}

const NEW: [&str; 4] = ["new-1", "new-2", "new-3", "new-backup"];

#[test]
fn a_dead_arm_is_served_by_the_other_and_gets_its_sessions_back() {
    let table = table(&split("50%", |_| ()));
    let (mut client, _) = two_clients(&table);
    let cookies = client.cookies.clone();
    assert!(client.cookie("canary_mark").is_some());

    for name in &NEW[..3] {
        live(&table, name).set_health(Health::Down(Why::Connect));
    }
    let (decision, _permit) = client.request(&table);
    assert_eq!(whereto(&table, &decision), ("canary", "new-backup".into()), "its backup comes first");
    assert!(decision.backup() && !decision.fallback());

    live(&table, "new-backup").set_health(Health::Down(Why::Connect));
    for _ in 0..10 {
        let (decision, _permit) = client.request(&table);
        assert_eq!(whereto(&table, &decision).0, "stable");
        assert!(decision.fallback());
        assert_eq!(client.cookies, cookies, "a fallback changes no cookie");
    }

    NEW.iter().for_each(|name| live(&table, name).set_health(Health::Up));
    let (decision, _permit) = client.request(&table);
    assert_eq!(whereto(&table, &decision).0, "canary");
    assert!(!decision.fallback());
}

#[test]
fn connect_failures_alone_make_an_arm_dead_and_alive_again() {
    let table = table(&split("100%", |_| ()));
    let mut client = Client::new(7);
    for _ in NEW {
        let (_, permit) = client.request(&table);
        permit.finish(lb_core::Outcome::ConnectFailed, client.now);
    }
    let (decision, _permit) = client.request(&table);
    assert!(decision.fallback());
    client.now += Duration::from_millis(100);
    let (decision, _permit) = client.request(&table);
    assert_eq!(whereto(&table, &decision).0, "canary");
    assert!(!decision.fallback());
}

#[test]
fn fallback_can_be_refused() {
    for (change, forced) in [
        ((|canary: &mut CanarySpec| canary.fallback = Fallback::Refuse) as fn(&mut CanarySpec), false),
        (|_: &mut CanarySpec| (), true),
    ] {
        let table = table(&split("100%", change));
        NEW.iter().for_each(|name| live(&table, name).set_health(Health::Down(Why::Told)));
        let mut client = Client::new(7);
        if forced {
            client = client.with_cookie("canary", "always");
        }
        match client.verdict(&table) {
            Verdict::Refuse(refusal) => {
                assert_eq!((refusal.reason, refusal.status()), (RefusalReason::ArmDown, 503));
                assert_eq!(refusal.route.map(|route| &*table.snapshot.route(route).name), Some("shop"));
                assert_eq!(refusal.arm, Some(ArmIndex(1)), "whose failure it is");
            }
            other => panic!("{other:?}"),
        }
    }
    let open = table(&split("100%", |canary| canary.forced_fallback = Some(Fallback::Other)));
    NEW.iter().for_each(|name| live(&open, name).set_health(Health::Down(Why::Told)));
    assert!(Client::new(7).with_cookie("canary", "always").decide(&open).fallback());
}

#[test]
fn the_testers_word_beats_the_share_and_sets_no_mark() {
    let table = table(&split("0%", |_| ()));
    let mut tester = Client::new(7).with_cookie("canary", "always");
    let (decision, _permit) = tester.request(&table);
    assert_eq!((whereto(&table, &decision).0, decision.arm_reason()), ("canary", ArmReason::Forced));
    assert_eq!(tester.cookie("canary"), Some("always"), "we never write it");
    assert_eq!(tester.cookie("canary_mark"), None);
    tester.cookies.retain(|(name, _)| name != "canary");
    assert_eq!(tester.decide(&table).arm(), ArmIndex::STABLE);
}

#[test]
fn a_marked_session_is_recognised_without_its_session_cookie() {
    let table = table(&split("50%", |_| ()));
    let (mut canary, _) = two_clients(&table);
    let before = canary.decide(&table);
    canary.cookies.retain(|(name, _)| name != "lb_session");
    for random in 0..20 {
        canary.random = bits(random);
        let again = canary.decide(&table);
        assert_eq!((again.bucket(), again.arm_reason()), (before.bucket(), ArmReason::Mark));
    }
}

#[test]
fn sessions_by_source_header_and_draw() {
    let by_source = table(&split("50%", |canary| canary.key = SessionKey::Source));
    let by_header = table(&split("50%", |canary| canary.key = SessionKey::Header("X-User".into())));
    let drawn = table(&split("50%", |canary| canary.key = SessionKey::Draw));
    let client = |source: &str, random| {
        let mut client = Client::new(bits(random));
        client.source = source.parse().unwrap();
        client
    };
    let bucket = |table, client: &Client| client.decide(table).bucket();
    assert_eq!(
        bucket(&by_source, &client("192.0.2.9", 1)),
        bucket(&by_source, &client("::ffff:192.0.2.9", 2))
    );
    assert_ne!(bucket(&by_source, &client("192.0.2.9", 1)), bucket(&by_source, &client("192.0.2.8", 1)));

    let user = |name: &str, random| {
        let mut client = client("192.0.2.9", random);
        client.headers.push(("x-USER".into(), name.into()));
        client
    };
    assert_eq!(bucket(&by_header, &user("ann", 1)), bucket(&by_header, &user("ann", 2)));
    assert_ne!(bucket(&by_header, &user("ann", 1)), bucket(&by_header, &user("bob", 1)));

    let mut one = client("192.0.2.9", 1);
    let arms: Vec<_> = (0..64)
        .map(|random| {
            one.random = bits(random);
            let (decision, _permit) = one.request(&drawn);
            decision.arm()
        })
        .collect();
    assert!(arms.contains(&ArmIndex::STABLE) && arms.contains(&ArmIndex(1)), "every request is drawn anew");
    assert_eq!(one.cookies, []);
}

#[test]
fn cookies_are_set_when_absent_or_changed_only() {
    let mut old_spec = split("100%", |_| ());
    let old = table(&old_spec);
    let mut client = Client::new(7);
    let first = client.decide(&old);
    let mut names = client.keep_cookies(&old, &first);
    names.sort();
    assert_eq!(names, ["canary_mark", "lb_session"]);
    let second = client.decide(&old);
    assert_eq!(client.keep_cookies(&old, &second), [""; 0]);

    // A new key signs, the old one verifies still: the mark counts and is written again.
    old_spec.secrets.signing.insert(0, SigningKey { id: "second".into(), key: SecretKey::new([3; 16]) });
    let rotated = table(&old_spec);
    let third = client.decide(&rotated);
    assert_eq!((third.bucket(), third.arm_reason()), (first.bucket(), ArmReason::Mark));
    assert_eq!(client.keep_cookies(&rotated, &third), ["canary_mark"]);
    let fourth = client.decide(&rotated);
    assert_eq!(client.keep_cookies(&rotated, &fourth), [""; 0]);
}

#[test]
fn cookie_lines() {
    let table = table(&split("100%", |_| ()));
    let decision = Client::new(0).decide(&table);
    let mut out = Vec::new();
    assert!(decision.write_cookies(&table, true, &mut out));
    let text = String::from_utf8(out).unwrap();
    let (first, rest) = text.split_once("\r\n").unwrap();
    assert_eq!(
        first,
        "set-cookie: lb_session=AAAAAAAAAAAAAAAAAAAAAA; Path=/; HttpOnly; SameSite=Lax; Secure"
    );
    assert!(rest.starts_with("set-cookie: canary_mark=") && rest.ends_with("Secure\r\n"), "{rest}");
}
