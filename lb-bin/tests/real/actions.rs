//! What a route does to its requests and responses.

use crate::harness::client::{get, once};
use crate::harness::lb::{backend, one_server};
use crate::harness::origin::{ok, response};
use crate::harness::*;

const LISTENER: &str = "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n";

/// A listener, one route with these lines, and one server.
fn route(origin: &Origin, lines: &str) -> String {
    format!(
        "{LISTENER}[[route]]\nname = \"r\"\nbackend = \"app\"\n{lines}\n{}",
        backend("app", &[("a", origin.address)])
    )
}

fn mirror() -> Origin {
    Origin::answering(|request| ok(&request.raw_head))
}

on_both_drivers! {
    host_and_path_are_rewritten,
    headers_are_set_and_removed_both_ways,
    redirects_and_replies_need_no_server,
    a_reply_keeps_to_what_it_says_of_the_connection,
    bodies_have_a_bound,
    error_pages_dress_replies_of_ours_only,
    routes_are_found_by_everything,
    paths_that_lie_are_refused,
}

fn host_and_path_are_rewritten(driver: Driver) {
    let origin = mirror();
    let lb = Lb::start(
        driver,
        route(&origin, "path_prefix = \"/cart\"\nset_host = \"cart.internal\"\nstrip_prefix = \"/cart\""),
    );
    let seen = get(lb.web(), "shop.example", "/cart/7%2F8?a=b").text();
    assert!(seen.starts_with("GET /7%2F8?a=b HTTP/1.1\r\n"), "{seen}");
    assert!(seen.to_ascii_lowercase().contains("\r\nhost: cart.internal\r\n"), "{seen}");
    assert!(seen.to_ascii_lowercase().contains("\r\nx-forwarded-host: shop.example\r\n"), "{seen}");
    assert!(get(lb.web(), "shop.example", "/cart").text().starts_with("GET / HTTP/1.1\r\n"));
    assert!(get(lb.web(), "shop.example", "/cart?x").text().starts_with("GET /?x HTTP/1.1\r\n"));
    assert_eq!(get(lb.web(), "shop.example", "/cartoon").status(), 404, "a prefix is whole segments");

    let lb = Lb::start(driver, route(&origin, "replace_path = \"/other\""));
    let seen = get(lb.web(), "a", "/anything/at/all?q=1").text();
    assert!(seen.starts_with("GET /other?q=1 HTTP/1.1\r\n"), "{seen}");
}

fn headers_are_set_and_removed_both_ways(driver: Driver) {
    let origin = Origin::answering(|request| {
        response(
            200,
            "OK",
            &[("Server", "secret/1.0"), ("X-Both", "old"), ("X-Kept", "1")],
            &request.raw_head,
        )
    });
    let lb = Lb::start(
        driver,
        route(
            &origin,
            "request_headers = { set = { X-Added = \"up\", X-Had = \"new\" }, remove = [\"X-Secret\", \"Accept\"] }\n\
         response_headers = { set = { X-Both = \"new\", Strict-Transport-Security = \"max-age=1\" }, remove = [\"Server\"] }",
        ),
    );
    let got = once(
        lb.web(),
        "GET / HTTP/1.1\r\nHost: a\r\nX-Secret: 1\r\nx-had: one\r\nX-Had: two\r\nAccept: */*\r\nX-Kept: 1\r\n\r\n",
    );
    let seen = got.text().to_ascii_lowercase();
    assert!(seen.contains("\r\nx-added: up\r\n") && seen.contains("\r\nx-kept: 1\r\n"), "{seen}");
    assert_eq!(seen.matches("x-had:").count(), 1, "{seen}");
    assert!(seen.contains("\r\nx-had: new\r\n"), "{seen}");
    assert!(!seen.contains("x-secret") && !seen.contains("accept:"), "{seen}");
    assert_eq!(got.all("x-both"), ["new"]);
    assert_eq!(got.field("strict-transport-security"), Some("max-age=1"));
    assert_eq!((got.field("server"), got.field("x-kept")), (None, Some("1")));
}

fn redirects_and_replies_need_no_server(driver: Driver) {
    let config = format!(
        "{LISTENER}\
         [[route]]\nname = \"to-https\"\nhost = \"old.example\"\nredirect = {{ status = 301, scheme = \"https\", host = \"new.example\" }}\n\
         [[route]]\nname = \"template\"\npath_prefix = \"/t\"\nredirect = {{ location = \"/moved{{path}}{{query}}\" }}\n\
         [[route]]\nname = \"fixed\"\npath = \"/fixed\"\nreply = {{ status = 418, body = \"<b>teapot</b>\", content_type = \"text/html\" }}\n"
    );
    let lb = Lb::start(driver, config);
    let moved = get(lb.web(), "old.example", "/a%20b?c=d");
    assert_eq!((moved.status(), moved.field("location")), (301, Some("https://new.example/a%20b?c=d")));
    let moved = get(lb.web(), "x", "/t/1?q");
    assert_eq!((moved.status(), moved.field("location")), (302, Some("/moved/t/1?q")));
    let mut client = Client::connect(lb.web());
    for method in ["GET", "HEAD", "GET"] {
        let fixed = client.exchange(format!("{method} /fixed HTTP/1.1\r\nHost: x\r\n\r\n"));
        assert_eq!((fixed.status(), fixed.field("content-type")), (418, Some("text/html")));
        assert_eq!(fixed.text(), if method == "HEAD" { "" } else { "<b>teapot</b>" });
    }
    // A reply to a request with a body leaves the connection usable or closed, never out of step.
    client.send("POST /fixed HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nGET /");
    assert_eq!(client.response().status(), 418);
    let _ = client.try_send("GET /fixed HTTP/1.1\r\nHost: x\r\n\r\n");
    if let Ok(Some(next)) = client.try_response("GET") {
        assert_eq!(next.status(), 418);
    }
}

fn a_reply_keeps_to_what_it_says_of_the_connection(driver: Driver) {
    let lb = Lb::start(
        driver,
        format!("{LISTENER}[[route]]\nname = \"r\"\nreply = {{ status = 200, body = \"x\" }}\n"),
    );
    let bodies = ["", "Content-Length: 0\r\n", "Content-Length: 2\r\n", "Transfer-Encoding: chunked\r\n"];
    for (fields, body, stays) in [(0, "", true), (1, "", true), (2, "ab", false), (3, "0\r\n\r\n", false)] {
        let mut client = Client::connect(lb.web());
        let request = format!("POST / HTTP/1.1\r\nHost: a\r\n{}\r\n{body}", bodies[fields]);
        let response = client.exchange(&request);
        let says_close =
            response.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        assert_eq!((response.status(), says_close), (200, !stays), "{request:?}");
        if stays {
            assert_eq!(client.exchange(&request).status(), 200, "{request:?}");
        } else {
            client.assert_closed();
        }
    }
}

fn bodies_have_a_bound(driver: Driver) {
    let origin = Origin::answering(|request| ok(request.body.len().to_string()));
    let lb = Lb::start(driver, route(&origin, "max_body = \"1KiB\""));
    let send = |body: &[u8], framing: &str| {
        let mut client = Client::connect(lb.web());
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n"));
        let _ = client.try_send(body);
        client.response_to("POST")
    };
    assert_eq!(send(&[b'x'; 1024], "Content-Length: 1024").text(), "1024");
    let refused = send(b"", "Content-Length: 1025");
    assert_eq!(refused.status(), 413);
    assert!(refused.field("x-lb-reason").is_some());
    assert_eq!(origin.connections(), 1, "a length that is too much never leaves");
    let chunked = "Transfer-Encoding: chunked";
    assert_eq!(send(&wire::chunked(&[b'x'; 1024], 100), chunked).text(), "1024");
    assert_eq!(send(&wire::chunked(&[b'x'; 1025], 100), chunked).status(), 413);
}

fn error_pages_dress_replies_of_ours_only(driver: Driver) {
    let origin = Origin::answering(|_| response(503, "Busy", &[], "the server's own"));
    let nobody = tools::unused_address();
    let config = format!(
        "{LISTENER}\
         [[route]]\nname = \"up\"\npath_prefix = \"/up\"\nbackend = \"up\"\nerror_pages = {{ 503 = \"<h1>ours</h1>\" }}\n\
         [[route]]\nname = \"down\"\npath_prefix = \"/down\"\nbackend = \"down\"\nerror_pages = {{ 502 = \"<h1>sorry</h1>\", 503 = \"<h1>sorry</h1>\" }}\n\
         {}{}",
        backend("up", &[("a", origin.address)]),
        backend("down", &[("a", nobody)])
    );
    let lb = Lb::start(driver, config);
    assert_eq!(get(lb.web(), "a", "/up").text(), "the server's own");
    let sorry = get(lb.web(), "a", "/down");
    assert_eq!((sorry.status() / 100, sorry.text().as_str()), (5, "<h1>sorry</h1>"));
    assert!(sorry.field("content-type").unwrap_or("").starts_with("text/html"), "{sorry:?}");
    assert!(sorry.field("x-lb-reason").is_some());
}

fn routes_are_found_by_everything(driver: Driver) {
    let reply = |name: &str, lines: &str| {
        format!("[[route]]\nname = \"{name}\"\n{lines}\nreply = {{ body = \"{name}\" }}\n")
    };
    let config = [
        LISTENER.to_owned(),
        reply("exact-host", "host = \"a.example\""),
        reply("wild-host", "host = \"*.example\""),
        reply("exact-path", "host = \"a.example\"\npath = \"/p/q\""),
        reply("prefix", "host = \"a.example\"\npath_prefix = \"/p\""),
        reply("regex", "host = \"b.example\"\npath_regex = \"^/[0-9]+$\""),
        reply("method", "host = \"a.example\"\npath_prefix = \"/p\"\nmethod = \"DELETE\""),
        reply("header", "host = \"a.example\"\npath_prefix = \"/p\"\nheader = { X-Beta = \"1\" }"),
        reply("cookie", "host = \"c.example\"\ncookie = { beta = \"yes\" }"),
        reply("query", "host = \"c.example\"\nquery = { v = \"2\" }"),
        reply("source", "host = \"d.example\"\nsource = [\"127.0.0.0/8\"]"),
        reply("elsewhere", "host = \"e.example\"\nsource = [\"10.0.0.0/8\"]"),
    ]
    .concat();
    let lb = Lb::start(driver, config);
    for (host, target, lines, wanted) in [
        ("A.example:80", "/", "", "exact-host"),
        ("a.example.", "/", "", "exact-host"),
        ("z.example", "/", "", "wild-host"),
        ("a.example", "/p/q", "", "exact-path"),
        ("a.example", "/%70/q", "", "exact-path"),
        ("a.example", "/p/q/r", "", "prefix"),
        ("a.example", "/pq", "", "exact-host"),
        ("b.example", "/123", "", "regex"),
        ("b.example", "/123x", "", "wild-host"),
        ("a.example", "/p/x", "X-Beta: 1\r\n", "header"),
        ("c.example", "/", "Cookie: a=b; beta=yes\r\n", "cookie"),
        ("c.example", "/?u=1&v=2", "", "query"),
        ("d.example", "/", "", "source"),
        ("e.example", "/", "", "wild-host"),
    ] {
        let got = once(lb.web(), format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n"));
        assert_eq!(got.text(), wanted, "{host} {target} {lines}");
    }
    assert_eq!(once(lb.web(), "DELETE /p/x HTTP/1.1\r\nHost: a.example\r\n\r\n").text(), "method");
    let nothing = get(lb.web(), "other.test", "/");
    assert_eq!(nothing.status(), 404);
    assert!(nothing.field("x-lb-reason").is_some());
}

fn paths_that_lie_are_refused(driver: Driver) {
    let origin = mirror();
    let lb = Lb::start(driver, one_server(&origin));
    for target in ["/a/../b", "/a/%2e%2e/b", "/./a", "/a/..", "/a%00b", "/a\\b", "/a%5cb", "/%zz"] {
        let got = get(lb.web(), "a", target);
        assert_eq!(got.status(), 400, "{target}: {got:?}");
        assert!(got.field("x-lb-reason").is_some());
    }
    for target in ["/a/...", "/a..b", "/a%2Fb", "//a", "/a/.b", "/%41"] {
        assert_eq!(get(lb.web(), "a", target).status(), 200, "{target}");
    }
}
