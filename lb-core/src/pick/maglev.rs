//! Maglev hashing: a table in which every server has as many entries as its weight says, and in which few entries
//! change when the servers do (Eisenbud et al., "Maglev: a fast and reliable software network load balancer", 2016,
//! section 3.4). A pick is one hash and one look, however many servers there are.
//!
//! Weights are the part that the paper leaves open. In every round the heaviest server takes one turn, and another one
//! a turn whenever its weight, added up over the rounds, has grown by that of the heaviest; all take one in the first.
//!
//! The table knows nothing of what servers do. A key whose entry names one that cannot serve is hashed again, and its
//! next entry asked, and so on: so only the keys of that server move, and they spread over all others.

use super::{Candidate, Member};
use crate::defaults::MAGLEV_ENTRIES;
use crate::hash::mix;
use crate::live::STRENGTH_FULL;
use crate::snapshot::ServerIndex;

/// Entries that a pick looks at before it is left to rendezvous hashing: most of the servers are out then.
const ENTRIES_LOOKED_AT_MAX: usize = 64;

/// The table of one group of servers.
#[derive(Debug)]
pub(super) struct Table {
    members: Box<[Member]>,
    /// Places in the list of members. There are at most 2^12 of them.
    entries: Box<[u16]>,
}

/// A server's own order of all entries: it begins somewhere and goes on by equal steps, round and round.
struct Permutation {
    next: usize,
    step: usize,
    /// Weight that it has gathered and not yet turned into turns.
    gathered: u32,
}

impl Table {
    /// `None` without servers.
    pub(super) fn new<'a>(candidates: impl Iterator<Item = &'a Candidate>) -> Option<Table> {
        const EMPTY: u16 = u16::MAX;
        let mut sorted: Vec<&Candidate> = candidates.collect();
        // Nodes must agree whatever the order of the spec.
        sorted.sort_by_key(|candidate| candidate.step);
        let heaviest = sorted.iter().map(|candidate| candidate.member.weight).max()?;
        let permutation = |candidate: &&Candidate| Permutation {
            next: (candidate.step as u64 % MAGLEV_ENTRIES as u64) as usize,
            step: ((candidate.step >> 64) as u64 % (MAGLEV_ENTRIES as u64 - 1)) as usize + 1,
            // The first turn is everybody's.
            gathered: heaviest - candidate.member.weight,
        };
        let mut permutations: Vec<Permutation> = sorted.iter().map(permutation).collect();
        let mut entries = vec![EMPTY; MAGLEV_ENTRIES];
        let mut left = MAGLEV_ENTRIES;
        while left > 0 {
            for (place, permutation) in permutations.iter_mut().enumerate() {
                permutation.gathered += sorted[place].member.weight;
                if permutation.gathered < heaviest || left == 0 {
                    continue;
                }
                permutation.gathered -= heaviest;
                // The number of entries is a prime, so every step comes by all of them.
                while entries[permutation.next] != EMPTY {
                    permutation.advance();
                }
                entries[permutation.next] = place as u16;
                permutation.advance();
                left -= 1;
            }
        }
        let members = sorted.iter().map(|candidate| candidate.member).collect();
        Some(Table { members, entries: entries.into() })
    }

    /// The first server that a key's entries name and that `strength` is not 0 of: how much of its weight a server is
    /// to have. One in slow start takes as many of its keys as its strength says, always the same ones, and more as it
    /// grows.
    #[inline]
    pub(super) fn pick(&self, hash: u64, strength: impl Fn(Member) -> u32) -> Option<ServerIndex> {
        let mut hash = hash;
        for _ in 0..ENTRIES_LOOKED_AT_MAX {
            let entry = (hash % self.entries.len() as u64) as usize;
            let member = self.members[usize::from(self.entries[entry])];
            let strength = strength(member);
            if strength == STRENGTH_FULL || (mix(!hash) % u64::from(STRENGTH_FULL)) < u64::from(strength) {
                return Some(member.server);
            }
            hash = mix(hash.wrapping_add(0x9e37_79b9_7f4a_7c15));
        }
        None
    }
}

impl Permutation {
    fn advance(&mut self) {
        self.next += self.step;
        if self.next >= MAGLEV_ENTRIES {
            self.next -= MAGLEV_ENTRIES;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::{Keyed, Purpose, SecretKey, siphash_2_4_128};
    use proptest::prelude::*;

    fn candidate(place: usize, name: &str, weight: u32) -> Candidate {
        let share = SecretKey::from_hex("f0e0d0c0b0a090807060504030201000").unwrap();
        Candidate {
            member: Member { server: ServerIndex(place as u32), weight },
            backup: false,
            is_near: false,
            seed: 0,
            step: Keyed::new(&share, Purpose::Maglev).part(b"app").part(name.as_bytes()).finish(),
        }
    }

    /// The place of every entry's server, in the order of the spec.
    fn entries(weights: &[u32]) -> Vec<u32> {
        let named = |(place, weight): (usize, &u32)| candidate(place, &format!("s{place}"), *weight);
        let all: Vec<Candidate> = weights.iter().enumerate().map(named).collect();
        let table = Table::new(all.iter()).unwrap();
        table.entries.iter().map(|entry| table.members[usize::from(*entry)].server.0).collect()
    }

    /// Tables that other processes, versions and machines must make alike, computed by `tests/core/vectors.py`.
    #[test]
    fn tables_are_pinned() {
        let key = SecretKey::from_hex("000102030405060708090a0b0c0d0e0f").unwrap();
        for (weights, first, hash) in [
            (&[1, 1, 1, 1, 1, 1][..], "dffbafbdafbcfadaceebdfaf", "89f78db3415bafb04332090542f732e6"),
            (&[1, 2, 256, 7], "cccccccccccccccccccccccc", "e8aab29ccabb218ab0d708817fad1bd7"),
        ] {
            let names = ["a", "b", "c", "d", "e", "f"];
            let all: Vec<Candidate> = weights
                .iter()
                .zip(names)
                .enumerate()
                .map(|(n, (weight, name))| candidate(n, name, *weight))
                .collect();
            let table = Table::new(all.iter()).unwrap();
            let named: String = table
                .entries
                .iter()
                .map(|entry| names[table.members[usize::from(*entry)].server.0 as usize])
                .collect();
            assert_eq!(&named[..24], first);
            let found = siphash_2_4_128(&key, named.as_bytes()).to_le_bytes();
            assert_eq!(found.iter().map(|byte| format!("{byte:02x}")).collect::<String>(), hash);
        }
    }

    #[test]
    fn the_number_of_entries_is_a_prime() {
        let size = MAGLEV_ENTRIES;
        assert!((2..size).take_while(|it| it * it <= size).all(|it| !size.is_multiple_of(it)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Everybody has its part of the entries, but for one, and for the first turn, which is everybody's.
        #[test]
        fn entries_go_by_weight(weights in proptest::collection::vec(1_u32..=256, 1..60)) {
            let entries = entries(&weights);
            let whole = f64::from(weights.iter().sum::<u32>());
            for (place, weight) in weights.iter().enumerate() {
                let count = entries.iter().filter(|it| **it as usize == place).count() as f64;
                let part = MAGLEV_ENTRIES as f64 * f64::from(*weight) / whole;
                let first_turns = weights.len() as f64 * f64::from(*weight) / whole;
                prop_assert!(count >= 1.0 && count <= part + 2.0, "{} of {}", count, part);
                prop_assert!(count >= part - first_turns - 1.0, "{} of {}", count, part);
            }
        }
    }
}
