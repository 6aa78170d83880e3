//! Who owes what, on all routes: one table of fixed size that all threads share, without a lock.
//!
//! A client has a cell in the set that its hash says, and its debt is a time in it; once that has passed it owes nothing,
//! and the cell is as good as vacant. A client without a cell takes, of its set, the one whose time is first: one that is
//! vacant, else of whoever owes nothing for longest, else of who owes least. So many sources at once can neither grow the
//! table nor free one that owes much: it would take as many others of its set, which a secret key decides, that owe more.
//! What goes wrong under such a flood is that some who owe little are forgotten ([`Debts::forgotten`] counts them), and
//! begin anew. (Keeping the heaviest of a stream in little memory: Metwally, Agrawal and El Abbadi, "Efficient computation of
//! frequent and top-k elements in data streams", 2005. There the newcomer inherits what the other had; here it would be
//! refused for what others did.)
//!
//! All accesses are relaxed: a cell is two numbers that say nothing about other memory. Charges to one client add up
//! exactly. In the instant in which a cell changes hands a request may be charged to the wrong one of two clients, or a
//! client may have two cells, of which the first is the one that counts from then on: an error of one request each time.

use super::Pace;
use crate::defaults::RATE_CLIENTS;
use crate::live::Now;
use crate::sync::{AtomicU64, Relaxed};

/// Cells of a set: two cache lines, which processors fetch together.
const WAYS: usize = if cfg!(lb_model) { 2 } else { 8 };
/// A power of two.
const SETS: usize = if cfg!(lb_model) { 1 } else { RATE_CLIENTS / WAYS };
/// How often a cell is tried to be had. Who is outrun so often is let through uncharged.
const TRIES_MAX: usize = 8;

/// A client on a route, hashed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token {
    /// Decides the set.
    set_bits: usize,
    /// Not 0.
    tag: u64,
}

impl From<u128> for Token {
    fn from(hash: u128) -> Token {
        Token { set_bits: (hash >> 64) as usize, tag: (hash as u64).max(1) }
    }
}

#[derive(Debug, Default)]
struct Cell {
    /// 0: it is vacant.
    tag: AtomicU64,
    until_ns: AtomicU64,
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct Set([Cell; WAYS]);

/// On lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Count(AtomicU64);

/// What clients owe, on all routes.
#[derive(Debug)]
pub(crate) struct Debts {
    sets: Box<[Set]>,
    forgotten: Count,
}

impl Default for Debts {
    fn default() -> Debts {
        Debts { sets: (0..SETS).map(|_| Set::default()).collect(), forgotten: Count::default() }
    }
}

/// A client's cell, or the one to be had for it.
enum Found<'a> {
    Own(&'a Cell),
    Other { cell: &'a Cell, tag: u64, until_ns: u64 },
}

impl Set {
    fn find(&self, tag: u64) -> Found<'_> {
        let mut first = (u64::MAX, &self.0[0], 0);
        for cell in &self.0 {
            let other = cell.tag.load(Relaxed);
            if other == tag {
                return Found::Own(cell);
            }
            // One that was just taken has not been charged yet: the vacant ones come before it.
            let until_ns = if other == 0 { 0 } else { cell.until_ns.load(Relaxed).max(1) };
            if until_ns < first.0 {
                first = (until_ns, cell, other);
            }
        }
        let (until_ns, cell, tag) = first;
        Found::Other { cell, tag, until_ns }
    }
}

impl Cell {
    /// Each failed exchange is a charge of another thread's, so there are no more of them than the burst allows.
    fn charge(&self, pace: Pace, now: Now) -> Result<(), u64> {
        let mut until_ns = self.until_ns.load(Relaxed);
        loop {
            let charged = pace.charge(until_ns, now);
            let next_ns = match charged {
                Ok(next_ns) => next_ns,
                // A debt that was cut to this rate stays cut, or it would be cut forever.
                Err(_) => pace.capped(until_ns, now),
            };
            if next_ns == until_ns {
                return charged.map(drop);
            }
            match self.until_ns.compare_exchange_weak(until_ns, next_ns, Relaxed, Relaxed) {
                Ok(_) => return charged.map(drop),
                Err(other_ns) => until_ns = other_ns,
            }
        }
    }
}

impl Debts {
    fn set(&self, token: Token) -> &Set {
        &self.sets[token.set_bits & (self.sets.len() - 1)]
    }

    /// Charges a request.
    ///
    /// # Errors
    /// How long it has to wait before it may be made, in nanoseconds.
    pub(super) fn charge(&self, token: Token, pace: Pace, now: Now) -> Result<(), u64> {
        for _ in 0..TRIES_MAX {
            let (cell, tag, until_ns) = match self.set(token).find(token.tag) {
                Found::Own(cell) => return cell.charge(pace, now),
                Found::Other { cell, tag, until_ns } => (cell, tag, until_ns),
            };
            // Whoever was quicker may have taken it for the same client.
            if cell.tag.compare_exchange(tag, token.tag, Relaxed, Relaxed).is_ok() {
                if until_ns > now.0 {
                    self.forgotten.0.fetch_add(1, Relaxed);
                    // If it has changed, somebody else is charging already.
                    let _ = cell.until_ns.compare_exchange(until_ns, now.0, Relaxed, Relaxed);
                }
                return cell.charge(pace, now);
            }
        }
        Ok(())
    }

    /// Until when a client owes; 0 if nothing is known of it.
    pub(super) fn owed_until_ns(&self, token: Token) -> u64 {
        match self.set(token).find(token.tag) {
            Found::Own(cell) => cell.until_ns.load(Relaxed),
            Found::Other { .. } => 0,
        }
    }

    /// How many owe something, of [`RATE_CLIENTS`] at most. Looks at every cell.
    pub(crate) fn owing(&self, now: Now) -> u64 {
        let owes = |cell: &&Cell| cell.until_ns.load(Relaxed) > now.0;
        self.sets.iter().map(|set| set.0.iter().filter(owes).count() as u64).sum()
    }

    /// How often one that owed something was forgotten, because too many others owed more.
    pub(crate) fn forgotten(&self) -> u64 {
        self.forgotten.0.load(Relaxed)
    }
}
