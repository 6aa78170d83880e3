//! Health: what checks say about a server, as a table without a clock.
//!
//! Whoever checks servers calls [`Check::step`] with each result; it gives the next state, what picks are to see, and
//! when the next check is due. Nothing is sent, waited for or remembered beside the state. What traffic itself tells
//! about a server is judged by [`outlier`](crate::outlier); [`Monitor`] joins both for all servers of a table.
//!
//! | state | good check | bad check | an attempt failed | maintenance | out of maintenance |
//! |---|---|---|---|---|---|
//! | [`Resting`](State::Resting) | – | – | – | – | Unknown |
//! | [`Unknown`](State::Unknown) | Up | Down ¹ | – | Resting | – |
//! | [`Up`](State::Up) | Up | one more bad; at `fall` Down | in doubt | Resting | – |
//! | [`Down`](State::Down) | one more good; at `rise` Up | Down, none good | – | Resting | – |
//!
//! ¹ Where a server is used before its first check ([`Initial::Up`]) the first bad check counts like one of a server
//! that is up.
//!
//! The first good check of all brings a server up at once: `rise` asks for more only of one that was down. Checks come
//! faster while the next results decide: of a server that is up, after a bad check or a failed attempt until a good
//! check; of one that is down, after a good check until a bad one.

mod monitor;

pub use monitor::{Monitor, News, Notice, Standing, Watching};

use crate::defaults::{CHECK_FALL, CHECK_FAST_INTERVAL, CHECK_INTERVAL, CHECK_JITTER_PERCENT, CHECK_RISE};
use crate::live::{Health, Why};
use crate::spec::Admin;
use std::time::Duration;

/// How a backend's servers are checked, as far as their state goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckSettings {
    /// Time between two checks of a server; [`CHECK_INTERVAL`] by default.
    pub interval: Duration,
    /// Time between two checks while the next results decide; not used where it is longer than `interval`.
    /// [`CHECK_FAST_INTERVAL`] by default.
    pub fast_interval: Duration,
    /// Good checks in a row that bring a server up that was down; 0 counts as 1. [`CHECK_RISE`] by default.
    pub rise: u32,
    /// Bad checks in a row that take a server down that was up; 0 counts as 1. [`CHECK_FALL`] by default.
    pub fall: u32,
    /// What a server is before its first check; [`Initial::Down`] by default.
    pub initial: Initial,
}

impl Default for CheckSettings {
    fn default() -> CheckSettings {
        CheckSettings {
            interval: CHECK_INTERVAL,
            fast_interval: CHECK_FAST_INTERVAL,
            rise: CHECK_RISE,
            fall: CHECK_FALL,
            initial: Initial::default(),
        }
    }
}

/// What a server is before its first check, and again after maintenance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Initial {
    /// Not used (the default).
    #[default]
    Down,
    /// Used.
    Up,
}

/// What can be wrong with a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// It could not connect.
    Connect,
    /// It got no answer in time.
    Timeout,
    /// It got a wrong answer.
    Answer,
}

impl From<Fault> for Why {
    fn from(fault: Fault) -> Why {
        match fault {
            Fault::Connect => Why::Connect,
            Fault::Timeout => Why::Timeout,
            Fault::Answer => Why::Answer,
        }
    }
}

/// What happens to a server that is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// A check got what it expected.
    Good,
    /// A check did not.
    Bad(Fault),
    /// An attempt of traffic failed: no verdict, but a reason to ask soon.
    AttemptFailed,
    /// People said something; in maintenance nothing is checked.
    Admin(Admin),
}

/// Where a server stands with its checks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum State {
    /// In maintenance: not checked.
    Resting,
    /// No check has come to an end yet.
    #[default]
    Unknown,
    /// It answers.
    Up {
        /// Bad checks in a row, fewer than `fall`.
        bad: u32,
        /// Whether an attempt has failed since the last good check.
        doubted: bool,
    },
    /// It does not.
    Down {
        /// What was wrong with the last bad check.
        fault: Fault,
        /// Good checks in a row since, fewer than `rise`.
        good: u32,
    },
}

/// A server's checks so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Check {
    /// Where it stands.
    pub state: State,
    /// Since when, on the caller's clock, it is up, down, unknown or resting.
    pub since: Duration,
}

/// What follows from an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Effects {
    /// What the checks say now.
    pub health: Health,
    /// The next check is due so much later at the latest, before jitter: sooner than it was, where an attempt failed.
    /// `None`: the event changes nothing about when, or there is to be none.
    pub next: Option<Duration>,
}

impl Check {
    /// A server that is checked from `now` on. Its first check is due at once.
    pub fn new(admin: Admin, now: Duration) -> Check {
        let state = if admin == Admin::Maintenance { State::Resting } else { State::Unknown };
        Check { state, since: now }
    }

    /// What the checks so far say.
    pub fn health(&self, settings: &CheckSettings) -> Health {
        match (self.state, settings.initial) {
            (State::Up { .. }, _) | (State::Unknown, Initial::Up) => Health::Up,
            // A server that rests is not used anyway; when it leaves maintenance it must not be for a moment.
            (State::Resting | State::Unknown, _) => Health::Down(Why::Unchecked),
            (State::Down { fault, .. }, _) => Health::Down(fault.into()),
        }
    }

    /// Whether a check has come to an end, or none will.
    pub fn is_decided(&self) -> bool {
        self.state != State::Unknown
    }

    /// What becomes of a server by an event. A result of a check that began before maintenance is ignored in it.
    #[must_use]
    pub fn step(self, event: Event, settings: &CheckSettings, now: Duration) -> (Check, Effects) {
        let state = self.state.after(event, settings);
        let since = if state.is_like(self.state) { self.since } else { now };
        let next = match event {
            Event::Good | Event::Bad(_) => state.pace(settings),
            Event::AttemptFailed if state != self.state => state.pace(settings),
            Event::Admin(_) if state != self.state && state == State::Unknown => Some(Duration::ZERO),
            Event::AttemptFailed | Event::Admin(_) => None,
        };
        let check = Check { state, since };
        (check, Effects { health: check.health(settings), next })
    }
}

impl State {
    fn after(self, event: Event, settings: &CheckSettings) -> State {
        const UP: State = State::Up { bad: 0, doubted: false };
        match (self, event) {
            (State::Resting, Event::Admin(Admin::Maintenance)) => State::Resting,
            (State::Resting, Event::Admin(_)) => State::Unknown,
            (_, Event::Admin(Admin::Maintenance)) => State::Resting,
            (state, Event::Admin(_)) | (state @ State::Resting, _) => state,

            (State::Unknown | State::Up { .. }, Event::Good) => UP,
            (State::Down { fault, good }, Event::Good) => match good.saturating_add(1) {
                good if good >= settings.rise => UP,
                good => State::Down { fault, good },
            },

            (State::Unknown, Event::Bad(_)) if settings.initial == Initial::Up => UP.after(event, settings),
            (State::Up { bad, doubted }, Event::Bad(fault)) => match bad.saturating_add(1) {
                bad if bad >= settings.fall => State::Down { fault, good: 0 },
                bad => State::Up { bad, doubted },
            },
            (State::Unknown | State::Down { .. }, Event::Bad(fault)) => State::Down { fault, good: 0 },

            (State::Up { bad, .. }, Event::AttemptFailed) => State::Up { bad, doubted: true },
            (state, Event::AttemptFailed) => state,
        }
    }

    /// Whether it is the same in the eyes of those who ask since when.
    fn is_like(self, other: State) -> bool {
        std::mem::discriminant(&self) == std::mem::discriminant(&other)
    }

    /// When the next check is due.
    fn pace(self, settings: &CheckSettings) -> Option<Duration> {
        let fast = settings.fast_interval.min(settings.interval);
        match self {
            State::Resting => None,
            State::Up { bad: 0, doubted: false } | State::Down { good: 0, .. } => Some(settings.interval),
            State::Unknown | State::Up { .. } | State::Down { .. } => Some(fast),
        }
    }
}

/// A time with jitter: [`CHECK_JITTER_PERCENT`] more or less, by 64 random bits, so that checks of many servers (and
/// from many nodes) do not stay in step.
pub fn jittered(time: Duration, random: u64) -> Duration {
    let most = time / 100 * CHECK_JITTER_PERCENT;
    let part = most.as_secs_f64() * 2.0 * (random as f64 / u64::MAX as f64);
    (time - most).saturating_add(Duration::try_from_secs_f64(part).unwrap_or(most))
}
