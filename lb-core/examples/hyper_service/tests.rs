//! The proxy against servers on real sockets.

use super::*;
use lb_core::spec::{CanarySpec, PathMatch, Redirect, Secrets, SigningKey, StickySpec};
use lb_core::{SecretKey, Share};
use tokio::net::TcpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// A server that says its name, and the path and host that it was asked for.
async fn origin(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let service = service_fn(move |request: Request<Incoming>| async move {
                let host = request.headers()[header::HOST].to_str().unwrap_or_default();
                let text = format!("{name} {} {host}", request.uri());
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(text))))
            });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service),
            );
        }
    });
    address
}

/// An address that nobody listens at, and that nobody else gets as long as the socket is kept.
fn nobody() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

fn backend(name: &str, servers: &[(&str, SocketAddr)]) -> BackendSpec {
    BackendSpec::new(name, servers.iter().map(|(name, address)| ServerSpec::new(*name, *address)))
}

fn route(name: &str, path: &str, backend: &str) -> RouteSpec {
    RouteSpec {
        name: name.into(),
        path: PathMatch::Prefix(path.into()),
        backend: Some(backend.into()),
        ..RouteSpec::default()
    }
}

fn spec(routes: Vec<RouteSpec>, backends: Vec<BackendSpec>) -> Spec {
    let key = SecretKey::new([7; 16]);
    let secrets = Secrets { signing: vec![SigningKey { id: "k".into(), key }], share: Some(key) };
    Spec { secrets, routes, backends, ..Spec::default() }
}

/// Turns that other tasks get until a test gives up on them.
const TURNS_MAX: u32 = 10_000_000;

/// The proxy with a table, and a client's connection to it.
struct Running {
    handle: Handle,
    client: hyper::client::conn::http1::SendRequest<Full<Bytes>>,
    proxy: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.proxy.abort();
    }
}

async fn run(spec: &Spec) -> Running {
    let handle = Handle::new(compile(spec).unwrap().snapshot);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let proxy = tokio::spawn(serve(listener, handle.clone(), Clock::started()));
    let stream = TcpStream::connect(address).await.unwrap();
    let (client, driver) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(driver);
    Running { handle, client, proxy }
}

impl Running {
    async fn get(&mut self, path: &str, cookie: Option<&str>) -> (http::Parts, String) {
        let mut request = Request::get(path).header(header::HOST, "shop.example.com");
        if let Some(cookie) = cookie {
            request = request.header(header::COOKIE, cookie);
        }
        self.client.ready().await.unwrap();
        let response = self.client.send_request(request.body(Full::default()).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        (parts, String::from_utf8(bytes.to_vec()).unwrap())
    }

    /// Waits until no attempt is under way any more: the end of a body may be seen by the client before the proxy
    /// has told it to the core.
    async fn settled(&self) -> Vec<lb_core::ServerCounters> {
        for _ in 0..TURNS_MAX {
            let table = self.handle.load();
            let counters: Vec<_> = table.live.servers().iter().map(|live| live.counters()).collect();
            if counters.iter().all(|it| it.in_flight == 0) {
                return counters;
            }
            tokio::task::yield_now().await;
        }
        panic!("an attempt does not end");
    }
}

mod http {
    pub type Parts = hyper::http::response::Parts;
}

#[tokio::test]
async fn routes_and_takes_turns() {
    let (a, b, c) = (origin("a").await, origin("b").await, origin("c").await);
    let mut files = route("files", "/files", "files");
    files.actions.strip_prefix = Some("/files".into());
    files.actions.set_host = Some("files.internal".into());
    let backends = vec![backend("app", &[("a", a), ("b", b)]), backend("files", &[("c", c)])];
    let mut running = run(&spec(vec![route("app", "/", "app"), files], backends)).await;
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(running.get("/x?y=1", None).await.1);
    }
    seen.sort();
    let expected = |name: &str| format!("{name} /x?y=1 shop.example.com");
    assert_eq!(seen, [expected("a"), expected("a"), expected("b"), expected("b")]);
    assert_eq!(running.get("/files/7?q", None).await.1, "c /7?q files.internal");
    let counters = running.settled().await;
    assert_eq!(counters.iter().map(|it| it.responded[2]).collect::<Vec<_>>(), [2, 2, 1]);
}

#[tokio::test]
async fn a_session_stays_where_it_is() {
    let (a, b) = (origin("a").await, origin("b").await);
    let mut app = backend("app", &[("a", a), ("b", b)]);
    app.sticky = Some(StickySpec::default());
    let mut running = run(&spec(vec![route("app", "/", "app")], vec![app])).await;
    let (parts, home) = running.get("/", None).await;
    assert_eq!(parts.headers[header::CACHE_CONTROL], "private");
    let set = parts.headers[header::SET_COOKIE].to_str().unwrap();
    let cookie = set.split(';').next().unwrap().to_owned();
    assert!(cookie.starts_with("lb_app="), "{set}");
    for _ in 0..5 {
        let (parts, body) = running.get("/", Some(&cookie)).await;
        assert_eq!(body, home);
        assert!(!parts.headers.contains_key(header::SET_COOKIE), "it has the cookie already");
    }
}

#[tokio::test]
async fn a_server_that_is_gone_costs_no_request() {
    let (_kept, gone) = nobody();
    let b = origin("b").await;
    let app = backend("app", &[("a", gone), ("b", b)]);
    let mut running = run(&spec(vec![route("app", "/", "app")], vec![app])).await;
    for _ in 0..6 {
        let (parts, body) = running.get("/", None).await;
        assert_eq!((parts.status.as_u16(), body.as_str()), (200, "b / shop.example.com"));
    }
    let counters = running.settled().await;
    assert_eq!(counters[1].responded[2], 6);
    assert!(counters[0].connect_failed >= 1);
}

#[tokio::test]
async fn what_no_server_is_asked_for() {
    let (_kept, gone) = nobody();
    let mut moved = route("moved", "/old", "app");
    moved.backend = None;
    moved.actions.redirect = Some(Redirect { path: Some("/new".into()), ..Redirect::default() });
    let mut only = route("app", "/app", "app");
    only.retry.retries = Some(0);
    let app = backend("app", &[("a", gone)]);
    let mut running = run(&spec(vec![moved, only], vec![app])).await;
    let (parts, _) = running.get("/old?q=1", None).await;
    assert_eq!(
        (parts.status.as_u16(), &parts.headers[header::LOCATION]),
        (302, &HeaderValue::from_static("http://shop.example.com/new?q=1"))
    );
    let (parts, body) = running.get("/nothing", None).await;
    assert_eq!((parts.status.as_u16(), body.as_str()), (404, "no_route\n"));
    assert_eq!(parts.headers["x-lb-reason"], "no_route");
    let (parts, _) = running.get("/app", None).await;
    assert_eq!(
        (parts.status.as_u16(), &parts.headers["x-lb-reason"]),
        (502, &"connect_failed".parse().unwrap())
    );
}

/// A release: the table is published over and over while a client asks on one connection.
#[tokio::test]
async fn published_under_traffic() {
    let (old, new) = (origin("old").await, origin("new").await);
    let at = move |share: u16| {
        let mut app = route("app", "/", "old");
        app.canary = Some(CanarySpec {
            backend: "new".into(),
            share: Share::from_hundredths(share).unwrap(),
            ..CanarySpec::default()
        });
        spec(vec![app], vec![backend("old", &[("old", old)]), backend("new", &[("new", new)])])
    };
    let mut running = run(&at(0)).await;
    let (parts, body) = running.get("/", None).await;
    assert!(body.starts_with("old"), "{body}");
    let session = parts.headers[header::SET_COOKIE].to_str().unwrap().split(';').next().unwrap().to_owned();
    let (asked, mut ask) = mpsc::channel(1);
    let handle = running.handle.clone();
    let publisher = tokio::spawn(async move {
        let mut share = 0;
        while ask.recv().await.is_some() {
            share += 2_500;
            handle.publish(compile(&at(share)).unwrap().snapshot);
        }
    });
    let mut seen = Vec::new();
    for _ in 0..4 {
        asked.send(()).await.unwrap();
        let (parts, body) = running.get("/", Some(&session)).await;
        assert_eq!(parts.status, 200);
        seen.push(body.starts_with("new"));
    }
    assert!(seen.is_sorted(), "once in the canary it stays there while the share grows: {seen:?}");
    drop(asked);
    publisher.await.unwrap();
    assert!(running.get("/", Some(&session)).await.1.starts_with("new"), "at 100 %");
    let counters = running.settled().await;
    assert_eq!(counters.iter().map(|it| it.responded[2]).sum::<u64>(), 6, "counted through all tables");
}
