//! Text without the formatting machinery, which would cost more than all else that a line takes.

use std::io::Write;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const PAIRS: &[u8; 200] = b"0001020304050607080910111213141516171819\
2021222324252627282930313233343536373839\
4041424344454647484950515253545556575859\
6061626364656667686970717273747576777879\
8081828384858687888990919293949596979899";

/// Appends a decimal number.
pub fn number(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    while number >= 100 {
        let pair = (number % 100) as usize * 2;
        number /= 100;
        at -= 2;
        digits[at..at + 2].copy_from_slice(&PAIRS[pair..pair + 2]);
    }
    let pair = number as usize * 2;
    if number >= 10 {
        at -= 2;
        digits[at..at + 2].copy_from_slice(&PAIRS[pair..pair + 2]);
    } else {
        at -= 1;
        digits[at] = PAIRS[pair + 1];
    }
    out.extend_from_slice(&digits[at..]);
}

/// Appends the last `width` decimal digits of a number, at most 20 of them.
fn padded(out: &mut Vec<u8>, mut number: u64, width: usize) {
    let mut digits = [b'0'; 20];
    for digit in digits[..width].iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
    out.extend_from_slice(&digits[..width]);
}

/// Appends a share in hundredths of a percent as a fraction: `1`, `0.1000`.
pub fn fraction(out: &mut Vec<u8>, hundredths: u16) {
    if hundredths >= 10_000 {
        out.push(b'1');
    } else {
        out.extend_from_slice(b"0.");
        padded(out, u64::from(hundredths), 4);
    }
}

/// Appends sixteen hexadecimal digits.
pub fn hex(out: &mut Vec<u8>, number: u64) {
    let mut digits = [0; 16];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(number.to_be_bytes()) {
        pair.copy_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
    }
    out.extend_from_slice(&digits);
}

/// Appends an address.
pub fn address(out: &mut Vec<u8>, address: IpAddr) {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            for (place, octet) in address.octets().into_iter().enumerate() {
                if place > 0 {
                    out.push(b'.');
                }
                number(out, u64::from(octet));
            }
        }
        IpAddr::V6(address) => groups(out, address.segments()),
    }
}

/// Appends an IPv6 address (RFC 5952 section 4): without leading zeros, the first of the longest runs of two or more
/// zero groups as `::`.
fn groups(out: &mut Vec<u8>, groups: [u16; 8]) {
    let (mut run, mut longest) = (0..0, 0..0);
    for (place, group) in groups.into_iter().enumerate() {
        run = if group == 0 { run.start..place + 1 } else { place + 1..place + 1 };
        if run.len() > longest.len() {
            longest = run.clone();
        }
    }
    if longest.len() < 2 {
        longest = 8..8;
    }
    for (place, group) in groups.into_iter().enumerate() {
        if place == longest.start {
            out.extend_from_slice(b"::");
        }
        if longest.contains(&place) {
            continue;
        }
        if place > 0 && place != longest.end {
            out.push(b':');
        }
        let digits = (4 - group.leading_zeros() as usize / 4).max(1);
        for digit in (0..digits).rev() {
            out.push(HEX[usize::from(group >> (4 * digit) & 15)]);
        }
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Appends what stands in a JSON string: one line of ASCII, bytes that are no ASCII as the code points of the same
/// number, so that nothing is lost and every line is valid whatever a client sent.
pub fn json(out: &mut Vec<u8>, bytes: &[u8]) {
    escape(out, bytes, b"\\u00");
}

/// Appends what stands in quotes in a line of text: ASCII without quotes, backslashes and control characters.
pub fn text(out: &mut Vec<u8>, bytes: &[u8]) {
    escape(out, bytes, b"\\x");
}

/// Appends the beginning of a further member of a JSON object: a comma, its key, a colon.
pub fn member(out: &mut Vec<u8>, key: &str) {
    out.push(b',');
    quoted(out, key);
    out.push(b':');
}

/// Appends a JSON string of valid UTF-8, as such.
pub fn quoted(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for byte in text.bytes() {
        if byte.is_ascii() { json(out, &[byte]) } else { out.push(byte) }
    }
    out.push(b'"');
}

fn is_special(byte: u8) -> bool {
    !(0x20..0x7f).contains(&byte) | (byte == b'"') | (byte == b'\\')
}

#[inline]
fn escape(out: &mut Vec<u8>, bytes: &[u8], lead: &[u8]) {
    // Without an early end, so that many bytes are looked at in one step: nearly all are harmless.
    if !bytes.iter().fold(false, |found, byte| found | is_special(*byte)) {
        out.extend_from_slice(bytes);
    } else {
        escape_each(out, bytes, lead);
    }
}

#[cold]
fn escape_each(out: &mut Vec<u8>, bytes: &[u8], lead: &[u8]) {
    for byte in bytes {
        if is_special(*byte) {
            out.extend_from_slice(lead);
            out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        } else {
            out.push(*byte);
        }
    }
}

/// How long the offset between the two clocks is believed: a step of the system's time shows after that.
const OFFSET_KEPT: Duration = Duration::from_secs(1);

/// The time of day, read once in a while: in between it goes on with a clock that has been read anyway.
#[derive(Debug, Clone, Default)]
pub struct WallClock {
    offset: Duration,
    read_at: Option<Duration>,
}

impl WallClock {
    /// The time since 1970, `now` being the time of the monotonic clock.
    pub fn at(&mut self, now: Duration) -> Duration {
        if self.read_at.is_none_or(|read_at| now.saturating_sub(read_at) >= OFFSET_KEPT) {
            self.read_at = Some(now);
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            self.offset = since.saturating_sub(now);
        }
        self.offset + now
    }
}

/// A date is computed once in a second.
#[derive(Debug, Clone, Default)]
pub struct Calendar {
    /// Of the texts, and whether there are any.
    second: Option<u64>,
    /// RFC 3339 up to the seconds.
    date: Vec<u8>,
    /// As in Apache's logs.
    common: Vec<u8>,
}

impl Calendar {
    /// Appends a time since 1970 in UTC as RFC 3339 has it, with milliseconds.
    pub fn write(&mut self, out: &mut Vec<u8>, since: Duration) {
        self.turn_to(since.as_secs());
        out.extend_from_slice(&self.date);
        out.push(b'.');
        padded(out, u64::from(since.subsec_millis()), 3);
        out.push(b'Z');
    }

    /// Appends it in the form of Apache's logs.
    pub fn write_common(&mut self, out: &mut Vec<u8>, since: Duration) {
        self.turn_to(since.as_secs());
        out.extend_from_slice(&self.common);
    }

    /// Days to dates as in "chrono-Compatible Low-Level Date Algorithms" (Hinnant, 2013), civil_from_days.
    fn turn_to(&mut self, seconds: u64) {
        const MONTHS: [&str; 12] =
            ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        if self.second.replace(seconds) == Some(seconds) {
            return;
        }
        let (days, second) = (seconds / 86_400, seconds % 86_400);
        let shifted = days + 719_468;
        let era = shifted / 146_097;
        let day_of_era = shifted % 146_097;
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        let year = year_of_era + era * 400 + u64::from(month <= 2);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        let name = MONTHS[month as usize - 1];
        self.date.clear();
        let _ = write!(self.date, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
        self.common.clear();
        let _ = write!(self.common, "{day:02}/{name}/{year:04}:{hour:02}:{minute:02}:{second:02} +0000");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_are_as_the_standard_library_writes_them() {
        for exponent in 0..64 {
            for value in [1_u64 << exponent, (1 << exponent) - 1, 10_u64.pow(exponent % 20)] {
                assert_eq!(written(|out| number(out, value)), value.to_string());
                assert_eq!(written(|out| hex(out, value)), format!("{value:016x}"));
            }
        }
        assert_eq!(written(|out| number(out, u64::MAX)), u64::MAX.to_string());
        assert_eq!(written(|out| fraction(out, 10_000)), "1");
        assert_eq!(written(|out| fraction(out, 25)), "0.0025");
    }

    #[test]
    fn addresses_are_as_the_standard_library_writes_them() {
        for text in
            ["192.0.2.1", "0.0.0.0", "2001:db8::1", "::1", "::", "1::", "a0:0:0:1::2", "1:0:2:3:4:5:6:7"]
        {
            assert_eq!(written(|out| address(out, text.parse().unwrap())), text);
        }
        assert_eq!(written(|out| address(out, "::ffff:192.0.2.1".parse().unwrap())), "192.0.2.1");
        // Every pattern of zero groups; from 16 on, so that none is an IPv4 address in disguise.
        for zeros in 0..=0xffu8 {
            let groups: [u16; 8] =
                std::array::from_fn(|at| if zeros >> at & 1 == 1 { 0 } else { 0x1f << at });
            let six = IpAddr::from(groups);
            if !six.to_canonical().is_ipv4() {
                assert_eq!(written(|out| address(out, six)), std::net::Ipv6Addr::from(groups).to_string());
            }
        }
    }

    #[test]
    fn a_line_stays_a_line() {
        assert_eq!(written(|out| text(out, b"/a\"b\\c\nd\xff")), r"/a\x22b\x5cc\x0ad\xff");
        assert_eq!(written(|out| json(out, b"/a\"b\\c\nd\xff\x7f")), r"/a\u0022b\u005cc\u000ad\u00ff\u007f");
        assert_eq!(written(|out| json(out, b"/plain?a=b~")), "/plain?a=b~");
        assert_eq!(written(|out| quoted(out, "Köln \"a\"")), r#""Köln \u0022a\u0022""#);
    }

    #[test]
    fn a_time_is_a_date() {
        let mut calendar = Calendar::default();
        for (seconds, date, common) in [
            (0, "1970-01-01T00:00:00.007Z", "01/Jan/1970:00:00:00 +0000"),
            (951_782_399, "2000-02-28T23:59:59.007Z", "28/Feb/2000:23:59:59 +0000"),
            (951_782_400, "2000-02-29T00:00:00.007Z", "29/Feb/2000:00:00:00 +0000"),
            (4_107_542_400, "2100-03-01T00:00:00.007Z", "01/Mar/2100:00:00:00 +0000"),
        ] {
            let since = Duration::from_secs(seconds) + Duration::from_millis(7);
            assert_eq!(written(|out| calendar.write(out, since)), date);
            assert_eq!(written(|out| calendar.write_common(out, since)), common);
        }
    }
}
