//! Idle connections to servers, kept per worker for the next exchange.
//!
//! A pool belongs to a server's identity, so it survives snapshots. Connections are taken newest first:
//! the hot ones stay in use and the others age until the server or we close them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use lb_core::ServerLive;

use crate::driver::ConnKey;

/// Idle connections that a worker keeps per server. One more closes the one that is given back.
pub const IDLE_PER_SERVER: usize = 1024;

/// Idle connections per server for which there is room from the start.
const EXPECTED_IDLE: usize = 8;

/// An exchange that cannot be repeated takes only connections idle for less than this: an older one may
/// be about to be closed by its server.
pub const FRESH_ENOUGH: Duration = Duration::from_secs(1);

/// An idle connection.
#[derive(Debug, Clone, Copy)]
pub struct Idle {
    /// Which.
    pub conn: ConnKey,
    /// Since when.
    pub since: Duration,
    /// When it is closed if nobody uses it.
    pub until: Duration,
}

#[derive(Debug)]
struct Pool {
    live: Arc<ServerLive>,
    idle: Vec<Idle>,
}

impl Pool {
    fn is_of(&self, live: &ServerLive) -> bool {
        std::ptr::eq(&*self.live, live)
    }
}

/// The pools of one worker.
#[derive(Debug, Default)]
pub struct Pools {
    pools: Vec<Option<Pool>>,
    by_live: HashMap<usize, u32>,
    idle: usize,
}

/// What moved when a connection left its pool: the connection that now stands in its place.
#[derive(Debug, PartialEq, Eq)]
pub struct Moved {
    /// Which connection.
    pub conn: ConnKey,
    /// Where it stands now.
    pub place: u32,
}

impl Pools {
    /// Makes pools for these servers and no others. Returns each server's pool, in order, and the idle
    /// connections of servers that are gone, for closing.
    pub fn keep<'a>(
        &mut self,
        servers: impl Iterator<Item = &'a Arc<ServerLive>>,
    ) -> (Vec<u32>, Vec<ConnKey>) {
        let before = std::mem::take(&mut self.by_live);
        let mut vacant: Vec<u32> =
            (0..self.pools.len() as u32).filter(|at| self.pools[*at as usize].is_none()).collect();
        let places = servers
            .map(|live| {
                let key = Arc::as_ptr(live).addr();
                let place = before.get(&key).or(self.by_live.get(&key)).copied().unwrap_or_else(|| {
                    let pool = Some(Pool { live: Arc::clone(live), idle: Vec::with_capacity(EXPECTED_IDLE) });
                    match vacant.pop() {
                        Some(place) => {
                            self.pools[place as usize] = pool;
                            place
                        }
                        None => {
                            self.pools.push(pool);
                            (self.pools.len() - 1) as u32
                        }
                    }
                });
                self.by_live.insert(key, place);
                place
            })
            .collect();
        let gone = before.into_iter().filter(|(key, _)| !self.by_live.contains_key(key));
        let mut gone: Vec<u32> = gone.map(|(_, place)| place).collect();
        // A map has another order each time, and a seed of the simulation is to repeat itself.
        gone.sort_unstable();
        let mut orphans = Vec::new();
        for place in gone {
            let pool = self.pools[place as usize].take().expect("a listed pool exists");
            orphans.extend(pool.idle.iter().map(|idle| idle.conn));
        }
        self.idle -= orphans.len();
        (places, orphans)
    }

    /// Takes all idle connections out of a pool, which stays.
    pub fn empty(&mut self, pool: u32) -> Vec<ConnKey> {
        let Some(Some(pool)) = self.pools.get_mut(pool as usize) else { return Vec::new() };
        self.idle -= pool.idle.len();
        pool.idle.drain(..).map(|idle| idle.conn).collect()
    }

    /// Takes the newest idle connection to `live`, unless it has been idle for longer than `max_age`. `pool` is where an
    /// older table has it, perhaps: where it is gone, its place may be another server's.
    pub fn take(
        &mut self,
        pool: u32,
        live: &ServerLive,
        now: Duration,
        max_age: Option<Duration>,
    ) -> Option<Idle> {
        let idle = &mut self.pools.get_mut(pool as usize)?.as_mut().filter(|pool| pool.is_of(live))?.idle;
        let newest = idle.last()?;
        if max_age.is_some_and(|max_age| now.saturating_sub(newest.since) >= max_age) {
            return None;
        }
        self.idle -= 1;
        idle.pop()
    }

    /// Puts a connection into the pool of `live`. Returns its place, or None if there is no such pool any
    /// more or it is full.
    pub fn put(&mut self, pool: u32, live: &ServerLive, idle: Idle) -> Option<u32> {
        let pool = self.pools.get_mut(pool as usize)?.as_mut().filter(|pool| pool.is_of(live))?;
        if pool.idle.len() >= IDLE_PER_SERVER {
            return None;
        }
        self.idle += 1;
        pool.idle.push(idle);
        Some((pool.idle.len() - 1) as u32)
    }

    /// The pool of a server, if it has one.
    pub fn of(&self, live: &ServerLive) -> Option<u32> {
        self.by_live.get(&std::ptr::from_ref(live).addr()).copied()
    }

    /// The connection to `live` that was given back first.
    pub fn oldest_of(&self, pool: u32, live: &ServerLive) -> Option<ConnKey> {
        let pool = self.pools.get(pool as usize)?.as_ref().filter(|pool| pool.is_of(live))?;
        pool.idle.first().map(|idle| idle.conn)
    }

    /// One of the connections that have been idle for longest: of each pool the first is looked at.
    pub fn oldest(&self) -> Option<ConnKey> {
        let firsts = self.pools.iter().flatten().filter_map(|pool| pool.idle.first());
        firsts.min_by_key(|idle| idle.since).map(|idle| idle.conn)
    }

    /// Takes a certain connection out, which is being closed.
    pub fn remove(&mut self, pool: u32, place: u32) -> Option<Moved> {
        let idle = &mut self.pools[pool as usize].as_mut().expect("an idle connection's pool exists").idle;
        idle.swap_remove(place as usize);
        self.idle -= 1;
        idle.get(place as usize).map(|moved| Moved { conn: moved.conn, place })
    }

    /// How many connections are idle.
    pub fn idle(&self) -> usize {
        self.idle
    }
}
