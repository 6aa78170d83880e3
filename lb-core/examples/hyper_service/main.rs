//! A reverse proxy: hyper moves the bytes, lb-core says where they go.
//!
//! ```text
//! cargo run -p lb-core --example hyper_service -- 127.0.0.1:8080 127.0.0.1:8001 127.0.0.1:8002
//! curl -i http://127.0.0.1:8080/
//! ```
//!
//! Everything comes from lb-core's decision: the server, the further one if a connection fails, the status and word of a
//! refusal, redirects, our cookies. What a real proxy has beside it (a pool of connections, trailers, upgrades) is left
//! out. The tests below run it against servers on real sockets.

#[path = "../common/mod.rs"]
mod common;
use common::{Clock, HeaderFields, Held, random_bits};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use lb_core::snapshot::Target;
use lb_core::spec::{Actions, BackendSpec, HeaderEdits, RouteSpec, ServerSpec, Spec};
use lb_core::{
    Decision, Handle, Outcome, Permit, Reader, RequestView, RouteIndex, ServerIndex, Table, Verdict, compile,
    cookie, decide,
};
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

type Error = Box<dyn std::error::Error + Send + Sync>;
type Reply = Response<UnsyncBoxBody<Bytes, Error>>;
/// A status and the stable word for it.
type Refused = (u16, &'static str);

/// Whether clients speak https with us: not without more of hyper's friends.
const SECURE: bool = false;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let listen: SocketAddr = arguments.next().ok_or("usage: hyper_service LISTEN SERVER...")?.parse()?;
    let mut servers = Vec::new();
    for (number, address) in arguments.enumerate() {
        servers.push(ServerSpec::new(format!("s{number}"), address.parse()?));
    }
    let spec = Spec {
        routes: vec![RouteSpec::new("all", "app")],
        backends: vec![BackendSpec::new("app", servers)],
        ..Spec::default()
    };
    let compiled = compile(&spec)?;
    let listener = TcpListener::bind(listen).await?;
    println!("listening on http://{}", listener.local_addr()?);
    // Whoever keeps a clone of the handle can publish another snapshot at any time.
    serve(listener, Handle::new(compiled.snapshot), Clock::started()).await;
    Ok(())
}

/// Serves connections, each in a task of its own.
async fn serve(listener: TcpListener, handle: Handle, clock: Clock) {
    loop {
        let Ok((socket, peer)) = listener.accept().await else { continue };
        let connection = Arc::new(Connection {
            reader: Mutex::new(handle.reader(random_bits() as u64)),
            clock: clock.clone(),
            source: peer.ip(),
        });
        let service = service_fn(move |request| {
            let connection = Arc::clone(&connection);
            async move { Ok::<_, Infallible>(connection.exchange(request).await) }
        });
        tokio::spawn(async move {
            // A client that breaks its connection is its own affair.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(socket), service)
                .await;
        });
    }
}

/// A client's connection.
struct Connection {
    /// Never held while waiting.
    reader: Mutex<Reader>,
    clock: Clock,
    source: IpAddr,
}

/// An exchange under way to a server.
struct Going {
    /// What it was decided by: kept until the response's head is written, for its words about that.
    table: Arc<Table>,
    decision: Decision,
    permit: Permit,
}

enum Course {
    Forward(Going),
    Answered(Reply),
}

impl Connection {
    async fn exchange(&self, request: Request<Incoming>) -> Reply {
        match self.decide(&request) {
            Course::Answered(reply) => reply,
            Course::Forward(going) => match self.forward(going, request).await {
                Ok(reply) => reply,
                Err((status, word)) => refusal(status, word),
            },
        }
    }

    /// Asks lb-core, and takes what it decides.
    fn decide(&self, request: &Request<Incoming>) -> Course {
        let host = request.uri().authority().map(|authority| authority.as_str().as_bytes());
        let host =
            host.or(request.headers().get(header::HOST).map(HeaderValue::as_bytes)).unwrap_or_default();
        let view = RequestView {
            listener: 0,
            method: request.method().as_str().as_bytes(),
            host,
            path: request.uri().path().as_bytes(),
            query: request.uri().query().map(str::as_bytes),
            fields: &HeaderFields(request.headers()),
            source: self.source,
            secure: SECURE,
        };
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let (table, cursors) = reader.current();
        match decide(table, cursors, &view, self.clock.now(), random_bits()) {
            Verdict::Forward(decision) => {
                match decision.take(table, cursors, self.clock.now()) {
                    Some(permit) => Course::Forward(Going { table: Arc::clone(table), decision, permit }),
                    // Its server has as many requests as it may. Here nobody waits.
                    None => Course::Answered(refusal(503, "server_full")),
                }
            }
            Verdict::Answer(route) => Course::Answered(answer(table, route, &view)),
            Verdict::Refuse(refused) => Course::Answered(refusal(refused.status(), refused.word())),
        }
    }

    /// The next server after connections to some have failed.
    fn again(&self, table: &Table, failed: &Decision, tried: &[ServerIndex]) -> Option<(Decision, Permit)> {
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, cursors) = reader.current();
        let now = self.clock.now();
        let decision = failed.again(table, cursors, tried, now, random_bits())?;
        let permit = decision.take(table, cursors, now)?;
        Some((decision, permit))
    }

    /// Connects, trying further servers while nothing is sent, and relays one exchange.
    async fn forward(&self, going: Going, request: Request<Incoming>) -> Result<Reply, Refused> {
        let (stream, Going { table, decision, mut permit }) = self.connect(going).await?;
        let route = table.snapshot.route(decision.route());
        let request = rewritten(request, &route.actions);
        let response = match send(stream, request, route.arm(decision.arm()).timeouts.response).await {
            Ok(response) => response,
            Err(refused) => {
                permit.finish(Outcome::Failed, self.clock.now());
                return Err(refused);
            }
        };
        // A client that takes the body slowly does not make the server slow.
        permit.answered(self.clock.now());
        let (mut parts, body) = response.into_parts();
        strip_hop_by_hop(&mut parts.headers);
        edit(&mut parts.headers, &route.actions.response);
        let mut lines = Vec::new();
        if decision.write_cookies(&table, SECURE, &mut lines) {
            parts.headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("private"));
        }
        for value in cookie::set_values(&lines) {
            parts.headers.append(header::SET_COOKIE, HeaderValue::from_bytes(value).expect("it is ASCII"));
        }
        let body = Held::new(body, parts.status.as_u16(), permit, self.clock.clone());
        Ok(Response::from_parts(parts, body.map_err(Error::from).boxed_unsync()))
    }

    /// A connection to the server, or to a further one, as often as the route allows.
    async fn connect(&self, going: Going) -> Result<(TcpStream, Going), Refused> {
        let Going { table, mut decision, mut permit } = going;
        let mut tried = Vec::new();
        loop {
            let arm = table.snapshot.route(decision.route()).arm(decision.arm());
            let refused = match timeout(arm.timeouts.connect, TcpStream::connect(permit.address())).await {
                Ok(Ok(stream)) => return Ok((stream, Going { table, decision, permit })),
                Ok(Err(_)) => (502, "connect_failed"),
                Err(_) => (504, "connect_timeout"),
            };
            // Nothing was sent, so another attempt is safe. The core takes the server out of picks for a moment.
            permit.finish(Outcome::ConnectFailed, self.clock.now());
            tried.push(decision.server());
            if tried.len() as u32 > arm.retry.retries {
                return Err(refused);
            }
            (decision, permit) = self.again(&table, &decision, &tried).ok_or(refused)?;
        }
    }
}

/// Sends a request on a fresh connection and waits for the response's head.
async fn send(
    stream: TcpStream,
    request: Request<Incoming>,
    bound: Duration,
) -> Result<Response<Incoming>, Refused> {
    let failed = (502, "upstream_failed");
    let (mut sender, driver) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|_| failed)?;
    tokio::spawn(driver);
    let response = timeout(bound, sender.send_request(request)).await;
    response.map_err(|_| (504, "response_timeout"))?.map_err(|_| failed)
}

/// The request as it goes to the server.
fn rewritten(mut request: Request<Incoming>, actions: &Actions) -> Request<Incoming> {
    let path = actions.forwarded_path(request.uri().path().as_bytes());
    let path = path.and_then(|path| std::str::from_utf8(path).ok()).unwrap_or(request.uri().path());
    let target = match request.uri().query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    if let Ok(target) = target.parse::<Uri>() {
        *request.uri_mut() = target;
    }
    strip_hop_by_hop(request.headers_mut());
    edit(request.headers_mut(), &actions.request);
    if let Some(host) = actions.set_host.as_ref().and_then(|host| HeaderValue::from_str(host).ok()) {
        request.headers_mut().insert(header::HOST, host);
    }
    request
}

/// Fields that are about one connection only (RFC 9110, section 7.6.1).
fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let nominated: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    let always = [
        header::CONNECTION,
        header::PROXY_AUTHENTICATE,
        header::PROXY_AUTHORIZATION,
        header::TE,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        HeaderName::from_static("keep-alive"),
    ];
    for name in always.into_iter().chain(nominated) {
        headers.remove(name);
    }
}

fn edit(headers: &mut HeaderMap, edits: &HeaderEdits) {
    for name in &edits.remove {
        headers.remove(name.as_str());
    }
    for (name, value) in &edits.set {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
            headers.insert(name, value);
        }
    }
}

/// What a route answers itself.
fn answer(table: &Table, route: RouteIndex, view: &RequestView<'_, HeaderFields<'_>>) -> Reply {
    let mut response = Response::builder();
    let mut body = String::new();
    match &table.snapshot.route(route).target {
        Target::Redirect(redirect) => {
            let mut location = Vec::new();
            redirect.write_location(view.host, view.path, view.query, view.secure, &mut location);
            response = response.status(redirect.status()).header(header::LOCATION, location);
        }
        Target::Reply(reply) => {
            response = response.status(reply.status()).header(header::CONTENT_TYPE, reply.content_type());
            body.clone_from(&reply.body);
        }
        Target::Backends(_) => {}
    }
    response.body(whole(body)).expect("compiling has checked what stands in it")
}

/// A refusal: its status, and its stable word in a header.
fn refusal(status: u16, word: &'static str) -> Reply {
    let response = Response::builder().status(status).header("x-lb-reason", word);
    response.body(whole(format!("{word}\n"))).expect("a status and a word")
}

fn whole(body: String) -> UnsyncBoxBody<Bytes, Error> {
    Full::new(Bytes::from(body)).map_err(Error::from).boxed_unsync()
}

#[cfg(test)]
mod tests;
