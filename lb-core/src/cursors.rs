//! Positions in round robin orders.

use crate::hash::mix;
use crate::live::Table;
use crate::snapshot::BackendIndex;

/// Positions in round robin orders: the caller's, one set per worker. They belong to places, not to names, so
/// they need no care when a table is replaced: at worst a turn is taken twice.
#[derive(Clone, Debug, Default)]
pub struct Cursors {
    seed: u64,
    positions: Vec<u32>,
}

impl Cursors {
    /// Cursors that start anywhere: workers with different seeds do not all begin with the same server.
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

    /// Where the cursor of a backend stands; to be read modulo its order's length.
    pub(crate) fn position(&self, backend: BackendIndex) -> u32 {
        let place = backend.0 as usize;
        self.positions.get(place).copied().unwrap_or_else(|| start(self.seed, place))
    }

    pub(crate) fn set_position(&mut self, backend: BackendIndex, position: u32) {
        let place = backend.0 as usize;
        while self.positions.len() <= place {
            self.positions.push(start(self.seed, self.positions.len()));
        }
        self.positions[place] = position;
    }
}

/// Where a cursor starts. Seed 0 starts at the top, for those who test.
fn start(seed: u64, place: usize) -> u32 {
    if seed == 0 { 0 } else { (mix(seed ^ mix(place as u64)) >> 32) as u32 }
}
