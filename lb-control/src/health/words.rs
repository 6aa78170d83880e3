//! Times in a person's words.

use std::time::Duration;

/// `3.2 ms`, `12 s`, `5 min`, `2 h`.
pub(crate) fn time(duration: Duration) -> String {
    let s = duration.as_secs();
    match duration.as_micros() {
        us @ 0..10_000 => format!("{}.{} ms", us / 1000, us % 1000 / 100),
        us @ ..1_000_000 => format!("{} ms", us / 1000),
        us @ ..10_000_000 if us % 1_000_000 >= 100_000 => format!("{s}.{} s", us % 1_000_000 / 100_000),
        _ if s < 120 => format!("{s} s"),
        _ if s < 7200 => format!("{} min", s / 60),
        _ => format!("{} h", s / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (us, text) in [
            (0, "0.0 ms"),
            (3_210, "3.2 ms"),
            (45_678, "45 ms"),
            (1_000_000, "1 s"),
            (1_500_000, "1.5 s"),
            (12_900_000, "12 s"),
            (300_000_000, "5 min"),
            (7_200_000_000, "2 h"),
        ] {
            assert_eq!(time(Duration::from_micros(us)), text);
        }
    }
}
