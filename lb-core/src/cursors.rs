//! Positions in round robin orders.

use crate::hash::mix;
use crate::live::Table;
use crate::pick::Rank;
use crate::snapshot::BackendIndex;

/// Positions in round robin orders: the caller's, one set per worker. They belong to places, not to names, so
/// they need no care when a table is replaced: at worst a turn is taken twice.
#[derive(Clone, Debug, Default)]
pub struct Cursors {
    seed: u64,
    /// Of each backend, one for each rank of its servers: orders that share a position would disturb each other.
    positions: Vec<[u32; Rank::COUNT]>,
}

impl Cursors {
    /// Cursors that start anywhere: workers with different seeds do not all begin with the same server. With seed 0, as
    /// by default, they start at the top of each order, for tests.
    pub fn new(seed: u64) -> Cursors {
        Cursors { seed, positions: Vec::new() }
    }

    /// Makes room for all backends of a table, so that taking allocates nothing. Without it the first take
    /// in a backend may.
    pub fn fit(&mut self, table: &Table) {
        let (backends, seed) = (table.snapshot.backends().len(), self.seed);
        let known = self.positions.len();
        self.positions.extend((known..backends).map(|place| start(seed, place)));
        self.positions.truncate(backends);
    }

    /// Where the cursor in an order stands; to be read modulo the order's length.
    pub(crate) fn position(&self, backend: BackendIndex, rank: Rank) -> u32 {
        let place = backend.0 as usize;
        let positions = self.positions.get(place).copied().unwrap_or_else(|| start(self.seed, place));
        positions[rank as usize]
    }

    pub(crate) fn set_position(&mut self, backend: BackendIndex, rank: Rank, position: u32) {
        let place = backend.0 as usize;
        while self.positions.len() <= place {
            self.positions.push(start(self.seed, self.positions.len()));
        }
        self.positions[place][rank as usize] = position;
    }
}

/// Where cursors start. Seed 0 starts at the top, for those who test.
fn start(seed: u64, place: usize) -> [u32; Rank::COUNT] {
    let mut bits = if seed == 0 { 0 } else { seed ^ mix(place as u64) };
    std::array::from_fn(|_| {
        bits = mix(bits);
        (bits >> 32) as u32
    })
}
