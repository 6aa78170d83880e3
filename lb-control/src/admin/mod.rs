//! The admin listener: `/livez`, `/readyz`, `/metrics`, `/jumps`, `/names`, `/servers`, `/stats`, `/explain`.

pub mod client;
mod jumps;
mod limit;
mod metrics;
mod names;
mod servers;
mod stats;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use self::limit::Limited;
use crate::config::address::AdminAddress;
use crate::control::Shared;
use crate::explain::{self, Question};

/// A bound admin socket, before anything is served on it.
#[derive(Debug)]
pub struct AdminSocket {
    socket: Socket,
    address: AdminAddress,
}

#[derive(Debug)]
enum Socket {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener, PathBuf),
}

impl AdminSocket {
    /// Binds the address. A Unix socket that nobody listens on any more is replaced; a new one is for its owner
    /// alone (mode 0600).
    ///
    /// # Errors
    /// The system's, as when the address is taken.
    pub fn bind(address: &AdminAddress) -> io::Result<AdminSocket> {
        match address {
            AdminAddress::Tcp(tcp) => {
                let socket = std::net::TcpListener::bind(tcp)?;
                socket.set_nonblocking(true)?;
                let address = AdminAddress::Tcp(socket.local_addr()?);
                Ok(AdminSocket { socket: Socket::Tcp(socket), address })
            }
            AdminAddress::Unix(path) => {
                use std::os::unix::net::{UnixListener, UnixStream};
                let socket = match UnixListener::bind(path) {
                    Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                        let gone = UnixStream::connect(path)
                            .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
                        if !gone {
                            return Err(error);
                        }
                        std::fs::remove_file(path)?;
                        UnixListener::bind(path)?
                    }
                    bound => bound?,
                };
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
                socket.set_nonblocking(true)?;
                Ok(AdminSocket { socket: Socket::Unix(socket, path.clone()), address: address.clone() })
            }
        }
    }

    /// Where it listens: with the port that the system chose, if it was to choose.
    pub fn address(&self) -> &AdminAddress {
        &self.address
    }
}

impl fmt::Display for AdminAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AdminAddress::Tcp(address) => SocketAddr::fmt(address, f),
            AdminAddress::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Serves until the future is dropped.
pub(crate) async fn serve(socket: AdminSocket, shared: Arc<Shared>) -> io::Result<()> {
    let app = app(Arc::clone(&shared));
    match socket.socket {
        Socket::Tcp(socket) => {
            let listener =
                Limited::new(tokio::net::TcpListener::from_std(socket)?, Arc::clone(&shared.answers_cut));
            axum::serve(listener, app).await
        }
        Socket::Unix(socket, path) => {
            let _removed = RemoveOnDrop(path);
            let listener =
                Limited::new(tokio::net::UnixListener::from_std(socket)?, Arc::clone(&shared.answers_cut));
            axum::serve(listener, app).await
        }
    }
}

struct RemoveOnDrop(PathBuf);

impl Drop for RemoveOnDrop {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn app(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics::show))
        .route("/jumps", get(jumps::show))
        .route("/names", get(names::show))
        .route("/servers", get(servers::show))
        .route("/stats", get(stats::show))
        .route("/explain", get(show_explanation))
        .fallback(nothing)
        .with_state(shared)
}

async fn livez() -> &'static str {
    "alive\n"
}

async fn readyz(State(shared): State<Arc<Shared>>) -> Response {
    if shared.is_ready() {
        return (StatusCode::OK, "ready\n").into_response();
    }
    let why = match (shared.is_draining(), shared.serves()) {
        (true, _) => "draining\n".to_owned(),
        (false, false) => "starting\n".to_owned(),
        (false, true) => unchecked(&shared.health.undecided()),
    };
    (StatusCode::SERVICE_UNAVAILABLE, why).into_response()
}

/// Servers that are named where some are missing, at most.
const MISSING_NAMED_MAX: usize = 20;

/// Which servers have not been checked yet.
fn unchecked(missing: &[lb_core::Identity]) -> String {
    let named: Vec<String> = missing.iter().take(MISSING_NAMED_MAX).map(ToString::to_string).collect();
    let more = missing.len().saturating_sub(MISSING_NAMED_MAX);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    format!("not checked yet: {}{more}\n", named.join(", "))
}

async fn show_explanation(State(shared): State<Arc<Shared>>, RawQuery(query): RawQuery) -> Response {
    let question = match Question::from_query(query.as_deref().unwrap_or_default()) {
        Ok(question) => question,
        Err(why) => return (StatusCode::BAD_REQUEST, format!("{why}\n")).into_response(),
    };
    let current = shared.current();
    let answer = explain::answer(&current.table, &current.listeners, &question, shared.workers.now());
    let names = shared.names.lock().unwrap_or_else(PoisonError::into_inner);
    match answer.map(|answer| answer.with_names(&current.table, &names, Instant::now())) {
        Ok(answer) if question.json => json_page(answer.json()),
        Ok(answer) => ([(CONTENT_TYPE, "text/plain; charset=utf-8")], answer.text()).into_response(),
        Err(why) => (StatusCode::BAD_REQUEST, format!("{why}\n")).into_response(),
    }
}

/// A document for programs, with a line's end for terminals.
fn json_page(document: impl fmt::Display) -> Response {
    ([(CONTENT_TYPE, "application/json")], format!("{document}\n")).into_response()
}

async fn nothing() -> Response {
    let there = "there are /livez, /readyz, /metrics, /jumps, /names, /servers, /stats and /explain\n";
    (StatusCode::NOT_FOUND, there).into_response()
}
