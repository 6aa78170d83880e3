//! Moments as people write them: RFC 3339, such as `2026-12-01T06:00:00Z` or `2026-12-01T07:00:00+01:00`.

use std::fmt;
use std::time::SystemTime;

use toml::value::{Datetime, Offset};

use super::value::Refused;

/// A moment, to the second, from 1970 to 9999.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment {
    /// Seconds since 1970, in UTC.
    pub unix_s: u64,
}

const EXPECTED: &str =
    "a moment with its offset such as \"2026-12-01T06:00:00Z\" or \"2026-12-01T07:00:00+01:00\"";

const DAY_S: i64 = 24 * 3600;

impl Moment {
    /// Reads one. A moment without an offset is nobody's: nodes need not have one time zone.
    ///
    /// # Errors
    /// Anything else; what lacks only the offset is proposed with `Z`.
    pub fn parse(text: &str) -> Result<Moment, Refused> {
        let refused = |meant: Option<String>| Err(Refused { expected: EXPECTED.to_owned(), meant });
        let Ok(Datetime { date: Some(date), time, offset }) = text.parse::<Datetime>() else {
            return refused(None);
        };
        let (Some(time), Some(offset)) = (time, offset) else {
            let meant = if time.is_none() { format!("{text}T00:00:00Z") } else { format!("{text}Z") };
            return refused(Some(meant));
        };
        let offset_s = match offset {
            Offset::Z => 0,
            Offset::Custom { minutes } => i64::from(minutes) * 60,
        };
        let days = days_from_civil(i64::from(date.year), i64::from(date.month), i64::from(date.day));
        let second = time.second.unwrap_or_default();
        let of_day_s = i64::from(time.hour) * 3600 + i64::from(time.minute) * 60 + i64::from(second);
        match u64::try_from(days * DAY_S + of_day_s - offset_s) {
            Ok(unix_s) => Ok(Moment { unix_s }),
            Err(_) => refused(None),
        }
    }

    /// That of the system's clock.
    pub fn now() -> Moment {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Moment { unix_s: since.unwrap_or_default().as_secs() }
    }

    /// As a person needs it who knows what day it is: `12:30 UTC`, and with the date if that is another day.
    pub fn seen_from(self, now: Moment) -> String {
        let text = self.to_string();
        let (date, time) = (&text[..10], &text[11..16]);
        match self.unix_s / DAY_S as u64 == now.unix_s / DAY_S as u64 {
            true => format!("{time} UTC"),
            false => format!("{date} {time} UTC"),
        }
    }
}

impl fmt::Display for Moment {
    /// In UTC, as RFC 3339 has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (day, second) = (self.unix_s as i64 / DAY_S, self.unix_s as i64 % DAY_S);
        let (year, month, date) = civil_from_days(day);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{date:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

/// Days since 1970 of a date ("chrono-Compatible Low-Level Date Algorithms", Hinnant, 2013).
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Year, month and day of a day since 1970, by the same source.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn moments_are_read_and_written() {
        for (text, unix_s, written) in [
            ("1970-01-01T00:00:00Z", 0, "1970-01-01T00:00:00Z"),
            ("2000-02-29T00:00:00Z", 951_782_400, "2000-02-29T00:00:00Z"),
            ("2026-12-01T06:00:00Z", 1_796_104_800, "2026-12-01T06:00:00Z"),
            ("2026-12-01T07:00:00+01:00", 1_796_104_800, "2026-12-01T06:00:00Z"),
            ("2026-12-01 00:30:00.75-05:30", 1_796_104_800, "2026-12-01T06:00:00Z"),
            ("2100-03-01t00:00:00z", 4_107_542_400, "2100-03-01T00:00:00Z"),
            ("9999-12-31T23:59:59Z", 253_402_300_799, "9999-12-31T23:59:59Z"),
        ] {
            let moment = Moment::parse(text).unwrap_or_else(|why| panic!("{text}: {why:?}"));
            assert_eq!((moment.unix_s, moment.to_string().as_str()), (unix_s, written), "{text}");
        }
        for (text, meant) in [
            ("2026-12-01T06:00:00", Some("2026-12-01T06:00:00Z")),
            ("2026-12-01", Some("2026-12-01T00:00:00Z")),
            ("1969-12-31T23:59:59Z", None),
            ("06:00:00", None),
            ("2026-02-30T06:00:00Z", None),
            ("2026-12-01T24:00:00Z", None),
            ("tomorrow", None),
            ("", None),
            ("30m", None),
        ] {
            let refused = Moment::parse(text).expect_err(text);
            assert_eq!(refused.meant.as_deref(), meant, "{text}");
        }
    }

    #[test]
    fn another_day_has_its_date() {
        let now = Moment::parse("2026-11-29T10:00:00Z").unwrap();
        let later = |s| Moment { unix_s: now.unix_s + s }.seen_from(now);
        assert_eq!([later(1800), later(86_400)], ["10:30 UTC", "2026-11-30 10:00 UTC"]);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(unix_s in 0_u64..253_402_300_800) {
            let moment = Moment { unix_s };
            prop_assert_eq!(Moment::parse(&moment.to_string()), Ok(moment));
        }

        #[test]
        fn nothing_written_by_hand_ends_us(text in "[0-9TZz:+. -]{0,30}") {
            let _ = Moment::parse(&text);
        }
    }
}
