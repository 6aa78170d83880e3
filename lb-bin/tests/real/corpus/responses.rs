//! What servers answer: exact bytes at the client, and whether either connection is used again.

use std::sync::{Arc, Mutex};

use super::cases::{self, ResponseCase, Stage};
use crate::harness::lb::one_server;
use crate::harness::*;

on_both_drivers! {
    whole,
    in_single_bytes,
    from_an_old_server,
}

fn whole(driver: Driver) {
    replay(driver, usize::MAX, false);
}

fn in_single_bytes(driver: Driver) {
    replay(driver, 1, false);
}

/// The cases of `accept_legacy_responses = true`.
fn from_an_old_server(driver: Driver) {
    replay(driver, usize::MAX, true);
}

const AGAIN: &str = "GET /again HTTP/1.1\r\nHost: a.test\r\n\r\n";

/// What the origin does with the case's request.
#[derive(Clone, Default)]
struct Script {
    bytes: Vec<u8>,
    piece: usize,
    ends: bool,
    /// Opened when all of it has been sent.
    sent: Gate,
}

/// Runs all cases through one `lb`, the server's bytes in pieces of `piece`, and tells of all that went wrong.
fn replay(driver: Driver, piece: usize, legacy: bool) {
    let script = Arc::new(Mutex::new(Script::default()));
    let played = Arc::clone(&script);
    let origin = Origin::scripted(move |conversation| {
        while let Some(request) = conversation.request() {
            if request.target() == "/again" {
                // Leaves no connection behind for the next case.
                let index = conversation.index.to_string();
                let bytes = origin::response(200, "OK", &[("Connection", "close")], index);
                let _ = conversation.write(bytes);
                return;
            }
            let script = played.lock().unwrap().clone();
            // A head at the bound in single bytes is 65,536 segments.
            let large = script.bytes.len() > 4_000;
            let piece = if large { script.piece.max(999) } else { script.piece };
            let is_sent = script.bytes.chunks(piece).all(|piece| conversation.write(piece).is_ok());
            script.sent.open();
            if script.ends || !is_sent {
                return;
            }
        }
    });
    let config = format!("{}accept_legacy_responses = {legacy}\n", one_server(&origin));
    let lb = Setup::new(driver, config).workers(1).start();
    let mut wrong = Vec::new();
    let all = cases::responses();
    let cases: Vec<_> = all.iter().filter(|case| case.legacy == legacy).collect();
    assert!(!cases.is_empty());
    for case in cases {
        let sent = Gate::new();
        let next = Script { bytes: case.received(), piece, ends: case.ends, sent: sent.clone() };
        *script.lock().unwrap() = next;
        let connections = origin.connections();
        if let Err(what) = one(&lb, case, connections, &sent) {
            wrong.push(format!("{} ({}): {what}", case.name, case.class));
            // What it left in the pool must not be the next case's.
            let mut client = Client::connect(lb.web());
            let _ = client.try_send(AGAIN);
            let _ = client.try_response("GET");
        }
    }
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
}

fn one(lb: &Lb, case: &ResponseCase, connection: usize, all_sent: &Gate) -> Result<(), String> {
    let mut client = Client::connect(lb.web());
    let sent = case.sent();
    let _ = client.try_send(&sent);
    let method = String::from_utf8_lossy(sent.split(|&byte| byte == b' ').next().unwrap_or(b"")).into_owned();
    if let Some(refusal) = &case.refuse {
        return match client.try_response(&method) {
            Ok(Some(response)) if response.status() == refusal.status => {
                let word = response.field("x-lb-reason");
                let right = word.is_some() && (refusal.word.is_none() || word == refusal.word.as_deref());
                if right { Ok(()) } else { Err(format!("refused with the word {word:?}")) }
            }
            Err(_) | Ok(None) if refusal.at == Stage::Body => Ok(()),
            other => Err(format!("not refused: {other:?}")),
        };
    }
    let wanted = case.forwarded();
    let got = client
        .wire()
        .take(wanted.len())
        .map_err(|error| format!("{error}; got {:?}", String::from_utf8_lossy(client.wire().waiting())))?;
    if got != wanted {
        return Err(format!(
            "\n    got    {:?}\n    wanted {:?}",
            String::from_utf8_lossy(&got),
            String::from_utf8_lossy(&wanted)
        ));
    }
    let tunnel = wanted.starts_with(b"HTTP/1.1 101 ");
    if case.closes {
        if tunnel {
            client.end();
        }
        match client.wire().fill() {
            Ok(0) => {}
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
            other => return Err(format!("not closed: {other:?} {:?}", client.wire().waiting())),
        }
    }
    if case.closes || tunnel {
        client = Client::connect(lb.web());
    }
    // What comes behind the response makes its connection useless, once it is there.
    all_sent.wait();
    let _ = client.try_send(AGAIN);
    match client.try_response("GET") {
        Ok(Some(again)) if again.status() == 200 => {
            let reused = again.text() == connection.to_string();
            if reused == case.reuse {
                Ok(())
            } else {
                Err(format!("the server's connection: reused {reused}"))
            }
        }
        other => Err(format!("the next request: {other:?}")),
    }
}
