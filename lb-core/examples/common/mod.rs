//! What both services need to speak lb-core: header fields, random bits, a clock, and a body that holds its permit.

use hyper::HeaderMap;
use hyper::body::{Body, Frame, SizeHint};
use lb_core::{Fields, Outcome, Permit};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// Header fields as lb-core reads them.
pub struct HeaderFields<'a>(pub &'a HeaderMap);

impl Fields for HeaderFields<'_> {
    fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()))
    }
}

/// 128 fresh random bits: new sessions' cookies are made of them, so they must not be guessable.
pub fn random_bits() -> u128 {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the system has randomness");
    u128::from_le_bytes(bytes)
}

/// The one clock of everything that decides: the time since a start of one's own choice.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Duration + Send + Sync>);

impl Clock {
    /// The time since now.
    pub fn started() -> Clock {
        let start = tokio::time::Instant::now();
        Clock::new(move || start.elapsed())
    }

    /// Any clock that does not go back; a test's stands still until it is moved.
    pub fn new(now: impl Fn() -> Duration + Send + Sync + 'static) -> Clock {
        Clock(Arc::new(now))
    }

    pub fn now(&self) -> Duration {
        (self.0)()
    }
}

/// A response's body that keeps the permit until it has ended, for so long does the server work. If nobody wants the
/// rest of it, the permit is dropped with it and counts as abandoned.
pub struct Held<B> {
    body: B,
    status: u16,
    permit: Option<Permit>,
    clock: Clock,
}

impl<B: Body> Held<B> {
    pub fn new(body: B, status: u16, permit: Permit, clock: Clock) -> Held<B> {
        let mut held = Held { body, status, permit: Some(permit), clock };
        held.finish_at_end();
        held
    }

    /// A body that knows its end is not asked again.
    fn finish_at_end(&mut self) {
        if self.body.is_end_stream() {
            self.finish(Outcome::Responded { status: self.status });
        }
    }

    fn finish(&mut self, outcome: Outcome) {
        if let Some(permit) = self.permit.take() {
            permit.finish(outcome, self.clock.now());
        }
    }
}

impl<B: Body + Unpin> Body for Held<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        match &frame {
            Some(Ok(_)) => self.finish_at_end(),
            Some(Err(_)) => self.finish(Outcome::Failed),
            None => {
                let status = self.status;
                self.finish(Outcome::Responded { status });
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
