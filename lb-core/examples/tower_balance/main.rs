//! Client-side balancing: a `tower::Service` over one service per server, with stickiness and outcome feedback.
//!
//! ```text
//! cargo run -p lb-core --example tower_balance
//! ```
//!
//! [`Balance`] is generic over what speaks to a server: hyper, tonic, or, as here, a service in the same process. It asks
//! lb-core where each request goes, tells it how that ended, and keeps an eye on servers that fail: they are ejected, and
//! come back. `main` shows that; the tests below check it with a clock of their own.

#[path = "../common/mod.rs"]
mod common;

use common::{Clock, HeaderFields, Held, random_bits};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes};
use hyper::header::{self, HeaderValue};
use hyper::{Request, Response};
use lb_core::health::{News, Notice, Watching};
use lb_core::outlier::OutlierSettings;
use lb_core::snapshot::Backend;
use lb_core::spec::{BackendSpec, Policy, RouteSpec, Secrets, ServerSpec, SigningKey, Spec, StickySpec};
use lb_core::{
    Decision, Handle, Monitor, Outcome, Permit, Reader, Refusal, RequestView, SecretKey, Snapshot, Table,
    Verdict, compile, cookie, decide,
};
use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tower::{Service, ServiceExt, service_fn};

/// Balances over servers, each spoken to by a service that `connect` makes of its address. Clones share the servers'
/// state and count their turns apart.
pub struct Balance<S, F> {
    handle: Handle,
    reader: Reader,
    clock: Clock,
    connect: F,
    /// By address; those of servers that are in no table any more go when the table changes.
    servers: HashMap<SocketAddr, S>,
    /// The table that `servers` is of.
    of: Arc<Table>,
}

/// Why a request came to no response.
#[derive(Debug)]
pub enum BalanceError<E> {
    /// lb-core has no server for it.
    Refused(Refusal),
    /// Its server has as many requests as it may.
    Full,
    /// The route answers itself; this balancer is for servers only.
    Answer,
    /// The server's service failed.
    Server(E),
}

impl<E: fmt::Display> fmt::Display for BalanceError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BalanceError::Refused(refusal) => write!(f, "refused: {}", refusal.word()),
            BalanceError::Full => f.write_str("the server has as much as it may"),
            BalanceError::Answer => f.write_str("the route has no servers"),
            BalanceError::Server(error) => write!(f, "the server failed: {error}"),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> std::error::Error for BalanceError<E> {}

impl<S, F: Fn(SocketAddr) -> S> Balance<S, F> {
    /// A balancer over the tables of a handle.
    pub fn new(handle: Handle, clock: Clock, connect: F) -> Balance<S, F> {
        let (reader, of) = (handle.reader(random_bits() as u64), handle.load());
        Balance { handle, reader, clock, connect, servers: HashMap::new(), of }
    }

    /// Asks lb-core, and takes what it decides.
    fn pick<B, E>(
        &mut self,
        request: &Request<B>,
    ) -> Result<(Arc<Table>, Decision, Permit), BalanceError<E>> {
        let view = RequestView {
            listener: 0,
            method: request.method().as_str().as_bytes(),
            host: request.uri().host().unwrap_or_default().as_bytes(),
            path: request.uri().path().as_bytes(),
            query: request.uri().query().map(str::as_bytes),
            fields: &HeaderFields(request.headers()),
            // Nobody is behind a request of our own; where there is somebody, hashing by source wants to know.
            source: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            secure: true,
        };
        let (table, cursors) = self.reader.current();
        match decide(table, cursors, &view, self.clock.now(), random_bits()) {
            Verdict::Forward(decision) => {
                let permit = decision.take(table, cursors, self.clock.now()).ok_or(BalanceError::Full)?;
                Ok((Arc::clone(table), decision, permit))
            }
            Verdict::Refuse(refusal) => Err(BalanceError::Refused(refusal)),
            Verdict::Answer(_) => Err(BalanceError::Answer),
        }
    }
}

impl<S: Clone, F: Fn(SocketAddr) -> S> Balance<S, F> {
    fn server(&mut self, table: &Arc<Table>, address: SocketAddr) -> S {
        if !Arc::ptr_eq(&self.of, table) {
            self.of = Arc::clone(table);
            let known =
                |address: &SocketAddr| table.live.servers().iter().any(|live| live.address() == *address);
            self.servers.retain(|address, _| known(address));
        }
        self.servers.entry(address).or_insert_with(|| (self.connect)(address)).clone()
    }
}

impl<S: Clone, F: Clone> Clone for Balance<S, F> {
    fn clone(&self) -> Balance<S, F> {
        Balance {
            handle: self.handle.clone(),
            reader: self.handle.reader(random_bits() as u64),
            clock: self.clock.clone(),
            connect: self.connect.clone(),
            servers: self.servers.clone(),
            of: Arc::clone(&self.of),
        }
    }
}

impl<S, F, RequestBody, ResponseBody> Service<Request<RequestBody>> for Balance<S, F>
where
    S: Service<Request<RequestBody>, Response = Response<ResponseBody>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    F: Fn(SocketAddr) -> S,
    RequestBody: Send + 'static,
    ResponseBody: Body,
{
    type Response = Response<Held<ResponseBody>>;
    type Error = BalanceError<S::Error>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    /// Always: which server is asked is known with the request only, and its readiness is waited for in the call.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<RequestBody>) -> Self::Future {
        let (table, decision, permit) = match self.pick(&request) {
            Ok(picked) => picked,
            Err(error) => return Box::pin(async move { Err(error) }),
        };
        let server = self.server(&table, permit.address());
        let clock = self.clock.clone();
        Box::pin(async move {
            // If this future is dropped, so is the permit: the attempt counts as abandoned.
            match server.oneshot(request).await {
                Ok(response) => Ok(respond(&table, &decision, permit, response, clock)),
                Err(error) => {
                    permit.finish(Outcome::Failed, clock.now());
                    Err(BalanceError::Server(error))
                }
            }
        })
    }
}

/// Adds our cookies to a response and has its body hold the permit.
fn respond<B: Body>(
    table: &Table,
    decision: &Decision,
    mut permit: Permit,
    response: Response<B>,
    clock: Clock,
) -> Response<Held<B>> {
    permit.answered(clock.now());
    let (mut parts, body) = response.into_parts();
    let mut lines = Vec::new();
    decision.write_cookies(table, true, &mut lines);
    for value in cookie::set_values(&lines) {
        parts.headers.append(header::SET_COOKIE, HeaderValue::from_bytes(value).expect("it is ASCII"));
    }
    let body = Held::new(body, parts.status.as_u16(), permit, clock);
    Response::from_parts(parts, body)
}

/// The other half of feedback: who publishes tables also looks at how servers do, ejects those that fail or are slow,
/// and brings them back.
pub struct Keeper {
    handle: Handle,
    monitor: Monitor,
    clock: Clock,
}

impl Keeper {
    const WATCHED: fn(&Backend) -> Watching =
        |_| Watching { outliers: Some(OutlierSettings::default()), ..Watching::default() };

    /// With a first table.
    pub fn new(snapshot: Snapshot, clock: Clock) -> Keeper {
        let mut keeper = Keeper { handle: Handle::new(snapshot), monitor: Monitor::new(), clock };
        keeper.monitor.fit(&keeper.handle.load(), Keeper::WATCHED, keeper.clock.now());
        keeper
    }

    /// Publishes another table; servers that it has in common with the one before keep what is known of them.
    pub fn publish(&mut self, snapshot: Snapshot) {
        let (monitor, now) = (&mut self.monitor, self.clock.now());
        self.handle.publish_with(snapshot, |table| {
            monitor.fit(table, Keeper::WATCHED, now);
        });
    }

    /// To be called once a second or so.
    pub fn look(&mut self) -> Vec<Notice> {
        self.monitor.look(self.clock.now())
    }
}

/// One backend with these servers, balanced by load, sessions kept by a cookie.
fn snapshot(servers: &[(&str, SocketAddr)]) -> Snapshot {
    let key = SecretKey::new(random_bits().to_le_bytes());
    let server = |(name, address): &(&str, SocketAddr)| ServerSpec::new(*name, *address);
    let spec = Spec {
        // Processes that are to agree on sessions have the same keys from a secret place.
        secrets: Secrets { signing: vec![SigningKey { id: "a".into(), key }], share: Some(key) },
        routes: vec![RouteSpec::new("all", "app")],
        backends: vec![BackendSpec {
            balance: Policy::LeastRequest,
            sticky: Some(StickySpec::default()),
            ..BackendSpec::new("app", servers.iter().map(server))
        }],
        ..Spec::default()
    };
    compile(&spec).unwrap_or_else(|error| panic!("{error}")).snapshot
}

/// Three servers of which one answers 500, and what becomes of it.
#[tokio::main]
async fn main() {
    let servers: Vec<(String, SocketAddr)> =
        (1..=3).map(|last| (format!("s{last}"), ([10, 0, 0, last], 80).into())).collect();
    let named: Vec<(&str, SocketAddr)> = servers.iter().map(|(name, address)| (&**name, *address)).collect();
    let clock = Clock::started();
    let mut keeper = Keeper::new(snapshot(&named), clock.clone());
    let mut balance = Balance::new(keeper.handle.clone(), clock, |address: SocketAddr| {
        service_fn(move |_: Request<()>| async move {
            let status = if address.ip() == IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)) { 500 } else { 200 };
            let body = Full::new(Bytes::from(address.to_string()));
            Ok::<_, std::convert::Infallible>(
                Response::builder().status(status).body(body).expect("a response"),
            )
        })
    });
    for round in 1..=2 {
        let mut statuses: HashMap<u16, u32> = HashMap::new();
        for _ in 0..60 {
            let request = Request::get("http://app.internal/").body(()).expect("a request");
            let response = balance.call(request).await.expect("a response");
            *statuses.entry(response.status().as_u16()).or_default() += 1;
            // To the end of the body the server is at work.
            response.into_body().collect().await.expect("a body");
        }
        println!("round {round}: {statuses:?}");
        for Notice { server, news } in keeper.look() {
            println!("  {server}: {}", words(news));
        }
    }
}

fn words(news: News) -> String {
    match news {
        News::Ejected(ejection) => {
            format!("{}; out for {:?}", ejection.offence, ejection.until - ejection.since)
        }
        News::Turned { now, .. } => now.word().to_owned(),
        News::Returned => "its ejection has ended".to_owned(),
        News::CheckWithin(time) => format!("a check is due within {time:?}"),
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests;
