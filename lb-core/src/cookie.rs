//! Cookies: reading those of requests (RFC 6265, section 5.4 as servers meet it) and writing ours.

use crate::bytes::position;
use crate::defaults::COOKIES_MAX;
use crate::view::Fields;

/// The pairs of one `Cookie` field value. Takes any bytes and never fails: white space around names and values
/// and one pair of quotes around a value are not part of them, a part without `=` is no pair.
pub fn pairs(value: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut rest = Some(value);
    let parts = std::iter::from_fn(move || {
        let value = rest?;
        let end = position(value, b';');
        rest = end.map(|end| &value[end + 1..]);
        Some(end.map_or(value, |end| &value[..end]))
    });
    parts.filter_map(pair)
}

fn pair(part: &[u8]) -> Option<(&[u8], &[u8])> {
    let equals = position(part, b'=')?;
    let name = part[..equals].trim_ascii();
    let value = part[equals + 1..].trim_ascii();
    let bare = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    (!name.is_empty()).then_some((name, bare.unwrap_or(value)))
}

/// The pairs of all `Cookie` fields of a request, [`COOKIES_MAX`] of them at most.
pub(crate) fn of_request<F: Fields + ?Sized>(fields: &F) -> impl Iterator<Item = (&[u8], &[u8])> {
    let values = fields.fields().filter(|(name, _)| name.eq_ignore_ascii_case(b"cookie"));
    values.flat_map(|(_, value)| pairs(value)).take(COOKIES_MAX)
}

/// Whether a name may be given to a cookie: a token (RFC 9110, section 5.6.2).
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= crate::defaults::NAME_LEN_MAX * 2 && name.bytes().all(is_token_byte)
}

/// Whether a byte may stand in a token (RFC 9110, section 5.6.2).
pub(crate) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Whether a value can be sent in a cookie as it is (RFC 6265, section 4.1.1).
pub(crate) fn is_value(value: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_graphic() && !b"\",;\\".contains(&byte);
    !value.is_empty() && value.bytes().all(allowed)
}

/// Appends a whole `set-cookie` line.
pub(crate) fn write_set(name: &str, value: &[u8], secure: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(SET_COOKIE);
    out.extend_from_slice(name.as_bytes());
    out.push(b'=');
    out.extend_from_slice(value);
    out.extend_from_slice(b"; Path=/; HttpOnly; SameSite=Lax");
    out.extend_from_slice(if secure { b"; Secure\r\n" } else { b"\r\n" });
}

/// The values of the `set-cookie` lines that [`Decision::write_cookies`](crate::Decision::write_cookies) has written, for
/// those who hold header fields one by one.
///
/// ```
/// let lines = b"set-cookie: a=1; Path=/\r\nset-cookie: b=2; Path=/\r\n";
/// let values: Vec<&[u8]> = lb_core::cookie::set_values(lines).collect();
/// assert_eq!(values, [&b"a=1; Path=/"[..], b"b=2; Path=/"]);
/// ```
pub fn set_values(lines: &[u8]) -> impl Iterator<Item = &[u8]> {
    let lines = lines.split(|byte| *byte == b'\n').filter_map(|line| line.strip_suffix(b"\r"));
    lines.filter_map(|line| line.strip_prefix(SET_COOKIE))
}

const SET_COOKIE: &[u8] = b"set-cookie: ";

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// How many characters [`encode`] makes of so many bytes.
pub(crate) const fn encoded_len(bytes: usize) -> usize {
    (bytes * 4).div_ceil(3)
}

/// Base64url without padding (RFC 4648, section 5). `TEXT` must be [`encoded_len`] of `BYTES`.
pub(crate) fn encode<const BYTES: usize, const TEXT: usize>(bytes: &[u8; BYTES]) -> [u8; TEXT] {
    const { assert!(TEXT == encoded_len(BYTES)) };
    let mut text = [0; TEXT];
    for (chunk, digits) in bytes.chunks(3).zip(text.chunks_mut(4)) {
        let mut bits = 0_u32;
        for place in 0..3 {
            bits = bits << 8 | u32::from(chunk.get(place).copied().unwrap_or(0));
        }
        for (place, digit) in digits.iter_mut().enumerate() {
            *digit = DIGITS[(bits >> (18 - 6 * place)) as usize & 63];
        }
    }
    text
}

/// Of each byte its value as a digit; [`NO_DIGIT`] of all others.
const VALUES: [u8; 256] = {
    let mut values = [NO_DIGIT; 256];
    let mut value = 0;
    while value < DIGITS.len() {
        values[DIGITS[value] as usize] = value as u8;
        value += 1;
    }
    values
};

/// Has a bit that no value of a digit has.
const NO_DIGIT: u8 = 0x80;

/// Reads what [`encode`] makes of 16 bytes, as a little-endian number; `None` for anything else. It is [`decode`]
/// for what most requests carry, and never leaves the registers.
#[inline]
pub(crate) fn decode_number(text: &[u8]) -> Option<u128> {
    let digits: &[u8; encoded_len(16)] = text.try_into().ok()?;
    let (first, last) = (&digits[..encoded_len(16) - 1], digits[encoded_len(16) - 1]);
    let mut seen = 0;
    let mut bits = first.iter().fold(0_u128, |bits, digit| {
        let value = VALUES[usize::from(*digit)];
        seen |= value;
        bits << 6 | u128::from(value)
    });
    // Of the last digit two bits are left, the others must be 0.
    let value = VALUES[usize::from(last)];
    bits = bits << 2 | u128::from(value >> 4);
    ((seen | value) & NO_DIGIT == 0 && value & 0xf == 0).then_some(bits.swap_bytes())
}

/// Reads what [`encode`] writes; `None` for anything else, be it only a bit too many at the end. All digits are read
/// before any is judged: nearly all texts that get here are right.
pub(crate) fn decode<const BYTES: usize>(text: &[u8]) -> Option<[u8; BYTES]> {
    if text.len() != encoded_len(BYTES) {
        return None;
    }
    let mut bytes = [0; BYTES];
    let mut seen = 0;
    for (chunk, digits) in bytes.chunks_mut(3).zip(text.chunks(4)) {
        let mut bits = 0_u32;
        for place in 0..4 {
            let value = digits.get(place).map_or(0, |digit| VALUES[usize::from(*digit)]);
            seen |= value;
            bits = bits << 6 | u32::from(value & 63);
        }
        // 24 bits were read; those that belong to no byte must be 0.
        let spare_bits = 24 - 8 * chunk.len();
        if bits & ((1 << spare_bits) - 1) != 0 {
            return None;
        }
        for (place, byte) in chunk.iter_mut().enumerate() {
            *byte = (bits >> (16 - 8 * place)) as u8;
        }
    }
    (seen & NO_DIGIT == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn table() {
        let cases: &[(&str, &[(&str, &str)])] = &[
            ("", &[]),
            ("a=1", &[("a", "1")]),
            ("a=1; b=2;c=3", &[("a", "1"), ("b", "2"), ("c", "3")]),
            (" a = 1 ;; ;b", &[("a", "1")]),
            ("a=", &[("a", "")]),
            ("=1; a=b=c", &[("a", "b=c")]),
            ("a=\"1\"; b=\"; c=\"\"", &[("a", "1"), ("b", "\""), ("c", "")]),
            ("a=1; a=2", &[("a", "1"), ("a", "2")]),
        ];
        for (value, expected) in cases {
            let expected: Vec<_> = expected.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes())).collect();
            assert_eq!(pairs(value.as_bytes()).collect::<Vec<_>>(), expected, "{value}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_give_trimmed_slices_of_themselves(value in proptest::collection::vec(any::<u8>(), 0..200)) {
            for (name, content) in pairs(&value) {
                prop_assert!(!name.is_empty() && !name.contains(&b'=') && !name.contains(&b';'));
                prop_assert_eq!(name, name.trim_ascii());
                prop_assert!(!content.contains(&b';'));
            }
            prop_assert!(pairs(&value).count() <= value.len());
        }

        #[test]
        fn numbers_are_read_as_bytes_are(text in "[A-Za-z0-9_-]{20}[A-Za-z0-9_!-]{0,3}") {
            let bytes = decode::<16>(text.as_bytes());
            prop_assert_eq!(decode_number(text.as_bytes()), bytes.map(u128::from_le_bytes));
        }

        #[test]
        fn what_was_encoded_is_read(bytes: [u8; 19], short: [u8; 16]) {
            let text: [u8; 26] = encode(&bytes);
            prop_assert_eq!(decode::<19>(&text), Some(bytes));
            let text: [u8; 22] = encode(&short);
            prop_assert_eq!(decode::<16>(&text), Some(short));
            prop_assert_eq!(decode_number(&text), Some(u128::from_le_bytes(short)));
        }

        #[test]
        fn one_text_for_one_value(text in "[A-Za-z0-9_-]{22}") {
            prop_assert_eq!(decode_number(text.as_bytes()), decode::<16>(text.as_bytes()).map(u128::from_le_bytes));
            if let Some(bytes) = decode::<16>(text.as_bytes()) {
                let again: [u8; 22] = encode(&bytes);
                prop_assert_eq!(&again[..], text.as_bytes());
            }
        }
    }
}
