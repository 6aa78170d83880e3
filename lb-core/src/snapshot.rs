//! The whole compiled table: immutable, with a content hash.

use crate::actions::{Actions, Redirect, Reply};
use crate::choose::Canary;
use crate::class::{Class, ClassesSpec};
use crate::defaults::{self, ARMS_MAX};
use crate::find::{Conditions, Finder};
use crate::hash::ContentHash;
use crate::jar::CookieNames;
use crate::live::Identity;
use crate::pick::Pool;
use crate::rate::Rate;
use crate::retry::RetryRules;
use crate::session::Keys;
use crate::source::ListenerRules;
use crate::spec::{Admin, EncodedSlash, PathEncoding, Policy, QueueSpec, SessionKey};
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

/// Place of a route in a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteIndex(pub u32);

/// Place of a backend in a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BackendIndex(pub u32);

/// Place of a server among all servers of a snapshot; those of one backend stand together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerIndex(pub u32);

/// Place of an arm in its route: 0 is the stable one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ArmIndex(pub u8);

impl ArmIndex {
    /// The arm that has what no other takes.
    pub const STABLE: ArmIndex = ArmIndex(0);
}

/// The whole compiled table. Made by [`compile`](crate::compile()); never changes.
#[derive(Debug)]
pub struct Snapshot {
    pub(crate) hash: ContentHash,
    pub(crate) listeners: Box<[Listener]>,
    pub(crate) routes: Box<[Route]>,
    pub(crate) backends: Box<[Backend]>,
    pub(crate) servers: Box<[Server]>,
    pub(crate) finder: Finder,
    pub(crate) keys: Keys,
    pub(crate) session_cookie: Box<str>,
    pub(crate) zone: Option<Box<str>>,
    pub(crate) timeouts: Timeouts,
    pub(crate) classes: Option<ClassesSpec>,
}

impl Snapshot {
    /// What tells two snapshots apart: equal if and only if compiled from equal specs.
    pub fn hash(&self) -> ContentHash {
        self.hash
    }

    /// A listener.
    ///
    /// # Panics
    /// If there is none at this place.
    pub fn listener(&self, listener: u32) -> &Listener {
        &self.listeners[listener as usize]
    }

    /// A route.
    ///
    /// # Panics
    /// If the index is another snapshot's and too large for this one.
    pub fn route(&self, route: RouteIndex) -> &Route {
        &self.routes[route.0 as usize]
    }

    /// A backend.
    ///
    /// # Panics
    /// If the index is another snapshot's and too large for this one.
    pub fn backend(&self, backend: BackendIndex) -> &Backend {
        &self.backends[backend.0 as usize]
    }

    /// A server.
    ///
    /// # Panics
    /// If the index is another snapshot's and too large for this one.
    pub fn server(&self, server: ServerIndex) -> &Server {
        &self.servers[server.0 as usize]
    }

    /// All listeners, in the order of the spec.
    pub fn listeners(&self) -> &[Listener] {
        &self.listeners
    }

    /// The place of the listener of this name.
    pub fn listener_index(&self, name: &str) -> Option<u32> {
        self.listeners.iter().position(|listener| &*listener.name == name).map(|place| place as u32)
    }

    /// All routes, in the order of the spec.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// All backends, in the order of the spec.
    pub fn backends(&self) -> &[Backend] {
        &self.backends
    }

    /// All servers, backend by backend.
    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// Name of the session cookie.
    pub fn session_cookie(&self) -> &str {
        &self.session_cookie
    }

    /// Where this node stands.
    pub fn zone(&self) -> Option<&str> {
        self.zone.as_deref()
    }

    /// The global timeouts, for what belongs to no listener and no route (such as `drain`).
    pub fn timeouts(&self) -> &Timeouts {
        &self.timeouts
    }

    /// Whether any route has a rate.
    pub(crate) fn has_rates(&self) -> bool {
        self.routes.iter().any(|route| route.rate.is_some())
    }

    /// What the classes have of a worker; `None` where all routes have the same class.
    pub fn classes(&self) -> Option<&ClassesSpec> {
        self.classes.as_ref()
    }
}

/// A listener.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Listener {
    /// Its name.
    pub name: Box<str>,
    /// Whom it believes about the client's address.
    pub rules: ListenerRules,
    /// Its timeouts; only `request_head` and `idle_down` are its own.
    pub timeouts: Timeouts,
    /// Connections at once at most.
    pub max_connections: Option<u32>,
}

/// Timeouts, merged: each has a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// See [`defaults::CONNECT`].
    pub connect: Duration,
    /// See [`defaults::REQUEST_HEAD`].
    pub request_head: Duration,
    /// See [`defaults::RESPONSE`].
    pub response: Duration,
    /// See [`defaults::IDLE_DOWN`].
    pub idle_down: Duration,
    /// See [`defaults::IDLE_UP`].
    pub idle_up: Duration,
    /// See [`defaults::TUNNEL_IDLE`].
    pub tunnel_idle: Duration,
    /// See [`defaults::DRAIN`].
    pub drain: Duration,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            connect: defaults::CONNECT,
            request_head: defaults::REQUEST_HEAD,
            response: defaults::RESPONSE,
            idle_down: defaults::IDLE_DOWN,
            idle_up: defaults::IDLE_UP,
            tunnel_idle: defaults::TUNNEL_IDLE,
            drain: defaults::DRAIN,
        }
    }
}

/// A route.
#[derive(Debug)]
pub struct Route {
    /// Its name.
    pub name: Box<str>,
    /// What is done to requests and responses on the way; header names in lower case.
    pub actions: Actions,
    /// Bytes of a request body at most.
    pub max_body: Option<u64>,
    /// How slowly a request body may come.
    pub body_rate: Option<BodyRate>,
    /// Where it goes.
    pub target: Target,
    /// Whose requests come first.
    pub class: Class,
    pub(crate) encoded_slash: EncodedSlash,
    pub(crate) path_encoding: PathEncoding,
    pub(crate) conditions: Conditions,
    pub(crate) rate: Option<Box<Rate>>,
}

/// How slowly a request body may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyRate {
    /// Bytes in a second, on average over the time in which the client is waited for.
    pub bytes: u64,
    /// Time that the client is given besides.
    pub grace: Duration,
}

impl Route {
    /// Its arms, the stable one first; none for a redirect or a fixed reply.
    pub fn arms(&self) -> &[Arm] {
        match &self.target {
            Target::Backends(split) => &split.arms,
            Target::Redirect(_) | Target::Reply(_) => &[],
        }
    }

    /// One of its arms.
    ///
    /// # Panics
    /// If it has no such arm.
    pub fn arm(&self, arm: ArmIndex) -> &Arm {
        &self.arms()[usize::from(arm.0)]
    }
}

/// Where a route goes.
#[derive(Debug)]
pub enum Target {
    /// To servers.
    Backends(Split),
    /// Nowhere: a redirect.
    Redirect(Redirect),
    /// Nowhere: a fixed reply.
    Reply(Reply),
}

/// A route's arms, and what decides between them.
#[derive(Debug)]
pub struct Split {
    /// The arms, the stable one first.
    pub arms: Box<[Arm]>,
    /// The arms' backends, once more: so that deciding reads the route and not its arms.
    pub(crate) backends: [BackendIndex; ARMS_MAX],
    /// What is known of the other arm.
    pub(crate) canary: Option<Box<Canary>>,
    /// Whether our session cookie is set where it is missing.
    pub(crate) sets_session: bool,
    /// The cookies of ours that its requests may carry; `None` if there are none to look for.
    pub(crate) cookie_names: Option<Box<CookieNames>>,
}

/// One way that a route's requests may go.
#[derive(Debug)]
#[non_exhaustive]
pub struct Arm {
    /// `stable` or `canary`.
    pub name: &'static str,
    /// Its servers.
    pub backend: BackendIndex,
    /// The buckets that it takes, in hundredths of a percent; the stable arm takes what is left, after them.
    pub buckets: Range<u16>,
    /// Timeouts of its exchanges: route over backend over global.
    pub timeouts: Timeouts,
    /// Further attempts after the first, where safe: route over backend over global.
    pub retry: RetryRules,
    /// Names of cookies to strip from requests to its servers.
    pub strip_cookies: Box<[Box<str>]>,
}

/// A backend.
#[derive(Debug)]
pub struct Backend {
    /// Its name.
    pub name: std::sync::Arc<str>,
    /// How a server is chosen.
    pub policy: Policy,
    /// Whether old-fashioned response heads pass, normalised.
    pub accept_legacy_responses: bool,
    /// Share of its exchanges, in percent, that may be retried over time: for a [`RetryBudget`](crate::RetryBudget) of its own.
    pub retry_budget_percent: u32,
    /// Where requests wait when all servers that could serve them are full; `None` if no server can be.
    pub queue: Option<QueueSpec>,
    /// Its servers' places among all.
    pub servers: Range<u32>,
    pub(crate) pool: Pool,
}

/// A server: one address.
#[derive(Debug)]
#[non_exhaustive]
pub struct Server {
    /// Which one.
    pub identity: Identity,
    /// Its backend.
    pub backend: BackendIndex,
    /// Its weight; among backups only, if it is one.
    pub weight: u32,
    /// Whether it is used only when no other can serve.
    pub backup: bool,
    /// What the spec says about it; live state says what is so now.
    pub admin: Admin,
    /// Where it stands.
    pub zone: Option<Box<str>>,
    /// What else is told of it in logs.
    pub labels: Box<[(Box<str>, Box<str>)]>,
    /// Requests that it may have in flight at a time.
    pub max_requests: Option<u32>,
    /// Connections that may be open to it at a time.
    pub max_connections: Option<u32>,
    /// Whether its address came out of a name.
    pub resolved: bool,
}

impl Server {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.identity.name
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        self.identity.address
    }
}

impl Split {
    /// The backends of the arms that there are.
    pub(crate) fn backends(&self) -> &[BackendIndex] {
        &self.backends[..self.arms.len()]
    }

    /// What a session is here; `None` without a canary.
    pub fn session_key(&self) -> Option<&SessionKey> {
        self.canary.as_ref().map(|canary| &canary.key)
    }

    /// The release; `None` without a canary.
    pub fn release(&self) -> Option<&str> {
        self.canary.as_ref().map(|canary| &*canary.release)
    }
}
