//! The built binary, between clients and origins of ours and between programs of others'.
//!
//! One file per verb or theme. Almost every test runs on io_uring and on epoll (see `on_both_drivers!`). One test
//! binary, because linking fifteen takes longer than running them.

mod harness;

mod access_log;
mod access_log_ways;
mod actions;
mod bodies;
mod capacity;
mod classes;
mod connections;
mod corpus;
mod demo;
mod dns;
mod draining;
mod driver_choice;
mod failures;
mod forwarding;
mod health;
mod jumps;
mod killing;
mod leaving;
mod leaving_servers;
mod limits;
mod max_connections;
mod metrics;
mod operating;
mod policies;
mod programs;
mod prometheus;
mod queueing;
mod rates;
mod readme;
mod reload;
mod retries;
mod spans;
mod splits;
mod statsd;
mod top;
mod traces;
mod tunnels;
mod workers;
