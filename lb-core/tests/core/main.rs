//! The core as those who embed it see it: specs in, decisions out.

mod any_spec;
mod compiling;
mod explaining;
mod finding;
mod laws;
mod picking;
mod rates;
mod servers;
mod shares;
mod stickiness;
mod support;
mod vectors;
