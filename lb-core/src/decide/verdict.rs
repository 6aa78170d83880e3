//! What deciding says, and why.

use super::Decision;
use crate::snapshot::{ArmIndex, RouteIndex};
use std::fmt;
use std::time::Duration;

/// Where a request goes. Not marked `non_exhaustive` on purpose: whoever decides must know what to do with each, and a
/// new one is to be noticed.
#[derive(Clone, Copy, Debug)]
#[must_use = "deciding has no effect by itself"]
pub enum Verdict {
    /// To a server.
    Forward(Decision),
    /// Nowhere: its route answers itself, with a redirect or a fixed reply.
    Answer(RouteIndex),
    /// Nowhere: it is refused.
    Refuse(Refusal),
}

/// Why a request is refused. An error, too, for services whose errors become responses further up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refusal {
    /// Why.
    pub reason: RefusalReason,
    /// The route that was found, if one was.
    pub route: Option<RouteIndex>,
    /// The arm that the session belongs to, if it came to that.
    pub arm: Option<ArmIndex>,
    /// How long the client is to wait before it tries again, where that is known: with [`RefusalReason::RateLimited`].
    pub retry_after: Option<Duration>,
}

/// Reasons to refuse a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RefusalReason {
    /// No route matches: 404.
    NoRoute,
    /// The path has a dot segment, a backslash or NUL, or does not begin with a slash: 400.
    BadPath,
    /// The path has an encoded slash and its route refuses them: 400.
    EncodedSlash,
    /// The path is longer than [`PATH_LEN_MAX`](crate::defaults::PATH_LEN_MAX): 414.
    PathTooLong,
    /// No server can serve: 503.
    NoServer,
    /// The session's arm cannot serve, and no other may: 503.
    ArmDown,
    /// The client has made more requests than the route's rate allows: 429. Only [`Verdict::charge`] says so.
    RateLimited,
}

impl RefusalReason {
    /// All of them.
    pub const ALL: &[RefusalReason] = &[
        RefusalReason::NoRoute,
        RefusalReason::BadPath,
        RefusalReason::EncodedSlash,
        RefusalReason::PathTooLong,
        RefusalReason::NoServer,
        RefusalReason::ArmDown,
        RefusalReason::RateLimited,
    ];

    /// The status to answer with.
    pub fn status(self) -> u16 {
        match self {
            RefusalReason::NoRoute => 404,
            RefusalReason::BadPath | RefusalReason::EncodedSlash => 400,
            RefusalReason::PathTooLong => 414,
            RefusalReason::NoServer | RefusalReason::ArmDown => 503,
            RefusalReason::RateLimited => 429,
        }
    }

    /// The stable word for logs, metrics and the `x-lb-reason` header.
    pub fn word(self) -> &'static str {
        match self {
            RefusalReason::NoRoute => "no_route",
            RefusalReason::BadPath => "bad_path",
            RefusalReason::EncodedSlash => "encoded_slash",
            RefusalReason::PathTooLong => "path_too_long",
            RefusalReason::NoServer => "no_server",
            RefusalReason::ArmDown => "arm_down",
            RefusalReason::RateLimited => "rate_limited",
        }
    }
}

impl fmt::Display for RefusalReason {
    /// Writes its word.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl Refusal {
    pub(super) fn new(reason: RefusalReason, route: Option<RouteIndex>, arm: Option<ArmIndex>) -> Refusal {
        Refusal { reason, route, arm, retry_after: None }
    }

    /// For a client that has to wait so long, by the rate of the route.
    pub(crate) fn for_rate(route: RouteIndex, arm: Option<ArmIndex>, wait: Duration) -> Refusal {
        let refusal = Refusal::new(RefusalReason::RateLimited, Some(route), arm);
        Refusal { retry_after: Some(wait), ..refusal }
    }

    /// What the response is to say in `Retry-After`: whole seconds (RFC 9110, section 10.2.3), rounded up, for who comes
    /// earlier is refused again.
    pub fn retry_after_s(&self) -> Option<u64> {
        let wait = self.retry_after?;
        Some((wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1))
    }

    /// The status to answer with.
    pub fn status(&self) -> u16 {
        self.reason.status()
    }

    /// The stable word for logs, metrics and the `x-lb-reason` header.
    pub fn word(&self) -> &'static str {
        self.reason.word()
    }
}

impl fmt::Display for Refusal {
    /// Writes the status and the word: `503 no_server`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.status(), self.word())
    }
}

impl std::error::Error for Refusal {}

/// Why this arm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
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

impl ArmReason {
    /// The word for it in logs.
    pub fn word(self) -> &'static str {
        match self {
            ArmReason::Only => "only",
            ArmReason::Share => "share",
            ArmReason::Mark => "mark",
            ArmReason::Forced => "forced",
        }
    }
}

impl fmt::Display for ArmReason {
    /// Writes its word.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// What a session's sticky cookie said, as far as it concerns the server that was picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stickiness {
    /// There was none.
    New,
    /// It names a server that is gone, or is no cookie of ours.
    Unknown,
    /// It names the server.
    Kept,
    /// It names another one, which cannot serve or has been tried.
    Moved,
}

impl Stickiness {
    /// The word for it in logs.
    pub fn word(self) -> &'static str {
        match self {
            Stickiness::New => "new",
            Stickiness::Unknown => "unknown",
            Stickiness::Kept => "kept",
            Stickiness::Moved => "moved",
        }
    }
}

/// Why this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PickReason {
    /// The session's sticky cookie names it.
    Sticky,
    /// The sticky cookie names a server that cannot serve: this is the session's next home.
    Moved,
    /// The backend's policy.
    Policy,
}

impl PickReason {
    /// The word for it in logs.
    pub fn word(self) -> &'static str {
        match self {
            PickReason::Sticky => "sticky",
            PickReason::Moved => "moved",
            PickReason::Policy => "policy",
        }
    }
}

impl fmt::Display for PickReason {
    /// Writes its word.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}
