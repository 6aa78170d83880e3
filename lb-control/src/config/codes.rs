//! The codes of what this crate finds itself. Those of the core's compiler are the core's: up to `LB049` for
//! errors and `LB149` for warnings. A code never changes its meaning and is never given twice.

/// A file cannot be read.
pub const UNREADABLE: &str = "LB050";
/// The text is not TOML.
pub const SYNTAX: &str = "LB051";
/// A key that does not exist there.
pub const UNKNOWN_KEY: &str = "LB052";
/// A word of the language that this version does not have.
pub const LATER: &str = "LB053";
/// A required key is missing.
pub const MISSING: &str = "LB054";
/// A value of the wrong type or form.
pub const BAD_VALUE: &str = "LB055";
/// Two keys that exclude each other.
pub const EXCLUSIVE: &str = "LB056";
/// The same thing set in two files.
pub const SET_TWICE: &str = "LB057";
/// Too many files, or one too large.
pub const TOO_MUCH: &str = "LB058";
/// Two listeners, or a listener and the admin listener, want one address.
pub const SAME_ADDRESS: &str = "LB059";
/// A name that stands for no address.
pub const UNRESOLVED: &str = "LB060";
/// A line of the secret file that is none.
pub const BAD_KEY_LINE: &str = "LB061";
/// The secret file lacks a key.
pub const NO_KEY: &str = "LB062";
/// A listener that differs from the running one.
pub const LISTENER_CHANGED: &str = "LB063";
/// A reload was asked for while draining.
pub const DRAINING: &str = "LB064";
/// The keys are this node's own, so nodes disagree.
pub const OWN_KEYS: &str = "LB150";
/// The keys are made anew at every start.
pub const PASSING_KEYS: &str = "LB151";
/// An include pattern that no file matches.
pub const NOTHING_INCLUDED: &str = "LB152";
/// A name that stands for no address just now, as far as a check can tell.
pub const UNRESOLVED_HERE: &str = "LB153";
/// The secret file can be read by everyone.
pub const OPEN_KEYS: &str = "LB154";
/// A setting that only a restart applies.
pub const NEEDS_RESTART: &str = "LB155";

/// The core's: a route has no backend, no redirect and no reply.
pub(super) const CORE_NO_TARGET: &str = "LB010";
/// The core's: a route is never reached, a backend never used, two marks meet. All count on routes that are whole.
pub(super) const CORE_ABOUT_ALL_ROUTES: [&str; 3] = ["LB104", "LB105", "LB107"];
/// The core's: a key is needed and not given.
pub(super) const CORE_SECRET: &str = "LB021";
