//! The trace that an exchange is a part of: W3C Trace Context (Recommendation of 23 November 2021, section 3), with the
//! random flag of its level 2.
//!
//! What was received is read strictly and never passed on as it was: it is continued with an id of our own as the
//! parent, or, if it cannot be read, a trace begins here.

/// What is done about traces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceOptions {
    /// Received traces end here: every request begins one.
    pub restart: bool,
    /// Of the traces that begin here, the share that is marked as sampled, in hundredths of a percent.
    pub share: u16,
    /// Exchanges of sampled traces are recorded for whoever tells a collector.
    pub export: bool,
}

/// Bytes of a `traceparent`.
pub const FIELD_BYTES: usize = 55;

/// Somebody records the trace.
const SAMPLED: u8 = 1;

/// The trace id is random (level 2), so that its low bytes can be sampled by.
const RANDOM: u8 = 2;

/// What a `traceparent` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parent {
    trace: u128,
    span: u64,
    flags: u8,
}

/// An exchange's place in its trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The trace; never 0.
    pub trace: u128,
    /// The exchange; never 0.
    pub id: u64,
    /// What it was caused by; none: the trace begins with it.
    pub parent: Option<u64>,
    flags: u8,
}

impl Parent {
    /// Reads the value of a `traceparent` field. Where there are several, there is none to be believed.
    pub fn parse<'a>(mut values: impl Iterator<Item = &'a [u8]>) -> Option<Parent> {
        let value = values.next()?;
        if values.next().is_some() || value.len() < FIELD_BYTES {
            return None;
        }
        // Section 3.2: version "-" trace-id "-" parent-id "-" trace-flags, in lower case.
        let dashes = [2, 35, 52].iter().all(|at| value[*at] == b'-');
        let version = hex(&value[..2])?;
        let trace = hex(&value[3..35])?;
        let span = hex(&value[36..52])? as u64;
        let flags = hex(&value[53..55])? as u8;
        // Section 3.2.2.1: version 255 is invalid. Section 4.3: of a later version, what is like this one is read, if
        // more follows only after a dash.
        let ends = match version {
            0 => value.len() == FIELD_BYTES,
            255 => false,
            _ => value.get(FIELD_BYTES).is_none_or(|byte| *byte == b'-'),
        };
        // Sections 3.2.2.3 and 3.2.2.4: all zeros are invalid.
        (dashes && ends && trace != 0 && span != 0).then_some(Parent {
            trace,
            span,
            flags: flags & (SAMPLED | RANDOM),
        })
    }
}

impl Span {
    /// The place of an exchange: in the trace of `parent`, or in one that begins here. `random` makes the ids; `sampled`
    /// is asked for a trace that begins here.
    pub fn begin(parent: Option<Parent>, random: [u128; 2], sampled: impl FnOnce() -> bool) -> Span {
        let id = (random[1] as u64).max(1);
        match parent {
            Some(Parent { trace, span, flags }) => Span { trace, id, parent: Some(span), flags },
            None => {
                let flags = RANDOM | if sampled() { SAMPLED } else { 0 };
                Span { trace: random[0].max(1), id, parent: None, flags }
            }
        }
    }

    /// Whether somebody records the trace.
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The flags of its `traceparent`.
    pub fn flags(&self) -> u8 {
        self.flags
    }

    /// The `traceparent` for the server: ours, of version 00 (section 4.3: a later version is passed on as the version
    /// that is understood).
    pub fn field(&self) -> [u8; FIELD_BYTES] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut out = *b"00-00000000000000000000000000000000-0000000000000000-00";
        let mut write = |from: usize, bytes: &[u8]| {
            for (pair, byte) in out[from..].chunks_exact_mut(2).zip(bytes) {
                pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
            }
        };
        write(3, &self.trace.to_be_bytes());
        write(36, &self.id.to_be_bytes());
        write(53, &[self.flags]);
        out
    }
}

/// Lower-case hexadecimal digits, at most 32 of them.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(value: &str) -> Option<Parent> {
        Parent::parse([value.as_bytes()].into_iter())
    }

    /// The examples of sections 3.2.3 and 4.3, and what the working group's test suite sends.
    #[test]
    fn only_what_the_recommendation_allows_is_read() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let read = parse(good).unwrap();
        assert_eq!(read.trace, 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c);
        assert_eq!((read.span, read.flags), (0xb7ad_6b71_6920_3331, 1));
        let twice = [good.as_bytes(), good.as_bytes()];
        assert_eq!(Parent::parse(twice.into_iter()), None);
        assert_eq!(Parent::parse(std::iter::empty()), None);
        for later in [
            "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what-the-future-brings",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-fd",
        ] {
            assert_eq!(parse(later), Some(read), "{later}");
        }
        for bad in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01.",
            "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01.what",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "0-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01xx",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-B7AD6B7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0A",
            "00-0af7651916cd43dd8448eb211c80319g-b7ad6b7169203331-01",
            "00_0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331_01",
            "00-ab7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01x",
            "+0-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_trace_goes_on_or_begins() {
        let parent = parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        let on = Span::begin(parent, [7, 0x1f], || unreachable!("it was decided by who began it"));
        assert_eq!((on.parent, on.is_sampled()), (Some(0xb7ad_6b71_6920_3331), true));
        assert_eq!(&on.field(), b"00-0af7651916cd43dd8448eb211c80319c-000000000000001f-01");
        for (sampled, field) in [
            (false, b"00-00000000000000000000000000000007-0000000000000001-02"),
            (true, b"00-00000000000000000000000000000007-0000000000000001-03"),
        ] {
            let begun = Span::begin(None, [7, 1 << 64], || sampled);
            assert_eq!((begun.parent, begun.is_sampled(), &begun.field()), (None, sampled, field));
            let again = Parent::parse([&begun.field()[..]].into_iter()).unwrap();
            assert_eq!((again.trace, again.span, again.flags), (begun.trace, begun.id, begun.flags));
        }
        assert_ne!(Span::begin(None, [0, 0], || true).trace, 0);
    }
}
