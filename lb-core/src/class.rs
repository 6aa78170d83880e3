//! Priority classes: whose requests come first where there is more to do than can be done.

use crate::defaults;

/// The class of a route's requests. The core only carries it: whoever does the work shares it out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Class {
    /// Comes first.
    Platinum,
    /// What is given no class.
    #[default]
    Gold,
    /// Comes last.
    Silver,
}

impl Class {
    /// All of them, the first first.
    pub const ALL: [Class; 3] = [Class::Platinum, Class::Gold, Class::Silver];

    /// As it is written in files and metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Class::Platinum => "platinum",
            Class::Gold => "gold",
            Class::Silver => "silver",
        }
    }
}

/// What the classes have of a worker.
///
/// Shares are parts of their sum: with the defaults of 60, 30 and 10 silver has a tenth of a worker's time where all
/// three want more than there is, a quarter beside gold alone, and all of it where nobody else wants any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassesSpec {
    /// The share of [`Class::Platinum`]; see [`defaults::CLASS_SHARES`].
    pub platinum: u32,
    /// The share of [`Class::Gold`].
    pub gold: u32,
    /// The share of [`Class::Silver`].
    pub silver: u32,
    /// Requests of one class that may wait for their turn at one worker; see [`defaults::CLASS_WAITING`].
    pub waiting: u32,
}

impl Default for ClassesSpec {
    fn default() -> ClassesSpec {
        let [platinum, gold, silver] = defaults::CLASS_SHARES;
        ClassesSpec { platinum, gold, silver, waiting: defaults::CLASS_WAITING }
    }
}

impl ClassesSpec {
    /// The share of a class.
    pub fn share(&self, class: Class) -> u32 {
        match class {
            Class::Platinum => self.platinum,
            Class::Gold => self.gold,
            Class::Silver => self.silver,
        }
    }
}
