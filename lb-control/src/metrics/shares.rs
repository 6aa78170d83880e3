//! Which share each arm of a split has really served of late.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::workers::ArmReading;

/// How far back it is looked, at most.
pub(crate) const WINDOW: Duration = Duration::from_secs(60);

/// How often counts are noted.
pub(crate) const STEP: Duration = Duration::from_secs(10);

/// Notes kept.
const NOTES_MAX: usize = (WINDOW.as_secs() / STEP.as_secs()) as usize;

/// Exchanges that ended so far, by route, arm and backend.
type Note = HashMap<(String, &'static str, String), u64>;

/// Counts of the last minute, one note for every ten seconds.
#[derive(Debug, Default)]
pub(crate) struct ServedShares(Mutex<VecDeque<Note>>);

fn key(arm: &ArmReading) -> (String, &'static str, String) {
    (arm.route.to_string(), arm.arm, arm.backend.to_string())
}

impl ServedShares {
    /// Notes how many exchanges have ended until now.
    pub(super) fn note(&self, arms: &[ArmReading]) {
        let splits = arms.iter().filter(|arm| !arm.arm.is_empty());
        let note = splits.map(|arm| (key(arm), arm.exchanges.ended())).collect();
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if notes.len() == NOTES_MAX {
            notes.pop_front();
        }
        notes.push_back(note);
    }

    /// The share of its route's exchanges that each arm has served since the oldest note, by the place of the arm;
    /// none where the route had no exchange, or has no other arm.
    pub(crate) fn served(&self, arms: &[ArmReading]) -> Vec<Option<f64>> {
        let notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = |arm: &ArmReading| notes.front().and_then(|note| note.get(&key(arm))).copied();
        // An arm that is not in the note began later, or anew, and then has fewer than it had.
        let since = |arm: &ArmReading| {
            let ended = arm.exchanges.ended();
            ended - before(arm).filter(|before| *before <= ended).unwrap_or(0)
        };
        let mut by_route: HashMap<&str, (u64, usize)> = HashMap::new();
        for arm in arms.iter().filter(|arm| !arm.arm.is_empty()) {
            let (exchanges, arms) = by_route.entry(&arm.route).or_default();
            *exchanges += since(arm);
            *arms += 1;
        }
        let share = |arm: &ArmReading| match by_route.get(&*arm.route) {
            Some((exchanges @ 1.., 2..)) if !arm.arm.is_empty() => {
                Some(since(arm) as f64 / *exchanges as f64)
            }
            _ => None,
        };
        arms.iter().map(share).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workers::ExchangeNumbers;

    fn arm(route: &str, arm: &'static str, ended: u64) -> ArmReading {
        let exchanges = ExchangeNumbers { requests: vec![(200, ended)], ..ExchangeNumbers::default() };
        ArmReading { route: route.into(), arm, backend: arm.into(), exchanges }
    }

    #[test]
    fn shares_are_of_the_last_minute() {
        let shares = ServedShares::default();
        let at = |stable, canary| {
            [
                arm("", "", 9),
                arm("shop", "stable", stable),
                arm("shop", "canary", canary),
                arm("all", "stable", 5),
            ]
        };
        assert_eq!(shares.served(&at(0, 0)), [None; 4]);
        assert_eq!(shares.served(&at(90, 10)), [None, Some(0.9), Some(0.1), None], "since the start");
        for _ in 0..NOTES_MAX + 2 {
            shares.note(&at(1000, 0));
        }
        shares.note(&at(1010, 10));
        assert_eq!(shares.served(&at(1020, 20)), [None, Some(0.5), Some(0.5), None]);
        // The canary ended and began anew.
        assert_eq!(shares.served(&at(1003, 1)), [None, Some(0.75), Some(0.25), None]);
        for _ in 0..NOTES_MAX {
            shares.note(&at(2000, 20));
        }
        assert_eq!(shares.served(&at(2000, 20)), [None; 4], "nothing came in the last minute");
    }
}
