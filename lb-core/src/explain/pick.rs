//! How a server was picked, and what its backend's servers are like.

use super::Teller;
use crate::decide::{Decision, PickReason};
use crate::live::{Now, Outlook, STRENGTH_FULL};
use crate::pick::sticky::StickySeen;
use crate::pick::{Bound, Care, Pool};
use crate::snapshot::{Route, ServerIndex};
use crate::spec::{Admin, Policy};
use std::net::SocketAddr;
use std::time::Duration;

/// Further attempts that are told, at most.
const ATTEMPTS_TOLD_MAX: usize = 3;

/// How the server was picked.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Pick {
    /// The backend that was asked last.
    pub backend: String,
    /// Its policy.
    pub policy: Policy,
    /// The server; `None` if no one can serve.
    pub server: Option<ServerNote>,
    /// Why.
    pub reason: Option<PickReason>,
    /// Whether a sticky cookie came along; `None` if the backend has none.
    pub sticky_cookie: Option<bool>,
    /// Whether it has as many requests as it may, and so have the others: the request waits.
    pub waits: bool,
    /// How many may wait at a time; 0: none does, and the request is refused.
    pub may_wait: u32,
    /// Whether connections to it have just failed, and there is no better one.
    pub last_resort: bool,
    /// Whether so few servers are up that health is ignored.
    pub failed_open: bool,
    /// The node's own zone and what stays in it; `None` where zones do not count.
    pub zone: Option<ZoneNote>,
    /// All servers of the backend.
    pub servers: Vec<ServerNote>,
    /// Where further attempts would go.
    pub then: Vec<ServerNote>,
}

/// The node's own zone.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ZoneNote {
    /// Its name.
    pub name: String,
    /// The part of requests that stays in it, in hundredths of a percent.
    pub share: u16,
}

/// A server and its state.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerNote {
    /// Name of its backend.
    pub backend: String,
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: SocketAddr,
    /// Its weight.
    pub weight: u32,
    /// How much of its weight it has, in percent: less than 100 in slow start.
    pub strength_percent: u32,
    /// Where it stands.
    pub zone: Option<String>,
    /// Whether it is a backup.
    pub backup: bool,
    /// What people have said about it.
    pub admin: Admin,
    /// For how long yet it serves its own sticky sessions, if it drains until a deadline; zero: that has passed.
    pub drains_for: Option<Duration>,
    /// Whether it answers, and why not.
    pub health: &'static str,
    /// How long it is out of picks yet, because connections failed.
    pub removed_for: Duration,
    /// Attempts under way.
    pub in_flight: u32,
    /// Attempts under way at most, where there is such a bound: one more than that finds it full.
    pub in_flight_most: Option<u64>,
    /// Connections open to it, idle ones included.
    pub connections: u32,
    /// Connections open to it at most, where there is such a bound.
    pub connections_most: Option<u32>,
    /// How long it takes to answer, where the policy goes by that; `None` if nothing is known.
    pub latency: Option<Duration>,
}

impl Teller<'_> {
    pub(super) fn pick(&self, route: &Route, decision: Option<Decision>) -> Option<Pick> {
        let (asked, care) = self.notes.asked?;
        // Where nobody can serve, the session's own arm is the one to tell about.
        let arm = decision.map_or(self.notes.choice.map_or(asked, |it| it.arm), |_| asked);
        let index = route.arm(arm).backend;
        let backend = self.table.snapshot.backend(index);
        let outlook = backend.pool.outlook(&self.table.live, index);
        let sticky = decision.map_or(StickySeen::Nothing, |decision| decision.sticky_seen());
        Some(Pick {
            backend: backend.name.to_string(),
            policy: backend.policy,
            server: decision.map(|decision| self.server(decision.server())),
            reason: decision.map(|decision| decision.pick_reason()),
            sticky_cookie: backend.pool.sticky.as_ref().map(|_| sticky != StickySeen::Nothing),
            waits: decision.is_some_and(|decision| !self.table.server_live(decision.server()).has_room()),
            may_wait: backend.queue.map_or(0, |queue| queue.requests),
            last_resort: decision.is_some() && care == Care::LastResort,
            failed_open: outlook.is_open(care),
            zone: self.zone(&backend.pool, outlook),
            servers: backend.servers.clone().map(|server| self.server(ServerIndex(server))).collect(),
            then: decision.map(|decision| self.then(decision)).unwrap_or_default(),
        })
    }

    fn zone(&self, pool: &Pool, outlook: Outlook) -> Option<ZoneNote> {
        let name = self.table.snapshot.zone().filter(|_| pool.lookout.is_zoned())?;
        Some(ZoneNote { name: name.to_owned(), share: outlook.near_share })
    }

    fn then(&self, decision: Decision) -> Vec<ServerNote> {
        let mut tried = vec![decision.server()];
        let mut then = Vec::new();
        while then.len() < ATTEMPTS_TOLD_MAX {
            let next = decision.again(self.table, self.cursors, &tried, self.now, self.random);
            match next.map(|next| next.server()).filter(|server| !tried.contains(server)) {
                Some(server) => {
                    then.push(self.server(server));
                    tried.push(server);
                }
                None => break,
            }
        }
        then
    }

    fn server(&self, index: ServerIndex) -> ServerNote {
        let server = self.table.snapshot.server(index);
        let live = self.table.server_live(index);
        let pool = &self.table.snapshot.backend(server.backend).pool;
        let outlook = pool.outlook(&self.table.live, server.backend);
        let bound = pool.lookout.bound(&self.table.live, server.backend, outlook);
        let now = Now::from(self.now);
        let strength = match pool.slow_start_ns {
            0 => STRENGTH_FULL,
            slow_start_ns => live.strength(now, slow_start_ns),
        };
        let by_load = bound.filter(|_| !server.backup).map(|bound: Bound| bound.most(server.weight));
        let in_flight_most = by_load.into_iter().chain(live.most_in_flight().map(u64::from));
        let latency_ns = live.expected_ns(now);
        ServerNote {
            backend: live.backend().to_owned(),
            name: live.name().to_owned(),
            address: live.address(),
            weight: server.weight,
            strength_percent: (strength * 100).div_ceil(STRENGTH_FULL),
            zone: server.zone.as_deref().map(str::to_owned),
            backup: server.backup,
            admin: live.admin(),
            drains_for: live.drain_deadline().map(|deadline| deadline.saturating_sub(self.now)),
            health: live.health().word(),
            removed_for: live.removed_until().saturating_sub(Duration::from_nanos(now.0)),
            in_flight: live.in_flight(),
            in_flight_most: in_flight_most.min(),
            connections: live.connections(),
            connections_most: live.max_connections(),
            latency: (pool.wants.latency && latency_ns > 0).then(|| Duration::from_nanos(latency_ns)),
        }
    }
}
