//! A worker's pen.

use std::cell::{Ref, RefCell};
use std::sync::Arc;

use super::registry::{Layout, WorkerPlaces, WorkerSeries};
use super::series::{ArmSeries, ListenerSeries, QueueSeries, ServerSeries};
use crate::counters::Counters;

/// What a worker writes with: its own series and nobody else's.
#[derive(Debug)]
pub struct Recorder {
    series: Arc<WorkerSeries>,
    places: RefCell<WorkerPlaces>,
}

impl Recorder {
    pub(super) fn new(series: Arc<WorkerSeries>, places: WorkerPlaces) -> Recorder {
        Recorder { series, places: RefCell::new(places) }
    }

    /// Takes the places of a new table up. Exchanges under way go on with those they have.
    pub fn adopt(&self, places: WorkerPlaces) {
        self.places.replace(places);
    }

    /// Where the newest table's exchanges are counted.
    pub fn layout(&self) -> Arc<Layout> {
        Arc::clone(&self.places.borrow().layout)
    }

    /// The worker's own.
    pub fn counters(&self) -> &Counters {
        &self.series.counters
    }

    /// A listener's.
    ///
    /// # Panics
    /// If there is none of this number.
    pub fn listener(&self, listener: u32) -> &ListenerSeries {
        &self.series.listeners[listener as usize]
    }

    /// An arm's, by a place out of a [`Layout`].
    pub fn arm(&self, slot: u32) -> Ref<'_, ArmSeries> {
        Ref::map(self.places.borrow(), |places| places.arms.at(slot))
    }

    /// A server's, by a place out of a [`Layout`].
    pub fn server(&self, slot: u32) -> Ref<'_, ServerSeries> {
        Ref::map(self.places.borrow(), |places| places.servers.at(slot))
    }

    /// A backend's whose servers may be full, by a place out of a [`Layout`].
    pub fn queue(&self, slot: u32) -> Ref<'_, QueueSeries> {
        Ref::map(self.places.borrow(), |places| places.queues.at(slot))
    }
}
