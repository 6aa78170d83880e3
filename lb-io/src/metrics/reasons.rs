//! Counts of exchanges that we ended ourselves, by reason word.
//!
//! As with statuses, a listener tells all words apart and a route those that tell something about its servers and
//! clients; the many ways in which a head can be malformed are one there. Counting looks the word up among a few,
//! which only refused requests pay.

use std::sync::OnceLock;

use crate::counters::Counter;
use crate::reason::{self, Reason};

/// The words that a route's arm tells apart. What is refused before it has an arm is counted for none.
const EXACT: [&str; 23] = [
    reason::CLIENT_LEFT.word,
    reason::CLIENT_STALLED.word,
    reason::HEAD_TIMEOUT.word,
    reason::BODY_TIMEOUT.word,
    reason::BODY_SLOW.word,
    reason::BODY_TOO_LARGE.word,
    reason::CONNECT_FAILED.word,
    reason::CONNECT_TIMEOUT.word,
    reason::SERVER_CLOSED.word,
    reason::RESPONSE_CUT.word,
    reason::RESPONSE_HEAD_TOO_LARGE.word,
    reason::TOO_MANY_INTERIM.word,
    reason::RESPONSE_TIMEOUT.word,
    reason::QUEUE_FULL.word,
    reason::QUEUE_TIMEOUT.word,
    reason::OVERLOADED.word,
    reason::CLASS_FULL.word,
    reason::STOPPED.word,
    // Those of the core, as `RefusalReason::word` has them.
    "no_route",
    "bad_path",
    "no_server",
    "arm_down",
    "rate_limited",
];

/// For all other words: what the request, the response, and neither of them was guilty of.
const OTHERS: [&str; 3] = ["bad_request", "bad_response", "other"];

/// Most different words that a series tells apart.
pub const REASONS_MAX: usize = EXACT.len() + OTHERS.len();

/// Counts of the usual words; the others by whose fault it was.
#[derive(Debug)]
pub struct Reasons([Counter; REASONS_MAX]);

impl Default for Reasons {
    fn default() -> Reasons {
        Reasons(std::array::from_fn(|_| Counter::default()))
    }
}

impl Reasons {
    /// Counts one. Only the owning worker may.
    pub fn count(&self, reason: Reason) {
        let other = match reason.status {
            400..=499 => 0,
            502 => 1,
            _ => 2,
        };
        let place = EXACT.iter().position(|word| *word == reason.word);
        self.0[place.unwrap_or(EXACT.len() + other)].add(1);
    }

    /// All counters, in the order of [`word_at`].
    pub fn counters(&self) -> &[Counter] {
        &self.0
    }
}

/// The word that is counted at a place of [`Reasons::counters`].
pub fn word_at(place: usize) -> &'static str {
    EXACT.get(place).copied().unwrap_or_else(|| OTHERS[place - EXACT.len()])
}

/// Words that a listener tells apart at most. There are fewer in the whole program; further ones would be counted
/// as `other`.
pub const ALL_REASONS_MAX: usize = 128;

/// Counts of all words, each in a place of its own from the first time on.
#[derive(Debug)]
pub struct AllReasons {
    words: Box<[(OnceLock<&'static str>, Counter)]>,
    others: Counter,
}

impl Default for AllReasons {
    fn default() -> AllReasons {
        let words = (0..ALL_REASONS_MAX).map(|_| (OnceLock::new(), Counter::default()));
        AllReasons { words: words.collect(), others: Counter::default() }
    }
}

impl AllReasons {
    /// Counts one. Only the owning worker may.
    pub fn count(&self, word: &'static str) {
        // Only this thread gives places away, so one that is free stays free until it takes it.
        let place = self.words.iter().find(|(known, _)| *known.get_or_init(|| word) == word);
        place.map_or(&self.others, |(_, count)| count).add(1);
    }

    /// Words seen so far, with how often.
    pub fn seen(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let words = self.words.iter().map_while(|(word, count)| Some((*word.get()?, count.get())));
        words.chain(Some((OTHERS[2], self.others.get())).filter(|(_, count)| *count > 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lb_core::RefusalReason;

    #[test]
    fn a_reason_of_the_engine_is_told_apart() {
        let source = include_str!("../reason.rs");
        let constants = source.lines().filter_map(|line| line.strip_prefix("pub const ")).map(|line| {
            let word = line.split('"').nth(1).expect("the word stands on the line of its constant");
            assert!(EXACT.contains(&word), "{word}: add it to the words that a route tells apart");
        });
        assert!(constants.count() >= 14);
        let of_the_core: Vec<&str> = RefusalReason::ALL.iter().map(|reason| reason.word()).collect();
        let known = EXACT.iter().filter(|word| of_the_core.contains(word));
        assert_eq!(known.count(), 5, "words of the core have changed: {of_the_core:?}");
    }

    #[test]
    fn words_are_counted_for_themselves_or_by_fault() {
        let reasons = Reasons::default();
        let of = |status, word| reasons.count(Reason::of_request(status, word));
        reasons.count(reason::CONNECT_FAILED);
        of(400, "bare_line_feed");
        of(400, "folding");
        of(502, "conflicting_length");
        of(503, "a_word_of_tomorrow");
        let seen: Vec<_> = (0..REASONS_MAX).map(|at| (word_at(at), reasons.counters()[at].get())).collect();
        for expected in [("connect_failed", 1), ("bad_request", 2), ("bad_response", 1), ("other", 1)] {
            assert!(seen.contains(&expected), "{expected:?} in {seen:?}");
        }
        assert_eq!(seen.iter().map(|(_, count)| count).sum::<u64>(), 5);
    }

    #[test]
    fn a_listener_knows_all_words_up_to_a_bound() {
        let reasons = AllReasons::default();
        let words: Vec<&'static str> =
            (0..ALL_REASONS_MAX + 2).map(|number| &*format!("word_{number}").leak()).collect();
        words.iter().for_each(|word| reasons.count(word));
        reasons.count(words[0]);
        let seen: Vec<_> = reasons.seen().collect();
        assert_eq!(seen.len(), ALL_REASONS_MAX + 1);
        assert_eq!((seen[0], seen[ALL_REASONS_MAX]), ((words[0], 2), ("other", 2)));
    }
}
