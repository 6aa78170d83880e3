//! Maps inside a snapshot. Their keys come from the spec only: who asks for other keys cannot make them degenerate.
//! So their hashes need not be secret, only quick; and without randomness of the process the core stays free of any.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};

/// A map inside a snapshot.
pub(crate) type Map<K, V> = HashMap<K, V, BuildHasherDefault<Folding>>;

/// A map inside a snapshot, by hashes: numbers that need no further hashing.
pub(crate) type TokenMap<V> = HashMap<u128, V, BuildHasherDefault<Taking>>;

/// Bytes as a key. Short ones, as segments and most hosts are, stand in the map itself: one cache line less to wait
/// for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    Short { len: u8, bytes: [u8; SHORT_LEN] },
    Long(Box<[u8]>),
}

/// Bytes of a key that stands in the map itself, at most.
const SHORT_LEN: usize = 22;

impl From<&[u8]> for Key {
    fn from(text: &[u8]) -> Key {
        let mut bytes = [0; SHORT_LEN];
        match bytes.get_mut(..text.len()) {
            Some(place) => {
                place.copy_from_slice(text);
                Key::Short { len: text.len() as u8, bytes }
            }
            None => Key::Long(text.into()),
        }
    }
}

impl Borrow<[u8]> for Key {
    #[inline]
    fn borrow(&self) -> &[u8] {
        match self {
            Key::Short { len, bytes } => &bytes[..usize::from(*len)],
            Key::Long(bytes) => bytes,
        }
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let bytes: &[u8] = self.borrow();
        bytes.hash(state);
    }
}

/// Folds eight bytes at a time by multiplication, both halves of the product being kept (as wyhash does: Wang Yi,
/// "Modern non-cryptographic hash function", 2019). A fifth of the cost of SipHash on the few bytes of a segment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Folding(u64);

/// Odd, and its bits are in no pattern: the golden ratio's first 64.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
/// Keeps zeros from staying zeros.
const OFFSET: u64 = 0xd1b5_4a32_d192_ed03;

impl Folding {
    #[inline]
    fn fold(&mut self, bits: u64) {
        let product = u128::from(self.0 ^ bits ^ OFFSET) * u128::from(FACTOR);
        self.0 = product as u64 ^ (product >> 64) as u64;
    }
}

impl Hasher for Folding {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|word| self.fold(u64::from_le_bytes(*word)));
        if let Some(last) = bytes.last_chunk::<8>() {
            // Bytes that were read already are read again: that is quicker than to read the others one by one.
            if !rest.is_empty() {
                self.fold(u64::from_le_bytes(*last));
            }
        } else if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
            self.fold(u64::from(u32::from_le_bytes(*first)) << 32 | u64::from(u32::from_le_bytes(*last)));
        } else if !bytes.is_empty() {
            self.fold(bytes.iter().fold(0, |bits, byte| bits << 8 | u64::from(*byte)));
        }
    }

    #[inline]
    fn write_u8(&mut self, number: u8) {
        self.fold(number.into());
    }

    #[inline]
    fn write_u32(&mut self, number: u32) {
        self.fold(number.into());
    }

    #[inline]
    fn write_u64(&mut self, number: u64) {
        self.fold(number);
    }

    #[inline]
    fn write_usize(&mut self, number: usize) {
        self.fold(number as u64);
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}

/// Takes a hash as it is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Taking(u64);

impl Hasher for Taking {
    fn write(&mut self, bytes: &[u8]) {
        // Not what it is for, but as good as any.
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }

    #[inline]
    fn write_u128(&mut self, hash: u128) {
        self.0 = hash as u64;
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::hash::BuildHasher;

    fn hash(key: impl Hash) -> u64 {
        BuildHasherDefault::<Folding>::default().hash_one(key)
    }

    /// Keys as they are in specs: the low bits (the place in a map) and the high ones (the tag) both spread.
    #[test]
    fn likely_keys_spread() {
        let keys: Vec<String> = (0..4096).map(|n| format!("h{n}.example.test")).collect();
        let few: Vec<String> = (0..4096).map(|n| format!("p{n}")).collect();
        for keys in [keys, few] {
            let hashes: HashSet<u64> = keys.iter().map(|key| hash(key.as_bytes())).collect();
            assert_eq!(hashes.len(), keys.len());
            for shift in [0, 52] {
                // Of n balls in n bins, 63 % of the bins are hit (1 - 1/e).
                let bins: HashSet<u64> = hashes.iter().map(|hash| hash >> shift & 0xfff).collect();
                assert!((2300..2900).contains(&bins.len()), "{} bins by bits from {shift}", bins.len());
            }
        }
    }

    #[test]
    fn keys_are_what_they_are_made_of() {
        for len in 0..60 {
            let bytes = vec![7; len];
            let map: Map<Key, usize> = [(Key::from(&bytes[..]), len)].into_iter().collect();
            assert_eq!(map.get(&bytes[..]), Some(&len));
            assert_eq!(map.get(&vec![7; len + 1][..]), None);
        }
    }

    #[test]
    fn lengths_tell() {
        let zeros = [0; 20];
        let hashes: HashSet<u64> = (0..=20).map(|len| hash(&zeros[..len])).collect();
        assert_eq!(hashes.len(), 21);
    }
}
