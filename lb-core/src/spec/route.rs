//! Routes as they are wanted.

use super::{Actions, BodyRateSpec, Class, Network, RateSpec, RetrySpec, Share, TimeoutsSpec};

/// What a request must look like and where it then goes. All conditions must hold; in a list of hosts,
/// methods, listeners or networks one of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteSpec {
    /// Its name; unique. It is part of what decides a session's bucket.
    pub name: String,
    /// Names of the listeners it holds for; empty: all.
    pub listeners: Vec<String>,
    /// Hosts: `shop.example.com` or `*.example.com` (one label or more before the suffix); empty: any.
    pub hosts: Vec<String>,
    /// The path.
    pub path: PathMatch,
    /// Methods, as they are written in requests (GET does not stand for HEAD); empty: any.
    pub methods: Vec<String>,
    /// Request headers; names without regard to case. A header sent in several lines is asked line by line.
    pub headers: Vec<ValueMatch>,
    /// Query parameters. For [`ValueTest::Is`] both sides are percent-decoded first (`+` is a space).
    pub query: Vec<ValueMatch>,
    /// Cookies.
    pub cookies: Vec<ValueMatch>,
    /// Networks that the client must be in; empty: any.
    pub sources: Vec<Network>,
    /// A higher one beats everything more specific.
    pub priority: i32,
    /// Whose requests come first where a worker has more to do than it can; it has no part in what matches.
    pub class: Class,
    /// What an encoded slash in the path means.
    pub encoded_slash: EncodedSlash,
    /// What may stand in a path.
    pub path_encoding: PathEncoding,
    /// Name of the stable arm's backend. Exactly one of this, `actions.redirect` and `actions.reply` is given.
    pub backend: Option<String>,
    /// The other arm.
    pub canary: Option<CanarySpec>,
    /// What is done to requests and responses on the way.
    pub actions: Actions,
    /// Timeouts of its exchanges.
    pub timeouts: TimeoutsSpec,
    /// Retries of its exchanges; budgets are the backends', so `budget_percent` is a problem here.
    pub retry: RetrySpec,
    /// How many requests each client may make; absent: as many as it likes.
    pub rate: Option<RateSpec>,
    /// How slowly request bodies may come, which is for whoever receives them to see to; absent: as slowly as they like.
    pub body_rate: Option<BodyRateSpec>,
}

impl RouteSpec {
    /// A route that takes every request to a backend: conditions are what is set beside.
    ///
    /// ```
    /// use lb_core::spec::{PathMatch, RouteSpec};
    ///
    /// let cart = RouteSpec { path: PathMatch::Prefix("/cart".into()), ..RouteSpec::new("cart", "cart-ec2") };
    /// assert_eq!(cart.backend.as_deref(), Some("cart-ec2"));
    /// ```
    pub fn new(name: impl Into<String>, backend: impl Into<String>) -> RouteSpec {
        RouteSpec { name: name.into(), backend: Some(backend.into()), ..RouteSpec::default() }
    }
}

/// A condition on the path. Compared after unreserved octets were percent-decoded; slashes are not merged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PathMatch {
    /// Any path (the default); less specific than every other condition on the path.
    #[default]
    Any,
    /// This path.
    Exact(String),
    /// This path, or one that continues it with a whole segment: `/cart` holds `/cart/7`, not `/cartoon`.
    Prefix(String),
    /// A regular expression that the whole path matches; syntax of the `regex` crate, linear time.
    Regex(String),
}

/// A condition on a named value: a header, a query parameter or a cookie.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ValueMatch {
    /// Its name.
    pub name: String,
    /// What its value must be.
    pub test: ValueTest,
}

/// What a value must be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ValueTest {
    /// It must be there (the default).
    #[default]
    Present,
    /// It must not be there.
    Absent,
    /// It must be this.
    Is(String),
    /// The whole of it must match this regular expression.
    Regex(String),
}

/// What an encoded slash (`%2F`) in the path means; it is never decoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum EncodedSlash {
    /// It is kept and matched as it is (the default); package registries and GitLab need it.
    #[default]
    Keep,
    /// The request is refused with 400.
    Refuse,
}

/// What may stand in a path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PathEncoding {
    /// Dot segments, backslashes (plain or encoded) and NUL are refused with 400 (the default).
    #[default]
    Strict,
    /// Anything; the server is trusted to understand paths as we do.
    Raw,
}

/// The second arm of a route and who gets it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CanarySpec {
    /// Name of its backend.
    pub backend: String,
    /// The sessions that it takes.
    pub share: Share,
    /// Name of the testers' cookie, whose value `always` or `never` beats the share; absent: testers have no say.
    pub cookie: Option<String>,
    /// Name of the cookie that marks a session of this arm; absent: the testers' cookie's name and
    /// `_mark`, or `canary_mark` where there is no testers' cookie either.
    pub mark_cookie: Option<String>,
    /// Which release this is: another one picks other sessions and voids all marks. May be empty; as long as it stays
    /// the same (empty, say), the next thing that you release meets the same people, and those marked stay marked.
    pub release: String,
    /// Networks from which the testers' word counts; empty: from all.
    pub force_from: Vec<Network>,
    /// A value that the testers' cookie must have in place of `always`, to keep it private.
    pub force_value: Option<String>,
    /// What a mark means.
    pub marked: Marked,
    /// What happens when the arm that a session belongs to has no server for it.
    pub fallback: Fallback,
    /// The same for sessions under the testers' word; absent: [`Fallback::Refuse`].
    pub forced_fallback: Option<Fallback>,
    /// What a session is.
    pub key: SessionKey,
}

/// What a session is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SessionKey {
    /// Our session cookie (the default); set where it is missing.
    #[default]
    Cookie,
    /// The client's address.
    Source,
    /// A request header's value; the client's address where it is missing.
    Header(String),
    /// Every request is its own session. There is no mark then: it would hold ever more clients to the canary.
    Draw,
}

/// What the mark of a session means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Marked {
    /// The mark's bucket counts against the share (the default): lowering the share returns the session.
    #[default]
    Follow,
    /// The session keeps the marked arm as long as the release is the same.
    Stay,
}

/// What happens when an arm has no server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Fallback {
    /// The other arm serves (the default); the session is not re-marked and returns when its arm can.
    #[default]
    Other,
    /// The request is refused with 503.
    Refuse,
}
