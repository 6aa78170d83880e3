//! Hashes that other processes, versions and machines must agree on. A change here moves sessions: never make one
//! to get a test to pass.
//!
//! The values were computed by `tests/core/vectors.py`, an implementation that shares nothing with ours.

use crate::support::*;
use lb_core::hash::{Keyed, Purpose, siphash_2_4_128};
use lb_core::spec::*;
use lb_core::{Table, compile};

/// The key 00 01 .. 0f.
fn key() -> SecretKey {
    SecretKey::from_hex("000102030405060708090a0b0c0d0e0f").unwrap()
}

fn hex(number: u128) -> String {
    number.to_le_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The authors' own list (github.com/veorq/SipHash, vectors.h, `vectors_sip128`): input 00 01 .. of each length.
#[test]
fn siphash_as_its_authors_have_it() {
    let input: Vec<u8> = (0..64).collect();
    let expected: Vec<&str> = include_str!("siphash.txt").lines().collect();
    assert_eq!(expected.len(), 64);
    for (len, expected) in expected.into_iter().enumerate() {
        assert_eq!(hex(siphash_2_4_128(&key(), &input[..len])), expected, "{len}");
    }
}

#[test]
fn parts_cannot_be_confused() {
    let hash = |parts: &[&[u8]]| {
        parts.iter().fold(Keyed::new(&key(), Purpose::Bucket), |hash, part| hash.part(part)).finish()
    };
    assert_ne!(hash(&[b"ab", b"c"]), hash(&[b"a", b"bc"]));
    assert_ne!(hash(&[b"ab"]), hash(&[b"ab", b""]));
    assert_ne!(Keyed::new(&key(), Purpose::Bucket).finish(), Keyed::new(&key(), Purpose::Mark).finish());
}

fn secrets() -> Secrets {
    Secrets {
        signing: vec![SigningKey { id: "k".into(), key: key() }],
        share: SecretKey::from_hex("f0e0d0c0b0a090807060504030201000"),
    }
}

#[test]
fn buckets_and_marks() {
    for (random, session, bucket, mark) in [
        (0, "AAAAAAAAAAAAAAAAAAAAAA", 5273, "FJkBBezWRFepxRx_RuYvkDpGwQ"),
        (1, "AQAAAAAAAAAAAAAAAAAAAA", 8506, "IToBfzy9We0JpAh3F8ylbYZO7A"),
        ((1 << 127) + 12345, "OTAAAAAAAAAAAAAAAAAAgA", 289, "ASEBibZW20OQiNvj_AhYSpKmIQ"),
    ] {
        let mut spec = split("100%", |canary| canary.release = "2026-11-21".into());
        spec.routes[0].name = "cart".into();
        spec.secrets = secrets();
        let table = table(&spec);
        let mut client = Client::new(random);
        let (decision, _permit) = client.request(&table);
        assert_eq!(decision.bucket(), Some(bucket));
        assert_eq!(client.cookie("lb_session"), Some(session));
        assert_eq!(client.cookie("canary_mark"), Some(mark));
    }
}

fn app(policy: Policy, servers: Vec<ServerSpec>) -> Table {
    let mut app = backend("app", policy, servers);
    app.hash_key = HashKey::Source;
    app.sticky = (policy == Policy::RoundRobin).then(StickySpec::default);
    let spec = Spec { routes: vec![route("r", "app")], backends: vec![app], secrets: secrets(), ..spec() };
    table(&spec)
}

#[test]
fn sticky_cookies() {
    let resolved = ServerSpec {
        name: "a".into(),
        address: Address::Resolved(vec![address("10.0.0.1:8000")]),
        ..ServerSpec::default()
    };
    for (server, value) in [(server("a", 1), "JqU5BCvYgug2I5h513T5ZA"), (resolved, "jALlwqgIAsaL_TfiJ4OWLw")]
    {
        let mut client = Client::new(0);
        let _permit = client.request(&app(Policy::RoundRobin, vec![server])).1;
        assert_eq!(client.cookie("lb_app"), Some(value));
    }
}

/// Names of the servers that clients at 192.0.2.0, 192.0.2.1 and so on are sent to.
fn homes(table: &Table, clients: u8) -> String {
    let home = |last: u8| {
        let mut client = Client::new(last.into());
        client.source = [192, 0, 2, last].into();
        whereto(table, &client.decide(table)).1
    };
    (0..clients).map(home).collect()
}

const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

#[test]
fn rendezvous_homes() {
    let table = app(Policy::Rendezvous, NAMES.map(|name| server(name, 1)).into());
    assert_eq!(homes(&table, 16), "adfebcadcdecfaad");
    let weights = NAMES.into_iter().zip([1, 2, 4, 4, 9, 30]);
    let table = app(Policy::Rendezvous, weights.map(|(name, weight)| server(name, weight)).collect());
    assert_eq!(homes(&table, 32), "fffebffffdefffffffddffcfffffcedf");
}

/// The tables themselves are pinned beside the code that makes them, in `src/pick/maglev.rs`.
#[test]
fn maglev_homes() {
    let table = app(Policy::Maglev, NAMES.map(|name| server(name, 1)).into());
    assert_eq!(homes(&table, 16), "fdbfebdfaaddbefe");
    for name in ["a", "b"] {
        live(&table, name).set_health(lb_core::Health::Down(lb_core::Why::Told));
    }
    assert_eq!(homes(&table, 16), "fdffeddfdfddfefe");
}

/// The content hash is the same on every machine and through versions that only add to the spec.
#[test]
fn content_hashes() {
    let hash = |spec: &Spec| {
        let bytes = compile(spec).unwrap().snapshot.hash().0;
        bytes[..8].iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    assert_eq!(hash(&Spec::default()), "05ff58cbae58a95d");
    let mut spec = split("2%", |_| ());
    spec.secrets = secrets();
    assert_eq!(hash(&spec), "6cd053c051076151");
}
