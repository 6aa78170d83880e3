//! The balancer over services in this process, with a clock that moves when it is told.

use super::*;
use lb_core::{Health, ServerCounters, Why};
use std::sync::Mutex;
use std::time::Duration;
use tokio::sync::Semaphore;

const ADDRESSES: [(&str, SocketAddr); 3] = [("a", at(1)), ("b", at(2)), ("c", at(3))];

const fn at(last: u8) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)), 80)
}

/// What a server does with a request.
#[derive(Clone, Copy, PartialEq)]
enum Does {
    Answer(u16),
    Break,
    /// Answers when it is let.
    Wait,
}

/// The servers' side, and the clock.
struct World {
    does: Mutex<HashMap<SocketAddr, Does>>,
    let_go: Semaphore,
    /// Made services, in order.
    made: Mutex<Vec<SocketAddr>>,
    now: Mutex<Duration>,
}

impl World {
    fn new() -> Arc<World> {
        Arc::new(World {
            does: Mutex::default(),
            let_go: Semaphore::new(0),
            made: Mutex::default(),
            now: Mutex::new(Duration::from_secs(1)),
        })
    }

    fn does(&self, name: &str, what: Does) {
        let (_, address) = ADDRESSES.iter().find(|(known, _)| *known == name).unwrap();
        self.does.lock().unwrap().insert(*address, what);
    }

    fn clock(self: &Arc<World>) -> Clock {
        let world = Arc::clone(self);
        Clock::new(move || *world.now.lock().unwrap())
    }

    fn pass(&self, time: Duration) {
        *self.now.lock().unwrap() += time;
    }

    async fn serve(self: Arc<World>, address: SocketAddr) -> Result<Response<Full<Bytes>>, &'static str> {
        let does = self.does.lock().unwrap().get(&address).copied().unwrap_or(Does::Answer(200));
        let status = match does {
            Does::Answer(status) => status,
            Does::Break => return Err("broken"),
            Does::Wait => {
                self.let_go.acquire().await.unwrap().forget();
                200
            }
        };
        let (name, _) = ADDRESSES.iter().find(|(_, known)| *known == address).unwrap();
        Ok(Response::builder().status(status).body(Full::new(Bytes::from(*name))).unwrap())
    }
}

/// A balancer over the world's servers.
macro_rules! balance {
    ($world:expr, $keeper:expr) => {{
        let world = Arc::clone(&$world);
        Balance::new($keeper.handle.clone(), $world.clock(), move |address| {
            world.made.lock().unwrap().push(address);
            let world = Arc::clone(&world);
            service_fn(move |_: Request<()>| Arc::clone(&world).serve(address))
        })
    }};
}

fn request(cookie: Option<&str>) -> Request<()> {
    let mut request = Request::get("http://app.internal/");
    if let Some(cookie) = cookie {
        request = request.header(header::COOKIE, cookie);
    }
    request.body(()).unwrap()
}

async fn name(response: Response<Held<Full<Bytes>>>) -> String {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn counters(keeper: &Keeper, name: &str) -> ServerCounters {
    keeper.handle.load().live.servers().iter().find(|live| live.name() == name).unwrap().counters()
}

#[tokio::test]
async fn a_session_comes_back_to_its_server() {
    let world = World::new();
    let keeper = Keeper::new(snapshot(&ADDRESSES), world.clock());
    let mut balance = balance!(world, keeper);
    let response = balance.call(request(None)).await.unwrap();
    let set = response.headers()[header::SET_COOKIE].to_str().unwrap().to_owned();
    assert!(set.starts_with("lb_app=") && set.ends_with("Secure"), "{set}");
    let cookie = set.split(';').next().unwrap();
    let home = name(response).await;
    let mut other = balance.clone();
    for _ in 0..10 {
        let response = other.call(request(Some(cookie))).await.unwrap();
        assert!(!response.headers().contains_key(header::SET_COOKIE));
        assert_eq!(name(response).await, home);
    }
    assert_eq!(counters(&keeper, &home).responded[2], 11);
}

#[tokio::test]
async fn load_is_what_is_under_way_until_its_body_has_ended() {
    let world = World::new();
    let keeper = Keeper::new(snapshot(&ADDRESSES[..2]), world.clock());
    let mut balance = balance!(world, keeper);
    let held = balance.call(request(None)).await.unwrap();
    let busy = keeper
        .handle
        .load()
        .live
        .servers()
        .iter()
        .find(|live| live.in_flight() == 1)
        .unwrap()
        .name()
        .to_owned();
    for _ in 0..5 {
        let response = balance.call(request(None)).await.unwrap();
        assert_ne!(name(response).await, busy, "the other one has less to do");
    }
    assert_eq!(name(held).await, busy);
    assert_eq!(counters(&keeper, &busy).in_flight, 0);

    // What is dropped halfway counts as abandoned.
    drop(balance.call(request(None)).await.unwrap());
    world.does("a", Does::Wait);
    world.does("b", Does::Wait);
    let mut waiting = Box::pin(balance.call(request(None)));
    assert!(futures_poll(waiting.as_mut()).await.is_none());
    drop(waiting);
    let sum = |of: fn(ServerCounters) -> u64| of(counters(&keeper, "a")) + of(counters(&keeper, "b"));
    assert_eq!((sum(|it| it.abandoned), sum(|it| it.in_flight.into())), (2, 0));
}

/// Polls once.
async fn futures_poll<F: Future>(mut future: Pin<&mut F>) -> Option<F::Output> {
    std::future::poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

#[tokio::test]
async fn a_server_that_fails_is_left_and_comes_back() {
    for does in [Does::Answer(500), Does::Break] {
        let world = World::new();
        let mut keeper = Keeper::new(snapshot(&ADDRESSES), world.clock());
        let mut balance = balance!(world, keeper);
        world.does("b", does);
        assert_eq!(keeper.look(), []);
        let mut asked = 0;
        while counters(&keeper, "b").responded[5] + counters(&keeper, "b").failed < 5 {
            asked += 1;
            assert!(asked < 1_000, "b is not asked");
            match balance.call(request(None)).await {
                Ok(response) => drop(name(response).await),
                Err(error) => assert_eq!(error.to_string(), "the server failed: broken"),
            }
        }
        let health = |keeper: &Keeper| keeper.handle.load().live.servers()[1].health();
        assert_eq!(health(&keeper), Health::Up);
        world.pass(Duration::from_secs(1));
        let words: Vec<String> = keeper.look().into_iter().map(|notice| words(notice.news)).collect();
        assert_eq!(words, ["5 attempts failed in a row; out for 10s", "down (ejected: failures in a row)"]);
        assert_eq!(health(&keeper), Health::Down(Why::FailedInRow));
        for _ in 0..50 {
            assert_ne!(name(balance.call(request(None)).await.unwrap()).await, "b");
        }
        world.does("b", Does::Answer(200));
        world.pass(Duration::from_secs(10));
        keeper.look();
        assert_eq!(health(&keeper), Health::Up);
        let mut seen = false;
        for _ in 0..200 {
            seen |= name(balance.call(request(None)).await.unwrap()).await == "b";
        }
        assert!(seen, "it serves again");
    }
}

#[tokio::test]
async fn services_follow_the_table() {
    let world = World::new();
    let mut keeper = Keeper::new(snapshot(&ADDRESSES[..1]), world.clock());
    let mut balance = balance!(world, keeper);
    assert_eq!(name(balance.call(request(None)).await.unwrap()).await, "a");
    keeper.publish(snapshot(&ADDRESSES[1..2]));
    assert_eq!(name(balance.call(request(None)).await.unwrap()).await, "b");
    keeper.publish(snapshot(&ADDRESSES[..1]));
    assert_eq!(name(balance.call(request(None)).await.unwrap()).await, "a");
    assert_eq!(*world.made.lock().unwrap(), [at(1), at(2), at(1)], "those that are gone are not kept");
    keeper.publish(snapshot(&[]));
    let refused = balance.call(request(None)).await.map(|_| ()).unwrap_err();
    assert_eq!(refused.to_string(), "refused: no_server");
}
