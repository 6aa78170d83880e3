//! Numbers as a person reads them, in few columns.

/// What is not known.
pub(super) const UNKNOWN: &str = "-";

/// A time in seconds as `0.4ms`, `12ms`, `1.2s`, `48s`, `12m`: three digits at most.
pub(super) fn time(seconds: f64) -> String {
    let ms = seconds * 1e3;
    match seconds {
        _ if ms < 9.95 => format!("{ms:.1}ms"),
        _ if ms < 999.5 => format!("{ms:.0}ms"),
        _ if seconds < 9.95 => format!("{seconds:.1}s"),
        _ if seconds < 599.5 => format!("{seconds:.0}s"),
        _ => format!("{:.0}m", seconds / 60.0),
    }
}

/// How long ago, or for how long: `12s`, `7m`, `3h`, `12d`; whole ones, rounded down.
pub(super) fn age(seconds: f64) -> String {
    let whole = seconds.max(0.0) as u64;
    match whole {
        0..120 => format!("{whole}s"),
        120..7_200 => format!("{}m", whole / 60),
        7_200..172_800 => format!("{}h", whole / 3_600),
        _ => format!("{}d", whole / 86_400),
    }
}

/// A rate per second: `0.4`, `81`, `12.3k`.
pub(super) fn rate(per_second: f64) -> String {
    match per_second {
        0.0 => "0".to_owned(),
        rate if rate < 9.95 => format!("{rate:.1}"),
        rate if rate < 9_999.5 => format!("{rate:.0}"),
        rate if rate < 999_950.0 => format!("{:.1}k", rate / 1e3),
        rate => format!("{:.1}M", rate / 1e6),
    }
}

/// A share as `0 %`, `0.3 %`, `97.5 %`, `100 %`. Something is never shown as nothing, nor as all.
pub(super) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    match percent {
        0.0 => "0%".to_owned(),
        percent if percent < 0.1 => "<0.1%".to_owned(),
        percent if percent >= 100.0 => "100%".to_owned(),
        percent if percent > 99.9 => ">99.9%".to_owned(),
        percent => format!("{percent:.1}%"),
    }
}

/// A share that was written in steps of 0.01 %.
pub(super) fn share(share: f64) -> String {
    let text = format!("{:.2}", share * 100.0);
    format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
}

/// A count: `12`, `12.3k`.
pub(super) fn count(count: u64) -> String {
    if count < 10_000 { count.to_string() } else { rate(count as f64) }
}

/// A number that may not be known.
pub(super) fn or_unknown<T>(value: Option<T>, text: impl Fn(T) -> String) -> String {
    value.map_or_else(|| UNKNOWN.to_owned(), text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let times = [0.0, 0.000_44, 0.009_94, 0.009_96, 0.9994, 0.9996, 9.94, 9.96, 599.4, 600.0, 7200.0];
        let words =
            ["0.0ms", "0.4ms", "9.9ms", "10ms", "999ms", "1.0s", "9.9s", "10s", "599s", "10m", "120m"];
        assert_eq!(times.map(time), words);
        let ages = [-3.0, 0.9, 119.9, 120.0, 7199.0, 7200.0, 172_799.0, 172_800.0, 9e6];
        assert_eq!(ages.map(age), ["0s", "0s", "119s", "2m", "119m", "2h", "47h", "2d", "104d"]);
        let rates = [0.0, 0.04, 9.94, 9.96, 812.4, 9999.0, 12_345.0, 999_949.0, 1.5e6];
        assert_eq!(rates.map(rate), ["0", "0.0", "9.9", "10", "812", "9999", "12.3k", "999.9k", "1.5M"]);
        let shares = [0.0, 0.0001, 0.001, 0.5, 0.9999, 1.0];
        assert_eq!(shares.map(percent), ["0%", "<0.1%", "0.1%", "50.0%", ">99.9%", "100%"]);
        assert_eq!([0.0, 0.0001, 0.025, 0.1, 1.0].map(share), ["0%", "0.01%", "2.5%", "10%", "100%"]);
        assert_eq!([0, 9_999, 10_000].map(count), ["0", "9999", "10.0k"]);
        assert_eq!(or_unknown(None, time), "-");
    }
}
