//! Outliers: what traffic itself tells about a server, measured against the backend's other servers.
//!
//! Nothing is asked of the request path: permits count how attempts end ([`ServerCounters`]), and [`look`], called every
//! second or so, judges what has changed since the last time. A server is *ejected* (down, with a reason) for
//! - failures in a row: so many attempts failed, and none since went well;
//! - its share of failures: far more of its attempts failed than of the others';
//! - its latency: its answers take many times as long as the others'.
//!
//! The others' value is the median of those with enough attempts: one more bad server does not hide the first, and where
//! most are bad the cause is probably none of them. An ejection ends by itself; each further one lasts twice as long, up
//! to a bound, until the server has done well for a while. Only a part of the servers is ever out for this, and never
//! the last that can serve. The worst go first.

use crate::defaults::{
    EJECTED_MAX_PERCENT, EJECTION_FIRST, EJECTION_MAX, FORGIVE_AFTER, OUTLIER_FAILURES,
    OUTLIER_LATENCY_FACTOR, OUTLIER_LATENCY_MIN, OUTLIER_LATENCY_SAMPLES, OUTLIER_RATIO_MARGIN_PERCENT,
    OUTLIER_RATIO_SAMPLES, OUTLIER_WINDOW,
};
use crate::live::{ServerCounters, Why};
use crate::share::percent;
use crate::text::duration;
use std::cmp::Reverse;
use std::fmt;
use std::time::Duration;

/// What makes a server an outlier, and what becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutlierSettings {
    /// Failures in a row; `None`: not asked. [`OUTLIER_FAILURES`] by default.
    pub failures_in_row: Option<u32>,
    /// The share of failures; `None`: not asked. Asked by default.
    pub ratio: Option<RatioSettings>,
    /// The latency; `None`: not asked. Asked by default.
    pub latency: Option<LatencySettings>,
    /// Whether a response of 500 and above counts as a failure. Otherwise only attempts without a response do.
    /// `true` by default.
    pub server_errors: bool,
    /// Attempts count for so long at least, and not for twice as long. [`OUTLIER_WINDOW`] by default.
    pub window: Duration,
    /// How long the first ejection lasts; each further one twice as long. [`EJECTION_FIRST`] by default.
    pub ejection_first: Duration,
    /// How long an ejection lasts at most. [`EJECTION_MAX`] by default.
    pub ejection_max: Duration,
    /// After so long without a new one, ejections are forgotten. [`FORGIVE_AFTER`] by default.
    pub forgive_after: Duration,
    /// Of the servers, in percent, so many may be out at once, rounded down; but one always may, if there are two.
    /// [`EJECTED_MAX_PERCENT`] by default.
    pub ejected_max_percent: u32,
}

/// When a share of failures is too high.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RatioSettings {
    /// It is so many points of percent above the others'. [`OUTLIER_RATIO_MARGIN_PERCENT`] by default.
    pub margin_percent: u32,
    /// Attempts that a server must have had in the window to be compared. [`OUTLIER_RATIO_SAMPLES`] by default.
    pub samples_min: u32,
}

/// When a latency is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LatencySettings {
    /// It is so many times the others'. [`OUTLIER_LATENCY_FACTOR`] by default.
    pub factor: u32,
    /// And so long at least, for below it nobody notices. [`OUTLIER_LATENCY_MIN`] by default.
    pub latency_min: Duration,
    /// Responses that a server must have given in the window to be compared. [`OUTLIER_LATENCY_SAMPLES`] by default.
    pub samples_min: u32,
}

impl Default for OutlierSettings {
    fn default() -> OutlierSettings {
        OutlierSettings {
            failures_in_row: Some(OUTLIER_FAILURES),
            ratio: Some(RatioSettings::default()),
            latency: Some(LatencySettings::default()),
            server_errors: true,
            window: OUTLIER_WINDOW,
            ejection_first: EJECTION_FIRST,
            ejection_max: EJECTION_MAX,
            forgive_after: FORGIVE_AFTER,
            ejected_max_percent: EJECTED_MAX_PERCENT,
        }
    }
}

impl Default for RatioSettings {
    fn default() -> RatioSettings {
        RatioSettings { margin_percent: OUTLIER_RATIO_MARGIN_PERCENT, samples_min: OUTLIER_RATIO_SAMPLES }
    }
}

impl Default for LatencySettings {
    fn default() -> LatencySettings {
        LatencySettings {
            factor: OUTLIER_LATENCY_FACTOR,
            latency_min: OUTLIER_LATENCY_MIN,
            samples_min: OUTLIER_LATENCY_SAMPLES,
        }
    }
}

impl OutlierSettings {
    /// How many of `count` servers may be out at once.
    pub fn ejected_max(&self, count: usize) -> usize {
        match self.ejected_max_percent {
            0 => 0,
            percent => (count * percent.min(100) as usize / 100).max(1).min(count.saturating_sub(1)),
        }
    }

    /// How long an ejection lasts that `before` others came before.
    pub fn ejection(&self, before: u32) -> Duration {
        self.ejection_first.saturating_mul(2_u32.saturating_pow(before)).min(self.ejection_max)
    }
}

/// Why a server is ejected. Its Display says it in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Offence {
    /// So many attempts failed in a row.
    InRow {
        /// How many.
        failed: u64,
    },
    /// Far more of its attempts failed than of the others'.
    Ratio {
        /// Its share, in hundredths of a percent.
        failed: u16,
        /// The others'.
        others: u16,
    },
    /// Its answers took many times as long as the others'.
    Latency {
        /// Its mean.
        mean: Duration,
        /// The others'.
        others: Duration,
    },
}

impl Offence {
    /// As it is seen in a server's health.
    pub fn why(&self) -> Why {
        match self {
            Offence::InRow { .. } => Why::FailedInRow,
            Offence::Ratio { .. } => Why::FailedMore,
            Offence::Latency { .. } => Why::Slower,
        }
    }

    /// Greater is worse.
    fn severity(&self) -> (u8, u64) {
        match self {
            Offence::InRow { failed } => (2, *failed),
            Offence::Ratio { failed, others } => (1, u64::from(failed.saturating_sub(*others))),
            Offence::Latency { mean, others } => (0, (mean.as_nanos() / others.as_nanos().max(1)) as u64),
        }
    }
}

impl fmt::Display for Offence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Offence::InRow { failed } => write!(f, "{failed} attempts failed in a row"),
            Offence::Ratio { failed, others } => {
                write!(
                    f,
                    "{} % of its attempts failed, {} % of the others'",
                    percent(*failed),
                    percent(*others)
                )
            }
            Offence::Latency { mean, others } => {
                write!(f, "its answers took {}, the others' {}", duration(*mean), duration(*others))
            }
        }
    }
}

/// That a server is out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ejection {
    /// Why.
    pub offence: Offence,
    /// Since when, on the caller's clock.
    pub since: Duration,
    /// Until when.
    pub until: Duration,
}

/// What is remembered of a server from one look to the next.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Record {
    /// Its counters at the last look.
    seen: ServerCounters,
    /// Failures since something went well.
    in_row: u64,
    /// The window under way, and the one before it.
    windows: [Sums; 2],
    window_since: Duration,
    ejected: Option<Ejection>,
    /// Ejections that are not forgotten.
    offences: u32,
    /// When the last one ended.
    returned: Duration,
}

/// Attempts of one window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sums {
    good: u64,
    failed: u64,
    responded: u64,
    latency: Duration,
}

/// One server in a look.
#[derive(Debug)]
pub struct Member<'a> {
    /// What is remembered of it.
    pub record: &'a mut Record,
    /// Its counters now.
    pub counters: ServerCounters,
    /// Whether it could serve if it were not ejected: it is ready, and its checks say that it is up. What happens
    /// while it could not is not held against it.
    pub can_serve: bool,
}

/// What a look has changed about a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is out.
    Ejected(Ejection),
    /// It is back; what was before is not held against it, but it lengthens a further ejection.
    Returned,
}

impl Record {
    /// Begins to remember a server whose counters stand so: what was before is not judged.
    pub fn new(counters: ServerCounters) -> Record {
        Record { seen: counters, ..Record::default() }
    }

    /// That it is out, if it is.
    pub fn ejection(&self) -> Option<&Ejection> {
        self.ejected.as_ref()
    }

    /// Ejections that are not forgotten: the next one lasts twice as long for each.
    pub fn offences(&self) -> u32 {
        self.offences
    }

    /// Takes up what happened since the last look. Where it does not hold against the server, it is passed over.
    fn take_up(&mut self, counters: ServerCounters, holds: bool, settings: &OutlierSettings, now: Duration) {
        let new = Sums::between(&self.seen, &counters, settings.server_errors);
        self.seen = counters;
        let age = now.saturating_sub(self.window_since);
        if age >= settings.window {
            // After a long pause even the window that was under way is too old.
            let is_old = age / 2 >= settings.window;
            self.windows = [Sums::default(), if is_old { Sums::default() } else { self.windows[0] }];
            self.window_since = now;
        }
        if !holds {
            self.forget();
            return;
        }
        self.in_row = if new.good > 0 { 0 } else { self.in_row.saturating_add(new.failed) };
        self.windows[0].add(&new);
    }

    /// Starts to count anew.
    fn forget(&mut self) {
        self.in_row = 0;
        self.windows = [Sums::default(); 2];
    }

    fn sums(&self) -> Sums {
        let mut sums = self.windows[0];
        sums.add(&self.windows[1]);
        sums
    }
}

impl Sums {
    /// Counters are read one by one while they grow, and another server's are never compared: differences below zero
    /// are none.
    fn between(before: &ServerCounters, now: &ServerCounters, server_errors: bool) -> Sums {
        let class = |class: usize| now.responded[class].saturating_sub(before.responded[class]);
        let responded = (0..6).map(class).sum::<u64>();
        let errors = if server_errors { class(5) } else { 0 };
        let without = now.connect_failed.saturating_sub(before.connect_failed)
            + now.failed.saturating_sub(before.failed);
        Sums {
            good: responded - errors,
            failed: errors + without,
            responded,
            latency: now.latency.saturating_sub(before.latency),
        }
    }

    fn add(&mut self, other: &Sums) {
        self.good += other.good;
        self.failed += other.failed;
        self.responded += other.responded;
        self.latency += other.latency;
    }

    /// The share of failures, in hundredths of a percent, if there are enough attempts.
    fn ratio(&self, samples_min: u32) -> Option<u16> {
        let attempts = self.good + self.failed;
        let enough = attempts > 0 && attempts >= u64::from(samples_min);
        enough.then(|| (u128::from(self.failed) * 10_000 / u128::from(attempts)) as u16)
    }

    fn mean_latency(&self, samples_min: u32) -> Option<Duration> {
        let enough = self.responded > 0 && self.responded >= u64::from(samples_min);
        let mean_ns = self.latency.as_nanos().checked_div(u128::from(self.responded))?;
        enough.then(|| Duration::from_nanos(u64::try_from(mean_ns).unwrap_or(u64::MAX)))
    }
}

/// Judges the servers of one group (a backend's primaries, or its backups) by what happened since the last look.
/// Returns what has changed, each with the server's place in `members`, and leaves the rest in their records.
pub fn look(members: &mut [Member<'_>], settings: &OutlierSettings, now: Duration) -> Vec<(usize, Change)> {
    let mut changes = Vec::new();
    for (place, member) in members.iter_mut().enumerate() {
        let holds = member.can_serve && member.record.ejected.is_none();
        member.record.take_up(member.counters, holds, settings, now);
        let record = &mut *member.record;
        if record.ejected.is_some_and(|ejection| now >= ejection.until) {
            record.ejected = None;
            record.returned = now;
            changes.push((place, Change::Returned));
        } else if record.ejected.is_none() && now.saturating_sub(record.returned) >= settings.forgive_after {
            record.offences = 0;
        }
    }
    let mut offenders = offenders(members, settings);
    offenders.sort_by_key(|(place, offence)| (Reverse(offence.severity()), *place));
    let out = members.iter().filter(|member| member.record.ejected.is_some()).count();
    let can_serve = members.iter().filter(|member| is_judged(member)).count();
    let allowed = settings.ejected_max(members.len()).saturating_sub(out).min(can_serve.saturating_sub(1));
    for (place, offence) in offenders.into_iter().take(allowed) {
        let record = &mut *members[place].record;
        let until = now.saturating_add(settings.ejection(record.offences));
        let ejection = Ejection { offence, since: now, until };
        record.offences = record.offences.saturating_add(1);
        record.ejected = Some(ejection);
        changes.push((place, Change::Ejected(ejection)));
    }
    changes
}

fn is_judged(member: &Member<'_>) -> bool {
    member.can_serve && member.record.ejected.is_none()
}

/// Every server that has done something, with the worst that it has done.
fn offenders(members: &[Member<'_>], settings: &OutlierSettings) -> Vec<(usize, Offence)> {
    let sums: Vec<Option<Sums>> =
        members.iter().map(|member| is_judged(member).then(|| member.record.sums())).collect();
    let ratios = Others::new(&sums, |sums| sums.ratio(settings.ratio?.samples_min));
    let latencies = Others::new(&sums, |sums| sums.mean_latency(settings.latency?.samples_min));
    let judged = members.iter().enumerate().filter(|(_, member)| is_judged(member));
    judged
        .filter_map(|(place, member)| {
            let in_row = settings
                .failures_in_row
                .filter(|failures| member.record.in_row >= u64::from(*failures).max(1))
                .map(|_| Offence::InRow { failed: member.record.in_row });
            let offence = in_row
                .or_else(|| ratio_offence(&ratios, place, &settings.ratio?))
                .or_else(|| latency_offence(&latencies, place, &settings.latency?));
            Some((place, offence?))
        })
        .collect()
}

fn ratio_offence(ratios: &Others<u16>, place: usize, settings: &RatioSettings) -> Option<Offence> {
    let (failed, others) = ratios.above(place)?;
    let is_much = u32::from(failed - others) >= settings.margin_percent.saturating_mul(100);
    is_much.then_some(Offence::Ratio { failed, others })
}

fn latency_offence(
    latencies: &Others<Duration>,
    place: usize,
    settings: &LatencySettings,
) -> Option<Offence> {
    let (mean, others) = latencies.above(place)?;
    let bound = others.saturating_mul(settings.factor).max(settings.latency_min);
    (mean >= bound).then_some(Offence::Latency { mean, others })
}

/// A value of each server that has one, and the median of the others'.
struct Others<T> {
    /// By place.
    own: Vec<Option<T>>,
    sorted: Vec<T>,
}

impl<T: Copy + Ord> Others<T> {
    fn new(sums: &[Option<Sums>], value: impl Fn(&Sums) -> Option<T>) -> Others<T> {
        let own: Vec<Option<T>> = sums.iter().map(|sums| value(sums.as_ref()?)).collect();
        let mut sorted: Vec<T> = own.iter().flatten().copied().collect();
        sorted.sort_unstable();
        Others { own, sorted }
    }

    /// A server's value and the median of the others' (the lower one of two), if it is above it.
    fn above(&self, place: usize) -> Option<(T, T)> {
        let own = self.own[place]?;
        let others = self.sorted.len() - 1;
        // The own value stands behind all that are smaller, so those have the places that they have among the others.
        let middle = others.checked_sub(1)? / 2;
        let smaller = self.sorted.partition_point(|value| *value < own);
        (middle < smaller).then(|| (own, self.sorted[middle]))
    }
}
