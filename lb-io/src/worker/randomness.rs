//! A worker's random numbers: SipHash-2-4-128 of a counter under a secret seed, so that session names cannot be
//! guessed from others, and a simulation's can be repeated.

use lb_core::hash::{SecretKey, mix, siphash_2_4_128};

/// A source of unpredictable numbers.
#[derive(Debug)]
pub struct Randomness {
    key: SecretKey,
    drawn: u64,
    /// What this worker's request ids begin with.
    worker: u64,
    ids: u64,
}

impl Randomness {
    /// Equal seeds give equal numbers.
    pub fn new(seed: [u8; 16]) -> Self {
        let mut randomness = Self { key: SecretKey::new(seed), drawn: 0, worker: 0, ids: 0 };
        let start = randomness.draw();
        (randomness.worker, randomness.ids) = ((start >> 64) as u64, start as u64);
        randomness
    }

    /// A number that no other request has, for the price of a few instructions; not a secret.
    pub fn request_id(&mut self) -> u128 {
        self.ids = self.ids.wrapping_add(1);
        u128::from(self.worker) << 64 | u128::from(mix(self.ids))
    }

    /// A number for choices in which nobody has a stake.
    pub fn lot(&mut self) -> u64 {
        self.ids = self.ids.wrapping_add(1);
        mix(self.ids)
    }

    /// The next number.
    pub fn draw(&mut self) -> u128 {
        self.drawn += 1;
        siphash_2_4_128(&self.key, &self.drawn.to_le_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_workers_differ() {
        let (mut one, mut other) = (Randomness::new([1; 16]), Randomness::new([2; 16]));
        let mut ids: Vec<u128> = (0..1_000).flat_map(|_| [one.request_id(), other.request_id()]).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 2_000);
        assert_ne!(one.draw(), other.draw());
    }
}
