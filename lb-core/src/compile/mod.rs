//! From a [`Spec`] to a [`Snapshot`]: all problems at once, or a table that cannot be wrong.

mod problem;

pub use problem::{Place, Problem, Severity, Step};

use crate::snapshot::Snapshot;
use crate::spec::Spec;

/// What compiling a spec gives.
#[derive(Debug)]
pub struct Compiled {
    /// The table.
    pub snapshot: Snapshot,
    /// What is odd about the spec; every one a [`Severity::Warning`].
    pub warnings: Vec<Problem>,
}

/// Compiles a spec.
///
/// # Errors
/// All problems of the spec, errors and warnings, if at least one is an error.
pub fn compile(spec: &Spec) -> Result<Compiled, Vec<Problem>> {
    let _ = spec;
    Err(Vec::new())
}
