//! Several workers: connections are spread evenly over them, whatever the kernel's hash says, and each serves its own
//! rightly.

use crate::harness::lb::one_server;
use crate::harness::*;

on_both_drivers! {
    two_workers_share_evenly,
    four_workers_share_evenly,
}

const CLIENTS: usize = 1_000;

fn two_workers_share_evenly(driver: Driver) {
    share_evenly(driver, 2);
}

/// More than this machine may have cores.
fn four_workers_share_evenly(driver: Driver) {
    share_evenly(driver, 4);
}

fn share_evenly(driver: Driver, workers: u32) {
    let origin = Origin::answering(|request| origin::ok(request.target()));
    let lb = Setup::new(driver, one_server(&origin)).workers(workers).start();
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| Client::connect(lb.web())).collect();
    for round in 0..2 {
        for (number, client) in clients.iter_mut().enumerate() {
            client.send(format!("GET /{round}/{number} HTTP/1.1\r\nHost: a\r\n\r\n"));
        }
        for (number, client) in clients.iter_mut().enumerate() {
            let response = client.response();
            assert_eq!((response.status(), response.text()), (200, format!("/{round}/{number}")));
        }
    }
    let (even, mut total) = (CLIENTS as f64 / f64::from(workers), 0.0);
    for worker in 0..workers {
        // Each connection made two requests.
        let share = lb.metric("lb_worker_requests_total", &[&format!("worker=\"{worker}\"")]) / 2.0;
        assert!((share - even).abs() <= even / 10.0, "worker {worker} of {workers} has {share} of {CLIENTS}");
        total += share;
    }
    assert_eq!(total, CLIENTS as f64);
}
