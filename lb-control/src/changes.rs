//! The latest changes of what is served, with their times: for a person who asks "since when".
//!
//! Whoever changes something, or finds out that something has, notes it here; `/stats` shows them and `lb top` with it.
//! The log has the same events with all their numbers; this ring is what a screen has room for.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

/// Changes that are kept; the oldest goes when another comes.
pub const CHANGES_MAX: usize = 200;

/// Bytes of a subject and of the words about it; what is longer is cut.
pub const WORDS_BYTES_MAX: usize = 400;

/// Of what kind a change is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// We started.
    Start,
    /// A configuration was taken, or refused.
    Reload,
    /// A canary began or ended, or has another share or release.
    Share,
    /// A server went up or down.
    Health,
    /// A server is to leave, or nothing is left on one that is.
    Admin,
    /// Times or failures of an arm jumped, or are as usual again.
    Jump,
    /// A name stands for other addresses than before.
    Addresses,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 7] =
        [Kind::Start, Kind::Reload, Kind::Share, Kind::Health, Kind::Admin, Kind::Jump, Kind::Addresses];

    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Start => "start",
            Kind::Reload => "reload",
            Kind::Share => "share",
            Kind::Health => "health",
            Kind::Admin => "admin",
            Kind::Jump => "jump",
            Kind::Addresses => "addresses",
        }
    }
}

/// Something that has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Of what kind.
    pub kind: Kind,
    /// Whether it is for the worse: down, refused, jumped.
    pub worse: bool,
    /// What has changed: `backend/server`, `route/arm`, a backend; a configuration's short hash.
    pub subject: String,
    /// How, in a few words that can stand after the subject: `down (connect)`.
    pub words: String,
}

/// A change that was noted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Noted {
    /// Counted from 1 since the start, so that a reader knows what it has missed.
    pub number: u64,
    /// When it was noted.
    pub at: SystemTime,
    /// What.
    pub change: Change,
}

/// The latest changes, at most [`CHANGES_MAX`]. Every thread of control may note and read; no call blocks for longer
/// than it takes to copy them.
#[derive(Debug, Default)]
pub struct Changes(Mutex<Ring>);

#[derive(Debug, Default)]
struct Ring {
    noted: VecDeque<Noted>,
    /// Changes noted so far.
    count: u64,
}

impl Changes {
    /// Notes a change that has just come.
    pub fn note(&self, mut change: Change) {
        cut(&mut change.subject);
        cut(&mut change.words);
        let mut ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if ring.noted.len() == CHANGES_MAX {
            ring.noted.pop_front();
        }
        ring.count += 1;
        let number = ring.count;
        ring.noted.push_back(Noted { number, at: SystemTime::now(), change });
    }

    /// Those that are kept, the newest first.
    pub fn newest(&self) -> Vec<Noted> {
        let ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ring.noted.iter().rev().cloned().collect()
    }
}

/// Cuts a text to [`WORDS_BYTES_MAX`], with a sign that it was.
fn cut(text: &mut String) {
    if text.len() > WORDS_BYTES_MAX {
        let sign = "…";
        let end = (0..=WORDS_BYTES_MAX - sign.len()).rfind(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push_str(sign);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(words: &str) -> Change {
        Change { kind: Kind::Health, worse: true, subject: "app/a".to_owned(), words: words.to_owned() }
    }

    #[test]
    fn the_newest_are_kept() {
        let changes = Changes::default();
        (1..=CHANGES_MAX + 2).for_each(|number| changes.note(change(&number.to_string())));
        let newest = changes.newest();
        assert_eq!(newest.len(), CHANGES_MAX);
        let ends = [&newest[0], &newest[CHANGES_MAX - 1]];
        assert_eq!(ends.map(|it| (it.number, it.change.words.as_str())), [(202, "202"), (3, "3")]);
        assert!(newest[0].at >= newest[CHANGES_MAX - 1].at);
    }

    #[test]
    fn words_are_bounded() {
        let changes = Changes::default();
        changes.note(change(&"ä".repeat(WORDS_BYTES_MAX)));
        changes.note(change(&"a".repeat(WORDS_BYTES_MAX)));
        let newest = changes.newest();
        assert_eq!(newest[0].change.words, "a".repeat(WORDS_BYTES_MAX));
        let cut = &newest[1].change.words;
        assert!(cut.len() <= WORDS_BYTES_MAX && cut.ends_with("ä…"), "{} bytes", cut.len());
    }
}
