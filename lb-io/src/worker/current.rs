//! The table in force, with what a worker keeps for it.

use std::cell::{RefCell, RefMut};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use lb_core::spec::Admin;
use lb_core::{BackendIndex, Cursors, RetryBudget, ServerIndex, Table};

use lb_core::snapshot::Backend;

use super::queue::{Queue, Queues, Reach};
use crate::driver::ConnKey;
use crate::log::names::Names;
use crate::log::record::Format;
use crate::metrics::Layout;
use crate::proxy::pool::Pools;

/// The table in force, with what a worker keeps for it.
pub struct Current {
    /// The table.
    pub table: Arc<Table>,
    /// Where round robins stand.
    pub cursors: RefCell<Cursors>,
    /// Pool of idle connections, by server.
    pub pools: Vec<u32>,
    /// Where it is counted.
    pub layout: Arc<Layout>,
    /// What access log lines say of it; none: there is no access log.
    pub names: Option<Names>,
    /// Where requests wait for servers with room, by backend; none where all servers take what comes.
    queues: Box<[Option<Line>]>,
    budgets: Budgets,
    /// Place in the snapshot, by listener of ours.
    listeners: Box<[u32]>,
}

/// Where requests wait for a backend's servers, and which these are.
type Line = (Arc<Queue>, Reach);

/// What retries may cost, by backend. Tables share them: exchanges under way spend what is spent.
type Budgets = Box<[Rc<RefCell<RetryBudget>>]>;

impl Current {
    /// The place in the snapshot of a listener of ours.
    pub fn listener_index(&self, listener: u32) -> u32 {
        self.listeners[listener as usize]
    }

    /// What the snapshot says of a listener of ours.
    pub fn listener(&self, listener: u32) -> &lb_core::snapshot::Listener {
        self.table.snapshot.listener(self.listener_index(listener))
    }

    /// Where requests wait for a backend, if its servers have bounds.
    pub fn queue(&self, backend: BackendIndex) -> Option<&Arc<Queue>> {
        self.queues[backend.0 as usize].as_ref().map(|(queue, _)| queue)
    }

    /// The servers that new requests of a backend go to, as its queue has them. A server may have been given a bound by a
    /// later table than this one, so there may be requests that wait and none known here.
    pub fn reach(&self, backend: BackendIndex, queue: &Queue) -> Reach {
        let known = self.queues[backend.0 as usize].as_ref();
        known.map_or_else(|| reach(&self.table, backend, queue), |(_, reach)| Arc::clone(reach))
    }

    /// What retries of a backend's exchanges may cost.
    pub fn budget(&self, backend: BackendIndex) -> RefMut<'_, RetryBudget> {
        self.budgets[backend.0 as usize].borrow_mut()
    }
}

fn reach(table: &Table, backend: BackendIndex, queue: &Queue) -> Reach {
    let (snapshot, servers) = (&table.snapshot, table.snapshot.backend(backend).servers.clone());
    let is_open = |index: &u32| {
        let server = snapshot.server(ServerIndex(*index));
        server.admin == Admin::Ready && server.weight > 0
    };
    queue.reach(servers.filter(is_open).map(|index| table.server_live(ServerIndex(index))))
}

/// The budgets for a table: a backend keeps what it has saved by its name.
pub(super) fn budgets_of(table: &Table, previous: Option<&Rc<Current>>) -> Budgets {
    let known = previous.into_iter().flat_map(|it| it.table.snapshot.backends().iter().zip(&it.budgets));
    let known: HashMap<&str, _> = known.map(|(backend, budget)| (&*backend.name, budget)).collect();
    let budget = |backend: &Backend| match known.get(&*backend.name) {
        Some(budget) => {
            budget.borrow_mut().set_percent(backend.retry_budget_percent);
            Rc::clone(budget)
        }
        None => Rc::new(RefCell::new(RetryBudget::new(backend.retry_budget_percent))),
    };
    table.snapshot.backends().iter().map(budget).collect()
}

/// A table as this worker needs it, and idle connections to servers that it no longer has.
pub(super) fn current_of(
    table: Arc<Table>,
    (layout, queues): (Arc<Layout>, &Queues),
    format: Option<Format>,
    listener_names: &[Box<str>],
    (mut cursors, budgets): (Cursors, Budgets),
    pools: &mut Pools,
) -> (Current, Vec<ConnKey>) {
    let (places, orphans) = pools.keep(table.live.servers().iter());
    cursors.fit(&table);
    // A snapshot without one of our listeners is not published; its first one's rules would do no harm.
    let listeners =
        listener_names.iter().map(|name| table.snapshot.listener_index(name).unwrap_or(0)).collect();
    let backends = (0..).map(BackendIndex).zip(table.snapshot.backends());
    let queues = backends.map(|(index, backend)| {
        backend.queue.map(|_| {
            let queue = queues.of(&backend.name);
            let reach = reach(&table, index, &queue);
            (queue, reach)
        })
    });
    let queues = queues.collect();
    let names = format.map(|format| Names::of(&table.snapshot, format));
    (
        Current {
            table,
            cursors: RefCell::new(cursors),
            pools: places,
            layout,
            names,
            queues,
            budgets,
            listeners,
        },
        orphans,
    )
}
