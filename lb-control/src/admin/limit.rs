//! Bounds on the admin listener's connections: how many, and for how long.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;

use crate::control::Shared;

/// Connections at once; further ones wait in the socket's queue.
const CONNECTIONS_MAX: usize = 64;

/// How long a connection may live; then it is closed, whatever it is doing.
const LIFETIME: Duration = Duration::from_secs(120);

/// A listener that keeps the bounds.
pub(super) struct Limited<L> {
    inner: L,
    free: Arc<Semaphore>,
    shared: Arc<Shared>,
}

impl<L> Limited<L> {
    /// Answers that are cut off are counted in `shared`.
    pub(super) fn new(inner: L, shared: Arc<Shared>) -> Limited<L> {
        Limited { inner, free: Arc::new(Semaphore::new(CONNECTIONS_MAX)), shared }
    }
}

impl<L: Listener> Listener for Limited<L> {
    type Io = Bounded<L::Io>;
    type Addr = L::Addr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        // The semaphore is never closed; without a permit the connection would only lose its bound.
        let permit = Arc::clone(&self.free).acquire_owned().await.ok();
        let (inner, address) = self.inner.accept().await;
        let end = Box::pin(tokio::time::sleep(LIFETIME));
        (
            Bounded {
                inner,
                end,
                blocked: false,
                cut: false,
                shared: Arc::clone(&self.shared),
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
    shared: Arc<Shared>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl<S> Bounded<S> {
    fn is_over(&mut self, context: &mut Context<'_>) -> bool {
        if !self.cut && self.end.as_mut().poll(context).is_ready() {
            self.cut = true;
            // An idle connection loses nothing.
            if self.blocked {
                self.shared.answers_cut.fetch_add(1, Relaxed);
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
