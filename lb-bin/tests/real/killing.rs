//! One of three servers dies under load.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::harness::lb::servers;
use crate::harness::origin::ok;
use crate::harness::*;

const THREADS: usize = 12;
const REQUESTS_EACH: usize = 250;

/// What became of a request that did not succeed.
#[derive(Debug)]
struct Failure {
    id: String,
    post: bool,
    /// The response's head had come before it broke.
    begun: bool,
    what: String,
}

on_both_drivers! {
    only_what_cannot_be_repeated_is_lost,
}

fn only_what_cannot_be_repeated_is_lost(driver: Driver) {
    // Each origin echoes the body after the name of the request, so that a mixed-up answer shows.
    let origins: Vec<_> = (0..3)
        .map(|_| {
            Origin::answering(|request| {
                let mut body = request.target().as_bytes().to_vec();
                body.extend(&request.body);
                ok(body)
            })
        })
        .collect();
    let list: Vec<_> =
        ["a", "b", "c"].into_iter().zip(&origins).map(|(name, it)| (name, it.address)).collect();
    let lb = Lb::start(driver, format!("{}balance = \"least_request\"\n", servers(&list)));
    let (done, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (web, done, failures) = (lb.web(), &done, &failures);
            scope.spawn(move || {
                let mut kept: Option<Client> = None;
                for number in 0..REQUESTS_EACH {
                    let post = number % 3 == 0;
                    let id = format!("/{thread}/{number}");
                    let body =
                        if post { pattern((thread * 1000 + number) as u64, 20_000) } else { Vec::new() };
                    let method = if post { "POST" } else { "GET" };
                    let mut request = format!("{method} {id} HTTP/1.1\r\nHost: a\r\n").into_bytes();
                    if post {
                        request.extend(format!("Content-Length: {}\r\n", body.len()).into_bytes());
                    }
                    request.extend(b"\r\n");
                    request.extend(&body);
                    let mut client = kept.take().unwrap_or_else(|| Client::connect(web));
                    if let Some(failure) = one(&mut client, &request, &id, &body, post) {
                        failures.lock().unwrap().push(failure);
                    } else if thread % 2 == 0 {
                        kept = Some(client);
                    }
                    done.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        until("a third of the load to pass", || done.load(Ordering::SeqCst) > THREADS * REQUESTS_EACH / 3);
        origins[1].kill();
    });

    let failures = failures.into_inner().unwrap();
    assert!(failures.len() <= THREADS, "more failed than were under way at the death: {failures:#?}");
    for failure in &failures {
        let Failure { id, post, begun, what } = failure;
        assert!(*post || *begun, "{id} could have been repeated and was lost: {what}");
        if !begun {
            // It must have been sent: the log names the dead server and not a failed connect.
            let line = lb.access_line(&[&format!("{id} ")]);
            assert!(line.contains("app/b") && !line.contains("connect_failed"), "{what}: {line}");
        }
    }
    assert!(origins.iter().all(|origin| origin.connections() > 0));
    let total = THREADS * REQUESTS_EACH;
    until("every exchange to be logged", || lb.access_log().lines().count() >= total);
    assert_eq!(lb.access_log().lines().count(), total, "one line for each exchange");
}

fn one(client: &mut Client, request: &[u8], id: &str, body: &[u8], post: bool) -> Option<Failure> {
    let failure = |begun, what: String| Some(Failure { id: id.to_owned(), post, begun, what });
    if let Err(error) = client.try_send(request) {
        return failure(false, error.to_string());
    }
    let mut head = match client.wire().head() {
        Ok(Some(head)) => head,
        other => return failure(false, format!("{other:?}")),
    };
    let length = head.response_length("GET");
    if let Err(error) = client.wire().body(&mut head, length) {
        return failure(true, error.to_string());
    }
    if head.status() != 200 {
        return failure(false, format!("{} {:?}", head.start, head.field("x-lb-reason")));
    }
    let wanted = [id.as_bytes(), body].concat();
    assert_same_bytes(id, &head.body, &wanted);
    None
}
