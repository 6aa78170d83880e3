//! What became of every request of a run.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How a request ended for its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With a whole response of the server's, every byte of it right.
    Answered,
    /// With a whole response that the balancer made.
    Local(u16),
    /// With something that a server sent before it had read the request.
    Crossed,
    /// The connection ended before or within the response.
    Closed,
    /// The client left of its own accord.
    Left,
    /// The connection ended behind an earlier exchange that was free to end it.
    Excused,
}

#[derive(Debug, Default, Clone)]
pub struct Record {
    pub method: &'static str,
    /// Times a server read its head.
    pub seen: u32,
    pub end: Option<End>,
}

#[derive(Default)]
pub struct Ledger {
    pub records: BTreeMap<u64, Record>,
    pub violations: Vec<String>,
}

/// The ledger as all peers of a run share it.
#[derive(Clone, Default)]
pub struct SharedLedger(Arc<Mutex<Ledger>>);

impl SharedLedger {
    pub fn open(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn violation(&self, what: String) {
        self.open().violations.push(what);
    }

    /// A client begins to send a request.
    pub fn sent(&self, id: u64, method: &'static str) {
        self.open().records.insert(id, Record { method, ..Record::default() });
    }

    /// A server has read a request's head, which may be so often at most. Tells how often it has been.
    pub fn seen(&self, id: u64, most: u32) -> u32 {
        let mut ledger = self.open();
        let Some(record) = ledger.records.get_mut(&id) else {
            ledger.violations.push(format!("a server saw {id:x}, which nobody sent"));
            return 1;
        };
        record.seen += 1;
        let seen = record.seen;
        if seen > most {
            let what = format!("{} {id:x} reached servers {seen} times, not {most}", record.method);
            ledger.violations.push(what);
        }
        seen
    }

    pub fn end(&self, id: u64, end: End) {
        let mut ledger = self.open();
        let before = ledger.records.entry(id).or_default().end.replace(end);
        if let Some(before) = before {
            ledger.violations.push(format!("{id:x} ended twice: {before:?}, then {end:?}"));
        }
    }
}
