//! More clients than there is room for.

use crate::harness::lb::one_server;
use crate::harness::origin::ok;
use crate::harness::*;

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

fn plain() -> Origin {
    Origin::answering(|_| ok("ok"))
}

on_both_drivers! {
    the_connection_cap_makes_others_wait,
    running_out_of_descriptors_stops_nobody_inside,
}

fn the_connection_cap_makes_others_wait(driver: Driver) {
    let origin = plain();
    let lb = Setup::new(driver, one_server(&origin)).workers(1).engine("max_connections = 20").start();
    let mut inside: Vec<_> = (0..20).map(|_| Client::connect(lb.web())).collect();
    for client in &mut inside {
        assert_eq!(client.exchange(REQUEST).status(), 200);
    }
    // The kernel accepts for us; nobody reads.
    let mut outside: Vec<_> = (0..5).map(|_| Client::connect(lb.web())).collect();
    for client in &mut outside {
        client.send(REQUEST);
    }
    assert!(outside[0].is_silent(std::time::Duration::from_millis(200)));
    assert_eq!(inside[0].exchange(REQUEST).status(), 200, "those inside are served meanwhile");
    inside.truncate(10);
    for client in &mut outside {
        assert_eq!(client.response().status(), 200);
    }
}

fn running_out_of_descriptors_stops_nobody_inside(driver: Driver) {
    let origin = plain();
    // By itself the engine takes as many clients as it has descriptors for, one for the server's side each.
    let lb = Setup::new(driver, one_server(&origin)).workers(1).open_files(300).start();
    assert!(crowd(&lb, &[200]) >= 40);
    // Told to take more than there are descriptors for, it runs out of them.
    let lb = Setup::new(driver, one_server(&origin))
        .workers(1)
        .engine("max_connections = 1000")
        .open_files(100)
        .start();
    assert!(crowd(&lb, &[200, 503]) >= 1);
}

/// 150 clients at once, each with a request. Returns how many were served before any left; then lets all leave and
/// has a newcomer served.
fn crowd(lb: &Lb, statuses: &[u16]) -> usize {
    let mut clients: Vec<_> = (0..150).map(|_| Client::connect(lb.web())).collect();
    for client in &mut clients {
        let _ = client.try_send(REQUEST);
    }
    let mut served = 0;
    for client in &mut clients {
        let patience = if served == 0 { PATIENCE } else { std::time::Duration::from_millis(100) };
        client.wire().set_patience(patience);
        match client.try_response("GET") {
            Ok(Some(response)) => {
                assert!(statuses.contains(&response.status()), "{response:?}");
                served += usize::from(response.status() == 200);
            }
            Ok(None) => {}
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::TimedOut, "{error}"),
        }
    }
    drop(clients);
    until("a newcomer to be served", || {
        let mut client = Client::connect(lb.web());
        client.wire().set_patience(std::time::Duration::from_millis(500));
        let _ = client.try_send(REQUEST);
        matches!(client.try_response("GET"), Ok(Some(response)) if response.status() == 200)
    });
    served
}
