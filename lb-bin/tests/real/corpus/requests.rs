//! What clients send: exact bytes at a recording origin, sent whole and in single bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::cases;
use crate::harness::lb::one_server;
use crate::harness::*;

on_both_drivers! {
    whole,
    in_single_bytes,
}

fn whole(driver: Driver) {
    replay(driver, |client, bytes| {
        let _ = client.try_send(bytes);
    });
}

fn in_single_bytes(driver: Driver) {
    replay(driver, |client, bytes| {
        // A head at the bound in single bytes is 65,536 segments: pieces do for those.
        if bytes.len() < 4_000 {
            client.dribble(bytes);
        } else {
            for piece in bytes.chunks(999) {
                let _ = client.try_send(piece);
            }
        }
    });
}

/// A target of no case. Its request's connection is accepted after all that a case brought about.
const BARRIER: &str = "/barrier-between-cases";

/// Runs all cases through one `lb`, each on a connection of its own, and tells of all that went wrong.
fn replay(driver: Driver, send: impl Fn(&mut Client, &[u8])) {
    let whole = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&whole);
    // One message per connection: what belongs to a message is what its connection got.
    let origin = Origin::scripted(move |conversation| {
        if let Some(request) = conversation.request() {
            if request.target() != BARRIER {
                counted.fetch_add(1, Ordering::SeqCst);
            }
            let _ = conversation.write("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let lb = Lb::start(driver, one_server(&origin));
    let mut wrong = Vec::new();
    for case in cases::requests() {
        let (connections, messages) = (origin.connections(), whole.load(Ordering::SeqCst));
        let mut client = Client::connect(lb.web());
        send(&mut client, &case.sent());
        let result = answers(&mut client, &case).and_then(|()| {
            client::get(lb.web(), "a.test", BARRIER);
            origin.wait_for("the case's connections to end", |records| {
                records.iter().all(|(_, ended)| ended.is_some())
            });
            let mut got: Vec<_> = origin.received().split_off(connections);
            got.pop();
            forwarded(&got, &case)?;
            let whole = whole.load(Ordering::SeqCst) - messages;
            if whole == case.forward.len() {
                Ok(())
            } else {
                Err(format!("{whole} whole messages reached it"))
            }
        });
        if let Err(what) = result {
            wrong.push(format!("{} ({}): {what}", case.name, case.class));
        }
    }
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
}

/// The client's side: an answer for each forwarded message, then the refusal, if one is due, and the end.
fn answers(client: &mut Client, case: &cases::RequestCase) -> Result<(), String> {
    let mut next = || {
        loop {
            match client.try_response("HEAD") {
                Ok(Some(response)) if response.status() == 100 => {}
                Ok(Some(response)) => return Ok(response),
                Ok(None) => return Err("closed without an answer".to_owned()),
                Err(error) => return Err(format!("no answer: {error}")),
            }
        }
    };
    for number in 0..case.forward.len() {
        let response = next()?;
        if response.status() != 200 {
            return Err(format!(
                "message {number} got {} {:?} instead of being forwarded",
                response.status(),
                response.field("x-lb-reason")
            ));
        }
    }
    let Some(refusal) = &case.refuse else { return Ok(()) };
    let response = next()?;
    if response.status() != refusal.status {
        return Err(format!("refused with {} instead of {}", response.status(), refusal.status));
    }
    let word = response.field("x-lb-reason");
    if word.is_none() || refusal.word.is_some() && word != refusal.word.as_deref() {
        return Err(format!("refused with the word {word:?} instead of {:?}", refusal.word));
    }
    Ok(())
}

/// The server's side: exactly the expected messages, then at most a beginning.
fn forwarded(got: &[Vec<u8>], case: &cases::RequestCase) -> Result<(), String> {
    let ids: Vec<String> = got.iter().map(|bytes| request_id(bytes)).collect();
    let wanted = case.forwarded("127.0.0.1", ids.iter().map(String::as_str));
    for (number, wanted) in wanted.iter().enumerate() {
        match got.get(number) {
            Some(got) if got == wanted => {}
            got => {
                return Err(format!(
                    "message {number}:\n    got    {:?}\n    wanted {:?}",
                    got.map(|bytes| String::from_utf8_lossy(bytes)),
                    String::from_utf8_lossy(wanted)
                ));
            }
        }
    }
    let beyond = got.get(wanted.len()..).unwrap_or_default();
    let only_a_beginning = case.refuse.as_ref().is_some_and(|refusal| refusal.at == cases::Stage::Body);
    if !only_a_beginning && beyond.iter().any(|bytes| !bytes.is_empty()) {
        return Err(format!("more reached it: {:?}", String::from_utf8_lossy(&beyond.concat())));
    }
    Ok(())
}

fn request_id(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let id = text.split("x-request-id: ").nth(1).and_then(|rest| rest.split("\r\n").next());
    id.unwrap_or("").to_owned()
}
