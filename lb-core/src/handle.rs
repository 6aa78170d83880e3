//! The current table, for many threads: publishing never waits for a reader, and a reader never waits at all.

use crate::cursors::Cursors;
use crate::live::Table;
use crate::snapshot::Snapshot;
use crate::sync::{Cached, Mutex, Slot};
use std::sync::{Arc, PoisonError};

/// Where the current [`Table`] hangs. Clones are the same handle.
///
/// One side publishes snapshots; each is joined with the live state of the table before it, so that attempts under way,
/// health and counters go on ([`Table::new`]). The other side reads: each thread or task through a [`Reader`] of its
/// own, or, now and then, with [`Handle::load`]. Publishers take turns among themselves and wait for no reader; a
/// reader waits for nobody.
///
/// ```
/// use lb_core::spec::{BackendSpec, RouteSpec, ServerSpec, Spec};
/// use lb_core::{Handle, compile};
///
/// let snapshot_of = |port| {
///     let server = ServerSpec::new("a", ([127, 0, 0, 1], port).into());
///     let (route, backend) = (RouteSpec::new("all", "app"), BackendSpec::new("app", [server]));
///     let spec = Spec { routes: vec![route], backends: vec![backend], ..Spec::default() };
///     compile(&spec).expect("a valid spec").snapshot
/// };
/// let handle = Handle::new(snapshot_of(8001));
/// let mut reader = handle.reader(1);
/// assert_eq!(reader.current().0.snapshot.servers()[0].address().port(), 8001);
///
/// handle.publish(snapshot_of(8002)); // from any thread
/// assert_eq!(reader.current().0.snapshot.servers()[0].address().port(), 8002);
/// ```
#[derive(Clone, Debug)]
pub struct Handle {
    current: Arc<Slot<Table>>,
    /// Held by a publisher from reading the table before until its own hangs there: of two that read the same one, the
    /// second would bring back servers' state that the first has replaced.
    publishing: Arc<Mutex<()>>,
}

impl Handle {
    /// A handle with a first table of which nothing is known yet but the snapshot.
    pub fn new(snapshot: Snapshot) -> Handle {
        Handle::with(Table::new(snapshot, None))
    }

    /// A handle with a first table that was made, and perhaps prepared, elsewhere.
    pub fn with(table: Table) -> Handle {
        Handle { current: Arc::new(Slot::new(Arc::new(table))), publishing: Arc::new(Mutex::new(())) }
    }

    /// The current table. Costs a write to memory that others write, too: for what runs once in a while (metrics, an
    /// admin page, health), not for each request.
    pub fn load(&self) -> Arc<Table> {
        self.current.load()
    }

    /// Makes a snapshot the current table, with the live state of the one before; returns it. Readers see it with
    /// their next [`Reader::current`].
    pub fn publish(&self, snapshot: Snapshot) -> Arc<Table> {
        self.publish_with(snapshot, |_| ())
    }

    /// The same with a last look before any reader sees it: for setting the health of servers that are new in it
    /// ([`Monitor::fit`](crate::Monitor::fit)). What it does to servers that the table before has, too, is done at once.
    /// It must not publish itself: that would wait for its own end.
    pub fn publish_with(&self, snapshot: Snapshot, prepare: impl FnOnce(&Table)) -> Arc<Table> {
        // The lock guards no data: a publisher that panicked has published nothing.
        let _turn = self.publishing.lock().unwrap_or_else(PoisonError::into_inner);
        let table = Arc::new(Table::new(snapshot, Some(&self.current.load())));
        prepare(&table);
        self.current.store(Arc::clone(&table));
        table
    }

    /// A reader. `seed` says where its round robin turns begin: readers must have different ones (random bits, a
    /// number of the thread), or they all begin with the same server. With 0 they begin at the top, for tests.
    pub fn reader(&self, seed: u64) -> Reader {
        Reader { cached: Cached::new(Arc::clone(&self.current)), cursors: Cursors::new(seed) }
    }
}

/// One thread's or task's view of a [`Handle`], with round robin cursors of its own.
///
/// It keeps the table that it saw last. A task that sleeps for long (an idle connection) so keeps an old table in
/// memory, once for all that saw the same one; where tables are large, let such tasks share a reader per thread.
#[derive(Debug)]
pub struct Reader {
    cached: Cached<Table>,
    cursors: Cursors,
}

impl Reader {
    /// The current table and the cursors to ask it with. Costs one atomic load, unless something was published since
    /// the last call; then it takes up the new table, and cursors that fit it.
    ///
    /// Decide and take with what one call gives. After waiting for something, call it again: if the table has changed
    /// meanwhile, [`Decision::again`](crate::Decision::again) gives `None`, and the request is to be decided anew.
    #[inline]
    pub fn current(&mut self) -> (&Arc<Table>, &mut Cursors) {
        let table = self.cached.load();
        self.cursors.fit(table);
        (table, &mut self.cursors)
    }
}
