//! Clients that ask without a pause while something else happens.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use super::{Client, until};

/// What they ask for, and what has come of it so far.
#[derive(Default)]
pub struct Crowd {
    over: AtomicBool,
    chapter: AtomicUsize,
    answered: AtomicUsize,
    failed: AtomicUsize,
    slowest_us: AtomicU64,
}

impl Crowd {
    /// Has so many clients ask `web` for `/0`, each on a connection of its own, while `drive` runs. Every request must be
    /// answered. Returns how many there were.
    pub fn around(web: SocketAddr, clients: usize, drive: impl FnOnce(&Crowd)) -> usize {
        let crowd = Crowd::default();
        std::thread::scope(|scope| {
            for _ in 0..clients {
                scope.spawn(|| crowd.ask(web));
            }
            // Whatever fails in there, the clients must end for the scope to end.
            let driven = catch_unwind(AssertUnwindSafe(|| drive(&crowd)));
            crowd.over.store(true, Ordering::SeqCst);
            driven.unwrap_or_else(|panic| resume_unwind(panic));
        });
        let answered = crowd.answered();
        let slowest_ms = crowd.slowest_us.load(Ordering::SeqCst) / 1000;
        eprintln!("{answered} requests, {} failed, the slowest took {slowest_ms} ms", crowd.failed());
        answered
    }

    fn ask(&self, web: SocketAddr) {
        let mut client = Client::connect(web);
        while !self.over.load(Ordering::SeqCst) {
            let chapter = self.chapter.load(Ordering::SeqCst);
            let begun_at = Instant::now();
            let response = client.exchange(format!("GET /{chapter} HTTP/1.1\r\nHost: a\r\n\r\n"));
            self.slowest_us.fetch_max(begun_at.elapsed().as_micros() as u64, Ordering::SeqCst);
            self.failed.fetch_add(usize::from(response.status() != 200), Ordering::SeqCst);
            self.answered.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Requests that were answered, whatever with.
    pub fn answered(&self) -> usize {
        self.answered.load(Ordering::SeqCst)
    }

    /// Those that were not answered with 200.
    pub fn failed(&self) -> usize {
        self.failed.load(Ordering::SeqCst)
    }

    /// Has them ask for another target from now on, and returns it: `/1`, `/2`, …
    pub fn turn_page(&self) -> String {
        format!("/{}", self.chapter.fetch_add(1, Ordering::SeqCst) + 1)
    }

    /// Waits until so many further requests are answered.
    #[track_caller]
    pub fn pass(&self, count: usize) {
        let wanted = self.answered() + count;
        until(&format!("{count} requests to be answered"), || self.answered() >= wanted);
    }
}
