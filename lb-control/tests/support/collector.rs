//! A collector that does as it is told, and keeps what it was sent: read with the types that OpenTelemetry generates
//! from its own definitions, so that they have a say on our bytes.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::{BTreeMap, VecDeque};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;

/// What one request gets.
#[derive(Debug, Clone)]
pub enum Reply {
    /// All spans are taken.
    Ok,
    /// All but so many are, for this reason.
    Partial(i64, &'static str),
    /// This status, with these further lines of the head.
    Status(u16, String),
    /// Exactly these bytes, and the end.
    Bytes(&'static [u8]),
    /// Nothing at all, until the other side gives up.
    Hang,
}

/// A request that was read to its end.
#[derive(Debug, Clone)]
pub struct Received {
    /// Its head, as it came.
    pub head: String,
    /// What it says.
    pub request: ExportTraceServiceRequest,
}

#[derive(Default)]
struct State {
    /// What the next requests get; after the last, all are taken.
    script: Mutex<VecDeque<Reply>>,
    /// Every request, with what it got.
    received: Mutex<Vec<(Received, Reply)>>,
    connections: Mutex<usize>,
}

/// A collector. It ends with the test's process.
pub struct Collector {
    pub address: SocketAddr,
    state: Arc<State>,
}

impl Collector {
    pub fn start(script: impl IntoIterator<Item = Reply>) -> Collector {
        Collector::at("127.0.0.1:0".parse().expect("an address"), script)
    }

    /// At an address that nobody listens on.
    pub fn at(address: SocketAddr, script: impl IntoIterator<Item = Reply>) -> Collector {
        let listener = TcpListener::bind(address).expect("the address is free");
        let address = listener.local_addr().expect("a bound address");
        let state = Arc::new(State { script: Mutex::new(script.into_iter().collect()), ..State::default() });
        let serving = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                *serving.connections.lock().expect("not poisoned") += 1;
                let state = Arc::clone(&serving);
                thread::spawn(move || serve(stream, &state));
            }
        });
        Collector { address, state }
    }

    /// `http://127.0.0.1:4318`
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Every request so far.
    pub fn received(&self) -> Vec<Received> {
        let received = self.state.received.lock().expect("not poisoned");
        received.iter().map(|(request, _)| request.clone()).collect()
    }

    /// Spans of the requests that were taken.
    pub fn spans(&self) -> Vec<Span> {
        let received = self.state.received.lock().expect("not poisoned");
        let taken = received.iter().filter(|(_, reply)| matches!(reply, Reply::Ok | Reply::Partial(..)));
        taken.flat_map(|(request, _)| spans_of(&request.request)).collect()
    }

    pub fn connections(&self) -> usize {
        *self.state.connections.lock().expect("not poisoned")
    }
}

/// All spans of a request.
pub fn spans_of(request: &ExportTraceServiceRequest) -> Vec<Span> {
    let scopes = request.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
    scopes.flat_map(|scope| scope.spans.clone()).collect()
}

/// Attributes as text. Panics where one is there twice.
#[track_caller]
pub fn attributes(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for attribute in attributes {
        let value = attribute.value.as_ref().and_then(|value| value.value.as_ref());
        let text = match value {
            Some(Value::StringValue(text)) => text.clone(),
            Some(Value::IntValue(number)) => number.to_string(),
            Some(Value::BoolValue(flag)) => flag.to_string(),
            other => panic!("{}: {other:?}", attribute.key),
        };
        assert_eq!(all.insert(attribute.key.clone(), text), None, "{} is there twice", attribute.key);
    }
    all
}

fn serve(mut stream: TcpStream, state: &State) {
    while let Some(received) = read(&mut stream) {
        let reply = state.script.lock().expect("not poisoned").pop_front().unwrap_or(Reply::Ok);
        state.received.lock().expect("not poisoned").push((received, reply.clone()));
        let answer = |partial_success| {
            let body = ExportTraceServiceResponse { partial_success }.encode_to_vec();
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            [head.into_bytes(), body].concat()
        };
        let bytes = match reply {
            Reply::Ok => answer(None),
            Reply::Partial(rejected_spans, why) => {
                answer(Some(ExportTracePartialSuccess { rejected_spans, error_message: why.to_owned() }))
            }
            Reply::Status(status, lines) => {
                format!("HTTP/1.1 {status} No\r\ncontent-length: 0\r\n{lines}\r\n").into_bytes()
            }
            Reply::Bytes(bytes) => {
                let _ = stream.write_all(bytes);
                return;
            }
            Reply::Hang => {
                let _ = stream.read_to_end(&mut Vec::new());
                return;
            }
        };
        if stream.write_all(&bytes).is_err() {
            return;
        }
    }
}

fn read(stream: &mut TcpStream) -> Option<Received> {
    let (mut bytes, mut chunk) = (Vec::new(), [0; 65_536]);
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let lower = head.to_ascii_lowercase();
            let length = lower.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.expect("a request has a length").parse().expect("a number");
            if bytes.len() >= end + 4 + length {
                let request =
                    ExportTraceServiceRequest::decode(&bytes[end + 4..]).expect("a request of OTLP");
                return Some(Received { head, request });
            }
        }
        let read = stream.read(&mut chunk).ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&chunk[..read]);
    }
}
