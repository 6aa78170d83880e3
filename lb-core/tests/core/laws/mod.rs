//! The laws that every policy keeps, each with its bound. All runs are seeded: a failure is the same every time.
//!
//! Shares are counted over `n` requests and compared with what weights say. Where chance decides, a count may be off by
//! five standard deviations of a binomial one: beyond that is one run of 1.7 million, and these runs do not change.

mod connections;
mod hashing;
mod latency;
mod load;
mod open;
mod room;
mod safety;
mod shares;
mod slow_start;
mod zones;

use crate::support::*;
use lb_core::spec::*;
use lb_core::{Outcome, Permit, Table};
use std::collections::HashMap;
use std::time::Duration;

/// A route to one backend that hashes, if it hashes, the client's address.
fn one(policy: Policy, servers: Vec<ServerSpec>) -> Spec {
    let app = BackendSpec { hash_key: HashKey::Source, ..backend("app", policy, servers) };
    Spec { routes: vec![route("r", "app")], backends: vec![app], ..spec() }
}

/// Servers s0, s1 and so on of these weights.
fn weighted(weights: &[u32]) -> Vec<ServerSpec> {
    weights.iter().enumerate().map(|(n, weight)| server(&format!("s{n}"), *weight)).collect()
}

/// So many servers of weight 1.
fn equal(count: usize) -> Vec<ServerSpec> {
    weighted(&vec![1; count])
}

/// Clients that come one after the other, each from an address of its own.
struct Crowd {
    client: Client,
    seed: u64,
    number: u64,
}

impl Crowd {
    fn new(seed: u64) -> Crowd {
        Crowd { client: Client::new(0), seed, number: 0 }
    }

    fn at(mut self, now: Duration) -> Crowd {
        self.client.now = now;
        self
    }

    /// Where the next one is sent: place of the server, and its permit.
    fn next(&mut self, table: &Table) -> (usize, Permit) {
        self.number += 1;
        self.client.random = bits(self.seed << 32 ^ self.number);
        self.client.cookies.clear();
        self.client.source = std::net::Ipv4Addr::from_bits(0x0a00_0000 + self.number as u32).into();
        let (decision, permit) = self.client.request(table);
        (decision.server().0 as usize, permit)
    }

    /// How many of so many go to each server, each request being answered before the next one comes.
    fn shares(&mut self, table: &Table, requests: u64) -> Vec<u64> {
        let mut count = vec![0; table.live.servers().len()];
        for _ in 0..requests {
            let (place, permit) = self.next(table);
            permit.finish(Outcome::Responded { status: 200 }, self.client.now);
            count[place] += 1;
        }
        count
    }

    /// Where the same clients are at home, one after the other.
    fn homes(&self, table: &Table, clients: u64) -> Vec<usize> {
        let mut crowd = Crowd::new(self.seed).at(self.client.now);
        (0..clients).map(|_| crowd.next(table).0).collect()
    }
}

/// Whether counts are those of parts of a whole, but for chance and a share that may be off by construction.
fn assert_shares(count: &[u64], parts: &[f64], slack: f64, of: &str) {
    let (requests, whole) = (count.iter().sum::<u64>() as f64, parts.iter().sum::<f64>());
    for (place, (count, part)) in count.iter().zip(parts).enumerate() {
        let share = part / whole;
        let deviation = (requests * share * (1.0 - share)).sqrt();
        let off = (*count as f64 - requests * share).abs();
        let allowed = 5.0 * deviation + slack * requests;
        assert!(off <= allowed, "{of}: server {place} got {count} of {requests} for a share of {share}");
    }
}

fn all_policies() -> impl Iterator<Item = Policy> {
    Policy::ALL.iter().copied()
}

/// By name.
type Counts = HashMap<String, u64>;
