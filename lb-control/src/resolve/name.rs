//! One name: what its answers say, and when it is asked next. No clock and no sockets: time comes in.
//!
//! ```text
//!            begin            answered (good)
//! due ───────────────► asking ──────────────► resting for the TTL ──► due
//!                        │  failed
//!                        └──────────────────► resting for the backoff ──► due
//! ```
//!
//! A failure changes nothing but the time of the next question: what the last good answer said stays.
//!
//! *Parts.* A name with many addresses may be answered with a few of them at a time (round robin DNS, load balancers of
//! clouds, service catalogues). If every such answer were taken for the whole, servers would come and go with each. So
//! an address that comes back after some answers without it is remembered as a return; with [`RETURNS`] answers with
//! returns among the last [`PARTS_ANSWERS`] the answers are taken for parts, and an address counts as long as it was in
//! one of the last [`PARTS_ANSWERS`] answers or within [`PARTS_TIME`]. One deployment that is taken back is a single
//! return, and changes nothing.

use std::time::{Duration, Instant};

use super::{ADDRESSES_MAX, Answer, Failure, Gap, Target};

/// Answers that are looked back on. With answers of 8 out of 20 addresses, one that is alive is in none of the last 10
/// less than once in 150 times.
pub const PARTS_ANSWERS: u32 = 10;

/// Where answers are parts, an address counts at least so long after it was last seen: with a short TTL, 10 answers go by
/// quickly.
pub const PARTS_TIME: Duration = Duration::from_secs(120);

/// Answers with returning addresses, among the last [`PARTS_ANSWERS`], by which answers are known as parts.
pub const RETURNS: u32 = 3;

/// How long after a first failure a name is asked again; twice as long after each further one.
pub const RETRY_FIRST: Duration = Duration::from_millis(500);

/// How long it takes at most, unless the TTL is shorter.
pub const RETRY_MAX: Duration = Duration::from_secs(10);

/// Of its TTL, in percent, by how much later at most a name is asked: so that names that were asked together do not stay
/// together.
pub const JITTER_PERCENT: u64 = 10;

/// Between what a TTL is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ttl {
    /// At least.
    pub min: Duration,
    /// At most.
    pub max: Duration,
}

/// The state of one name.
#[derive(Debug, Clone)]
pub(crate) struct Name {
    /// Addresses of the last good answer and of some before it.
    seen: Vec<Seen>,
    /// Good answers so far.
    answers: u64,
    /// One bit for each of the last [`PARTS_ANSWERS`] good answers, the last in the lowest: did an address come back?
    returns: u32,
    /// The address that came first in the last good answer.
    first: Option<Target>,
    asking: bool,
    next: Instant,
    last_good: Option<Good>,
    failures: u32,
    failure: Option<Failure>,
    gap: Option<Gap>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    target: Target,
    /// In which answer it was last.
    answer: u64,
    /// When that came.
    at: Instant,
}

/// When the last good answer came, and how long it is relied on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Good {
    pub at: Instant,
    pub ttl: Duration,
}

impl Name {
    /// A name that nobody has asked for. It is due.
    pub(crate) fn new(now: Instant) -> Name {
        Name {
            seen: Vec::new(),
            answers: 0,
            returns: 0,
            first: None,
            asking: false,
            next: now,
            last_good: None,
            failures: 0,
            failure: None,
            gap: None,
        }
    }

    /// When it is to be asked; `None` while it is being asked.
    pub(crate) fn due(&self) -> Option<Instant> {
        (!self.asking).then_some(self.next)
    }

    /// It is being asked.
    pub(crate) fn begin(&mut self) {
        self.asking = true;
    }

    /// Whoever asked will not tell what came of it.
    pub(crate) fn give_up(&mut self) {
        self.asking = false;
    }

    /// Has it to be asked at once, whatever the last answer said? So when other name servers are asked from now on.
    pub(crate) fn ask_soon(&mut self, now: Instant) {
        self.next = self.next.min(now);
    }

    /// Takes up an answer. `random` spreads the next question.
    pub(crate) fn answered(&mut self, answer: Answer, ttl: Ttl, now: Instant, random: u64) {
        let Answer { mut targets, ttl: wanted, gap } = answer;
        self.first = targets.first().copied().or(self.first);
        let previous = self.answers;
        self.answers += 1;
        self.bound(&mut targets);
        let mut returned = false;
        for target in targets {
            match self.seen.iter_mut().find(|seen| seen.target.address == target.address) {
                Some(seen) => {
                    returned |= seen.answer != previous;
                    *seen = Seen { target, answer: self.answers, at: now };
                }
                None => self.seen.push(Seen { target, answer: self.answers, at: now }),
            }
        }
        if let Some(Gap { part, .. }) = &gap {
            for seen in &mut self.seen {
                if seen.answer == previous && part.covers(&seen.target) {
                    seen.answer = self.answers;
                }
            }
        }
        self.returns = (self.returns << 1 | u32::from(returned)) & ((1 << PARTS_ANSWERS) - 1);
        self.forget(now);
        let kept = wanted.clamp(ttl.min, ttl.max);
        self.rest(kept, now, random);
        self.last_good = Some(Good { at: now, ttl: kept });
        (self.failures, self.failure, self.gap) = (0, None, gap);
    }

    /// Takes up that there is no answer. What is known stays, and the name is asked again sooner.
    pub(crate) fn failed(&mut self, failure: Failure, ttl: Ttl, now: Instant, random: u64) {
        let most = self.last_good.map_or(ttl.max, |good| good.ttl).min(RETRY_MAX);
        let backoff = RETRY_FIRST.saturating_mul(1 << self.failures.min(16)).min(most);
        self.failures = self.failures.saturating_add(1);
        self.failure = Some(failure);
        self.rest(backoff, now, random);
    }

    fn rest(&mut self, time: Duration, now: Instant, random: u64) {
        let permille = (random % (JITTER_PERCENT * 10 + 1)) as u32;
        self.asking = false;
        self.next = now + time + time * permille / 1000;
    }

    /// Of too large an answer, those that are known stay; of the others the lowest are taken, so that their order means
    /// nothing.
    fn bound(&self, targets: &mut Vec<Target>) {
        targets.sort();
        targets.dedup_by_key(|target| target.address);
        if targets.len() > ADDRESSES_MAX {
            let is_known = |target: &Target| self.seen.iter().any(|it| it.target.address == target.address);
            targets.sort_by_key(|target| !is_known(target));
            targets.truncate(ADDRESSES_MAX);
        }
    }

    /// Forgets what was not seen for so long that it is no evidence of anything.
    fn forget(&mut self, now: Instant) {
        let (answers, parts) = (self.answers, self.is_in_parts());
        self.seen.retain(|seen| {
            let recent = answers - seen.answer < u64::from(PARTS_ANSWERS);
            recent || parts && now.saturating_duration_since(seen.at) < PARTS_TIME
        });
        if self.seen.len() > ADDRESSES_MAX {
            self.seen.sort_by_key(|seen| (std::cmp::Reverse(seen.answer), seen.target));
            self.seen.truncate(ADDRESSES_MAX);
        }
    }

    /// Whether answers are known to be parts of what the name stands for.
    pub(crate) fn is_in_parts(&self) -> bool {
        self.returns.count_ones() >= RETURNS
    }

    /// The addresses that it stands for, in order of the addresses. Empty until there was a good answer.
    pub(crate) fn present(&self) -> Vec<Target> {
        let parts = self.is_in_parts();
        let present = self.seen.iter().filter(|seen| parts || seen.answer == self.answers);
        let mut present: Vec<Target> = present.map(|seen| seen.target).collect();
        present.sort();
        present
    }

    /// The address that came first in the last good answer.
    pub(crate) fn first(&self) -> Option<Target> {
        self.first
    }

    /// When there was a good answer last, and how long it is relied on.
    pub(crate) fn last_good(&self) -> Option<Good> {
        self.last_good
    }

    /// Failures since then, and the last one's reason.
    pub(crate) fn failing(&self) -> Option<(u32, &Failure)> {
        self.failure.as_ref().map(|failure| (self.failures, failure))
    }

    /// What the last good answer did not tell.
    pub(crate) fn gap(&self) -> Option<&Gap> {
        self.gap.as_ref()
    }

    /// Whether asking has come to an end at least once, well or not.
    pub(crate) fn was_asked(&self) -> bool {
        self.last_good.is_some() || self.failure.is_some()
    }
}
