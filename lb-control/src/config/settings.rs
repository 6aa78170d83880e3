//! The tables that are not routing: engine, admin, state, session, timeouts, listeners.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use lb_core::spec::{ClassesSpec, ClientAddress, ListenerSpec, Network, SessionSpec, TimeoutsSpec};

use super::address::{self, AdminAddress};
use super::reader::{Located, Reader, Scope, Shape};
use super::{codes, shapes, source::Span};
use crate::report::Diagnostic;

/// How the engine is to run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EngineSettings {
    /// Workers; absent: one per core.
    pub workers: Option<usize>,
    /// The driver.
    pub driver: Driver,
    /// Client connections at once at most, over all workers and listeners; absent: what descriptors allow.
    pub max_connections: Option<u32>,
}

/// Which way of talking to the kernel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Driver {
    /// io_uring where it works, else epoll.
    #[default]
    Auto,
    /// io_uring, or an error at start.
    IoUring,
    /// epoll.
    Epoll,
}

/// A listener's name and addresses; what deciding needs of it is in the spec, at the same index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Its name.
    pub name: String,
    /// Its addresses; port 0 lets the system choose.
    pub bind: Vec<SocketAddr>,
}

/// How the engine is to run, and the zone that it stands in.
pub(super) fn engine(reader: &mut Reader<'_>, root: Scope<'_>) -> (EngineSettings, Option<String>) {
    let Some(scope) = reader.table(root, "engine", &shapes::ENGINE) else {
        return (EngineSettings::default(), None);
    };
    let zone = reader.string(scope, "zone").map(|zone| zone.value);
    let workers = reader.integer(scope, "workers", 1..=1024).map(|found| found.value as usize);
    let drivers = [("auto", Driver::Auto), ("io_uring", Driver::IoUring), ("epoll", Driver::Epoll)];
    let driver = reader.choice(scope, "driver", &drivers, &[]).map(|found| found.value).unwrap_or_default();
    let max_connections =
        reader.integer(scope, "max_connections", 1..=100_000_000).map(|found| found.value as u32);
    (EngineSettings { workers, driver, max_connections }, zone)
}

pub(super) fn admin(reader: &mut Reader<'_>, root: Scope<'_>) -> Option<Located<AdminAddress>> {
    let scope = reader.table(root, "admin", &shapes::ADMIN)?;
    if scope.table.get("listen").is_none() {
        reader.missing(scope, "listen", "an address such as \"127.0.0.1:9900\"");
    }
    reader.parsed(scope, "listen", address::admin)
}

pub(super) fn state(reader: &mut Reader<'_>, root: Scope<'_>) -> Option<PathBuf> {
    let scope = reader.table(root, "state", &shapes::STATE)?;
    let dir = reader.required(scope, "dir", "a directory such as \"/var/lib/lb\"")?;
    Some(reader.report.sources.directory(dir.span).join(dir.value))
}

/// The session cookie, and the file of keys if one is named.
pub(super) fn session(reader: &mut Reader<'_>, root: Scope<'_>) -> (SessionSpec, Option<Located<PathBuf>>) {
    let mut session = SessionSpec::default();
    let Some(scope) = reader.table(root, "session", &shapes::SESSION) else { return (session, None) };
    if let Some(cookie) = reader.string(scope, "cookie") {
        session.cookie = cookie.value;
    }
    session.strip = reader.boolean(scope, "strip").unwrap_or(session.strip);
    let file = reader.string(scope, "secret_file").map(|file| Located {
        value: reader.report.sources.directory(file.span).join(file.value),
        span: file.span,
    });
    (session, file)
}

/// A `timeouts` table of the given shape; keys outside the shape were refused on entering it.
pub(super) fn timeouts(reader: &mut Reader<'_>, parent: Scope<'_>, shape: &'static Shape) -> TimeoutsSpec {
    let mut timeouts = TimeoutsSpec::default();
    let Some(scope) = reader.table(parent, "timeouts", shape) else { return timeouts };
    let fields: [(&'static str, &mut Option<Duration>); 7] = [
        ("connect", &mut timeouts.connect),
        ("request_head", &mut timeouts.request_head),
        ("response", &mut timeouts.response),
        ("idle_down", &mut timeouts.idle_down),
        ("idle_up", &mut timeouts.idle_up),
        ("tunnel_idle", &mut timeouts.tunnel_idle),
        ("drain", &mut timeouts.drain),
    ];
    for (key, field) in fields {
        if shape.keys.contains(&key) {
            *field = reader.duration(scope, key).map(|found| found.value);
        }
    }
    timeouts
}

/// What the classes have.
pub(super) fn classes(reader: &mut Reader<'_>, root: Scope<'_>) -> ClassesSpec {
    let mut classes = ClassesSpec::default();
    let Some(scope) = reader.table(root, "classes", &shapes::CLASSES) else { return classes };
    let share = i64::from(lb_core::defaults::CLASS_SHARE_MAX);
    let fields: [(&'static str, i64, &mut u32); 4] = [
        ("platinum", share, &mut classes.platinum),
        ("gold", share, &mut classes.gold),
        ("silver", share, &mut classes.silver),
        ("waiting", i64::from(lb_core::defaults::CLASS_WAITING_MAX), &mut classes.waiting),
    ];
    for (key, most, field) in fields {
        if let Some(found) = reader.integer(scope, key, 1..=most) {
            *field = found.value as u32;
        }
    }
    classes
}

/// A list of networks.
pub(super) fn networks(reader: &mut Reader<'_>, scope: Scope<'_>, key: &'static str) -> Vec<Network> {
    let texts = reader.strings(scope, key);
    let mut networks = Vec::with_capacity(texts.len());
    for text in texts {
        match address::network(&text.value) {
            Ok(network) => networks.push(network),
            Err(why) => {
                let message = format!("`{}` is not a network", super::reader::shortened(&text.value));
                reader.refuse(text.span, message, why);
            }
        }
    }
    networks
}

pub(super) fn listeners(
    reader: &mut Reader<'_>,
    root: Scope<'_>,
    admin: Option<&Located<AdminAddress>>,
) -> (Vec<Listener>, Vec<ListenerSpec>) {
    let mut taken: Vec<(SocketAddr, Span)> = Vec::new();
    if let Some(Located { value: AdminAddress::Tcp(address), span }) = admin {
        taken.push((*address, *span));
    }
    let (mut listeners, mut specs) = (Vec::new(), Vec::new());
    for scope in reader.tables(root, "listener", &shapes::LISTENER) {
        let name = reader
            .required(scope, "name", "a name such as \"web\"")
            .map(|name| name.value)
            .unwrap_or_default();
        reader.choice(scope, "protocol", &[("http", ())], &["tcp", "https", "http2", "http3", "udp", "tls"]);
        if scope.table.get("bind").is_none() {
            reader.missing(scope, "bind", "an address such as \"0.0.0.0:8080\"");
        }
        let mut bind = Vec::new();
        for text in reader.strings(scope, "bind") {
            match address::bind(&text.value) {
                Ok(address) => {
                    check_free(reader, &mut taken, address, text.span);
                    bind.push(address);
                }
                Err(why) => {
                    let message = format!("`bind` cannot be `{}`", super::reader::shortened(&text.value));
                    reader.refuse(text.span, message, why);
                }
            }
        }
        let ways = [("peer", ClientAddress::Peer), ("x-forwarded-for", ClientAddress::XForwardedFor)];
        let client_address = reader.choice(scope, "client_address", &ways, &["proxy", "forwarded"]);
        let max_connections = reader.integer(scope, "max_connections", 1..=100_000_000);
        let trusted = networks(reader, scope, "trusted");
        if trusted.is_empty() && client_address.as_ref().is_some_and(|way| way.value != ClientAddress::Peer) {
            reader.no_effect(scope, "client_address", "no peer is `trusted`");
        }
        specs.push(ListenerSpec {
            name: name.clone(),
            trusted,
            client_address: client_address.map(|found| found.value).unwrap_or_default(),
            timeouts: timeouts(reader, scope, &shapes::LISTENER_TIMEOUTS),
            max_connections: max_connections.map(|found| found.value as u32),
        });
        listeners.push(Listener { name, bind });
    }
    (listeners, specs)
}

fn check_free(reader: &mut Reader<'_>, taken: &mut Vec<(SocketAddr, Span)>, address: SocketAddr, span: Span) {
    if let Some((_, first)) = taken.iter().find(|(known, _)| *known == address && address.port() != 0) {
        let place = reader.report.sources.locate(*first).to_string();
        reader.report.add(
            Diagnostic::error(codes::SAME_ADDRESS, format!("{address} is already taken in {place}"))
                .at(span)
                .expected("an address of its own"),
        );
    }
    taken.push((address, span));
}
