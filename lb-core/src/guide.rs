//! Chapters to read in order, with examples that compile. There is no code here.
//!
//! - [`embedding`]: from a spec to a finished attempt, in one thread and in many, and what stays yours to do;
//! - [`shares`]: canaries that count sessions, and sessions that stay with their server;
//! - [`policies`]: how a backend chooses a server, and which way to choose when, and who waits when servers are full;
//! - [`rates`]: how many requests one client may make on a route;
//! - [`health`]: checks, outliers, and how both reach the picks.
//!
//! What a function promises to the letter stands beside it. Whole programs are in the crate's `examples` folder: a proxy on
//! hyper, a client-side balancer for tower, and a routing table under test.

pub mod embedding;
pub mod health;
pub mod policies;
pub mod rates;
pub mod shares;
