//! The yardsticks relay every byte, whatever the ends do.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use benches::client::{Client, get, post};
use benches::origin::{self, BODY_1M, body_byte};
use benches::relay::{self, Mode};

/// Only so that a lost byte fails the test instead of hanging it.
const PATIENCE: Duration = Duration::from_secs(30);

fn listener() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port")
}

fn start_origin() -> SocketAddr {
    let listener = listener();
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || origin::run(vec![listener]));
    address
}

fn start_relay(mode: Mode, upstream: SocketAddr) -> SocketAddr {
    let listener = listener();
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || relay::run(listener, &[upstream], mode));
    address
}

fn each(check: impl Fn(SocketAddr)) {
    let origin = start_origin();
    for mode in [Mode::Copy, Mode::Splice] {
        check(start_relay(mode, origin));
    }
    check(origin);
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("it accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}

fn is_the_large_body(body: &[u8]) -> bool {
    body.len() == BODY_1M && body.iter().enumerate().all(|(position, &byte)| byte == body_byte(position))
}

#[test]
fn keep_alive_requests_of_all_sizes() {
    each(|address| {
        let mut client = Client::connect(address).expect("it accepts");
        for _ in 0..3 {
            let small = client.send(get("a", "/", &[]).as_bytes()).expect("an answer");
            assert!(small.body.starts_with(b"0 bytes received\n"));
            let large = client.send(get("a", "/1m", &[]).as_bytes()).expect("an answer");
            assert!(is_the_large_body(&large.body));
            let posted = client.send(post("a", "/", 300_000).as_bytes()).expect("an answer");
            assert!(posted.body.starts_with(b"300000 bytes received\n"));
        }
    });
}

#[test]
fn a_head_may_come_in_pieces() {
    each(|address| {
        let mut stream = connect(address);
        stream.set_nodelay(true).expect("a socket option");
        for byte in get("a", "/", &["Connection: close".into()]).as_bytes() {
            stream.write_all(&[*byte]).expect("room for a byte");
        }
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer and its end");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    });
}

/// Many large answers at once to readers that begin only when all have asked: every receiver blocks.
#[test]
fn blocked_receivers_lose_nothing() {
    each(|address| {
        let mut streams: Vec<TcpStream> = (0..24).map(|_| connect(address)).collect();
        for stream in &mut streams {
            stream.write_all(get("a", "/1m", &["Connection: close".into()]).as_bytes()).expect("sent");
        }
        for stream in &mut streams {
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).expect("an answer and its end");
            let head = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("a head") + 4;
            assert!(is_the_large_body(&answer[head..]));
        }
    });
}

/// A client that ends its side still gets what the server has to say, and its end arrives there.
#[test]
fn a_half_closed_client_is_answered() {
    for mode in [Mode::Copy, Mode::Splice] {
        let server = listener();
        let address = start_relay(mode, server.local_addr().expect("an address"));
        let mut client = connect(address);
        let sent: Vec<u8> = (0..3_000_000).map(body_byte).collect();
        let (mut accepted, _) = server.accept().expect("the relay connects");
        let writer = std::thread::spawn(move || {
            client.write_all(&sent).expect("the relay takes it");
            client.shutdown(Shutdown::Write).expect("an open socket");
            let mut answer = String::new();
            client.read_to_string(&mut answer).expect("an answer and its end");
            (sent, answer)
        });
        let mut received = Vec::new();
        accepted.read_to_end(&mut received).expect("everything and its end");
        accepted.write_all(b"got it").expect("the relay takes it");
        drop(accepted);
        let (sent, answer) = writer.join().expect("no panic");
        assert!(received == sent, "{mode:?}: {} bytes of {}", received.len(), sent.len());
        assert_eq!(answer, "got it", "{mode:?}");
    }
}
