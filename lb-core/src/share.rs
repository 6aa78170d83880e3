//! Shares in steps of 0.01 %.

use std::fmt;
use std::str::FromStr;

/// A part of all sessions, in steps of 0.01 %: the unit in which a split counts.
///
/// ```
/// let share: lb_core::Share = "2.5%".parse().unwrap();
/// assert_eq!(share.hundredths(), 250);
/// assert_eq!(share.to_string(), "2.5 %");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Share(u16);

/// A text that is not a share; its Display says what was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShareError;

impl fmt::Display for ShareError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "expected a percentage from 0% to 100% with at most two decimals, such as \"2%\" or \"0.01%\"",
        )
    }
}

impl std::error::Error for ShareError {}

impl Share {
    /// Nobody.
    pub const NONE: Share = Share(0);
    /// Everybody.
    pub const ALL: Share = Share(10_000);
    /// Hundredths of a percent in the whole, and so the number of buckets that sessions fall into.
    pub const WHOLE: u16 = 10_000;

    /// A share of so many hundredths of a percent; none above 10,000.
    pub fn from_hundredths(hundredths: u16) -> Option<Share> {
        (hundredths <= Share::WHOLE).then_some(Share(hundredths))
    }

    /// A share of so many percent; everything above 100.
    pub const fn percent(percent: u16) -> Share {
        if percent < 100 { Share(percent * 100) } else { Share::ALL }
    }

    /// In hundredths of a percent, 0 to 10,000.
    pub fn hundredths(self) -> u16 {
        self.0
    }
}

/// Writes hundredths of a percent without needless zeros: `2`, `2.5`, `0.01`.
pub(crate) fn percent(hundredths: u16) -> String {
    let (whole, rest) = (hundredths / 100, hundredths % 100);
    match rest {
        0 => format!("{whole}"),
        _ if rest % 10 == 0 => format!("{whole}.{}", rest / 10),
        _ => format!("{whole}.{rest:02}"),
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", percent(self.0))
    }
}

impl FromStr for Share {
    type Err = ShareError;

    /// Reads `"2%"`, `"2.5 %"`, `"0.01%"`; the sign is required, so that nobody writes 0.1 and means 10 %.
    fn from_str(text: &str) -> Result<Share, ShareError> {
        let number = text.trim().strip_suffix('%').ok_or(ShareError)?.trim_end();
        let (whole, decimals) = number.split_once('.').unwrap_or((number, "0"));
        let digits = |part: &str, most: usize| {
            (1..=most).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
        };
        if !digits(whole, 3) || !digits(decimals, 2) {
            return Err(ShareError);
        }
        let whole: u32 = whole.parse().map_err(|_| ShareError)?;
        let scale = if decimals.len() == 1 { 10 } else { 1 };
        let decimals: u32 = decimals.parse().map_err(|_| ShareError)?;
        let hundredths = u16::try_from(whole * 100 + decimals * scale).map_err(|_| ShareError)?;
        Share::from_hundredths(hundredths).ok_or(ShareError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_prints() {
        for (text, hundredths, printed) in [
            ("0%", 0, "0 %"),
            ("0.01%", 1, "0.01 %"),
            ("0.1%", 10, "0.1 %"),
            ("2 %", 200, "2 %"),
            ("37.41%", 3741, "37.41 %"),
            ("100%", 10_000, "100 %"),
            ("100.00%", 10_000, "100 %"),
        ] {
            let share: Share = text.parse().unwrap();
            assert_eq!((share.hundredths(), share.to_string().as_str()), (hundredths, printed));
        }
        for text in ["", "%", "2", "0.02", "-1%", "+1%", "1.%", ".5%", "1.234%", "100.01%", "999%", "1e1%"] {
            assert_eq!(text.parse::<Share>(), Err(ShareError), "{text}");
        }
    }
}
