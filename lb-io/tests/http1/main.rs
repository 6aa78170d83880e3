//! The HTTP/1 codec as a whole, without an engine: the strictness corpus, and properties that hold for any
//! input and any way in which it arrives.

mod chunks;
#[path = "../corpus/mod.rs"]
mod corpus;
mod generate;
mod relay;
mod smuggling;
mod splits;
mod strictness;
