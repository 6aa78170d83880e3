//! Notices when an arm's response times or failures jump: the last ten seconds against the five minutes before, and a
//! canary against the stable arm of its route in the same seconds.
//!
//! Pure: [`Watch::take`] is handed what was read, once a second, and says what has begun and ended. The tests are in
//! [`evidence`], the memory in [`history`]. Each arm is compared with itself or with the other arm of its own route,
//! and only how times are distributed counts, not how many there are: neither shares nor a changed mix of routes matter.
//!
//! What answers without a server, and what has no route, is compared with nothing; it has its history for who asks what
//! came lately.
//!
//! Bounds: [`ARMS_MAX`] arms are watched, each in at most [`history::BYTES_MAX`] bytes.

pub mod evidence;
pub mod history;
pub(crate) mod keeping;
#[cfg(test)]
mod tests;
pub mod times;

use std::collections::HashMap;
use std::sync::Arc;

use self::evidence::{Numbers, Part, Verdict};
use self::history::{Came, History, SECONDS};
use self::times::Times;
use crate::workers::ArmReading;

/// Arms that are watched at most; further ones are not, which is logged.
pub const ARMS_MAX: usize = 1000;

/// Calm seconds after which a jump is over.
pub const CALM_SECONDS: u32 = 10;

/// Spans of seconds that are compared with what is usual: the ten, and the newest five, which show it sooner.
const SPANS: [usize; 2] = [5, SECONDS];

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Of {
    /// Times as the clients saw them.
    Exchange,
    /// Times as the servers gave them, from the connection to the response head.
    Wait,
    /// Statuses of 500 and above.
    Failures,
}

impl Of {
    /// All of them.
    pub const ALL: [Of; 3] = [Of::Exchange, Of::Wait, Of::Failures];

    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Of::Exchange => "exchange",
            Of::Wait => "wait",
            Of::Failures => "failures",
        }
    }
}

/// With what it is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Against {
    /// The same arm in the minutes before.
    Before,
    /// The route's stable arm in the same seconds.
    Stable,
}

impl Against {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Against::Before => "before",
            Against::Stable => "stable",
        }
    }
}

/// Which arm: route, arm and backend by name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Arm {
    /// Its route.
    pub route: Arc<str>,
    /// `stable` or `canary`.
    pub arm: &'static str,
    /// The backend that it leads to.
    pub backend: Arc<str>,
}

impl Arm {
    /// The arm of a reading.
    pub fn of(reading: &ArmReading) -> Arm {
        Arm { route: Arc::clone(&reading.route), arm: reading.arm, backend: Arc::clone(&reading.backend) }
    }

    /// Whether it is watched: arms that are told apart and lead somewhere.
    pub fn is_watched(&self) -> bool {
        !self.route.is_empty() && !self.arm.is_empty()
    }
}

/// One comparison of an arm, as it stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Comparison {
    /// What is compared.
    pub of: Of,
    /// With what.
    pub against: Against,
    /// What it comes to. A jump stays one until it has been calm for [`CALM_SECONDS`].
    pub verdict: Verdict,
    /// Seconds since it jumped.
    pub seconds: u32,
    calm: u32,
}

impl Comparison {
    fn new(of: Of, against: Against) -> Comparison {
        Comparison { of, against, verdict: Verdict::Unknown, seconds: 0, calm: 0 }
    }

    /// Whether it has jumped.
    pub fn jumped(&self) -> bool {
        matches!(self.verdict, Verdict::Jumped(_))
    }

    /// Takes a new verdict; whether it has begun or ended by that.
    fn turn(&mut self, found: Verdict) -> bool {
        let was = self.jumped();
        match found {
            Verdict::Jumped(_) => (self.verdict, self.calm) = (found, 0),
            _ if was && self.calm + 1 < CALM_SECONDS => self.calm += 1,
            _ => (self.verdict, self.calm) = (found, 0),
        }
        self.seconds = if self.jumped() && was { self.seconds.saturating_add(1) } else { 0 };
        was != self.jumped()
    }
}

/// Something began or ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Where.
    pub arm: Arm,
    /// What, as it is now.
    pub comparison: Comparison,
    /// By which numbers it had jumped, or has.
    pub numbers: Numbers,
}

#[derive(Debug, Default)]
struct Watched {
    history: History,
    comparisons: Vec<Comparison>,
}

impl Watched {
    fn usual_now(&self) -> bool {
        !self.comparisons.iter().any(|it| it.against == Against::Before && it.jumped())
    }
}

/// The watch over all arms.
#[derive(Debug, Default)]
pub struct Watch {
    arms: HashMap<Arm, Watched>,
    /// Seconds since slots were closed.
    seconds: usize,
    /// Arms of the last reading that were too many.
    pub unwatched: usize,
}

impl Watch {
    /// Takes what was read, which is to be done once a second, and says what has begun or ended.
    pub fn take(&mut self, readings: &[ArmReading]) -> Vec<Change> {
        let mut readings: Vec<(Arm, &ArmReading)> =
            readings.iter().map(|reading| (Arm::of(reading), reading)).collect();
        // If there are too many, those that have something to be compared with have the places.
        readings.sort_by_key(|(arm, _)| !arm.is_watched());
        self.unwatched = 0;
        self.seconds = (self.seconds + 1) % SECONDS;
        let close = self.seconds == 0;
        let mut left = std::mem::take(&mut self.arms);
        for (arm, reading) in readings {
            if self.arms.len() == ARMS_MAX {
                self.unwatched += usize::from(arm.is_watched());
                continue;
            }
            let watched = match left.remove(&arm) {
                Some(mut known) => {
                    let usual = known.usual_now();
                    known.history.take(&reading.exchanges, usual, close);
                    known
                }
                None => Watched { history: History::new(&reading.exchanges), comparisons: comparisons(&arm) },
            };
            self.arms.insert(arm, watched);
        }
        self.compare()
    }

    fn compare(&mut self) -> Vec<Change> {
        let mut found: Vec<(Arm, Vec<Verdict>)> = Vec::with_capacity(self.arms.len());
        for (arm, watched) in self.arms.iter().filter(|(arm, _)| arm.is_watched()) {
            let usual = watched.history.usual();
            let stable = if arm.arm == "stable" { None } else { self.stable(&arm.route) };
            let verdict = |it: &Comparison| match it.against {
                Against::Before => against_before(&watched.history, usual.as_ref(), it.of),
                Against::Stable => stable.map_or(Verdict::Unknown, |stable| {
                    against_stable(&watched.history, &stable.history, it.of)
                }),
            };
            found.push((arm.clone(), watched.comparisons.iter().map(verdict).collect()));
        }
        found.sort_by(|left, right| left.0.cmp(&right.0));
        let mut changes = Vec::new();
        for (arm, verdicts) in found {
            let Some(watched) = self.arms.get_mut(&arm) else { continue };
            for (comparison, verdict) in watched.comparisons.iter_mut().zip(verdicts) {
                let before = comparison.verdict;
                if comparison.turn(verdict) {
                    let numbers = match (before, comparison.verdict) {
                        (_, Verdict::Jumped(numbers)) | (Verdict::Jumped(numbers), _) => numbers,
                        _ => Numbers::default(),
                    };
                    changes.push(Change { arm: arm.clone(), comparison: *comparison, numbers });
                }
            }
        }
        changes
    }

    /// The stable arm of a route; of several, because it was led elsewhere, the one that serves.
    fn stable(&self, route: &str) -> Option<&Watched> {
        let of_route = self.arms.iter().filter(|(arm, _)| arm.arm == "stable" && *arm.route == *route);
        let ended =
            |watched: &Watched| watched.history.newest(SECONDS).iter().map(|it| it.ended()).sum::<u64>();
        of_route.map(|(_, watched)| watched).max_by_key(|watched| ended(watched))
    }

    /// How an arm stands; nothing if it cannot be watched.
    pub fn comparisons(&self, arm: &Arm) -> Vec<Comparison> {
        // Otherwise it was not seen yet, or is one too many.
        self.arms.get(arm).map_or_else(|| comparisons(arm), |watched| watched.comparisons.clone())
    }

    /// What came of an arm within the last ten seconds, and in how many of them; none if it is one too many, or new.
    pub fn lately(&self, arm: &Arm) -> Option<(Came, usize)> {
        let history = &self.arms.get(arm)?.history;
        let mut sum = Came::default();
        let seconds = history.newest(SECONDS);
        seconds.iter().for_each(|came| sum.merge(came));
        Some((sum, seconds.len()))
    }

    /// All arms that are compared, in order.
    pub fn arms(&self) -> Vec<&Arm> {
        let mut arms: Vec<&Arm> = self.arms.keys().filter(|arm| arm.is_watched()).collect();
        arms.sort();
        arms
    }

    /// Bytes that the histories take.
    pub fn bytes(&self) -> usize {
        self.arms.values().map(|watched| watched.history.bytes()).sum()
    }
}

fn comparisons(arm: &Arm) -> Vec<Comparison> {
    let against: &[Against] = match arm.arm {
        _ if !arm.is_watched() => &[],
        "stable" => &[Against::Before],
        _ => &[Against::Before, Against::Stable],
    };
    against.iter().flat_map(|against| Of::ALL.map(|of| Comparison::new(of, *against))).collect()
}

fn against_before(history: &History, usual: Option<&Came>, of: Of) -> Verdict {
    let Some(usual) = usual else { return Verdict::Unknown };
    worst(SPANS.map(|seconds| compare(&history.newest(seconds), usual, of)))
}

fn against_stable(canary: &History, stable: &History, of: Of) -> Verdict {
    let short = beside(&canary.newest(SECONDS), &stable.newest(SECONDS), of);
    // A canary of two percent has too few exchanges in ten seconds.
    worst([short, beside(&canary.minute(), &stable.minute(), of)])
}

/// A jump if one is, else the last that knows anything.
fn worst(verdicts: [Verdict; 2]) -> Verdict {
    let jumped = verdicts.iter().find(|it| matches!(it, Verdict::Jumped(_)));
    let known = verdicts.iter().rfind(|it| matches!(it, Verdict::Calm(_)));
    jumped.or(known).copied().unwrap_or(Verdict::Unknown)
}

fn compare(parts: &[&Came], usual: &Came, of: Of) -> Verdict {
    let times = |of: fn(&Came) -> &Times| {
        let parts: Vec<&Times> = parts.iter().map(|part| of(part)).collect();
        evidence::longer(&parts, of(usual))
    };
    match of {
        Of::Exchange => times(|came| &came.exchange),
        Of::Wait => times(|came| &came.wait),
        Of::Failures => {
            let parts: Vec<Part> = parts.iter().map(|part| part.failures()).collect();
            evidence::more(&parts, usual.failures())
        }
    }
}

/// Compares what came in the same seconds; of an arm that is younger, only since it is there.
fn beside(canary: &[&Came], stable: &[&Came], of: Of) -> Verdict {
    let pairs = || canary.iter().zip(stable);
    let times = |of: fn(&Came) -> &Times| {
        let pairs: Vec<(&Times, &Times)> = pairs().map(|(canary, stable)| (of(canary), of(stable))).collect();
        evidence::longer_beside(&pairs)
    };
    match of {
        Of::Exchange => times(|came| &came.exchange),
        Of::Wait => times(|came| &came.wait),
        Of::Failures => {
            let pairs: Vec<(Part, Part)> =
                pairs().map(|(canary, stable)| (canary.failures(), stable.failures())).collect();
            evidence::more_beside(&pairs)
        }
    }
}
