//! Clients that leave: what they asked for ends with them.

use crate::harness::lb::one_server;
use crate::harness::*;

/// An origin that reads a request and then waits for the proxy to leave.
fn patient() -> Origin {
    Origin::scripted(|conversation| {
        if conversation.request().is_some() {
            conversation.until_closed();
        }
    })
}

on_both_drivers! {
    leaving_while_waiting_frees_the_server,
    leaving_within_a_download_frees_the_server,
    leaving_within_an_upload_frees_the_server,
    a_half_closed_client_has_left,
    nothing_is_left_behind,
}

fn leaving_while_waiting_frees_the_server(driver: Driver) {
    let origin = patient();
    let lb = Lb::start(driver, one_server(&origin));
    for reset in [true, false] {
        let before = origin.connections();
        let mut client = Client::connect(lb.web());
        client.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
        origin.wait_for("the request to arrive", |records| {
            records.len() > before && !records[before].0.is_empty()
        });
        if reset {
            client.reset();
        } else {
            drop(client);
        }
        origin.wait_for("the server to be freed", |records| records[before].1.is_some());
        lb.access_line(&["/slow", " 499 "]);
    }
}

fn leaving_within_a_download_frees_the_server(driver: Driver) {
    let origin = Origin::scripted(|conversation| {
        conversation.request();
        let _ = conversation.write("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
        while conversation.write([b'x'; 65_536]).is_ok() {}
    });
    let lb = Lb::start(driver, one_server(&origin));
    let mut client = Client::connect(lb.web());
    client.send("GET /endless HTTP/1.1\r\nHost: a\r\n\r\n");
    client.response_head();
    client.take(1 << 20);
    client.reset();
    origin.wait_for("the server to be freed", |records| records.iter().all(|(_, ended)| ended.is_some()));
    lb.access_line(&["/endless"]);
}

fn leaving_within_an_upload_frees_the_server(driver: Driver) {
    let origin = Origin::scripted(|conversation| {
        conversation.request();
    });
    let lb = Lb::start(driver, one_server(&origin));
    for framing in ["Content-Length: 1000000", "Transfer-Encoding: chunked"] {
        let before = origin.connections();
        let mut client = Client::connect(lb.web());
        client.send(format!("POST /upload HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n5\r\nhello\r\n"));
        origin.wait_for("a part to arrive", |records| {
            records.len() > before && records[before].0.ends_with(b"hello\r\n")
        });
        client.reset();
        origin.wait_for("the server to be freed", |records| records[before].1.is_some());
    }
    lb.access_line(&["/upload", " 499 "]);
    let seen = origin.all_received();
    assert!(!seen.ends_with(b"0\r\n\r\n"), "a cut body must not be made to look whole");
}

fn a_half_closed_client_has_left(driver: Driver) {
    let origin = patient();
    let lb = Lb::start(driver, one_server(&origin));
    let mut client = Client::connect(lb.web());
    client.send("GET /half HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    origin.wait_for("the request to arrive", |records| records.len() == 1 && !records[0].0.is_empty());
    client.end();
    client.assert_closed();
    lb.access_line(&["/half", " 499 "]);
    origin.wait_for("the server to be freed", |records| records[0].1.is_some());
}

fn nothing_is_left_behind(driver: Driver) {
    let origin = patient();
    let lb = Lb::start(driver, one_server(&origin));
    for _ in 0..50 {
        let mut client = Client::connect(lb.web());
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    let settled_count = settled("the descriptors", || lb.descriptors());
    for _ in 0..200 {
        let mut client = Client::connect(lb.web());
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    origin.wait_for("every server connection to be freed", |records| {
        records.len() >= 200 && records.iter().all(|(_, ended)| ended.is_some())
    });
    until("the descriptors to be given back", || lb.descriptors() <= settled_count + 4);
}
