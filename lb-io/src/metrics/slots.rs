//! Places for series: the same place on every worker, given by name, given back when nobody writes there any more.
//!
//! A place is a number, so that an exchange under way can keep it in four bytes and nothing is counted or locked
//! to keep it alive. What keeps it is that it is in use: see [`Slots::retire`].

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use super::series::Series;

/// Series that lie together, so that memory is asked for in few pieces.
const PER_CHUNK: usize = 16;

/// A worker's series of one kind, by place.
#[derive(Debug)]
pub struct Chunks<S>(Vec<Arc<[S]>>);

impl<S> Clone for Chunks<S> {
    fn clone(&self) -> Self {
        Chunks(self.0.clone())
    }
}

impl<S> Chunks<S> {
    /// The series at a place.
    ///
    /// # Panics
    /// If the place was never given.
    pub fn at(&self, slot: u32) -> &S {
        &self.0[slot as usize / PER_CHUNK][slot as usize % PER_CHUNK]
    }
}

/// A place's holder.
#[derive(Debug)]
struct Holder<K> {
    key: K,
    /// The last table in which it was.
    generation: u64,
}

/// All places of one kind of series.
#[derive(Debug)]
pub struct Slots<K, S> {
    holders: Vec<Option<Holder<K>>>,
    by_key: HashMap<K, u32>,
    free: Vec<u32>,
    /// By worker.
    chunks: Vec<Chunks<S>>,
}

impl<K: Clone + Eq + Hash, S: Series> Slots<K, S> {
    /// No places yet.
    pub fn new(workers: usize) -> Self {
        let chunks = (0..workers).map(|_| Chunks(Vec::new())).collect();
        Slots { holders: Vec::new(), by_key: HashMap::new(), free: Vec::new(), chunks }
    }

    /// The place of a key, which is in the table of this generation.
    pub fn place(&mut self, key: &K, generation: u64) -> u32 {
        if let Some(&slot) = self.by_key.get(key) {
            if let Some(holder) = &mut self.holders[slot as usize] {
                holder.generation = generation;
            }
            return slot;
        }
        let slot = self.free.pop().unwrap_or_else(|| self.grow());
        self.holders[slot as usize] = Some(Holder { key: key.clone(), generation });
        self.by_key.insert(key.clone(), slot);
        slot
    }

    /// Whether a key has a place.
    pub fn has(&self, key: &K) -> bool {
        self.by_key.contains_key(key)
    }

    /// A place that never was.
    fn grow(&mut self) -> u32 {
        let slot = self.holders.len();
        self.holders.push(None);
        if slot.is_multiple_of(PER_CHUNK) {
            for Chunks(chunks) in &mut self.chunks {
                chunks.push((0..PER_CHUNK).map(|_| S::default()).collect());
            }
        }
        u32::try_from(slot).expect("fewer series than memory has bytes")
    }

    /// A worker's series. Of places given from now on it knows nothing.
    pub fn of_worker(&self, worker: usize) -> Chunks<S> {
        self.chunks[worker].clone()
    }

    /// The series of every worker at a place.
    pub fn series(&self, slot: u32) -> impl Iterator<Item = &S> {
        self.chunks.iter().map(move |chunks| chunks.at(slot))
    }

    /// All places in use, with their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&K, u32)> {
        let used = self.holders.iter().enumerate();
        used.filter_map(|(slot, holder)| Some((&holder.as_ref()?.key, slot as u32)))
    }

    /// Gives back the places that are in no table any more that anybody decides by, `oldest` being the oldest of
    /// those, and where no exchange is under way. `last` sees each series before it begins anew.
    ///
    /// The caller has seen with acquire semantics that tables older than `oldest` are gone. Then whoever could
    /// still write is counted in [`Series::active`], whose last decrement is released: see [`Counter::leave`].
    ///
    /// [`Counter::leave`]: crate::counters::Counter::leave
    pub fn retire(&mut self, oldest: u64, mut last: impl FnMut(&K, &S)) {
        for slot in 0..self.holders.len() {
            let Some(holder) = self.holders[slot].take_if(|holder| holder.generation < oldest) else {
                continue;
            };
            let slot = slot as u32;
            if self.series(slot).any(|series| series.active().acquire() != 0) {
                self.holders[slot as usize] = Some(holder);
                continue;
            }
            for series in self.series(slot) {
                last(&holder.key, series);
                series.clear();
            }
            self.by_key.remove(&holder.key);
            self.free.push(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::series::ServerSeries;

    type Test = Slots<&'static str, ServerSeries>;

    #[test]
    fn a_place_is_kept_by_its_key() {
        let mut slots = Test::new(2);
        let places: Vec<u32> = ["a", "b", "a", "c"].map(|key| slots.place(&key, 1)).to_vec();
        assert_eq!(places, [0, 1, 0, 2]);
        let worker = slots.of_worker(1);
        worker.at(1).connects.add(3);
        let read: Vec<u64> = slots.series(1).map(|series| series.connects.get()).collect();
        assert_eq!(read, [0, 3]);
    }

    #[test]
    fn a_place_is_given_back_when_no_table_has_it_and_nobody_writes() {
        let mut slots = Test::new(2);
        ["a", "b", "c"].iter().for_each(|key| _ = slots.place(key, 1));
        let worker = slots.of_worker(1);
        worker.at(0).connects.add(5);
        worker.at(2).active.add(1);
        // The second table has b only; the first is still used.
        slots.place(&"b", 2);
        let mut gone = Vec::new();
        slots.retire(1, |key, series| gone.push((*key, series.connects.get())));
        assert_eq!(gone, []);
        // Nobody uses the first any more, but an exchange under way counts for c.
        slots.retire(2, |key, series| gone.push((*key, series.connects.get())));
        assert_eq!(gone, [("a", 0), ("a", 5)]);
        assert_eq!(slots.iter().collect::<Vec<_>>(), [(&"b", 1), (&"c", 2)]);
        worker.at(2).active.leave();
        slots.retire(2, |_, _| ());
        // What comes next begins at zero, in the place that is free.
        assert_eq!(slots.place(&"d", 3), 2);
        assert_eq!(slots.place(&"e", 3), 0);
        assert_eq!(slots.series(0).map(|series| series.connects.get()).sum::<u64>(), 0);
        assert_eq!(slots.place(&"c", 3), 3);
    }

    #[test]
    fn memory_does_not_grow_with_the_number_of_reloads() {
        let mut slots: Slots<String, ServerSeries> = Slots::new(1);
        for generation in 1..200 {
            (0..10).for_each(|number| _ = slots.place(&format!("{generation}/{number}"), generation));
            slots.retire(generation, |_, _| ());
        }
        assert!(slots.holders.len() <= 20, "{}", slots.holders.len());
    }
}
