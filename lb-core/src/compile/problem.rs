//! What is wrong with a spec, and where.

use std::fmt;

/// One thing that is wrong (or odd) in a spec.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
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

/// Why a spec cannot be used: all that is wrong with it at once, and what is odd beside. Its Display is a line for each
/// problem.
///
/// A [`Place`] is named as the keys of the file of the proxy that uses this crate are: `route[0].backend` is
/// `spec.routes[0].backend`, and `backend[1].server[0]` is `spec.backends[1].servers[0]`.
///
/// ```
/// use lb_core::spec::{RouteSpec, Spec};
///
/// let spec = Spec { routes: vec![RouteSpec::new("shop", "nobody"), RouteSpec::default()], ..Spec::default() };
/// let error = lb_core::compile(&spec).unwrap_err();
/// assert!(error.problems.len() > 1);
/// assert!(error.problems.iter().any(|problem| problem.place.to_string() == "route[0].backend"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CompileError {
    /// All problems, [`PROBLEMS_MAX`] at most; one at least is a [`Severity::Error`].
    pub problems: Vec<Problem>,
}

/// Whether a problem keeps a spec from being used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Severity {
    /// It does.
    Error,
    /// It does not.
    Warning,
}

/// A place in a spec: `route[3].canary.backend`. Steps carry the names of keys in the file of the proxy that uses this
/// crate, where it has such a key: `listener`, `route`, `backend` and `server` are what [`Spec`](crate::Spec) calls
/// `listeners`, `routes`, `backends` and `servers`.
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

/// Problems at most; when there are more the last one says so.
pub const PROBLEMS_MAX: usize = 1_000;

/// Collects problems.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    list: Vec<Problem>,
    /// Beyond the bound.
    untold: usize,
    errors: usize,
}

impl Problems {
    /// Adds an error; what it returns can be told more about.
    pub(crate) fn error(&mut self, code: &'static str, place: &Place, message: String) -> Told<'_> {
        self.add(code, Severity::Error, place, message)
    }

    /// Adds a warning; what it returns can be told more about.
    pub(crate) fn warning(&mut self, code: &'static str, place: &Place, message: String) -> Told<'_> {
        self.add(code, Severity::Warning, place, message)
    }

    fn add(&mut self, code: &'static str, severity: Severity, place: &Place, message: String) -> Told<'_> {
        self.errors += usize::from(severity == Severity::Error);
        if self.list.len() >= PROBLEMS_MAX {
            self.untold += 1;
            return Told(None);
        }
        let place = place.clone();
        self.list.push(Problem { code, severity, place, message, expected: String::new(), meant: None });
        Told(self.list.last_mut())
    }

    /// Whether one of them is an error.
    pub(crate) fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// Whether there are so many that searching for what was meant is no longer worth the time.
    pub(crate) fn are_many(&self) -> bool {
        self.list.len() > PROBLEMS_MAX / 10
    }

    /// All problems, and whether one of them is an error.
    pub(crate) fn finish(mut self) -> (Vec<Problem>, bool) {
        if self.untold > 0
            && let Some(last) = self.list.last_mut()
        {
            let more = format!("{} (and {} further problems that are not listed)", last.message, self.untold);
            last.message = more;
        }
        (self.list, self.errors > 0)
    }
}

/// A problem that was added, to be told more about.
pub(crate) struct Told<'a>(Option<&'a mut Problem>);

impl Told<'_> {
    /// What was expected.
    pub(crate) fn expected(self, expected: impl Into<String>) -> Self {
        if let Some(problem) = self.0 {
            problem.expected = expected.into();
            return Told(Some(problem));
        }
        self
    }

    /// What was probably meant.
    pub(crate) fn meant(self, meant: Option<&str>) -> Self {
        if let Some(problem) = self.0 {
            problem.meant = meant.map(str::to_owned);
            return Told(Some(problem));
        }
        self
    }
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

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, problem) in self.problems.iter().enumerate() {
            write!(f, "{}{problem}", if place == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl std::error::Error for CompileError {}
