//! One request to a collector: OTLP/HTTP 1.x, without TLS, without following anybody anywhere.
//!
//! The connection is kept for the next request. Whatever comes from the other side is bounded, in bytes here and in
//! time by whoever asks.

use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, RETRY_AFTER, USER_AGENT};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use prost::Message as _;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::message;
use crate::config::OtlpSettings;

/// Bytes of an answer's head, and of its body, at most.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Characters of what a collector says that are shown to people.
const WORDS_MAX: usize = 200;

const PROTOBUF: &str = "application/x-protobuf";

const AGENT: &str = concat!("lb/", env!("CARGO_PKG_VERSION"));

/// What became of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The collector took the spans.
    Taken {
        /// All but so many.
        rejected: u64,
        /// What it says about those.
        why: String,
    },
    /// It may take them another time.
    Later {
        /// It said when.
        after: Option<Duration>,
        /// For a person.
        why: String,
    },
    /// It will never take them.
    Refused {
        /// For a person.
        why: String,
    },
}

/// A connection to a collector, and the task that drives it.
#[derive(Debug)]
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        // A peer that takes nothing more must not keep it.
        self.driver.abort();
    }
}

/// Sends a request, on the connection that there was if it still stands. Gives back what can be used again.
pub(super) async fn send(
    settings: &OtlpSettings,
    kept: Option<Connection>,
    body: Bytes,
) -> (Answer, Option<Connection>) {
    let mut kept = kept;
    let sent = tokio::time::timeout(settings.timeout, try_send(settings, &mut kept, body)).await;
    match sent {
        Ok(Ok(answer)) => (answer, kept.filter(|connection| !connection.sender.is_closed())),
        Ok(Err(why)) => (Answer::Later { after: None, why }, None),
        Err(_) => {
            let why = format!("no answer within {:?}", settings.timeout);
            (Answer::Later { after: None, why }, None)
        }
    }
}

/// The same without a bound in time. What is left in `connection` has been used to its end.
async fn try_send(
    settings: &OtlpSettings,
    connection: &mut Option<Connection>,
    body: Bytes,
) -> Result<Answer, String> {
    // The other side may close a connection that was kept at any time, and that is no failure.
    if let Some(mut kept) = connection.take()
        && kept.sender.ready().await.is_ok()
        && let Ok(response) = kept.sender.send_request(request(settings, body.clone())?).await
    {
        let answer = read(response).await?;
        *connection = Some(kept);
        return Ok(answer);
    }
    let stream =
        TcpStream::connect(&*settings.endpoint.authority).await.map_err(|error| error.to_string())?;
    let mut builder = Builder::new();
    builder.max_buf_size(ANSWER_BYTES_MAX);
    let (sender, conn) = builder.handshake(TokioIo::new(stream)).await.map_err(|error| words(&error))?;
    let driver = tokio::spawn(async move {
        // What fails here fails the request, too, and is told there.
        let _ = conn.await;
    });
    let mut fresh = Connection { sender, driver };
    let response =
        fresh.sender.send_request(request(settings, body)?).await.map_err(|error| words(&error))?;
    let answer = read(response).await?;
    *connection = Some(fresh);
    Ok(answer)
}

fn request(settings: &OtlpSettings, body: Bytes) -> Result<Request<Full<Bytes>>, String> {
    let mut request = Request::post(&*settings.endpoint.path)
        .header(HOST, &*settings.endpoint.authority)
        .header(USER_AGENT, AGENT)
        .header(CONTENT_TYPE, PROTOBUF);
    for (name, value) in &settings.headers {
        request = request.header(&**name, value.as_bytes());
    }
    request.body(Full::new(body)).map_err(|error| error.to_string())
}

async fn read(response: Response<Incoming>) -> Result<Answer, String> {
    let (head, body) = response.into_parts();
    let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(|error| error.to_string())?;
    Ok(judge(head.status, &head.headers, &body.to_bytes()))
}

/// What an answer means.
fn judge(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Answer {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_protobuf = kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(PROTOBUF);
    if status.is_success() {
        // Some collectors answer in JSON or not at all: that they took everything is in the status.
        if !is_protobuf {
            return Answer::Taken { rejected: 0, why: String::new() };
        }
        return match message::Response::decode(body) {
            Ok(message::Response { partial_success: None }) => {
                Answer::Taken { rejected: 0, why: String::new() }
            }
            Ok(message::Response { partial_success: Some(partial) }) => Answer::Taken {
                rejected: u64::try_from(partial.rejected_spans).unwrap_or(0),
                why: shown(&partial.error_message),
            },
            Err(_) => Answer::Refused { why: format!("{status}, and its body is not OTLP") },
        };
    }
    let said = match message::Failure::decode(body) {
        Ok(failure) if is_protobuf => failure.message,
        _ => String::new(),
    };
    let why = if said.is_empty() { status.to_string() } else { format!("{status}: {}", shown(&said)) };
    match status.as_u16() {
        // The list of OTLP.
        429 | 502 | 503 | 504 => {
            // A date says the same with a clock of theirs; then we go by ours.
            let seconds = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
            Answer::Later { after: seconds.map(Duration::from_secs), why }
        }
        _ => Answer::Refused { why },
    }
}

/// What a peer says, for a line of our log.
fn shown(text: &str) -> String {
    text.chars().take(WORDS_MAX).map(|it| if it.is_control() { ' ' } else { it }).collect()
}

/// An error with what it stems from.
fn words(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(status: u16, headers: &[(&'static str, &'static str)], body: &[u8]) -> Answer {
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        judge(StatusCode::from_u16(status).unwrap(), &headers.collect(), body)
    }

    fn taken(rejected: u64, why: &str) -> Answer {
        Answer::Taken { rejected, why: why.to_owned() }
    }

    #[test]
    fn statuses_and_bodies() {
        let protobuf = ("content-type", "application/x-protobuf; charset=x");
        assert_eq!(judged(200, &[protobuf], b""), taken(0, ""));
        assert_eq!(judged(202, &[], b"<html>"), taken(0, ""));
        assert_eq!(judged(200, &[("content-type", "application/json")], b"{}"), taken(0, ""));
        let partial = message::PartialSuccess { rejected_spans: 3, error_message: "too\nold".to_owned() };
        let body = message::Response { partial_success: Some(partial) }.encode_to_vec();
        assert_eq!(judged(200, &[protobuf], &body), taken(3, "too old"));
        let negative = message::PartialSuccess { rejected_spans: -1, error_message: String::new() };
        let body = message::Response { partial_success: Some(negative) }.encode_to_vec();
        assert_eq!(judged(200, &[protobuf], &body), taken(0, ""));
        assert!(matches!(judged(200, &[protobuf], b"\xff\xff garbage"), Answer::Refused { .. }));
        for status in [301, 307, 400, 401, 404, 413, 500, 501] {
            let answer = judged(status, &[("location", "http://127.0.0.1/"), ("retry-after", "1")], b"");
            assert!(matches!(answer, Answer::Refused { .. }), "{status}: {answer:?}");
        }
        for status in [429, 502, 503, 504] {
            for (value, seconds) in [("17", Some(17)), ("Wed, 21 Oct 2026 07:28:00 GMT", None), ("-1", None)]
            {
                let Answer::Later { after, .. } = judged(status, &[("retry-after", value)], b"") else {
                    panic!("{status} is not for ever");
                };
                assert_eq!(after, seconds.map(Duration::from_secs), "{value}");
            }
        }
    }

    #[test]
    fn what_a_collector_says_is_shown_in_part_and_on_one_line() {
        let body = message::Failure { message: format!("no\r\n{}", "x".repeat(1_000)) }.encode_to_vec();
        let answer = judged(401, &[("content-type", PROTOBUF)], &body);
        let Answer::Refused { why } = answer else { panic!("{answer:?}") };
        assert!(why.starts_with("401 Unauthorized: no  xxx") && why.len() < 300, "{why}");
    }
}
