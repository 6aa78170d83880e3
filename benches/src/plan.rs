//! The rows of a run: which configuration under which load.

use crate::Result;

/// What a subject is configured to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One server, no split.
    Bare,
    /// Three servers with least_request, a 10 % split to a fourth, stickiness, X-Forwarded-*, request ids,
    /// all timeouts.
    Product,
    /// As [`Shape::Product`], with an access log of every request in a file, ours in this format.
    Logged(Log),
    /// [`ROUTES`] routes of host and path prefix, to [`ROUTE_BACKENDS`] backends of one server.
    Routes,
    /// One backend of [`SERVERS`] servers with least_request.
    Servers,
}

/// How lb writes its access log. The others have one format each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Log {
    /// All that we know of a request.
    Json,
    /// The line that nginx writes, for those who want to know what ours cost for the same.
    Combined,
}

/// Routes in [`Shape::Routes`].
pub const ROUTES: usize = 10_000;
/// Hosts that the routes are spread over.
pub const ROUTE_HOSTS: usize = 100;
/// Backends that the routes lead to in turn.
pub const ROUTE_BACKENDS: usize = 10;
/// Servers in [`Shape::Servers`].
pub const SERVERS: usize = 1000;
/// Servers of the stable arm in [`Shape::Product`]; the canary is the next one.
pub const PRODUCT_SERVERS: usize = 3;
/// Sessions whose cookies the load sends in [`Shape::Product`].
pub const SESSIONS: usize = 500;

/// The host and path prefix of a route.
pub fn route(index: usize) -> (String, String) {
    (format!("h{}.example.test", index % ROUTE_HOSTS), format!("/p{}", index / ROUTE_HOSTS))
}

/// What is done to a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Requests for `path` over `connections` connections.
    Get {
        /// Busy connections.
        connections: usize,
        /// What is asked for.
        path: &'static str,
        /// A new connection for each request.
        close: bool,
    },
    /// POSTs of `len` bytes over `connections` connections.
    Post {
        /// Busy connections.
        connections: usize,
        /// Bytes of each body.
        len: usize,
    },
    /// Connections that served one request each and stay open.
    Idle,
}

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// `shape/work`, as `--rows` takes it.
    pub name: &'static str,
    /// The configuration.
    pub shape: Shape,
    /// The load.
    pub work: Work,
    /// Part of `--quick`.
    pub quick: bool,
}

const SMALL_64: Work = Work::Get { connections: 64, path: "/", close: false };
const SMALL_1024: Work = Work::Get { connections: 1024, path: "/", close: false };
const NEW_CONNECTION: Work = Work::Get { connections: 64, path: "/", close: true };
const KILOBYTES_100: Work = Work::Get { connections: 32, path: "/100k", close: false };
const MEGABYTE_1: Work = Work::Get { connections: 32, path: "/1m", close: false };
const POST_64K: Work = Work::Post { connections: 32, len: 64 * 1024 };

/// The row in which the copying relay must beat nginx.
pub const GUARD_SMALL: &str = "bare/keepalive-64";
/// The row in which the splicing relay must beat the copying one.
pub const GUARD_LARGE: &str = "bare/1m";

/// All rows, in the order of a run.
pub const ROWS: [Row; 18] = [
    Row { name: GUARD_SMALL, shape: Shape::Bare, work: SMALL_64, quick: true },
    Row { name: "bare/keepalive-1024", shape: Shape::Bare, work: SMALL_1024, quick: false },
    Row { name: "bare/new-connection", shape: Shape::Bare, work: NEW_CONNECTION, quick: true },
    Row { name: "bare/100k", shape: Shape::Bare, work: KILOBYTES_100, quick: false },
    Row { name: GUARD_LARGE, shape: Shape::Bare, work: MEGABYTE_1, quick: true },
    Row { name: "bare/post-64k", shape: Shape::Bare, work: POST_64K, quick: false },
    Row { name: "product/keepalive-64", shape: Shape::Product, work: SMALL_64, quick: true },
    Row { name: "product/keepalive-1024", shape: Shape::Product, work: SMALL_1024, quick: false },
    Row { name: "product/new-connection", shape: Shape::Product, work: NEW_CONNECTION, quick: false },
    Row { name: "product/100k", shape: Shape::Product, work: KILOBYTES_100, quick: false },
    Row { name: "product/1m", shape: Shape::Product, work: MEGABYTE_1, quick: false },
    Row { name: "product/post-64k", shape: Shape::Product, work: POST_64K, quick: false },
    Row { name: "logged/keepalive-64", shape: Shape::Logged(Log::Json), work: SMALL_64, quick: false },
    Row { name: "logged/keepalive-1024", shape: Shape::Logged(Log::Json), work: SMALL_1024, quick: false },
    Row { name: "combined/keepalive-64", shape: Shape::Logged(Log::Combined), work: SMALL_64, quick: false },
    Row { name: "routes-10000/keepalive-64", shape: Shape::Routes, work: SMALL_64, quick: false },
    Row { name: "servers-1000/keepalive-64", shape: Shape::Servers, work: SMALL_64, quick: false },
    Row { name: "bare/idle-memory", shape: Shape::Bare, work: Work::Idle, quick: true },
];

/// The rows that `list` names by name or by its beginning (`bare`, `product/`), separated by commas. The two
/// guard rows are always among them: without them no run is valid.
///
/// # Errors
/// If a name fits no row.
pub fn select(list: Option<&str>, quick: bool) -> Result<Vec<Row>> {
    let Some(list) = list else {
        return Ok(ROWS.into_iter().filter(|row| row.quick || !quick).collect());
    };
    let wanted: Vec<&str> = list.split(',').map(str::trim).filter(|word| !word.is_empty()).collect();
    for word in &wanted {
        if !ROWS.iter().any(|row| row.name.starts_with(word)) {
            let names = ROWS.map(|row| row.name).join(" ");
            return Err(format!("no row is named `{word}`; there are: {names}").into());
        }
    }
    let guard = |name| name == GUARD_SMALL || name == GUARD_LARGE;
    let named = |name: &str| wanted.iter().any(|word| name.starts_with(word));
    Ok(ROWS.into_iter().filter(|row| guard(row.name) || named(row.name)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: Option<&str>, quick: bool) -> Vec<&'static str> {
        select(list, quick).expect("valid names").iter().map(|row| row.name).collect()
    }

    #[test]
    fn the_guards_are_always_run() {
        let selected = names(Some("product/keepalive-1024, routes"), false);
        assert_eq!(
            selected,
            [GUARD_SMALL, GUARD_LARGE, "product/keepalive-1024", "routes-10000/keepalive-64"]
        );
        for quick in [true, false] {
            let selected = names(None, quick);
            assert!(selected.contains(&GUARD_SMALL) && selected.contains(&GUARD_LARGE));
        }
        assert_eq!(names(None, false).len(), ROWS.len());
    }

    #[test]
    fn an_unknown_row_is_an_error() {
        let error = select(Some("bare/keepalive-65"), false).expect_err("no such row").to_string();
        assert!(
            error.contains("bare/keepalive-65") && error.contains("servers-1000/keepalive-64"),
            "{error}"
        );
    }

    #[test]
    fn every_route_is_another() {
        let all: std::collections::HashSet<_> = (0..ROUTES).map(route).collect();
        assert_eq!(all.len(), ROUTES);
    }
}
