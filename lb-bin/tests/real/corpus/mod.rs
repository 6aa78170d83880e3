//! The strictness corpus, which the codec's own tests replay without sockets, against the binary.

#[path = "../../../../lb-io/tests/corpus/mod.rs"]
mod cases;
mod requests;
mod responses;
