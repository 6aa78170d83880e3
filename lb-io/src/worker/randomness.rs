//! A worker's random numbers: SipHash-2-4-128 of a counter under a secret seed, so that neither session
//! names nor request ids can be guessed from others, and a simulation's can be repeated.

use siphasher::sip128::{Hasher128, SipHasher24};
use std::hash::Hasher;

/// A source of unpredictable numbers.
#[derive(Debug)]
pub struct Randomness {
    key: SipHasher24,
    drawn: u64,
}

impl Randomness {
    /// Equal seeds give equal numbers.
    pub fn new(seed: [u8; 16]) -> Self {
        Self { key: SipHasher24::new_with_key(&seed), drawn: 0 }
    }

    /// The next number.
    pub fn draw(&mut self) -> u128 {
        self.drawn += 1;
        let mut hasher = self.key;
        hasher.write_u64(self.drawn);
        hasher.finish128().as_u128()
    }
}
