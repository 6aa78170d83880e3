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
    a_listener_has_a_cap_of_its_own,
    running_out_of_descriptors_stops_nobody_inside,
    pools_of_past_servers_make_room,
}

/// Load that moves from server to server must not leave each with a pool that nobody needs, until there are no
/// descriptors for the next.
fn pools_of_past_servers_make_room(driver: Driver) {
    let origins: Vec<Origin> = (0..5).map(|_| plain()).collect();
    let mut config = String::from("[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n");
    for (number, origin) in origins.iter().enumerate() {
        config +=
            &format!("[[route]]\nname = \"r{number}\"\npath = \"/{number}\"\nbackend = \"b{number}\"\n");
        config += &lb::backend(&format!("b{number}"), &[("a", origin.address)]);
    }
    let lb = Setup::new(driver, config).workers(1).open_files(200).start();
    let mut clients: Vec<_> = (0..50).map(|_| Client::connect(lb.web())).collect();
    for number in 0..origins.len() {
        for client in &mut clients {
            client.send(format!("GET /{number} HTTP/1.1\r\nHost: a\r\n\r\n"));
        }
        for client in &mut clients {
            let response = client.response();
            assert_eq!(response.status(), 200, "server {number}: {response:?}");
        }
    }
}

fn the_connection_cap_makes_others_wait(driver: Driver) {
    let origin = plain();
    cap_makes_others_wait(
        Setup::new(driver, one_server(&origin)).workers(1).engine("max_connections = 20").start(),
    );
}

fn a_listener_has_a_cap_of_its_own(driver: Driver) {
    let origin = plain();
    let capped =
        one_server(&origin).replacen("name = \"web\"\n", "name = \"web\"\nmax_connections = 20\n", 1);
    let config = format!("{capped}[[listener]]\nname = \"other\"\nbind = \"127.0.0.1:0\"\n");
    let lb = Setup::new(driver, config).workers(1).start();
    let full: Vec<_> = (0..20).map(|_| Client::connect(lb.web())).collect();
    let mut client = Client::connect(lb.listener("other"));
    assert_eq!(client.exchange(REQUEST).status(), 200, "another listener is not full");
    drop(full);
    cap_makes_others_wait(lb);
}

/// Twenty connections fit.
fn cap_makes_others_wait(lb: Lb) {
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
    // Whatever the file allows, the engine takes as many clients as it has descriptors for, each with one for the
    // server's side. (The drivers' own tests take all descriptors away.)
    for engine in ["", "max_connections = 1000"] {
        let lb = Setup::new(driver, one_server(&origin)).workers(1).engine(engine).open_files(200).start();
        crowd(&lb);
    }
}

/// 100 clients at once, each with a request: some are served before any leaves, the others wait. Then all leave,
/// and a newcomer is served.
fn crowd(lb: &Lb) {
    let mut clients: Vec<_> = (0..100).map(|_| Client::connect(lb.web())).collect();
    for client in &mut clients {
        let _ = client.try_send(REQUEST);
    }
    let mut served = 0;
    for client in &mut clients {
        client.wire().set_patience(std::time::Duration::from_millis(if served == 0 { 5_000 } else { 100 }));
        match client.try_response("GET") {
            Ok(Some(response)) => {
                assert_eq!(response.status(), 200, "{response:?}");
                served += 1;
            }
            Ok(None) => {}
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::TimedOut, "{error}"),
        }
    }
    assert!((40..100).contains(&served), "{served} were served at once");
    drop(clients);
    until("a newcomer to be served", || {
        let mut client = Client::connect(lb.web());
        client.wire().set_patience(std::time::Duration::from_millis(500));
        let _ = client.try_send(REQUEST);
        matches!(client.try_response("GET"), Ok(Some(response)) if response.status() == 200)
    });
}
