//! Bodies both ways: every framing, every size, every way to end.

use crate::harness::lb::one_server;
use crate::harness::origin::{ok, response};
use crate::harness::wire::chunked;
use crate::harness::*;

const SIZES: [usize; 8] = [0, 1, 100, 4_095, 65_536, 100_000, 1_000_000, 5_000_001];

/// An origin whose answer's framing the target chooses, with the request's body in it.
fn echo() -> Origin {
    Origin::scripted(|conversation| {
        while let Some(request) = conversation.request() {
            let bytes = match request.target() {
                "/length" => ok(&request.body),
                "/chunked" => {
                    let mut bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
                    bytes.extend(chunked(&request.body, 8_000));
                    bytes
                }
                "/close" => {
                    let mut bytes = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
                    bytes.extend(&request.body);
                    let _ = conversation.write(bytes);
                    return;
                }
                other => panic!("unexpected target {other}"),
            };
            if conversation.write(bytes).is_err() {
                return;
            }
        }
    })
}

fn post(target: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes =
        format!("POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    bytes.extend(body);
    bytes
}

fn post_chunked(target: &str, body: &[u8], size: usize) -> Vec<u8> {
    let mut bytes =
        format!("POST {target} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").into_bytes();
    bytes.extend(chunked(body, size));
    bytes
}

/// Sends from a thread of its own, so that an echo of any size cannot block both ends.
fn send_and_receive(client: &mut Client, request: Vec<u8>) -> Message {
    let mut sending = client.wire().stream().try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || std::io::Write::write_all(&mut sending, &request).expect("all of it is taken"));
        client.response_to("POST")
    })
}

on_both_drivers! {
    every_framing_and_size_comes_through,
    a_reused_connection_carries_every_framing,
    chunks_in_single_bytes,
    chunk_extensions_end_here,
    trailers_pass_both_ways,
    responses_without_a_body_end_at_their_head,
    interim_responses_pass_to_1_1_only,
    expect_is_answered_by_the_server,
    a_response_may_come_before_the_body_ends,
    http_1_0_clients_get_plain_bodies,
    a_cut_response_is_never_made_to_look_whole,
    a_download_waits_for_its_reader,
    an_upload_waits_for_its_server,
}

fn every_framing_and_size_comes_through(driver: Driver) {
    let origin = echo();
    let lb = Lb::start(driver, one_server(&origin));
    for (seed, size) in SIZES.into_iter().enumerate() {
        let body = pattern(seed as u64, size);
        for target in ["/length", "/chunked", "/close"] {
            for request in [post(target, &body), post_chunked(target, &body, 7_777)] {
                let mut client = Client::connect(lb.web());
                let response = send_and_receive(&mut client, request);
                assert_eq!(response.status(), 200);
                assert_same_bytes(&format!("{target} of {size}"), &response.body, &body);
            }
        }
    }
}

fn a_reused_connection_carries_every_framing(driver: Driver) {
    let origin = echo();
    let lb = Lb::start(driver, one_server(&origin));
    let mut client = Client::connect(lb.web());
    for (seed, size) in SIZES.into_iter().enumerate() {
        let body = pattern(seed as u64 + 100, size);
        for target in ["/chunked", "/length"] {
            for request in [post_chunked(target, &body, 60_000), post(target, &body)] {
                let response = send_and_receive(&mut client, request);
                assert_same_bytes(&format!("{target} of {size}"), &response.body, &body);
            }
        }
    }
    assert_eq!(origin.connections(), 1);
}

fn chunks_in_single_bytes(driver: Driver) {
    let origin = Origin::scripted(|conversation| {
        while let Some(request) = conversation.request() {
            let mut bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            bytes.extend(chunked(&request.body, 3));
            for byte in bytes {
                if conversation.write([byte]).is_err() {
                    return;
                }
            }
        }
    });
    let lb = Lb::start(driver, one_server(&origin));
    let mut client = Client::connect(lb.web());
    for size in [0, 1, 17, 300] {
        let body = pattern(9, size);
        client.dribble(post_chunked("/", &body, 5));
        assert_same_bytes("dribbled both ways", &client.response_to("POST").body, &body);
    }
}

fn chunk_extensions_end_here(driver: Driver) {
    let origin = Origin::scripted(|conversation| {
        while conversation.request().is_some() {
            let _ = conversation.write(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                 5;name=\"va;lue\"\r\nhello\r\n6;x\r\n world\r\n0;last=1\r\n\r\n",
            );
        }
    });
    let lb = Lb::start(driver, one_server(&origin));
    let mut client = Client::connect(lb.web());
    client.send(
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
         3;secret=up\r\nabc\r\n0;end\r\n\r\n",
    );
    let response = client.response_to("POST");
    assert_eq!(response.text(), "hello world");
    let seen = String::from_utf8(origin.all_received()).unwrap();
    assert!(seen.ends_with("\r\n\r\n3\r\nabc\r\n0\r\n\r\n"), "{seen}");
}

fn trailers_pass_both_ways(driver: Driver) {
    let origin = Origin::scripted(|conversation| {
        while let Some(request) = conversation.request() {
            let seen =
                request.trailers.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>();
            let bytes = format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
                 4\r\nbody\r\n0\r\nX-Sum: 42\r\nX-Seen: {}\r\n\r\n",
                seen.join(",")
            );
            let _ = conversation.write(bytes);
        }
    });
    let lb = Lb::start(driver, one_server(&origin));
    let mut client = Client::connect(lb.web());
    for _ in 0..3 {
        client.send(
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\n\r\n\
             3\r\nabc\r\n0\r\nX-Check: ok\r\n\r\n",
        );
        let response = client.response_to("POST");
        assert_eq!(response.text(), "body");
        let trailer = |name: &str| {
            let found = response.trailers.iter().find(|(it, _)| it.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.to_ascii_lowercase())
        };
        assert_eq!(trailer("x-sum").as_deref(), Some("42"), "{response:?}");
        assert_eq!(trailer("x-seen").as_deref(), Some("x-check=ok"), "{response:?}");
    }
}

fn responses_without_a_body_end_at_their_head(driver: Driver) {
    let origin = Origin::answering(|request| match request.target() {
        "/head" => b"HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n".to_vec(),
        "/head-chunked" => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(),
        "/204" => b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
        "/304" => b"HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\nETag: \"x\"\r\n\r\n".to_vec(),
        _ => ok("whole"),
    });
    let lb = Lb::start(driver, one_server(&origin));
    let mut client = Client::connect(lb.web());
    let mut ask = |method: &str, target: &str| {
        client.exchange(format!("{method} {target} HTTP/1.1\r\nHost: a\r\n\r\n"))
    };
    let head = ask("HEAD", "/head");
    assert_eq!((head.status(), head.field("content-length")), (200, Some("12345")));
    assert_eq!(ask("HEAD", "/head-chunked").status(), 200);
    assert_eq!(ask("GET", "/204").status(), 204);
    let unchanged = ask("GET", "/304");
    assert_eq!((unchanged.status(), unchanged.field("etag")), (304, Some("\"x\"")));
    assert_eq!(ask("GET", "/whole").text(), "whole");
    assert_eq!(origin.connections(), 1);
}

fn interim_responses_pass_to_1_1_only(driver: Driver) {
    let origin = Origin::answering(|_| {
        let mut bytes = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n".to_vec();
        bytes.extend(ok("final"));
        bytes
    });
    let lb = Lb::start(driver, one_server(&origin));
    let mut client = Client::connect(lb.web());
    let hints = client.exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((hints.status(), hints.field("link")), (103, Some("</a.css>; rel=preload")));
    assert_eq!(client.response().text(), "final");

    let mut old = Client::connect(lb.web());
    let response = old.exchange("GET / HTTP/1.0\r\nHost: a\r\n\r\n");
    assert_eq!((response.status(), response.text().as_str()), (200, "final"));
}

fn expect_is_answered_by_the_server(driver: Driver) {
    let origin = Origin::scripted(|conversation| {
        while let Some(mut request) = conversation.head() {
            assert_eq!(request.field("expect").map(str::to_ascii_lowercase).as_deref(), Some("100-continue"));
            if request.target() == "/refused" {
                let _ = conversation.write(response(417, "Expectation Failed", &[], "no"));
                conversation.until_closed();
                return;
            }
            let _ = conversation.write("HTTP/1.1 100 Continue\r\n\r\n");
            if conversation.body(&mut request).is_err() {
                return;
            }
            let _ = conversation.write(ok(&request.body));
        }
    });
    let lb = Lb::start(driver, one_server(&origin));
    let mut client = Client::connect(lb.web());
    for _ in 0..2 {
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n");
        assert_eq!(client.response().status(), 100);
        client.send("body");
        assert_eq!(client.response_to("POST").text(), "body");
    }
    // A refusal: the body was never sent, so nothing of this connection may be read as one.
    client.send("POST /refused HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n");
    let refused = client.response_to("POST");
    assert_eq!((refused.status(), refused.text().as_str()), (417, "no"));
}

fn a_response_may_come_before_the_body_ends(driver: Driver) {
    let origin = Origin::scripted(|conversation| {
        if conversation.head().is_some() {
            let _ = conversation.write(response(403, "Forbidden", &[], "not you"));
            conversation.until_closed();
        }
    });
    let lb = Lb::start(driver, one_server(&origin));
    for _ in 0..5 {
        let mut client = Client::connect(lb.web());
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nonly a part");
        let early = client.response_to("POST");
        assert_eq!((early.status(), early.text().as_str()), (403, "not you"));
    }
    // A connection whose request was not finished never serves another.
    origin.wait_for("each to be closed", |records| {
        records.len() == 5 && records.iter().all(|(_, ended)| ended.is_some())
    });
}

fn http_1_0_clients_get_plain_bodies(driver: Driver) {
    let origin = echo();
    let lb = Lb::start(driver, one_server(&origin));
    let body = pattern(3, 200_000);
    let mut request =
        format!("POST /chunked HTTP/1.0\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    request.extend(&body);
    let mut client = Client::connect(lb.web());
    let response = send_and_receive(&mut client, request);
    assert_eq!(response.field("transfer-encoding"), None);
    assert_same_bytes("unchunked", &response.body, &body);
}

fn a_cut_response_is_never_made_to_look_whole(driver: Driver) {
    let origin = Origin::scripted(|conversation| {
        let Some(request) = conversation.request() else { return };
        let bytes = match request.target() {
            "/length" => "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf!",
            "/chunked" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhalf!\r\n",
            "/in-a-chunk" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\nhalf!",
            "/reset" => {
                conversation.reset();
                "HTTP/1.1 200 OK\r\n\r\nhalf!"
            }
            other => panic!("{other}"),
        };
        let _ = conversation.write(bytes);
    });
    let lb = Lb::start(driver, one_server(&origin));
    for target in ["/length", "/chunked", "/in-a-chunk", "/reset"] {
        let mut client = Client::connect(lb.web());
        client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        match client.try_response("GET") {
            Err(_) => {}
            // Reset before a byte went downstream: then it may be said instead.
            Ok(Some(response)) if response.status() == 502 => assert_eq!(target, "/reset"),
            other => panic!("{target}: a cut response passed for a whole one: {other:?}"),
        }
    }
}

fn a_download_waits_for_its_reader(driver: Driver) {
    const SIZE: usize = 64 << 20;
    let body = std::sync::Arc::new(pattern(64, SIZE));
    let sent = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let origin = {
        let (body, sent) = (body.clone(), sent.clone());
        Origin::scripted(move |conversation| {
            while let Some(request) = conversation.request() {
                let framed = request.target() == "/chunked";
                let head = if framed {
                    "Transfer-Encoding: chunked".to_owned()
                } else {
                    format!("Content-Length: {SIZE}")
                };
                let _ = conversation.write(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n"));
                sent.store(0, std::sync::atomic::Ordering::SeqCst);
                for piece in body.chunks(64 * 1024) {
                    let done = if framed {
                        let mut bytes = format!("{:x}\r\n", piece.len()).into_bytes();
                        bytes.extend(piece);
                        bytes.extend(b"\r\n");
                        conversation.write(bytes)
                    } else {
                        conversation.write(piece)
                    };
                    if done.is_err() {
                        return;
                    }
                    sent.fetch_add(piece.len(), std::sync::atomic::Ordering::SeqCst);
                }
                if framed {
                    let _ = conversation.write("0\r\n\r\n");
                }
            }
        })
    };
    let lb = Lb::start(driver, one_server(&origin));
    assert_eq!(client::get(lb.web(), "a", "/warm").body.len(), SIZE);
    for target in ["/length", "/chunked"] {
        let before = lb.resident_bytes();
        let mut client = Client::connect_narrow(lb.web());
        client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let mut response = client.response_head();
        let stopped = settled("the sender", || sent.load(std::sync::atomic::Ordering::SeqCst));
        assert!(
            stopped < SIZE,
            "{target}: the whole body was taken from the server for a reader that stopped"
        );
        let grown = lb.resident_bytes().saturating_sub(before);
        assert!(grown < 4 << 20, "{target}: {grown} bytes more for one stopped reader");
        let length = response.response_length("GET");
        client.wire().body(&mut response, length).expect("the rest comes");
        assert_same_bytes(target, &response.body, &body);
    }
    assert!(lb.peak_bytes() < 64 << 20, "{} bytes at the peak", lb.peak_bytes());
}

fn an_upload_waits_for_its_server(driver: Driver) {
    const SIZE: usize = 64 << 20;
    let gate = Gate::new();
    let body = std::sync::Arc::new(pattern(65, SIZE));
    let origin = {
        let (gate, body) = (gate.clone(), body.clone());
        Origin::scripted(move |conversation| {
            let Some(mut request) = conversation.head() else { return };
            gate.wait();
            if conversation.body(&mut request).is_ok() {
                let same = request.body == *body;
                let _ = conversation.write(ok(if same { "same" } else { "different" }));
            }
        })
    };
    let lb = Lb::start(driver, one_server(&origin));
    let before = lb.resident_bytes();
    let mut client = Client::connect(lb.web());
    let sent = std::sync::atomic::AtomicUsize::new(0);
    let mut sending = client.wire().stream().try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {SIZE}\r\n\r\n");
            std::io::Write::write_all(&mut sending, head.as_bytes()).unwrap();
            for piece in body.chunks(64 * 1024) {
                std::io::Write::write_all(&mut sending, piece).expect("the upload goes on");
                sent.fetch_add(piece.len(), std::sync::atomic::Ordering::SeqCst);
            }
        });
        let stopped = settled("the sender", || sent.load(std::sync::atomic::Ordering::SeqCst));
        assert!(stopped < SIZE, "the whole body was taken from the client for a server that stopped");
        let grown = lb.resident_bytes().saturating_sub(before);
        assert!(grown < 4 << 20, "{grown} bytes more for one stopped server");
        gate.open();
        assert_eq!(client.response_to("POST").text(), "same");
    });
    assert!(lb.peak_bytes() < 64 << 20, "{} bytes at the peak", lb.peak_bytes());
}
