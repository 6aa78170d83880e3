//! SipHash-2-4 with 128 bits of output (Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012; the
//! 128-bit variant is in the reference code of its authors). Its vectors are in `tests/core/vectors.rs`.

use std::fmt;

/// What the key is mixed with: "somepseudorandomlygeneratedbytes".
const START: [u64; 4] =
    [0x736f_6d65_7073_6575, 0x646f_7261_6e64_6f6d, 0x6c79_6765_6e65_7261, 0x7465_6462_7974_6573];

/// A hash in the making, fed in pieces of any length.
#[derive(Clone, Copy)]
pub(super) struct Sip {
    state: [u64; 4],
    /// Bytes that do not fill a word yet, the first lowest.
    rest: u64,
    /// Bytes so far; only the lowest eight bits of it are hashed.
    len: usize,
}

impl Sip {
    pub(super) fn new(key: &[u8; 16]) -> Sip {
        let [low, high] = [word(&key[..8]), word(&key[8..])];
        let mut state = [START[0] ^ low, START[1] ^ high, START[2] ^ low, START[3] ^ high];
        state[1] ^= 0xee;
        Sip { state, rest: 0, len: 0 }
    }

    #[inline]
    pub(super) fn write(&mut self, bytes: &[u8]) {
        let mut words = bytes.chunks_exact(8);
        for bytes in &mut words {
            self.write_word(word(bytes));
        }
        let tail = words.remainder();
        if tail.is_empty() {
            return;
        }
        let (bits, filled) = (word(tail), self.len & 7);
        self.len = self.len.wrapping_add(tail.len());
        self.rest |= bits << (8 * filled);
        if filled + tail.len() >= 8 {
            self.compress(self.rest);
            // At least one byte was there before, or the tail could not have filled the word.
            self.rest = (bits >> 8) >> (8 * (7 - filled));
        }
    }

    /// Adds the eight bytes of a number, the lowest first.
    #[inline]
    pub(super) fn write_word(&mut self, bits: u64) {
        let filled = self.len & 7;
        self.len = self.len.wrapping_add(8);
        self.compress(self.rest | bits << (8 * filled));
        // In two steps, for a shift by all 64 bits is none.
        self.rest = (bits >> 8) >> (8 * (7 - filled));
    }

    #[inline]
    fn compress(&mut self, bits: u64) {
        self.state[3] ^= bits;
        self.round();
        self.round();
        self.state[0] ^= bits;
    }

    #[inline]
    fn round(&mut self) {
        let [mut a, mut b, mut c, mut d] = self.state;
        a = a.wrapping_add(b);
        c = c.wrapping_add(d);
        b = b.rotate_left(13) ^ a;
        d = d.rotate_left(16) ^ c;
        a = a.rotate_left(32);
        c = c.wrapping_add(b);
        a = a.wrapping_add(d);
        b = b.rotate_left(17) ^ c;
        d = d.rotate_left(21) ^ a;
        c = c.rotate_left(32);
        self.state = [a, b, c, d];
    }

    /// The hash of all bytes, as a little-endian number.
    #[inline]
    pub(super) fn finish(mut self) -> u128 {
        self.compress((self.len as u64) << 56 | self.rest);
        self.state[2] ^= 0xee;
        let low = self.squeeze();
        self.state[1] ^= 0xdd;
        let high = self.squeeze();
        u128::from(high) << 64 | u128::from(low)
    }

    #[inline]
    fn squeeze(&mut self) -> u64 {
        (0..4).for_each(|_| self.round());
        self.state.iter().fold(0, |bits, word| bits ^ word)
    }
}

/// Up to eight bytes as a number, the first lowest.
#[inline]
fn word(bytes: &[u8]) -> u64 {
    match bytes.try_into() {
        Ok(bytes) => u64::from_le_bytes(bytes),
        Err(_) => bytes.iter().rev().fold(0, |bits, byte| bits << 8 | u64::from(*byte)),
    }
}

/// The state of a keyed hash is as good as its key: it is never printed.
impl fmt::Debug for Sip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sip(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn whole(bytes: &[u8]) -> u128 {
        let mut sip = Sip::new(b"0123456789abcdef");
        sip.write(bytes);
        sip.finish()
    }

    proptest! {
        /// However a text is cut into pieces, its hash is the same.
        #[test]
        fn pieces_do_not_show(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 0..6)) {
            let mut sip = Sip::new(b"0123456789abcdef");
            pieces.iter().for_each(|piece| sip.write(piece));
            prop_assert_eq!(sip.finish(), whole(&pieces.concat()));
        }

        #[test]
        fn a_word_is_its_bytes(before in proptest::collection::vec(any::<u8>(), 0..16), bits: u64) {
            let mut sip = Sip::new(b"0123456789abcdef");
            sip.write(&before);
            sip.write_word(bits);
            prop_assert_eq!(sip.finish(), whole(&[&before[..], &bits.to_le_bytes()].concat()));
        }
    }

    #[test]
    fn nothing_of_the_key_is_printed() {
        assert_eq!(format!("{:?}", Sip::new(b"0123456789abcdef")), "Sip(..)");
    }
}
