//! From a [`Spec`] to a [`Snapshot`]: all problems at once, or a table that cannot be wrong.

mod actions;
mod backends;
mod classes;
pub mod codes;
mod conditions;
mod content;
mod cookies;
mod index;
mod names;
mod problem;
mod rates;
mod retries;
mod routes;
mod timeouts;

pub use problem::{CompileError, PROBLEMS_MAX, Place, Problem, Severity, Step};

use crate::cookie;
use crate::defaults;
use crate::session::Keys;
use crate::snapshot::{Listener, Snapshot};
use crate::source::ListenerRules;
use crate::spec::{SecretKey, Secrets, Spec};
use names::Names;
use problem::Problems;

/// What compiling a spec gives.
#[derive(Debug)]
#[non_exhaustive]
pub struct Compiled {
    /// The table.
    pub snapshot: Snapshot,
    /// What is odd about the spec; every one a [`Severity::Warning`].
    pub warnings: Vec<Problem>,
}

/// Compiles a spec. The same spec gives the same snapshot everywhere, and takes time and memory in proportion to
/// its size.
///
/// # Errors
/// All problems of the spec, errors and warnings, if at least one is an error.
pub fn compile(spec: &Spec) -> Result<Compiled, CompileError> {
    let mut problems = Problems::default();
    let root = Place::root();
    bounds(spec, &mut problems);
    if problems.has_errors() {
        // Nothing is made of what is too much, not even further problems.
        return Err(CompileError { problems: problems.finish().0 });
    }

    let keys = keys(&spec.secrets, &root.field("secrets"), &mut problems);
    let session_place = root.field("session").field("cookie");
    cookie_name(&spec.session.cookie, &session_place, &mut problems);
    timeouts::check(&spec.timeouts, &root.field("timeouts"), timeouts::Scope::Global, &mut problems);

    let listener_names = Names::new("listener", spec.listeners.iter().map(|it| &*it.name), &mut problems);
    let backend_names = Names::new("backend", spec.backends.iter().map(|it| &*it.name), &mut problems);
    Names::new("route", spec.routes.iter().map(|it| &*it.name), &mut problems);

    let listeners = listeners(spec, &root, &mut problems);
    let (backends, servers) = backends::compile(spec, &keys, &mut problems);
    let known = routes::Known { spec, keys: &keys, backends: &backend_names, listeners: &listener_names };
    let routes = routes::compile(&known, &mut problems);
    let classes = classes::compile(spec, &mut problems);
    retries::check(spec, &backend_names, &mut problems);
    let finder = index::compile(spec, &mut problems);
    cookies::check(spec, &backend_names, &mut problems);
    secrets_needed(spec, &root.field("secrets"), &mut problems);

    let (list, failed) = problems.finish();
    if failed {
        return Err(CompileError { problems: list });
    }
    let snapshot = Snapshot {
        hash: content::hash(spec),
        listeners,
        routes,
        backends,
        servers,
        finder,
        keys,
        session_cookie: spec.session.cookie.as_str().into(),
        zone: spec.zone.as_deref().map(Into::into),
        timeouts: timeouts::merge(&[&spec.timeouts]),
        classes,
    };
    Ok(Compiled { snapshot, warnings: list })
}

/// Refuses what is too much before anything is made of it.
fn bounds(spec: &Spec, problems: &mut Problems) {
    let root = Place::root();
    at_most(spec.listeners.len(), defaults::LISTENERS_MAX, "listeners", &root.field("listener"), problems);
    at_most(spec.routes.len(), defaults::ROUTES_MAX, "routes", &root.field("route"), problems);
    at_most(spec.backends.len(), defaults::BACKENDS_MAX, "backends", &root.field("backend"), problems);
    let servers = spec.backends.iter().flat_map(|it| &it.servers).map(|it| it.address.all().len()).sum();
    at_most(servers, defaults::SERVERS_MAX, "servers in all backends", &root.field("backend"), problems);
    let regexes = spec.routes.iter().map(conditions::count_regexes).sum();
    at_most(
        regexes,
        defaults::REGEXES_MAX,
        "regular expressions in all routes",
        &root.field("route"),
        problems,
    );
}

/// Refuses more of something than the bound says.
fn at_most(count: usize, most: usize, what: &str, place: &Place, problems: &mut Problems) {
    if count > most {
        problems
            .error(codes::TOO_MANY, place, format!("there are {count} {what}"))
            .expected(format!("expected at most {most}"));
    }
}

fn keys(secrets: &Secrets, place: &Place, problems: &mut Problems) -> Keys {
    let place = place.field("signing");
    at_most(secrets.signing.len(), defaults::SIGNING_KEYS_MAX, "signing keys", &place, problems);
    for (index, key) in secrets.signing.iter().enumerate() {
        let earlier = &secrets.signing[..index.min(defaults::SIGNING_KEYS_MAX)];
        if earlier.iter().any(|other| other.id == key.id || other.key == key.key) {
            let message = format!("the signing key `{}` is there twice", key.id);
            problems.error(codes::SECRET, &place.index(index), message);
        }
    }
    Keys {
        signing: secrets.signing.iter().map(|key| key.key).take(defaults::SIGNING_KEYS_MAX).collect(),
        // Where a share key is needed and missing, compiling fails.
        share: secrets.share.unwrap_or(SecretKey::new([0; 16])),
    }
}

/// Whatever is signed needs a key that signs, whatever nodes must agree on needs a share key.
fn secrets_needed(spec: &Spec, place: &Place, problems: &mut Problems) {
    let splits = spec.routes.iter().any(|route| route.canary.is_some());
    let sticks = spec.backends.iter().any(|backend| backend.sticky.is_some());
    let hashes = spec.backends.iter().any(|backend| backend.balance.hashes());
    let rates = spec.routes.iter().any(|route| route.rate.is_some());
    if (splits || sticks) && spec.secrets.signing.is_empty() {
        let message = "marks and sticky cookies are signed, and there is no key to sign them with";
        problems
            .error(codes::SECRET, &place.field("signing"), message.into())
            .expected("expected a signing key");
    }
    if (splits || sticks || hashes || rates) && spec.secrets.share.is_none() {
        let message = "shares, hashing and rates need a share key, and there is none";
        problems.error(codes::SECRET, &place.field("share"), message.into()).expected("expected a share key");
    }
}

fn listeners(spec: &Spec, root: &Place, problems: &mut Problems) -> Box<[Listener]> {
    let listener = |(index, listener): (usize, &crate::spec::ListenerSpec)| {
        let place = root.field("listener").index(index);
        timeouts::check(&listener.timeouts, &place.field("timeouts"), timeouts::Scope::Listener, problems);
        let trusted = place.field("trusted");
        at_most(listener.trusted.len(), defaults::NETWORKS_MAX, "networks", &trusted, problems);
        if listener.max_connections == Some(0) {
            let message = "a listener with at most 0 connections can serve nobody".to_owned();
            problems.error(codes::TOO_MANY, &place.field("max_connections"), message);
        }
        Listener {
            name: listener.name.as_str().into(),
            rules: ListenerRules {
                trusted: listener.trusted.clone(),
                client_address: listener.client_address,
            },
            timeouts: timeouts::merge(&[&listener.timeouts, &spec.timeouts]),
            max_connections: listener.max_connections,
        }
    };
    spec.listeners.iter().enumerate().map(listener).collect()
}

/// Refuses what is no cookie name.
fn cookie_name(name: &str, place: &Place, problems: &mut Problems) {
    if !cookie::is_name(name) {
        let message = format!("`{name}` cannot be the name of a cookie");
        let expected = "expected letters, digits and any of !#$%&'*+-.^_`|~";
        problems.error(codes::COOKIE, place, message).expected(expected);
    }
}
