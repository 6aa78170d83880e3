//! `driver = "auto"` on a machine that forbids io_uring.

use std::thread;

use crate::harness::client::get;
use crate::harness::lb::one_server;
use crate::harness::*;

/// Runs `work` on a thread under a seccomp filter that denies io_uring; processes it starts inherit the filter.
fn without_io_uring<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let under_filter = scope.spawn(|| {
            lb_io::sys::seccomp::forbid_io_uring().expect("a filter can be installed");
            work()
        });
        under_filter.join().expect("the work under the filter is done")
    })
}

#[test]
fn a_filter_that_denies_io_uring_makes_auto_fall_back() {
    let origin = Origin::named("a");
    let lb = without_io_uring(|| Lb::start(Driver::Auto, one_server(&origin)));
    assert_eq!(lb.driver, "epoll");
    assert_eq!(get(lb.web(), "a", "/").text(), "a");
    let log = lb.log();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("io_uring")).collect();
    assert_eq!(lines.len(), 1, "one clear line, whatever the number of workers:\n{log}");
    assert!(lines[0].contains("epoll") && lines[0].contains("seccomp"), "{}", lines[0]);
}

#[test]
fn without_a_filter_auto_takes_io_uring() {
    if lb::io_uring_works() {
        let origin = Origin::named("a");
        let lb = Lb::start(Driver::Auto, one_server(&origin));
        assert_eq!(lb.driver, "io_uring");
        assert_eq!(get(lb.web(), "a", "/").text(), "a");
    }
}

#[test]
fn a_driver_that_was_named_is_not_replaced() {
    let origin = Origin::named("a");
    let failure = without_io_uring(|| Setup::new(Driver::IoUring, one_server(&origin)).try_start().err());
    let failure = failure.expect("io_uring was asked for and is forbidden");
    assert!(failure.contains("io_uring is forbidden"), "{failure}");
}
