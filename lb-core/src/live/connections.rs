//! Connections that are open to a server: counted by whoever makes them, and within a bound where there is one.
//!
//! An attempt holds a connection of its own, so with a bound on connections no more attempts may be under way than
//! that; [`ServerLive::begin`] sees to it. Then whoever has a permit can always have a connection: of as many as there
//! may be, fewer than all are held by the others, so one may yet be made, or one is idle in some pool. That is why who
//! waits for a connection waits for a permit, in the same line as for everything else that makes a server full.

use super::ServerLive;
use crate::sync::{AtomicU32, Relaxed};
use std::sync::Arc;

/// How many there are, on lines of their own: written when a connection is made or closed, and never by an exchange on
/// a pooled one.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Connections(AtomicU32);

/// A connection to a server as it is counted: from before it is made, through all exchanges on it and the idle time
/// between them, until after it is closed. Dropping it ends the count, so drop it when the socket is closed, whatever
/// the reason, and after it rather than before.
///
/// It keeps the server's live state, not the table.
#[derive(Debug)]
#[must_use = "a connection counts until this is dropped"]
pub struct Connection {
    live: Arc<ServerLive>,
}

impl Connection {
    /// The server's live state.
    pub fn server(&self) -> &Arc<ServerLive> {
        &self.live
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.live.connections.0.fetch_sub(1, Relaxed);
    }
}

impl ServerLive {
    /// Connections that may be open at a time; `None`: as many as are made.
    pub fn max_connections(&self) -> Option<u32> {
        Some(self.standing.max_connections.load(Relaxed)).filter(|most| *most != 0)
    }

    /// Connections that are open or being made, as far as they are counted ([`ServerLive::connect`]).
    pub fn connections(&self) -> u32 {
        self.connections.0.load(Relaxed)
    }

    /// Counts a connection that is about to be made, for an attempt that has its permit.
    ///
    /// `None` if there are as many as there may be. Then, as each attempt under way holds one at most, some are idle in
    /// pools of yours: use one of them, or close one, drop its [`Connection`] and ask again. After a table that lowers
    /// the bound, attempts that had begun before may still have one each.
    pub fn connect(self: &Arc<Self>) -> Option<Connection> {
        let counted = match self.max_connections() {
            None => {
                self.connections.0.fetch_add(1, Relaxed);
                true
            }
            Some(most) => {
                let most = most.max(self.in_flight());
                let one_more = |open| Some(open + 1).filter(|open| *open <= most);
                self.connections.0.fetch_update(Relaxed, Relaxed, one_more).is_ok()
            }
        };
        counted.then(|| Connection { live: Arc::clone(self) })
    }

    /// Whether more are open than may be, as after a table that lowers the bound: then one that is not in use is to be
    /// closed.
    pub fn has_excess_connections(&self) -> bool {
        self.max_connections().is_some_and(|most| self.connections() > most)
    }
}
