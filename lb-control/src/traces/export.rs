//! The exporter: takes spans from the workers, gathers them, and has one batch at a time on its way.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use hyper::body::Bytes;
use prost::Message as _;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

use super::client::{self, Answer, Connection};
use super::message::{KeyValue, Request, Resource, ResourceSpans, Scope, ScopeSpans};
use super::pace::Pace;
use super::{Counts, span};
use crate::config::OtlpSettings;
use crate::control::Shared;
use crate::resolve::random;

/// How often workers' buffers are emptied: at 300 bytes a record they hold what 30,000 exchanges in a second come to.
const TAKE_EVERY: Duration = Duration::from_millis(100);

/// Spans that are sent together at most.
const BATCH_MAX: usize = 512;

/// How long a batch is tried after it was first sent. Then its spans have failed.
const RETRY_FOR: Duration = Duration::from_secs(60);

/// How long the last spans may take when we stop.
const LAST_SPANS: Duration = Duration::from_secs(2);

/// Which semantic conventions our names are from.
const SCHEMA: &str = "https://opentelemetry.io/schemas/1.30.0";

/// Tells a collector until the future is dropped.
pub(crate) struct Exporter {
    shared: Arc<Shared>,
    settings: Arc<OtlpSettings>,
    /// What the resource says that never changes.
    resource: Vec<KeyValue>,
    /// Spans, encoded, with the time at which they came.
    waiting: VecDeque<(Instant, Vec<u8>)>,
    batch: Option<Batch>,
    attempt: Option<Attempt>,
    connection: Option<Connection>,
    pace: Pace,
    /// The last attempt failed: it has been said.
    failing: bool,
}

/// Spans that are sent together, until they are taken or have failed.
struct Batch {
    body: Bytes,
    spans: u64,
    /// None before the first attempt.
    until: Option<Instant>,
}

/// A request under way. It is a task, so that spans are taken meanwhile and a stop does not break it off.
type Attempt = JoinHandle<(Answer, Option<Connection>)>;

impl Exporter {
    pub(crate) fn new(shared: Arc<Shared>, settings: OtlpSettings) -> Exporter {
        Exporter {
            shared,
            resource: resource(&settings),
            settings: Arc::new(settings),
            waiting: VecDeque::new(),
            batch: None,
            attempt: None,
            connection: None,
            pace: Pace::new(Instant::now()),
            failing: false,
        }
    }

    /// Takes and tells.
    pub(crate) async fn run(&mut self) {
        let mut ticks = interval(TAKE_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                (answer, connection) = ended(&mut self.attempt) => self.answered(answer, connection),
                now = ticks.tick() => self.take(now),
            }
            self.begin(Instant::now(), false);
        }
    }

    /// Tells what there is yet, each batch once, in as much time as there is when we stop.
    pub(crate) async fn finish(mut self) {
        let until = Instant::now() + LAST_SPANS;
        self.take(Instant::now());
        loop {
            self.begin(Instant::now(), true);
            if self.attempt.is_none() {
                break;
            }
            let Ok((answer, connection)) = timeout_at(until, ended(&mut self.attempt)).await else { break };
            let is_taken = matches!(answer, Answer::Taken { .. });
            self.answered(answer, connection);
            if !is_taken {
                break;
            }
        }
        let left = self.waiting.len() as u64 + self.batch.map_or(0, |batch| batch.spans);
        if left > 0 {
            tracing::warn!(spans = left, collector = %self.settings.endpoint, "spans are lost at the end");
        }
    }

    /// Takes what the workers have recorded.
    fn take(&mut self, now: Instant) {
        let (waiting, room) = (&mut self.waiting, self.settings.queue);
        let mut dropped = 0;
        self.shared.workers.take_spans(&mut |reading| match waiting.len() < room {
            true => waiting.push_back((now, span::span(&reading).encode_to_vec())),
            false => dropped += 1,
        });
        self.count(|counts| &counts.dropped, dropped);
    }

    /// Sends the next batch, if it is time for that.
    fn begin(&mut self, now: Instant, is_last: bool) {
        if self.attempt.is_some() || (now < self.pace.not_before() && !is_last) {
            return;
        }
        if self.batch.is_none() {
            let Some((oldest, _)) = self.waiting.front() else { return };
            if self.waiting.len() < BATCH_MAX && now < *oldest + self.settings.interval && !is_last {
                return;
            }
            self.batch = Some(self.gather());
        }
        let Some(batch) = &mut self.batch else { return };
        batch.until.get_or_insert(now + RETRY_FOR);
        let (body, settings) = (batch.body.clone(), Arc::clone(&self.settings));
        let kept = self.connection.take();
        self.attempt = Some(tokio::spawn(async move { client::send(&settings, kept, body).await }));
    }

    fn gather(&mut self) -> Batch {
        let spans = self.waiting.drain(..self.waiting.len().min(BATCH_MAX));
        let spans: Vec<Vec<u8>> = spans.map(|(_, span)| span).collect();
        let count = spans.len() as u64;
        let mut attributes = self.resource.clone();
        let current = self.shared.current();
        if let Some(zone) = current.table.snapshot.zone() {
            set(&mut attributes, "cloud.availability_zone", zone, false);
        }
        let scope = Scope { name: "lb".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() };
        let request = Request {
            resource_spans: vec![ResourceSpans {
                resource: Some(Resource { attributes }),
                scope_spans: vec![ScopeSpans { scope: Some(scope), spans }],
                schema_url: SCHEMA.to_owned(),
            }],
        };
        Batch { body: request.encode_to_vec().into(), spans: count, until: None }
    }

    fn answered(&mut self, answer: Answer, connection: Option<Connection>) {
        self.connection = connection;
        let Some(batch) = self.batch.take() else { return };
        let now = Instant::now();
        match answer {
            Answer::Taken { rejected, why } => {
                self.pace.succeeded();
                let rejected = rejected.min(batch.spans);
                self.count(|counts| &counts.sent, batch.spans - rejected);
                self.count(|counts| &counts.failed, rejected);
                let rejection = format!("{rejected} of {} spans were rejected: {why}", batch.spans);
                self.say((rejected > 0).then_some(rejection));
            }
            Answer::Later { after, why } => {
                self.pace.failed(now, after, random());
                self.say(Some(why));
                if batch.until.is_some_and(|until| self.pace.not_before() < until) {
                    self.batch = Some(batch);
                } else {
                    self.count(|counts| &counts.failed, batch.spans);
                }
            }
            Answer::Refused { why } => {
                self.pace.failed(now, None, random());
                self.count(|counts| &counts.failed, batch.spans);
                self.say(Some(why));
            }
        }
    }

    fn count(&self, which: impl Fn(&Counts) -> &AtomicU64, spans: u64) {
        if let Some(counts) = &self.shared.spans {
            which(counts).fetch_add(spans, Relaxed);
        }
    }

    /// Says once that the collector does not take spans, and once that it does again.
    fn say(&mut self, why: Option<String>) {
        let failing = why.is_some();
        let collector = &self.settings.endpoint;
        match why {
            Some(why) if !self.failing => {
                tracing::warn!(why, %collector, "the collector does not take our spans");
            }
            None if self.failing => tracing::info!(%collector, "the collector takes our spans again"),
            _ => {}
        }
        self.failing = failing;
    }
}

/// Waits for the end of a request, for ever if none is under way.
async fn ended(attempt: &mut Option<Attempt>) -> (Answer, Option<Connection>) {
    let Some(handle) = attempt else { return std::future::pending().await };
    let result = handle.await;
    *attempt = None;
    result.unwrap_or_else(|error| (Answer::Later { after: None, why: error.to_string() }, None))
}

/// What we are: the configuration's word goes before ours.
fn resource(settings: &OtlpSettings) -> Vec<KeyValue> {
    let mut attributes = Vec::new();
    for (key, value) in &settings.attributes {
        set(&mut attributes, key, value, true);
    }
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    // Another one for every process, and every start of it.
    let mut instance = [0; 16];
    let _ = getrandom::fill(&mut instance);
    let instance = uuid(u128::from_be_bytes(instance));
    set(&mut attributes, "service.name", &settings.service_name, true);
    set(&mut attributes, "service.version", env!("CARGO_PKG_VERSION"), false);
    set(&mut attributes, "service.instance.id", &instance, false);
    set(&mut attributes, "host.name", host.trim(), false);
    attributes
}

/// Sets an attribute, over another of the same key or only if there is none.
fn set(attributes: &mut Vec<KeyValue>, key: &str, value: &str, over: bool) {
    let known = attributes.iter().position(|attribute| attribute.key == key);
    match known {
        Some(place) if over => attributes[place] = KeyValue::new(key, value.into()),
        Some(_) => {}
        None if value.is_empty() => {}
        None => attributes.push(KeyValue::new(key, value.into())),
    }
}

/// A random UUID (RFC 9562 section 5.4: version 4, variant 10).
fn uuid(random: u128) -> String {
    let bits = random & !(0xf << 76) & !(0b11 << 62) | 4 << 76 | 0b10 << 62;
    let digits = format!("{bits:032x}");
    [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_instances_are_uuids() {
        assert_eq!(uuid(0), "00000000-0000-4000-8000-000000000000");
        assert_eq!(uuid(u128::MAX), "ffffffff-ffff-4fff-bfff-ffffffffffff");
    }
}
