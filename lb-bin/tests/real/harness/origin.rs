//! A server that records every byte and answers as its script says.

use std::collections::HashMap;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use socket2::SockRef;

use super::PATIENCE;
use super::wire::{Message, Wire};

/// How a connection ended, seen from the origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The proxy ended its side.
    Eof,
    /// The proxy reset it.
    Reset,
    /// The script left.
    Left,
}

#[derive(Default)]
struct Record {
    bytes: Vec<u8>,
    ended: Option<Ended>,
}

#[derive(Default)]
struct Shared {
    records: Mutex<Vec<Record>>,
    changed: Condvar,
    streams: Mutex<HashMap<usize, TcpStream>>,
    stopped: AtomicBool,
}

/// A listening origin; dropping it closes everything.
pub struct Origin {
    pub address: SocketAddr,
    listener: TcpListener,
    shared: Arc<Shared>,
}

/// One connection from the proxy, in the hands of a script.
pub struct Conversation {
    /// Counts connections from 0.
    pub index: usize,
    wire: Wire,
    shared: Arc<Shared>,
    ended: Ended,
}

impl Origin {
    /// Each connection runs `script` on a thread of its own.
    pub fn scripted(script: impl Fn(&mut Conversation) + Send + Sync + 'static) -> Origin {
        Origin::scripted_on("127.0.0.1:0".parse().unwrap(), script)
    }

    /// The same on a given address (to come back where one was stopped).
    pub fn scripted_on(
        address: SocketAddr,
        script: impl Fn(&mut Conversation) + Send + Sync + 'static,
    ) -> Origin {
        let listener = TcpListener::bind(address).expect("an origin can listen");
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let script = Arc::new(script);
        let accepting = (listener.try_clone().unwrap(), Arc::clone(&shared));
        thread::spawn(move || {
            let (listener, shared) = accepting;
            while let Ok((stream, _)) = listener.accept() {
                if shared.stopped.load(Ordering::SeqCst) {
                    break;
                }
                let index = {
                    let mut records = shared.records.lock().unwrap();
                    records.push(Record::default());
                    records.len() - 1
                };
                shared.streams.lock().unwrap().insert(index, stream.try_clone().unwrap());
                let (shared, script) = (Arc::clone(&shared), Arc::clone(&script));
                thread::spawn(move || converse(stream, index, &shared, &*script));
            }
        });
        Origin { address, listener, shared }
    }

    /// Answers each request by what `answer` returns (complete response bytes), keeping connections alive.
    pub fn answering(answer: impl Fn(&Message) -> Vec<u8> + Send + Sync + 'static) -> Origin {
        Origin::scripted(move |conversation| {
            while let Some(request) = conversation.request() {
                if conversation.write(answer(&request)).is_err() {
                    break;
                }
            }
        })
    }

    /// Answers 200 with `name` as the body.
    pub fn named(name: &str) -> Origin {
        let response = ok(name);
        Origin::answering(move |_| response.clone())
    }

    /// Exact bytes received, per connection in the order of accepting.
    pub fn received(&self) -> Vec<Vec<u8>> {
        self.shared.records.lock().unwrap().iter().map(|record| record.bytes.clone()).collect()
    }

    /// Everything received on all connections, one after the other.
    pub fn all_received(&self) -> Vec<u8> {
        self.received().concat()
    }

    pub fn connections(&self) -> usize {
        self.shared.records.lock().unwrap().len()
    }

    /// Waits until the records satisfy `holds`, which gets each connection's bytes and how it ended.
    #[track_caller]
    pub fn wait_for(&self, what: &str, mut holds: impl FnMut(&[(&[u8], Option<Ended>)]) -> bool) {
        let records = self.shared.records.lock().unwrap();
        let (records, timeout) = self
            .shared
            .changed
            .wait_timeout_while(records, PATIENCE, |records| {
                let view: Vec<_> =
                    records.iter().map(|record| (record.bytes.as_slice(), record.ended)).collect();
                !holds(&view)
            })
            .unwrap();
        if timeout.timed_out() {
            let seen: Vec<_> = records
                .iter()
                .map(|it| {
                    (String::from_utf8_lossy(&it.bytes[..it.bytes.len().min(500)]).into_owned(), it.ended)
                })
                .collect();
            drop(records);
            panic!("waited {PATIENCE:?} in vain: {what}; connections: {seen:#?}");
        }
    }

    /// Dies as a killed process does: stops listening, resets every connection.
    pub fn kill(&self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        let _ = SockRef::from(&self.listener).shutdown(Shutdown::Both);
        for (_, stream) in self.shared.streams.lock().unwrap().drain() {
            let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.kill();
    }
}

fn converse(stream: TcpStream, index: usize, shared: &Arc<Shared>, script: &dyn Fn(&mut Conversation)) {
    let tap = {
        let shared = Arc::clone(shared);
        Box::new(move |bytes: &[u8]| {
            shared.records.lock().unwrap()[index].bytes.extend_from_slice(bytes);
            shared.changed.notify_all();
        })
    };
    let wire = Wire::new(stream).with_tap(tap);
    let mut conversation = Conversation { index, wire, shared: Arc::clone(shared), ended: Ended::Left };
    script(&mut conversation);
}

impl Drop for Conversation {
    fn drop(&mut self) {
        if let Some(stream) = self.shared.streams.lock().unwrap().remove(&self.index) {
            drop(stream);
        }
        self.shared.records.lock().unwrap()[self.index].ended = Some(self.ended);
        self.shared.changed.notify_all();
    }
}

impl Conversation {
    fn note<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result {
            self.ended = if error.kind() == io::ErrorKind::UnexpectedEof { Ended::Eof } else { Ended::Reset };
        }
        result
    }

    /// A request with its body; `None` when the proxy has left.
    pub fn request(&mut self) -> Option<Message> {
        let mut request = self.head()?;
        self.body(&mut request).ok()?;
        Some(request)
    }

    /// A request's head; its body is left to be read.
    pub fn head(&mut self) -> Option<Message> {
        let head = self.wire.head();
        match self.note(head) {
            Ok(Some(request)) => Some(request),
            Ok(None) => {
                self.ended = Ended::Eof;
                None
            }
            Err(_) => None,
        }
    }

    pub fn body(&mut self, request: &mut Message) -> io::Result<()> {
        let length = request.request_length();
        let done = self.wire.body(request, length);
        self.note(done)
    }

    pub fn take(&mut self, len: usize) -> io::Result<Vec<u8>> {
        let bytes = self.wire.take(len);
        self.note(bytes)
    }

    /// Waits until at least one further byte (or the end: `false`) is there.
    pub fn more(&mut self) -> bool {
        let count = self.wire.fill();
        match self.note(count) {
            Ok(0) => {
                self.ended = Ended::Eof;
                false
            }
            Ok(_) => true,
            Err(_) => false,
        }
    }

    pub fn write(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        let done = self.wire.write(bytes.as_ref());
        self.note(done)
    }

    /// Reads until the proxy leaves.
    pub fn until_closed(&mut self) {
        while self.more() {}
    }

    /// Resets the connection when the script returns.
    pub fn reset(&mut self) {
        SockRef::from(self.wire.stream()).set_linger(Some(Duration::ZERO)).unwrap();
    }

    pub fn wire(&mut self) -> &mut Wire {
        &mut self.wire
    }
}

/// A 200 with a length and `body`.
pub fn ok(body: impl AsRef<[u8]>) -> Vec<u8> {
    response(200, "OK", &[], body)
}

/// A response with a length.
pub fn response(status: u16, reason: &str, fields: &[(&str, &str)], body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut out = format!("HTTP/1.1 {status} {reason}\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in fields {
        out.push_str(&format!("{name}: {value}\r\n"));
    }
    out.push_str("\r\n");
    let mut out = out.into_bytes();
    out.extend_from_slice(body);
    out
}
