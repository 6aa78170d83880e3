//! Bounds on the admin listener's connections: how many, and for how long.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;

/// Connections at once; further ones wait in the socket's queue.
const CONNECTIONS_MAX: usize = 64;

/// How long a connection may live; then it is closed, whatever it is doing.
const LIFETIME: Duration = Duration::from_secs(120);

/// A listener that keeps the bounds.
pub(super) struct Limited<L> {
    inner: L,
    free: Arc<Semaphore>,
    lifetime: Duration,
    answers_cut: Arc<AtomicU64>,
}

impl<L> Limited<L> {
    /// Answers that are cut off are counted.
    pub(super) fn new(inner: L, answers_cut: Arc<AtomicU64>) -> Limited<L> {
        let free = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        Limited { inner, free, lifetime: LIFETIME, answers_cut }
    }
}

impl<L: Listener> Listener for Limited<L> {
    type Io = Bounded<L::Io>;
    type Addr = L::Addr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        // The semaphore is never closed; without a permit the connection would only lose its bound.
        let permit = Arc::clone(&self.free).acquire_owned().await.ok();
        let (inner, address) = self.inner.accept().await;
        let end = Box::pin(tokio::time::sleep(self.lifetime));
        (
            Bounded {
                inner,
                end,
                blocked: false,
                cut: false,
                answers_cut: Arc::clone(&self.answers_cut),
                _permit: permit,
            },
            address,
        )
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.inner.local_addr()
    }
}

/// A connection that ends with its lifetime.
pub(super) struct Bounded<S> {
    inner: S,
    end: Pin<Box<Sleep>>,
    /// The other side takes nothing at the moment.
    blocked: bool,
    /// It was ended for its age.
    cut: bool,
    answers_cut: Arc<AtomicU64>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl<S> Bounded<S> {
    fn is_over(&mut self, context: &mut Context<'_>) -> bool {
        if !self.cut && self.end.as_mut().poll(context).is_ready() {
            self.cut = true;
            // An idle connection loses nothing.
            if self.blocked {
                self.answers_cut.fetch_add(1, Relaxed);
            }
        }
        self.cut
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_over(context) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_over(context) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let written = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.blocked = written.is_pending();
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::routing::get;
    use std::io::Write as _;
    use std::net::TcpStream;
    use tokio::net::TcpListener;

    /// More than fits between the two.
    const ANSWER_LEN: usize = 64 << 20;

    #[test]
    fn an_answer_that_nobody_takes_is_cut_and_counted() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let cut = Arc::new(AtomicU64::new(0));
            let mut limited = Limited::new(listener, Arc::clone(&cut));
            limited.lifetime = Duration::from_millis(50);
            let app = Router::new().route("/", get(|| async { vec![b'x'; ANSWER_LEN] }));
            tokio::spawn(async move { axum::serve(limited, app).await });
            // One is idle, which loses nothing; the other asks and does not read.
            let _idle = TcpStream::connect(address).unwrap();
            let mut stuck = TcpStream::connect(address).unwrap();
            stuck.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
            while cut.load(Relaxed) == 0 {
                tokio::task::yield_now().await;
            }
            assert_eq!(cut.load(Relaxed), 1);
        });
    }
}
