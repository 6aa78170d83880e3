//! What threads share: counters, and the place where the current table hangs.
//!
//! Under `cfg(lb_model)` the same names are loom's, so that `model/` can try every order of events with the very files
//! that are shipped. Nothing else in this crate may use `std::sync::atomic`, `Mutex` or `arc_swap` by their own names.

pub(crate) use kind::{AtomicU32, AtomicU64, Cached, Mutex, Slot};
pub(crate) use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

#[cfg(not(lb_model))]
mod kind {
    pub(crate) use std::sync::Mutex;
    pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64};

    use arc_swap::ArcSwap;
    use arc_swap::cache::Cache;
    use std::ops::Deref;
    use std::sync::Arc;

    /// A place that always holds one `Arc<T>`.
    #[derive(Debug)]
    pub(crate) struct Slot<T>(ArcSwap<T>);

    impl<T> Slot<T> {
        pub(crate) fn new(value: Arc<T>) -> Slot<T> {
            Slot(ArcSwap::new(value))
        }

        /// What it holds. Lock-free, whatever others do.
        pub(crate) fn load(&self) -> Arc<T> {
            self.0.load_full()
        }

        /// Puts another in its place.
        pub(crate) fn store(&self, value: Arc<T>) {
            self.0.store(value);
        }
    }

    /// What dereferences to the place itself, as arc-swap's cache wants it.
    #[derive(Debug)]
    struct Shared<T>(Arc<Slot<T>>);

    impl<T> Deref for Shared<T> {
        type Target = ArcSwap<T>;

        fn deref(&self) -> &ArcSwap<T> {
            &self.0.0
        }
    }

    /// A reader of a [`Slot`] that remembers what it read last.
    #[derive(Debug)]
    pub(crate) struct Cached<T>(Cache<Shared<T>, Arc<T>>);

    impl<T> Cached<T> {
        pub(crate) fn new(slot: Arc<Slot<T>>) -> Cached<T> {
            Cached(Cache::new(Shared(slot)))
        }

        /// What the slot holds: one relaxed load and a comparison, if that is what was read last.
        #[inline]
        pub(crate) fn load(&mut self) -> &Arc<T> {
            self.0.load()
        }
    }
}

/// The same for the model. arc-swap is not checked here, its authors do that; what stands for it keeps no more than its
/// documentation promises: a store is one swap of a pointer, a load acquires what the store released, and a cache asks
/// with a relaxed load whether the pointer is another one.
#[cfg(lb_model)]
mod kind {
    use super::{Acquire, Relaxed};
    pub(crate) use loom::sync::Mutex;
    use loom::sync::atomic;
    use loom::sync::atomic::Ordering::AcqRel;
    use std::ops::Deref;
    use std::sync::{Arc, PoisonError};

    pub(crate) type AtomicU32 = Stepped<atomic::AtomicU32>;
    pub(crate) type AtomicU64 = Stepped<atomic::AtomicU64>;

    /// An atomic whose every use is a step that the checker tries in every order. On its own loom (0.7.2) does not: of
    /// each object it remembers only the last access, so that a writer's load before its store hides the load of
    /// another thread before that, and the order in which that one comes later is not tried. The step before orders
    /// nothing in memory, as it is relaxed and of an object that nobody looks at.
    #[derive(Debug, Default)]
    pub(crate) struct Stepped<A> {
        step: atomic::AtomicU32,
        atomic: A,
    }

    impl<A> Deref for Stepped<A> {
        type Target = A;

        fn deref(&self) -> &A {
            self.step.fetch_add(1, Relaxed);
            &self.atomic
        }
    }

    #[derive(Debug)]
    pub(crate) struct Slot<T> {
        /// Stands for the pointer: the place in `values`.
        current: Stepped<atomic::AtomicUsize>,
        /// All that were ever stored. The lock is the standard library's and held between two steps of the model, so it
        /// orders nothing in it.
        values: std::sync::Mutex<Vec<Arc<T>>>,
    }

    impl<T> Slot<T> {
        pub(crate) fn new(value: Arc<T>) -> Slot<T> {
            Slot { current: Stepped::default(), values: std::sync::Mutex::new(vec![value]) }
        }

        fn at(&self, place: usize) -> Arc<T> {
            Arc::clone(&self.values.lock().unwrap_or_else(PoisonError::into_inner)[place])
        }

        pub(crate) fn load(&self) -> Arc<T> {
            self.at(self.current.load(Acquire))
        }

        pub(crate) fn store(&self, value: Arc<T>) {
            let place = {
                let mut values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
                values.push(value);
                values.len() - 1
            };
            self.current.swap(place, AcqRel);
        }
    }

    #[derive(Debug)]
    pub(crate) struct Cached<T> {
        slot: Arc<Slot<T>>,
        place: usize,
        value: Arc<T>,
    }

    impl<T> Cached<T> {
        pub(crate) fn new(slot: Arc<Slot<T>>) -> Cached<T> {
            let place = slot.current.load(Acquire);
            let value = slot.at(place);
            Cached { slot, place, value }
        }

        pub(crate) fn load(&mut self) -> &Arc<T> {
            if self.slot.current.load(Relaxed) != self.place {
                self.place = self.slot.current.load(Acquire);
                self.value = self.slot.at(self.place);
            }
            &self.value
        }
    }
}
