//! Further attempts: on what servers say, on what they do not say in time, with bodies, within budgets.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use crate::harness::client::{get, once};
use crate::harness::lb::{backend, one_server, servers};
use crate::harness::origin::{ok, response};
use crate::harness::tools::unused_address;
use crate::harness::wire::chunked;
use crate::harness::*;

const JSON: &str = "format = \"json\"";

on_both_drivers! {
    a_listed_status_is_tried_elsewhere,
    the_only_servers_answer_passes,
    the_last_answer_passes_when_retries_are_used_up,
    never_the_same_server_twice_while_there_are_others,
    what_is_not_idempotent_is_repeated_only_where_the_file_says_so,
    a_held_body_is_sent_again_to_the_byte,
    a_body_above_the_bound_is_sent_once,
    holding_a_body_delays_nothing,
    an_answer_that_has_begun_is_not_taken_back,
    a_rejected_answer_neither_delays_nor_leaks,
    a_slow_server_is_left_and_its_late_answer_is_nobodys,
    where_nobody_else_may_be_asked_the_slow_answer_counts,
    the_responses_timeout_bounds_all_attempts,
    each_backend_has_its_own_budget,
    what_is_not_listed_is_not_tried_again,
    who_leaves_during_a_pause_is_let_go,
    a_closed_pooled_connection_is_no_retry,
    without_retries_nothing_is_sent_twice,
    a_full_server_is_not_waited_for_with_an_answer_in_hand,
}

const BUSY: &str = "busy";

/// Reads whole requests and answers 503, and counts them.
fn busy() -> (Origin, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let origin = Origin::answering(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        response(503, "Busy", &[("X-Busy", "yes")], BUSY)
    });
    (origin, count)
}

/// Answers with the request's body.
fn echo() -> Origin {
    Origin::answering(|request| ok(&request.body))
}

/// A backend whose first server comes first, for the others are backups.
fn in_order(first: &Origin, then: &[&Origin]) -> String {
    let names = ["b", "c", "d"];
    let mut list = vec![("a", first.address)];
    list.extend(names.into_iter().zip(then.iter().map(|origin| origin.address)));
    let mut config = servers(&list);
    for origin in then {
        let address = format!("\"{}\" }}", origin.address);
        config = config.replace(&address, &format!("\"{}\", backup = true }}", origin.address));
    }
    config
}

fn retry(words: &str) -> String {
    format!("[retry]\nbudget = \"100%\"\n{words}\n")
}

fn request(method: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes =
        format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

fn chunked_request(method: &str, body: &[u8], size: usize) -> Vec<u8> {
    let mut bytes =
        format!("{method} / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").into_bytes();
    bytes.extend(chunked(body, size));
    bytes
}

#[track_caller]
fn assert_busy(got: &Message) {
    assert_eq!((got.status(), got.text().as_str()), (503, BUSY), "{got:?}");
    assert_eq!(
        (got.field("x-busy"), got.field("x-lb-reason")),
        (Some("yes"), None),
        "it is the server's own"
    );
}

fn a_listed_status_is_tried_elsewhere(driver: Driver) {
    let (a, asked) = busy();
    let b = Origin::named("b");
    let config = format!("{}{}", retry("on = [\"connect\", 503]"), in_order(&a, &[&b]));
    let lb = Setup::new(driver, config).workers(1).log(JSON).start();
    let mut client = Client::connect(lb.web());
    for _ in 0..5 {
        let got = client.exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!((got.status(), got.text().as_str()), (200, "b"));
        assert_eq!(got.field("x-busy"), None, "nothing of the first answer is left");
    }
    assert_eq!((asked.load(Ordering::SeqCst), a.connections()), (5, 1), "its connection was used again");
    assert_eq!(lb.metric("lb_retries_total", &[]), 5.0);
    // It did answer: health and outliers learn from that as from any answer.
    let answered = |server: &str, class: &str| {
        let labels = [format!("server=\"{server}\""), format!("class=\"{class}\"")];
        lb.metric("lb_server_responses_total", &[&labels[0], &labels[1]])
    };
    assert_eq!((answered("a", "5xx"), answered("a", "2xx"), answered("b", "2xx")), (5.0, 0.0, 5.0));
    assert_eq!(lb.metric("lb_server_failures_total", &[]), 0.0);
    until("no permit to be left", || lb.metric("lb_backend_in_flight", &[]) == 0.0);
    let line = lb.access_line(&["\"attempts\":2"]);
    assert!(line.contains("\"server\":\"b\"") && line.contains("\"status\":200"), "{line}");
}

fn the_only_servers_answer_passes(driver: Driver) {
    let (a, asked) = busy();
    let lb = Lb::start(driver, format!("{}{}", retry("on = [503]\nretries = 3"), one_server(&a)));
    assert_busy(&get(lb.web(), "a", "/"));
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    assert_eq!(lb.metric("lb_retries_refused_total", &[]), 0.0, "nothing was there to be refused");
}

fn the_last_answer_passes_when_retries_are_used_up(driver: Driver) {
    let origins: Vec<_> = ["a", "b", "c"]
        .into_iter()
        .map(|name| Origin::answering(move |_| response(502, "Bad", &[("X-From", name)], name)))
        .collect();
    let config = format!(
        "{}{}",
        retry("on = [\"5xx\"]\nretries = 1"),
        in_order(&origins[0], &[&origins[1], &origins[2]])
    );
    let lb = Lb::start(driver, config);
    let got = get(lb.web(), "a", "/");
    assert_eq!((got.status(), got.field("x-lb-reason")), (502, None));
    assert_eq!(got.field("x-from"), Some(got.text().as_str()));
    assert_ne!(got.text(), "a", "the last one's");
    let asked: usize = origins.iter().map(Origin::connections).sum();
    assert_eq!((asked, origins[0].connections()), (2, 1));
}

fn never_the_same_server_twice_while_there_are_others(driver: Driver) {
    let origins: Vec<_> = (0..4).map(|_| busy()).collect();
    let names = ["a", "b", "c", "d"];
    let list: Vec<_> = names.into_iter().zip(origins.iter().map(|(origin, _)| origin.address)).collect();
    let lb = Setup::new(
        driver,
        format!("{}{}", retry("on = [503]\nretries = 10\nbackoff = \"1ms\""), servers(&list)),
    )
    .workers(1)
    .start();
    for round in 1..=3 {
        assert_busy(&get(lb.web(), "a", "/"));
        let asked: Vec<_> = origins.iter().map(|(_, asked)| asked.load(Ordering::SeqCst)).collect();
        assert_eq!(asked, [round; 4], "each once in each round");
    }
}

fn what_is_not_idempotent_is_repeated_only_where_the_file_says_so(driver: Driver) {
    let (a, asked) = busy();
    let b = echo();
    let config = |word: &str| format!("{}{}", retry(&format!("on = [503]\n{word}")), in_order(&a, &[&b]));
    let lb = Lb::start(driver, config(""));
    let body = pattern(1, 1000);
    assert_busy(&once(lb.web(), request("POST", &body)));
    assert_busy(&once(lb.web(), request("PATCH", &body)));
    assert_eq!((asked.load(Ordering::SeqCst), b.connections()), (2, 0));
    lb.reload(&config("non_idempotent = [\"POST\"]"));
    let got = once(lb.web(), request("POST", &body));
    assert_same_bytes("the echo", &got.body, &body);
    assert_busy(&once(lb.web(), request("PATCH", &body)));
}

fn a_held_body_is_sent_again_to_the_byte(driver: Driver) {
    let (a, asked) = busy();
    let b = echo();
    let config = format!("{}{}", retry("on = [503]\nhold_body = \"256KiB\""), in_order(&a, &[&b]));
    let lb = Lb::start(driver, config);
    let mut client = Client::connect(lb.web());
    let lengths = [0, 1, 1023, 1024, 5_000, 16_384, 70_000, 200_000];
    for (round, len) in lengths.into_iter().enumerate() {
        let body = pattern(round as u64, len);
        for request in [request("PUT", &body), chunked_request("PUT", &body, 700)] {
            let got = client.exchange(request);
            assert_eq!(got.status(), 200, "{len}: {got:?}");
            assert_same_bytes(&format!("the echo of {len} bytes"), &got.body, &body);
        }
    }
    assert_eq!(asked.load(Ordering::SeqCst), 2 * lengths.len());
    until("nothing to be held", || lb.metric("lb_buffer_bytes", &[]) == 0.0);
}

fn a_body_above_the_bound_is_sent_once(driver: Driver) {
    let (a, asked) = busy();
    let b = echo();
    let config = format!("{}{}", retry("on = [503]\nhold_body = \"4KiB\""), in_order(&a, &[&b]));
    let lb = Lb::start(driver, config);
    let mut client = Client::connect(lb.web());
    let fits = pattern(1, 4096);
    assert_same_bytes("the echo", &client.exchange(request("PUT", &fits)).body, &fits);
    let longer = pattern(2, 4097);
    assert_busy(&client.exchange(request("PUT", &longer)));
    // Of a chunked one the framing is held, too.
    assert_busy(&client.exchange(chunked_request("PUT", &fits, 100)));
    assert_busy(&client.exchange(chunked_request("PUT", &pattern(3, 300_000), 9_000)));
    assert_eq!((asked.load(Ordering::SeqCst), b.connections()), (4, 1));
    until("nothing to be held", || lb.metric("lb_buffer_bytes", &[]) == 0.0);
}

fn holding_a_body_delays_nothing(driver: Driver) {
    let (a, b) = (Origin::answering(|_| response(503, "Busy", &[], BUSY)), echo());
    let config = format!("{}{}", retry("on = [503]\nhold_body = \"64KiB\""), in_order(&a, &[&b]));
    let lb = Lb::start(driver, config);
    let mut client = Client::connect(lb.web());
    client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\none");
    // What has come is there before the rest is sent.
    let ends_with = |end: &'static str| {
        move |records: &[(&[u8], Option<_>)]| {
            records.first().is_some_and(|(bytes, _)| bytes.ends_with(end.as_bytes()))
        }
    };
    a.wait_for("the first part", ends_with("\r\n\r\none"));
    client.send("two");
    a.wait_for("the second part", ends_with("\r\n\r\nonetwo"));
    assert_eq!(b.connections(), 0);
    client.send("end");
    assert_eq!(client.response_to("PUT").text(), "onetwoend");
}

fn an_answer_that_has_begun_is_not_taken_back(driver: Driver) {
    let a = Origin::scripted(|conversation| {
        while conversation.request().is_some() {
            let _ = conversation.write("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
            let _ = conversation.write(response(503, "Busy", &[("X-Busy", "yes")], BUSY));
        }
    });
    let b = Origin::named("b");
    let lb = Lb::start(driver, format!("{}{}", retry("on = [503]"), in_order(&a, &[&b])));
    let mut client = Client::connect(lb.web());
    assert_eq!(client.exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n").status(), 103);
    assert_busy(&client.response());
    assert_eq!(b.connections(), 0);
}

fn a_rejected_answer_neither_delays_nor_leaks(driver: Driver) {
    // Its body never ends, or has more behind it than it should.
    let a = Origin::scripted(|conversation| {
        let Some(request) = conversation.request() else { return };
        let _ = conversation.write(match request.target() {
            "/half" => "HTTP/1.1 503 Busy\r\nContent-Length: 1000000\r\n\r\nhalf",
            "/chunks" => "HTTP/1.1 503 Busy\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
            "/until-close" => "HTTP/1.1 503 Busy\r\n\r\nhalf",
            "/more" => "HTTP/1.1 503 Busy\r\nContent-Length: 2\r\n\r\nnoHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong",
            other => panic!("{other}"),
        });
        conversation.until_closed();
    });
    let b = Origin::answering(|request| ok(request.target()));
    let lb = Setup::new(driver, format!("{}{}", retry("on = [503]"), in_order(&a, &[&b]))).workers(1).start();
    let mut client = Client::connect(lb.web());
    for (number, target) in ["/half", "/chunks", "/until-close", "/more"].into_iter().enumerate() {
        let got = client.exchange(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!((got.status(), got.text().as_str()), (200, target));
        a.wait_for("its connection to be closed", |records| {
            records.len() == number + 1 && records.iter().all(|(_, ended)| ended.is_some())
        });
    }
}

fn a_slow_server_is_left_and_its_late_answer_is_nobodys(driver: Driver) {
    let (asked, late, said) = (Gate::new(), Gate::new(), Gate::new());
    let (is_asked, may_say, has_said) = (asked.clone(), late.clone(), said.clone());
    let a = Origin::scripted(move |conversation| {
        if conversation.request().is_some() {
            is_asked.open();
            may_say.wait();
            let _ = conversation.write(ok("late"));
            has_said.open();
            conversation.until_closed();
        }
    });
    let b = Origin::answering(|request| ok(request.target()));
    let config = format!(
        "{}[timeouts]\nresponse = \"1m\"\n{}",
        retry("attempt_timeout = \"50ms\""),
        in_order(&a, &[&b])
    );
    let lb = Setup::new(driver, config).workers(1).start();
    let mut client = Client::connect(lb.web());
    let body = pattern(1, 3_000);
    let mut put = b"PUT /first HTTP/1.1\r\nHost: a\r\nContent-Length: 3000\r\n\r\n".to_vec();
    put.extend(&body);
    assert_eq!(client.exchange(put).text(), "/first");
    asked.wait();
    late.open();
    said.wait();
    a.wait_for("its connection to be closed", |records| records.iter().all(|(_, ended)| ended.is_some()));
    assert_eq!(client.exchange("GET /second HTTP/1.1\r\nHost: a\r\n\r\n").status(), 200);
    assert!(String::from_utf8_lossy(&b.all_received()).contains("PUT /first "));
    assert!(b.all_received().windows(body.len()).any(|window| window == body), "with its body");
    // It owed an answer and gave none.
    assert!(lb.metric("lb_server_failures_total", &["server=\"a\""]) >= 1.0);
    until("no permit to be left", || lb.metric("lb_backend_in_flight", &[]) == 0.0);
}

fn where_nobody_else_may_be_asked_the_slow_answer_counts(driver: Driver) {
    let gate = Gate::new();
    let may_say = gate.clone();
    let a = Origin::scripted(move |conversation| {
        while conversation.request().is_some() {
            may_say.wait();
            let _ = conversation.write(ok("slow"));
        }
    });
    let b = Origin::named("b");
    let config = format!(
        "[retry]\nbudget = \"0%\"\nattempt_timeout = \"20ms\"\n[timeouts]\nresponse = \"1m\"\n{}",
        in_order(&a, &[&b])
    );
    let lb = Lb::start(driver, config);
    let mut client = Client::connect(lb.web());
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    until("the attempt's time to be over", || lb.metric("lb_retries_refused_total", &[]) == 1.0);
    gate.open();
    assert_eq!(client.response().text(), "slow");
    assert_eq!(b.connections(), 0);
}

fn the_responses_timeout_bounds_all_attempts(driver: Driver) {
    let silent = || {
        Origin::scripted(|conversation| {
            conversation.request();
            conversation.until_closed();
        })
    };
    let origins: Vec<_> = (0..3).map(|_| silent()).collect();
    let config = format!(
        "{}[timeouts]\nresponse = \"300ms\"\n{}",
        retry("attempt_timeout = \"200ms\"\nretries = 10\nbackoff = \"0s\""),
        in_order(&origins[0], &[&origins[1], &origins[2]])
    );
    let lb = Setup::new(driver, config).workers(1).log(JSON).start();
    let got = get(lb.web(), "a", "/");
    assert_eq!((got.status(), got.field("x-lb-reason")), (504, Some("response_timeout")));
    // The second attempt had what the first had left.
    let asked: usize = origins.iter().map(Origin::connections).sum();
    assert_eq!(asked, 2, "a third would have begun after the time was over");
    lb.access_line(&["\"attempts\":2", "\"reason\":\"response_timeout\""]);
}

fn each_backend_has_its_own_budget(driver: Driver) {
    let (a, _) = busy();
    let b = Origin::named("b");
    let of = |name: &str, words: &str| {
        let servers = backend(name, &[("a", a.address), ("b", b.address)])
            .replace(&format!("\"{}\" }}", b.address), &format!("\"{}\", backup = true }}", b.address));
        format!(
            "[[route]]\nname = \"{name}\"\npath_prefix = \"/{name}\"\nbackend = \"{name}\"\n{servers}{words}\n"
        )
    };
    let config = format!(
        "[retry]\non = [503]\nbudget = \"0%\"\n[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n{}{}{}",
        of("none", ""),
        of("poor", "retry = { budget = \"1%\" }"),
        of("rich", "retry = { budget = \"100%\" }"),
    );
    let lb = Setup::new(driver, config.clone()).workers(1).log(JSON).start();
    let statuses = |name: &str, count: usize| -> Vec<u16> {
        (0..count).map(|_| get(lb.web(), "a", &format!("/{name}")).status()).collect()
    };
    let refused =
        |name: &str| lb.metric("lb_backend_retries_refused_total", &[&format!("backend=\"{name}\"")]);
    // What is saved up at the start is ten, and one exchange in a hundred is more.
    assert_eq!(statuses("poor", 12), [vec![200; 10], vec![503; 2]].concat());
    assert_eq!(statuses("none", 2), [503; 2]);
    assert_eq!(statuses("rich", 30), [200; 30]);
    assert_eq!((refused("poor"), refused("none"), refused("rich")), (2.0, 2.0, 0.0));
    assert_eq!(lb.metric("lb_retries_refused_total", &[]), 4.0);
    lb.access_line(&["\"route\":\"none\"", "\"attempts\":1,\"retry_refused\":true", "\"status\":503"]);
    let log = lb.access_log();
    assert!(
        log.lines().all(|line| line.contains("retry_refused") == line.contains("\"status\":503")),
        "{log}"
    );
    assert_busy(&get(lb.web(), "a", "/poor"));
    // Another table does not fill it again.
    lb.reload(&config.replace("path_prefix = \"/none\"", "path_prefix = \"/nothing\""));
    assert_eq!(statuses("poor", 2), [503; 2]);
}

fn what_is_not_listed_is_not_tried_again(driver: Driver) {
    let closes = Origin::scripted(|conversation| drop(conversation.request()));
    let b = Origin::named("b");
    let on = |words: &str| format!("{}{}", retry(&format!("on = [{words}]")), in_order(&closes, &[&b]));
    let lb = Lb::start(driver, on("\"connect\""));
    let got = get(lb.web(), "a", "/");
    assert_eq!((got.status(), got.field("x-lb-reason")), (502, Some("server_closed")));
    lb.reload(&on("\"closed\""));
    assert_eq!(get(lb.web(), "a", "/").text(), "b");
    // And the other way round.
    let dead = servers(&[("a", unused_address()), ("b", b.address)])
        .replace(&format!("\"{}\" }}", b.address), &format!("\"{}\", backup = true }}", b.address));
    let lb = Lb::start(driver, format!("{}{dead}", retry("on = [\"closed\"]")));
    let got = get(lb.web(), "a", "/");
    assert_eq!((got.status(), got.field("x-lb-reason")), (502, Some("connect_failed")));
    lb.reload(&format!("{}{dead}", retry("on = [\"connect\"]")));
    assert_eq!(get(lb.web(), "a", "/").text(), "b");
}

fn who_leaves_during_a_pause_is_let_go(driver: Driver) {
    let origins: Vec<_> = (0..3).map(|_| busy()).collect();
    let all: Vec<_> = origins.iter().map(|(origin, _)| origin).collect();
    let config = format!(
        "{}{}",
        retry("on = [503]\nretries = 2\nbackoff = \"10s\"\nbackoff_max = \"10s\""),
        in_order(all[0], &all[1..])
    );
    let lb = Setup::new(driver, config).workers(1).log(JSON).start();
    // The first retry goes at once, the second waits up to ten seconds, at times for nearly nothing: then once more.
    let asked = || origins.iter().map(|(_, asked)| asked.load(Ordering::SeqCst)).sum::<usize>();
    until("somebody to leave during a pause", || {
        let before = asked();
        let client = {
            let mut client = Client::connect(lb.web());
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            client
        };
        until("the first retry", || asked() >= before + 2);
        client.reset();
        until("no exchange to be under way", || lb.metric("lb_route_exchanges_active", &[]) == 0.0);
        lb.metric("lb_requests_total", &["code=\"499\""]) > 0.0
    });
    let line = lb.access_line(&["\"status\":499", "\"attempts\":2"]);
    assert!(line.contains("client_left"), "{line}");
}

/// One pooled connection that turns out to be closed, then a server that dies: a single retry is enough.
fn a_closed_pooled_connection_is_no_retry(driver: Driver) {
    let dying = Arc::new(AtomicBool::new(false));
    let is_dying = Arc::clone(&dying);
    let a = Origin::scripted(move |conversation| {
        while conversation.request().is_some() && !is_dying.load(Ordering::SeqCst) {
            let _ = conversation.write(ok("a"));
        }
    });
    let b = Origin::named("b");
    let lb = Setup::new(driver, in_order(&a, &[&b])).workers(1).log(JSON).start();
    assert_eq!(get(lb.web(), "a", "/").text(), "a");
    dying.store(true, Ordering::SeqCst);
    let got = get(lb.web(), "a", "/again");
    assert_eq!((got.status(), got.text().as_str()), (200, "b"), "{got:?}");
    assert_eq!(a.connections(), 2, "the pooled one, and one that was new");
    lb.access_line(&["/again", "\"attempts\":3"]);
}

fn without_retries_nothing_is_sent_twice(driver: Driver) {
    let a = Origin::scripted(|conversation| {
        conversation.request();
        let _ = conversation.write(ok("a"));
        // It says that it will stay, and leaves with the next request.
        conversation.request();
    });
    let lb = Setup::new(driver, format!("[retry]\nretries = 0\n{}", one_server(&a))).workers(1).start();
    assert_eq!(get(lb.web(), "a", "/").text(), "a");
    let got = get(lb.web(), "a", "/once");
    let times = String::from_utf8(a.all_received()).unwrap().matches("GET /once ").count();
    match got.status() {
        // The connection had been idle for longer than is sure to be open.
        200 => assert_eq!((times, a.connections()), (1, 2)),
        status => assert_eq!((status, times, a.connections()), (502, 1, 1)),
    }
}

fn a_full_server_is_not_waited_for_with_an_answer_in_hand(driver: Driver) {
    let (a, _) = busy();
    let (inside, gate) = (Gate::new(), Gate::new());
    let (is_inside, may_leave) = (inside.clone(), gate.clone());
    let b = Origin::answering(move |_| {
        is_inside.open();
        may_leave.wait();
        ok("b")
    });
    let config = in_order(&a, &[&b]).replace("backup = true", "backup = true, max_requests = 1");
    let lb = Setup::new(driver, format!("{}{config}queue = {{ timeout = \"1m\" }}\n", retry("on = [503]")))
        .workers(1)
        .start();
    let web = lb.web();
    let first = thread::spawn(move || get(web, "a", "/first").text());
    inside.wait();
    assert_busy(&get(lb.web(), "a", "/second"));
    gate.open();
    assert_eq!(first.join().unwrap(), "b");
}
