//! Connections on both sides: kept, reused, ended.

use crate::harness::lb::{one_server, servers};
use crate::harness::origin::{ok, response};
use crate::harness::*;

/// An origin that answers with the target it was asked for.
fn echoing_targets() -> Origin {
    Origin::answering(|request| ok(request.target()))
}

on_both_drivers! {
    both_sides_are_kept_alive,
    pipelined_requests_are_answered_in_order,
    pipelined_bodies_are_kept_apart,
    http_1_0_closes_unless_asked,
    close_is_for_one_side_only,
    a_server_that_closes_is_not_reused,
    a_server_that_closes_silently_costs_no_request,
    bytes_after_a_response_never_reach_another_client,
    an_empty_line_before_a_request_is_tolerated,
    a_head_in_single_bytes_is_the_same_head,
    many_clients_at_once,
}

fn both_sides_are_kept_alive(driver: Driver) {
    let origin = echoing_targets();
    let lb = Lb::start(driver, one_server(&origin));
    let mut client = Client::connect(lb.web());
    for number in 0..20 {
        let response = client.exchange(format!("GET /{number} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(response.text(), format!("/{number}"));
    }
    assert_eq!(origin.connections(), 1, "one client's requests one after the other need one connection");
}

fn pipelined_requests_are_answered_in_order(driver: Driver) {
    let origin = echoing_targets();
    let lb = Lb::start(driver, one_server(&origin));
    let mut client = Client::connect(lb.web());
    let requests: String =
        (0..50).map(|number| format!("GET /{number} HTTP/1.1\r\nHost: a\r\n\r\n")).collect();
    client.send(requests);
    for number in 0..50 {
        assert_eq!(client.response().text(), format!("/{number}"));
    }
}

fn pipelined_bodies_are_kept_apart(driver: Driver) {
    let origin = Origin::answering(|request| ok(&request.body));
    let lb = Lb::start(driver, one_server(&origin));
    let mut client = Client::connect(lb.web());
    let mut requests = Vec::new();
    for number in 0..20_usize {
        let body = pattern(number as u64, number * 700);
        requests.extend(format!("POST /{number} HTTP/1.1\r\nHost: a\r\n").into_bytes());
        if number % 2 == 0 {
            requests.extend(format!("Content-Length: {}\r\n\r\n", body.len()).into_bytes());
            requests.extend(&body);
        } else {
            requests.extend(b"Transfer-Encoding: chunked\r\n\r\n");
            requests.extend(wire::chunked(&body, 333));
        }
    }
    client.send(requests);
    for number in 0..20_usize {
        let response = client.response_to("POST");
        assert_same_bytes("an echoed body", &response.body, &pattern(number as u64, number * 700));
    }
}

fn http_1_0_closes_unless_asked(driver: Driver) {
    let origin = echoing_targets();
    let lb = Lb::start(driver, one_server(&origin));
    let mut client = Client::connect(lb.web());
    let response = client.exchange("GET /a HTTP/1.0\r\nHost: a\r\n\r\n");
    assert_eq!((response.status(), response.text().as_str()), (200, "/a"));
    client.assert_closed();

    let mut client = Client::connect(lb.web());
    for _ in 0..3 {
        let response = client.exchange("GET /b HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n");
        assert_eq!(response.text(), "/b");
        let announced = response.field("connection").unwrap_or("").to_ascii_lowercase();
        assert!(announced.contains("keep-alive"), "{response:?}");
    }
}

fn close_is_for_one_side_only(driver: Driver) {
    let origin = echoing_targets();
    let lb = Lb::start(driver, one_server(&origin));
    let mut client = Client::connect(lb.web());
    let response = client.exchange("GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert_eq!(response.text(), "/a");
    assert!(response.field("connection").unwrap_or("").eq_ignore_ascii_case("close"), "{response:?}");
    client.assert_closed();
    let seen = String::from_utf8(origin.all_received()).unwrap().to_ascii_lowercase();
    assert!(!seen.contains("connection: close"), "the client's wish is not the server's business: {seen}");
}

fn a_server_that_closes_is_not_reused(driver: Driver) {
    let origin = Origin::scripted(|conversation| {
        conversation.request();
        let _ = conversation.write(response(200, "OK", &[("Connection", "close")], "bye"));
    });
    let lb = Lb::start(driver, one_server(&origin));
    let mut client = Client::connect(lb.web());
    for _ in 0..5 {
        let response = client.exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!((response.status(), response.text().as_str()), (200, "bye"));
        assert_ne!(
            response.field("connection"),
            Some("close"),
            "the server's end is not the client's business"
        );
    }
    assert_eq!(origin.connections(), 5);
}

fn a_server_that_closes_silently_costs_no_request(driver: Driver) {
    // It promises to stay and does not: what a Node server does after 5 s, in the worst moment each time.
    let origin = Origin::scripted(|conversation| {
        conversation.request();
        let _ = conversation.write(ok("once"));
    });
    let lb = Lb::start(driver, one_server(&origin));
    let mut client = Client::connect(lb.web());
    for _ in 0..50 {
        let response = client.exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!((response.status(), response.text().as_str()), (200, "once"));
    }
}

fn bytes_after_a_response_never_reach_another_client(driver: Driver) {
    let origin = Origin::scripted(|conversation| {
        while let Some(request) = conversation.request() {
            let mut bytes = ok(request.target());
            bytes.extend(response(200, "OK", &[("X-Foreign", "yes")], "smuggled"));
            if conversation.write(bytes).is_err() {
                break;
            }
        }
    });
    let lb = Setup::new(driver, one_server(&origin)).workers(1).start();
    for number in 0..30 {
        let mut client = Client::connect(lb.web());
        for part in 0..3 {
            let target = format!("/{number}/{part}");
            let response = client.exchange(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
            assert_eq!(response.text(), target);
        }
    }
}

fn an_empty_line_before_a_request_is_tolerated(driver: Driver) {
    let origin = echoing_targets();
    let lb = Lb::start(driver, one_server(&origin));
    let mut client = Client::connect(lb.web());
    for _ in 0..3 {
        assert_eq!(client.exchange("GET /a HTTP/1.1\r\nHost: a\r\n\r\n").text(), "/a");
        client.send("\r\n");
    }
}

fn a_head_in_single_bytes_is_the_same_head(driver: Driver) {
    let origin = echoing_targets();
    let lb = Lb::start(driver, one_server(&origin));
    let mut client = Client::connect(lb.web());
    let text = "GET /dribbled?a=b HTTP/1.1\r\nHost: a\r\nX-Some: thing\r\n\r\n";
    client.send(text);
    assert_eq!(client.response().text(), "/dribbled?a=b");
    client.dribble(text);
    assert_eq!(client.response().text(), "/dribbled?a=b");
    origin.wait_for("two heads on one connection", |records| {
        let [(bytes, _)] = records else { return false };
        let text = String::from_utf8_lossy(bytes).into_owned();
        let heads: Vec<_> = text.split("\r\n\r\n").filter(|head| !head.is_empty()).collect();
        let plain = |head: &str| {
            let lines =
                head.split("\r\n").filter(|line| !line.to_ascii_lowercase().starts_with("x-request-id"));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        heads.len() == 2 && plain(heads[0]) == plain(heads[1])
    });
}

fn many_clients_at_once(driver: Driver) {
    let origins: Vec<_> = (0..3).map(|_| echoing_targets()).collect();
    let list: Vec<_> =
        ["a", "b", "c"].into_iter().zip(&origins).map(|(name, it)| (name, it.address)).collect();
    let lb = Lb::start(driver, servers(&list));
    std::thread::scope(|scope| {
        for thread in 0..32 {
            let web = lb.web();
            scope.spawn(move || {
                for round in 0..5 {
                    let mut client = Client::connect(web);
                    for number in 0..20 {
                        let target = format!("/{thread}/{round}/{number}");
                        let response = client.exchange(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
                        assert_eq!((response.status(), response.text()), (200, target));
                    }
                }
            });
        }
    });
    assert!(origins.iter().all(|origin| origin.connections() > 0));
    until("every exchange to be counted", || lb.metric("lb_requests_total", &[]) >= 3200.0);
}
