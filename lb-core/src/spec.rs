//! What is wanted: the plain types that a config file or an embedder fills in, and that
//! [`compile`](crate::compile()) makes a [`Snapshot`](crate::Snapshot) of.
//!
//! Everything has a `Default`; nothing is checked here. Fields that hold more than text ([`Share`],
//! [`Network`]) are parsed by whoever fills the spec, so that no wrong value can be held at all.

mod backend;
mod rate;
mod retry;
mod route;

pub use backend::{
    Address, Admin, BackendSpec, HashKey, Policy, PolicyError, QueueSpec, ServerSpec, StickySpec, Target,
};
pub use rate::{BodyRateSpec, RateKey, RateSpec};
pub use retry::{RetryOn, RetrySpec};
pub use route::{
    CanarySpec, EncodedSlash, Fallback, Marked, PathEncoding, PathMatch, RouteSpec, SessionKey, ValueMatch,
    ValueTest,
};

pub use crate::actions::{Actions, HeaderEdits, Redirect, Reply};
pub use crate::class::{Class, ClassesSpec};
pub use crate::hash::SecretKey;
pub use crate::network::Network;
pub use crate::share::Share;

use crate::defaults;
use std::time::Duration;

/// A whole table as it is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spec {
    /// Keys of the cookies and of the shares.
    pub secrets: Secrets,
    /// The session cookie.
    pub session: SessionSpec,
    /// Where this node stands: primaries of the same zone are preferred. Absent: it stands nowhere, and zones mean
    /// nothing.
    pub zone: Option<String>,
    /// Timeouts for everything that does not set its own.
    pub timeouts: TimeoutsSpec,
    /// Retries for every route and backend that does not set its own.
    pub retry: RetrySpec,
    /// What the classes have of a worker; without effect where all routes have the same class.
    pub classes: ClassesSpec,
    /// Where requests come in; the order gives `RequestView::listener` its meaning.
    pub listeners: Vec<ListenerSpec>,
    /// Where requests go.
    pub routes: Vec<RouteSpec>,
    /// Groups of servers.
    pub backends: Vec<BackendSpec>,
}

/// Keys. Nodes that are to agree on shares and to read each other's cookies must have the same.
///
/// | the spec has | `signing` | `share` |
/// |---|---|---|
/// | a canary on a route | needed | needed |
/// | a sticky backend | needed | needed |
/// | a backend whose policy hashes (`maglev`, `rendezvous`) | – | needed |
/// | a rate on a route | – | needed |
/// | none of these | – | – |
///
/// One that is needed and missing is the problem `LB021`, as is one that is given twice in `signing`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Secrets {
    /// The first signs marks and sticky cookies, all verify them. May be empty where nothing is signed. To change keys see
    /// ["Keys"](crate::guide::shares#keys).
    pub signing: Vec<SigningKey>,
    /// Decides which sessions a share takes and where hashing sends them (by policy, or when they must leave their
    /// server). Changing it moves every session, so it is never rotated along with the signing keys.
    pub share: Option<SecretKey>,
}

/// One key that signs or verifies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningKey {
    /// What people call it; unique in the list.
    pub id: String,
    /// The key itself; never printed.
    pub key: SecretKey,
}

/// The cookie that makes a client recognisable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionSpec {
    /// Its name; `lb_session` ([`defaults::SESSION_COOKIE`]) by default.
    pub cookie: String,
    /// Whether servers are kept from seeing our session, mark and sticky cookies; `false` by default.
    pub strip: bool,
}

impl Default for SessionSpec {
    fn default() -> SessionSpec {
        SessionSpec { cookie: defaults::SESSION_COOKIE.to_owned(), strip: false }
    }
}

/// Timeouts as far as they are set; the nearest word wins: route over backend over global. `request_head` and
/// `idle_down` pass while no route is known: there it is listener over global, and a route or backend that
/// sets them is a problem, as is a listener that sets any other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeoutsSpec {
    /// See [`defaults::CONNECT`].
    pub connect: Option<Duration>,
    /// See [`defaults::REQUEST_HEAD`].
    pub request_head: Option<Duration>,
    /// See [`defaults::RESPONSE`].
    pub response: Option<Duration>,
    /// See [`defaults::IDLE_DOWN`].
    pub idle_down: Option<Duration>,
    /// See [`defaults::IDLE_UP`].
    pub idle_up: Option<Duration>,
    /// See [`defaults::TUNNEL_IDLE`].
    pub tunnel_idle: Option<Duration>,
    /// See [`defaults::DRAIN`].
    pub drain: Option<Duration>,
}

/// A listener, as far as deciding needs it; its addresses are the business of whoever takes connections (the engine, where
/// documentation says so: it belongs to the proxy that uses this crate).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListenerSpec {
    /// Its name; unique.
    pub name: String,
    /// Peers whose X-Forwarded-* and x-request-id are believed.
    pub trusted: Vec<Network>,
    /// Where the client's address is read.
    pub client_address: ClientAddress,
    /// Its timeouts; only `request_head` and `idle_down` mean anything here.
    pub timeouts: TimeoutsSpec,
    /// Connections at once at most; absent: as the engine says. The core does not count them.
    pub max_connections: Option<u32>,
}

/// Where the client's address is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientAddress {
    /// The peer of the connection (the default).
    #[default]
    Peer,
    /// The rightmost hop of X-Forwarded-For that is not a trusted network, if the peer is trusted.
    XForwardedFor,
}
