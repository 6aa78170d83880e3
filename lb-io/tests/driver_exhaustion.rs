//! Running out of descriptors while accepting, on both kernel drivers.
//!
//! Alone in its binary, because the limit is the process's.

use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::time::Duration;

use lb_io::driver::{Driver, EpollDriver, Event, Socket, UringDriver};
use lb_io::sys;

const CLIENTS: usize = 12;
const ACCEPTED_BEFORE: u64 = 4;

#[test]
fn accepting_pauses_without_descriptors_and_goes_on_after() {
    let limit = sys::limits::descriptors();
    runs_out(&EpollDriver::new().unwrap(), limit);
    runs_out(&UringDriver::new().unwrap(), limit);
}

fn runs_out(driver: &dyn Driver, limit: u64) {
    let listener = sys::socket::listening("127.0.0.1:0".parse().unwrap(), false).unwrap();
    let address = std::net::TcpListener::from(listener.try_clone().unwrap()).local_addr().unwrap();
    let key = driver.listen(Socket::Kernel(listener)).unwrap();
    driver.pause_accept(key);
    let clients: Vec<TcpStream> = (0..CLIENTS).map(|_| TcpStream::connect(address).unwrap()).collect();
    let last = clients.last().unwrap().as_raw_fd() as u64;

    let mut accepted = Vec::new();
    let mut failed = Vec::new();
    let mut turns_with_events = 0;
    let mut turn = |accepted: &mut Vec<Socket>, failed: &mut Vec<i32>| {
        let mut events = Vec::new();
        driver.turn(Some(Duration::from_millis(20)), &mut events).unwrap();
        turns_with_events += usize::from(!events.is_empty());
        for event in events {
            match event {
                Event::Accepted { socket, .. } => accepted.push(socket),
                Event::AcceptFailed { listener, error } => {
                    assert_eq!(listener, key);
                    failed.push(error.raw_os_error().unwrap());
                }
                other => panic!("{other:?}"),
            }
        }
        turns_with_events
    };

    // Descriptors are given out from the lowest free one.
    sys::limits::set_descriptors(last + 1 + ACCEPTED_BEFORE).unwrap();
    driver.resume_accept(key);
    while failed.is_empty() {
        turn(&mut accepted, &mut failed);
    }
    assert_eq!(failed, [libc::EMFILE], "{}", driver.name());
    let before = accepted.len();
    assert!((1..CLIENTS).contains(&before), "{before} accepted with room for {ACCEPTED_BEFORE}");

    // Paused: nothing more is tried until we say so.
    let busy = turn(&mut accepted, &mut failed);
    for _ in 0..5 {
        assert_eq!(turn(&mut accepted, &mut failed), busy, "{}: events while paused", driver.name());
    }
    // One descriptor comes back: one connection more, then the same again.
    accepted.pop();
    driver.resume_accept(key);
    while failed.len() < 2 {
        turn(&mut accepted, &mut failed);
    }
    assert_eq!(accepted.len(), before);

    sys::limits::set_descriptors(limit).unwrap();
    driver.resume_accept(key);
    while accepted.len() < CLIENTS - 1 {
        turn(&mut accepted, &mut failed);
    }
    assert_eq!(failed, [libc::EMFILE, libc::EMFILE]);
    driver.unlisten(key);
}
