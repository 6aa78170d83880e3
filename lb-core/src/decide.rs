//! The conductor: find, choose, pick.

use crate::live::Table;
use crate::permit::Permit;
use crate::snapshot::{ArmIndex, RouteIndex, ServerIndex};
use crate::view::{Fields, RequestView};
use std::time::Duration;

/// Where a request goes.
#[derive(Clone, Copy, Debug)]
pub enum Verdict {
    /// To a server.
    Forward(Decision),
    /// Nowhere: its route answers itself, with a redirect or a fixed reply.
    Answer(RouteIndex),
    /// Nowhere: it is refused.
    Refuse(Refusal),
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: RefusalReason,
    /// The route that was found, if one was.
    pub route: Option<RouteIndex>,
}

/// Reasons to refuse a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RefusalReason {
    /// No route matches: 404.
    NoRoute,
    /// The path has a dot segment, a backslash or NUL: 400.
    BadPath,
    /// The path has an encoded slash and its route refuses them: 400.
    EncodedSlash,
    /// The path is too long: 414.
    PathTooLong,
    /// No server can serve: 503.
    NoServer,
    /// The session's arm cannot serve, and no other may: 503.
    ArmDown,
}

impl Refusal {
    /// The status to answer with.
    pub fn status(&self) -> u16 {
        match self.reason {
            RefusalReason::NoRoute => 404,
            RefusalReason::BadPath | RefusalReason::EncodedSlash => 400,
            RefusalReason::PathTooLong => 414,
            RefusalReason::NoServer | RefusalReason::ArmDown => 503,
        }
    }

    /// The stable word for logs, metrics and the `x-lb-reason` header.
    pub fn word(&self) -> &'static str {
        match self.reason {
            RefusalReason::NoRoute => "no_route",
            RefusalReason::BadPath => "bad_path",
            RefusalReason::EncodedSlash => "encoded_slash",
            RefusalReason::PathTooLong => "path_too_long",
            RefusalReason::NoServer => "no_server",
            RefusalReason::ArmDown => "arm_down",
        }
    }
}

/// Why this arm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ArmReason {
    /// The route has no other.
    Only,
    /// The session's bucket against the share.
    Share,
    /// The session's mark.
    Mark,
    /// The testers' word.
    Forced,
}

/// Why this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PickReason {
    /// The session's sticky cookie names it.
    Sticky,
    /// The sticky cookie names a server that cannot serve: this is the session's next home.
    Moved,
    /// The backend's policy.
    Policy,
}

/// Where a request goes. Plain data without effect until [`Decision::take`]; dropping it costs nothing.
#[derive(Clone, Copy, Debug)]
pub struct Decision {
    route: RouteIndex,
    arm: ArmIndex,
    server: ServerIndex,
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
    /// The server.
    pub fn server(&self) -> ServerIndex {
        self.server
    }
    /// Whether another arm serves than the one that the session belongs to.
    pub fn fallback(&self) -> bool {
        false
    }
    /// Begins the attempt: counts it as in flight and advances the cursor.
    pub fn take(&self, table: &Table, cursors: &mut Cursors, now: Duration) -> Permit {
        let _ = (cursors, now);
        Permit::begin(table.server_live(self.server).clone())
    }
    /// Where to try next.
    pub fn again(
        &self,
        table: &Table,
        cursors: &Cursors,
        tried: &[ServerIndex],
        now: Duration,
        random: u128,
    ) -> Option<Decision> {
        let _ = (table, cursors, tried, now, random);
        None
    }
    /// Appends complete `set-cookie: ...\r\n` lines; true if any.
    pub fn write_cookies(&self, table: &Table, secure: bool, out: &mut Vec<u8>) -> bool {
        let _ = (table, secure, out);
        false
    }
}

/// Positions in round robin orders: the caller's, one per worker.
#[derive(Clone, Debug, Default)]
pub struct Cursors {
    seed: u64,
}

impl Cursors {
    /// Cursors that start anywhere: workers with different seeds do not all begin with the same server.
    pub fn new(seed: u64) -> Cursors {
        Cursors { seed }
    }
    /// Makes room for all backends of a table, so that taking allocates nothing.
    pub fn fit(&mut self, table: &Table) {
        let _ = (table, self.seed);
    }
}

/// Decides where a request goes. Has no effect and depends on its arguments only.
pub fn decide<F: Fields + ?Sized>(
    table: &Table,
    cursors: &Cursors,
    view: &RequestView<'_, F>,
    now: Duration,
    random: u128,
) -> Verdict {
    let _ = (table, cursors, view, now, random);
    Verdict::Refuse(Refusal { reason: RefusalReason::NoRoute, route: None })
}
