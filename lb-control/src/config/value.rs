//! Values as people write them: durations, sizes, shares.

use std::time::Duration;

/// Why a value was refused: what was expected there, and what was probably meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// What would have been right, for the label under the value.
    pub expected: String,
    /// The value that was probably meant.
    pub meant: Option<String>,
}

fn refused<T>(expected: &str, meant: Option<String>) -> Result<T, Refused> {
    Err(Refused { expected: expected.to_owned(), meant })
}

/// Digits first, then the unit; `None` unless there are both.
fn split_unit(text: &str) -> Option<(&str, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    (digits > 0).then(|| text.split_at(digits))
}

const DURATION: &str = "a duration such as \"250ms\", \"2s\", \"5m\" or \"1h\"";

/// `250ms`, `2s`, `5m`, `1h`: a whole number and a unit, at most a hundred years.
///
/// # Errors
/// Anything else, with the likely spelling when it can be told.
pub fn duration(text: &str) -> Result<Duration, Refused> {
    const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
    let Some((digits, unit)) = split_unit(text) else {
        let meant = text.parse::<u32>().ok().map(|number| format!("{number}s"));
        return refused(DURATION, meant);
    };
    let scale_ms: u64 = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60 * 1000,
        "h" => 3600 * 1000,
        _ => {
            let unit = match unit.trim().to_lowercase().as_str() {
                "msec" | "msecs" | "millis" | "ms" => "ms",
                "sec" | "secs" | "second" | "seconds" | "s" => "s",
                "min" | "mins" | "minute" | "minutes" => "m",
                "hour" | "hours" | "hr" | "h" => "h",
                "d" | "day" | "days" => {
                    let hours = digits.parse::<u64>().ok().and_then(|days| days.checked_mul(24));
                    return refused(DURATION, hours.map(|hours| format!("{hours}h")));
                }
                _ => return refused(DURATION, None),
            };
            return refused(DURATION, Some(format!("{digits}{unit}")));
        }
    };
    match digits
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(scale_ms))
        .map(Duration::from_millis)
    {
        Some(duration) if duration <= LONGEST => Ok(duration),
        _ => refused("at most a hundred years", None),
    }
}

const SIZE: &str = "a size such as \"512B\", \"64KiB\", \"1MiB\" or \"1GiB\"";

/// `512B`, `64KiB`, `1MiB`, `1GiB`: a whole number and a binary unit.
///
/// # Errors
/// Anything else: decimal units are refused rather than guessed at.
pub fn size(text: &str) -> Result<u64, Refused> {
    let Some((digits, unit)) = split_unit(text) else {
        return refused(SIZE, text.parse::<u64>().ok().map(|number| format!("{number}B")));
    };
    let shift = match unit {
        "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => {
            let meant = match unit.trim().to_lowercase().as_str() {
                "b" => "B",
                "k" | "kb" | "kib" | "ki" => "KiB",
                "m" | "mb" | "mib" | "mi" => "MiB",
                "g" | "gb" | "gib" | "gi" => "GiB",
                _ => return refused(SIZE, None),
            };
            return refused(SIZE, Some(format!("{digits}{meant}")));
        }
    };
    match digits.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift)) {
        Some(bytes) if bytes <= i64::MAX as u64 => Ok(bytes),
        _ => refused("at most 2^63 bytes", None),
    }
}

const SHARE: &str = "a share from \"0%\" to \"100%\" in steps of 0.01, such as \"2%\" or \"0.5%\"";

/// `2%`, `0.01%`: a percentage with at most two decimals, as hundredths of a percent (0 to 10,000).
///
/// # Errors
/// Anything else.
pub fn share(text: &str) -> Result<u16, Refused> {
    let Some(number) = text.strip_suffix('%') else {
        return refused(SHARE, hundredths(text.trim()).ok().map(|_| format!("{}%", text.trim())));
    };
    match hundredths(number) {
        Ok(share) => Ok(share),
        Err(Why::TooFine) => refused("steps of 0.01%: no finer share is kept", None),
        Err(Why::TooMuch) => refused("at most \"100%\"", None),
        Err(Why::Malformed) => {
            refused(SHARE, hundredths(number.trim()).ok().map(|_| format!("{}%", number.trim())))
        }
    }
}

const LOAD: &str = "a percentage above \"100%\" such as \"125%\"";

/// `125%`: a whole percentage of any size.
///
/// # Errors
/// Anything else.
pub fn load(text: &str) -> Result<u32, Refused> {
    let whole =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten();
    match text.strip_suffix('%').and_then(whole) {
        Some(percent) => Ok(percent),
        None => {
            let number = text.trim_end_matches('%').trim();
            refused(LOAD, whole(number).map(|percent: u32| format!("{percent}%")))
        }
    }
}

enum Why {
    Malformed,
    TooFine,
    TooMuch,
}

fn hundredths(number: &str) -> Result<u16, Why> {
    let (whole, decimals) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(decimals) {
        return Err(Why::Malformed);
    }
    let decimals = decimals.trim_end_matches('0');
    if decimals.len() > 2 {
        return Err(Why::TooFine);
    }
    let whole: u16 = whole.parse().map_err(|_| Why::TooMuch)?;
    let fraction: u16 = format!("{decimals:0<2}").parse().map_err(|_| Why::Malformed)?;
    match whole.checked_mul(100).and_then(|whole| whole.checked_add(fraction)) {
        Some(share) if share <= 10_000 => Ok(share),
        _ => Err(Why::TooMuch),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meant<T: std::fmt::Debug>(result: Result<T, Refused>) -> Option<String> {
        result.expect_err("refused").meant
    }

    #[test]
    fn durations() {
        for (text, ms) in [("0s", 0), ("250ms", 250), ("2s", 2000), ("5m", 300_000), ("1h", 3_600_000)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        assert_eq!(meant(duration("2 sec")).as_deref(), Some("2s"));
        assert_eq!(meant(duration("30")).as_deref(), Some("30s"));
        assert_eq!(meant(duration("3d")).as_deref(), Some("72h"));
        for text in ["", "s", "-1s", "1.5s", "1s2", "99999999999999999999s", "18446744073709551615h", "2µs"]
        {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in
            [("0B", 0), ("512B", 512), ("64KiB", 65536), ("1MiB", 1 << 20), ("2GiB", 2 << 30)]
        {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        assert_eq!(meant(size("64kb")).as_deref(), Some("64KiB"));
        assert_eq!(meant(size("100")).as_deref(), Some("100B"));
        for text in ["", "KiB", "1TiB2", "18446744073709551615GiB", "-1B", "1.5MiB"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn loads() {
        for (text, percent) in [("125%", 125), ("100%", 100), ("1000%", 1000), ("0%", 0)] {
            assert_eq!(load(text), Ok(percent), "{text}");
        }
        assert_eq!(meant(load("125")).as_deref(), Some("125%"));
        assert_eq!(meant(load("125 %")).as_deref(), Some("125%"));
        for text in ["", "%", "1.25", "12.5%", "-1%", "+125%", "99999999999%"] {
            assert!(load(text).is_err(), "{text}");
        }
    }

    #[test]
    fn shares() {
        for (text, hundredths) in [
            ("0%", 0),
            ("0.01%", 1),
            ("0.5%", 50),
            ("2%", 200),
            ("37.41%", 3741),
            ("2.00%", 200),
            ("100%", 10_000),
        ] {
            assert_eq!(share(text), Ok(hundredths), "{text}");
        }
        assert_eq!(meant(share("2")).as_deref(), Some("2%"));
        assert_eq!(meant(share("2 %")).as_deref(), Some("2%"));
        for text in ["", "%", ".5%", "5.%", "0.005%", "100.01%", "101%", "70000%", "-1%", "1e1%", "2%%"] {
            assert!(share(text).is_err(), "{text}");
        }
        assert!(share("0.005%").expect_err("too fine").expected.contains("0.01%"));
    }
}
