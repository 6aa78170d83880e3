//! `decide` with a recorder.

use crate::cursors::Cursors;
use crate::decide::{Verdict, decide};
use crate::live::Table;
use crate::view::{Fields, RequestView};
use std::fmt;
use std::time::Duration;

/// Why a request goes where it goes.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// What `decide` said.
    pub verdict: Verdict,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.verdict)
    }
}

/// Decides, and says why.
pub fn explain<F: Fields + ?Sized>(
    table: &Table,
    cursors: &Cursors,
    view: &RequestView<'_, F>,
    now: Duration,
    random: u128,
) -> Explanation {
    Explanation { verdict: decide(table, cursors, view, now, random) }
}
