//! Looking for bytes, eight at a time: what is looked through is what clients send, and it is read on every request.

const ONES: u64 = u64::from_ne_bytes([1; 8]);
const TOPS: u64 = u64::from_ne_bytes([0x80; 8]);

/// Where a byte is first.
#[inline]
pub(crate) fn position(bytes: &[u8], wanted: u8) -> Option<usize> {
    let (words, rest) = bytes.as_chunks::<8>();
    let pattern = ONES * u64::from(wanted);
    for (place, word) in words.iter().enumerate() {
        // The lowest byte that is zero shows as a top bit (Warren, "Hacker's Delight", 6-1).
        let difference = u64::from_le_bytes(*word) ^ pattern;
        let zeros = difference.wrapping_sub(ONES) & !difference & TOPS;
        if zeros != 0 {
            return Some(place * 8 + (zeros.trailing_zeros() / 8) as usize);
        }
    }
    let found = rest.iter().position(|byte| *byte == wanted)?;
    Some(words.len() * 8 + found)
}

/// Whether any byte is marked in a table of all.
#[inline]
pub(crate) fn any_marked(bytes: &[u8], marked: &[bool; 256]) -> bool {
    bytes.iter().fold(false, |any, byte| any | marked[usize::from(*byte)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn as_one_by_one(bytes in proptest::collection::vec(0_u8..4, 0..40), wanted in 0_u8..5) {
            prop_assert_eq!(position(&bytes, wanted), bytes.iter().position(|byte| *byte == wanted));
        }

        #[test]
        fn whatever_the_bytes(bytes: Vec<u8>, wanted: u8) {
            prop_assert_eq!(position(&bytes, wanted), bytes.iter().position(|byte| *byte == wanted));
        }
    }
}
