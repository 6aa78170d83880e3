//! What deciding gives for a request that goes to a server.

use super::{Client, Round, Silent};
use crate::cookie;
use crate::cursors::Cursors;
use crate::decide::{ArmReason, PickReason, Stickiness};
use crate::live::Table;
use crate::permit::Permit;
use crate::pick::sticky::StickySeen;
use crate::pick::{Draw, Picked, Rank};
use crate::snapshot::{ArmIndex, Backend, RouteIndex, ServerIndex, Split, Target};
use std::time::Duration;

/// Where a request goes. Plain data without effect until [`Decision::take`]; dropping it costs nothing.
///
/// It belongs to the table that it was made with, or any other of the same content
/// ([`Snapshot::hash`](crate::Snapshot::hash)). Order of calls: `take` once and finish the permit; where taking finds the
/// server full, wait and ask `again`; on a failure that allows it `again`, with the servers tried so far, and the same
/// with the new decision; when response headers are written, `write_cookies` of the decision whose server answered.
#[derive(Clone, Copy, Debug)]
#[must_use = "a decision has no effect until it is taken"]
pub struct Decision {
    /// Of the snapshot's content, to recognise another table.
    pub(super) stamp: u64,
    pub(super) route: RouteIndex,
    pub(super) arm: ArmIndex,
    pub(super) picked: Picked,
    pub(super) client: Client,
}

impl Decision {
    /// The route.
    pub fn route(&self) -> RouteIndex {
        self.route
    }

    /// The arm that serves.
    pub fn arm(&self) -> ArmIndex {
        self.arm
    }

    /// The arm that the session belongs to.
    pub fn chosen_arm(&self) -> ArmIndex {
        self.client.choice.arm
    }

    /// The server.
    pub fn server(&self) -> ServerIndex {
        self.picked.server
    }

    /// Why the session belongs to its arm.
    pub fn arm_reason(&self) -> ArmReason {
        self.client.choice.reason
    }

    /// Why this server.
    pub fn pick_reason(&self) -> PickReason {
        self.picked.reason
    }

    /// Whether another arm serves than the one that the session belongs to.
    pub fn fallback(&self) -> bool {
        self.arm != self.client.choice.arm
    }

    /// Whether the server is a backup.
    pub fn backup(&self) -> bool {
        self.picked.rank == Rank::Backup
    }

    /// The session's bucket, in hundredths of a percent; `None` where the route has one arm.
    pub fn bucket(&self) -> Option<u16> {
        self.client.choice.bucket
    }

    /// What the arm's sticky cookie said.
    pub(crate) fn sticky_seen(&self) -> StickySeen {
        self.client.sticky[usize::from(self.arm.0)]
    }

    /// What the arm's sticky cookie said, and whether the response sets it; `None` where the arm has none, or if
    /// `table` is of another content than the one that the decision was made with
    /// ([`Snapshot::hash`](crate::Snapshot::hash)): that of an equal spec will do.
    pub fn stickiness(&self, table: &Table) -> Option<(Stickiness, bool)> {
        let (backend, _) = self.of(table)?;
        backend.pool.sticky.as_ref()?;
        let came = match self.sticky_seen() {
            StickySeen::Nothing => Stickiness::New,
            StickySeen::Unknown => Stickiness::Unknown,
            StickySeen::Known { server, .. } if server == self.server() => Stickiness::Kept,
            StickySeen::Known { .. } => Stickiness::Moved,
        };
        Some((came, !self.fallback() && self.writes_sticky()))
    }

    /// Whether the server's cookie is to be written, unless another arm serves.
    fn writes_sticky(&self) -> bool {
        let current = StickySeen::Known { server: self.server(), is_current: true };
        !self.backup() && self.sticky_seen() != current
    }

    /// What the session is hashed by; `None` where nothing depends on it.
    pub fn session(&self) -> Option<u128> {
        self.client.session.map(|session| session.id())
    }

    /// Begins the attempt: counts it as in flight and advances the cursor.
    ///
    /// `None` if the server is full: it has as many requests in flight as it may
    /// ([`ServerSpec::max_requests`](crate::spec::ServerSpec::max_requests), and
    /// [`max_connections`](crate::spec::ServerSpec::max_connections), for each needs one of its own); never where no server
    /// has such a bound.
    /// Deciding prefers servers with room, so as a rule all that could serve are full then (for a sticky session: its
    /// own). The request is to wait, within the bounds of [`Backend::queue`](crate::snapshot::Backend::queue), or to be
    /// answered with 503; the core has no [`Refusal`](crate::Refusal) for it, because it does not see the waiting.
    ///
    /// Who waits does not take this decision again, for it is bound to the server that it names. Whenever an attempt at
    /// the backend has ended (its permit was finished or dropped), one of its servers has come up, or a table was
    /// published, the one that has waited longest asks [`again`](Decision::again), with nothing tried, for nothing was,
    /// and takes what that gives; if it gives `None`, the request is decided anew. The guide has an example:
    /// ["When servers are full"](crate::guide::policies#when-servers-are-full).
    ///
    /// # Panics
    /// May panic if `table` is of another content than the one that the decision was made with.
    pub fn take(&self, table: &Table, cursors: &mut Cursors, now: Duration) -> Option<Permit> {
        debug_assert_eq!(self.stamp, stamp(table), "a decision belongs to its table");
        let Picked { server, rank, wants, cursor, .. } = self.picked;
        let permit = Permit::begin(table.server_live(server), now.into(), wants)?;
        if let Some(position) = cursor {
            cursors.set_position(table.snapshot.server(server).backend, rank, position);
        }
        Some(permit)
    }

    /// Where to try next, `tried` being the servers that this exchange has tried: another server of the same arm, of
    /// another arm if that may be, or, only when there is no other, one that was tried. `None` if nobody can serve, or if
    /// `table` is of another content than the one that the decision was made with
    /// ([`Snapshot::hash`](crate::Snapshot::hash); that of an equal spec will do): then the request is to be decided anew.
    /// A further attempt takes nobody's turn of a round robin. `random` may be the bits that `decide` had or fresh ones:
    /// the session stays what it was, and so does the arm that it belongs to.
    ///
    /// Whether another attempt is safe and within budget is the caller's to know. A server that only closed a pooled
    /// connection is best left out of `tried`: it can serve, and a sticky session should stay with it. A request that
    /// waits because servers are [full](crate::guide::policies#when-servers-are-full) has tried nobody.
    #[must_use = "nothing is tried until the decision is taken"]
    pub fn again(
        &self,
        table: &Table,
        cursors: &Cursors,
        tried: &[ServerIndex],
        now: Duration,
        random: u128,
    ) -> Option<Decision> {
        let (_, split) = self.of(table)?;
        let round = Round { table, split, cursors, now: now.into(), draw: Draw::new(random) };
        let served = round
            .serve(&self.client, tried, &mut Silent)
            .or_else(|| round.serve(&self.client, &[], &mut Silent));
        let (arm, mut picked) = served?;
        if !tried.is_empty() {
            // Else the next turn would be that of the server that has just failed, each time.
            picked.cursor = None;
        }
        Some(Decision { arm, picked, ..*self })
    }

    /// Appends complete `set-cookie: ...\r\n` lines for those of our cookies that the client lacks or that have
    /// changed; true if any, and then the response is to say `Cache-Control: private` unless it is stricter
    /// already. A backup and a fallback arm are never named in one.
    ///
    /// Each has `Path=/`, `HttpOnly` and `SameSite=Lax`, and no lifetime: browsers keep it until their session ends.
    /// With `secure` also `Secure`, so that it is sent over https only: say whether the client's scheme is https (the
    /// [`RequestView::secure`](crate::RequestView::secure) of its request).
    ///
    /// Writes nothing if `table` is of another content than the one that the decision was made with
    /// ([`Snapshot::hash`](crate::Snapshot::hash)).
    pub fn write_cookies(&self, table: &Table, secure: bool, out: &mut Vec<u8>) -> bool {
        let before = out.len();
        let Some((backend, split)) = self.of(table) else { return false };
        if let Some(session) = self.client.session
            && session.is_new
        {
            cookie::write_set(table.snapshot.session_cookie(), &session.cookie_value(), secure, out);
        }
        if self.fallback() {
            return out.len() > before;
        }
        if let (Some(canary), Some(bucket)) = (&split.canary, self.client.choice.bucket)
            && self.client.choice.mark_due
            && let Some(value) = canary.mark_value(self.arm, bucket)
        {
            cookie::write_set(&canary.mark_cookie, value.as_ref(), secure, out);
        }
        if let Some(sticky) = &backend.pool.sticky
            && self.writes_sticky()
            && let Some(value) = sticky.value(self.server())
        {
            cookie::write_set(&sticky.cookie, value, secure, out);
        }
        out.len() > before
    }

    /// The backend and the split, if this is the decision's table.
    fn of<'a>(&self, table: &'a Table) -> Option<(&'a Backend, &'a Split)> {
        if self.stamp != stamp(table) {
            return None;
        }
        let Target::Backends(split) = &table.snapshot.route(self.route).target else { return None };
        let backend = split.backends().get(usize::from(self.arm.0))?;
        Some((table.snapshot.backend(*backend), split))
    }
}

/// Snapshots of equal content are interchangeable, so their content tells them apart well enough.
pub(super) fn stamp(table: &Table) -> u64 {
    table.snapshot.hash().stamp()
}
