//! What is wrong with a spec, and where.

use std::fmt;

/// One thing that is wrong (or odd) in a spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// A stable code such as `LB012`; below 100 errors, from 100 on warnings.
    pub code: &'static str,
    /// Whether it keeps the spec from being used.
    pub severity: Severity,
    /// Where.
    pub place: Place,
    /// What is wrong, in a sentence without a full stop.
    pub message: String,
    /// What was expected there; may be empty where the message says it all.
    pub expected: String,
    /// What was probably meant.
    pub meant: Option<String>,
}

/// Whether a problem keeps a spec from being used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Severity {
    /// It does.
    Error,
    /// It does not.
    Warning,
}

/// A place in a spec: `route[3].canary.backend`. Steps carry the names of the file's keys where the file has
/// such a key: `listener`, `route`, `backend` and `server` are lists.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Place {
    /// From the outside in.
    pub steps: Vec<Step>,
}

/// One step into a spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Into a field.
    Field(&'static str),
    /// Into an element of a list.
    Index(usize),
}

impl Place {
    /// The whole spec.
    pub fn root() -> Place {
        Place::default()
    }

    /// A field of this place.
    pub fn field(&self, name: &'static str) -> Place {
        self.step(Step::Field(name))
    }

    /// An element of this place.
    pub fn index(&self, index: usize) -> Place {
        self.step(Step::Index(index))
    }

    fn step(&self, step: Step) -> Place {
        let mut steps = self.steps.clone();
        steps.push(step);
        Place { steps }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (depth, step) in self.steps.iter().enumerate() {
            match step {
                Step::Field(name) if depth == 0 => f.write_str(name)?,
                Step::Field(name) => write!(f, ".{name}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        })
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}] at {}: {}", self.severity, self.code, self.place, self.message)?;
        if !self.expected.is_empty() {
            write!(f, "; {}", self.expected)?;
        }
        match &self.meant {
            Some(meant) => write!(f, "; did you mean `{meant}`?"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Problem {}
