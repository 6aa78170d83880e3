//! The codes of what this crate finds itself. Those of the core's compiler are [`lb_core::compile::codes`]. A code never
//! changes its meaning and is never given twice.

macro_rules! codes {
    ($($name:ident = $code:literal, $text:literal;)*) => {
        $(#[doc = $text] pub const $name: &str = $code;)*
        /// Every code with what it means, in order; below `LB100` errors, from there on warnings.
        pub const ALL: &[(&str, &str)] = &[$(($code, $text)),*];
    };
}

codes! {
    UNREADABLE = "LB050", "A file cannot be read.";
    SYNTAX = "LB051", "The text is not TOML.";
    UNKNOWN_KEY = "LB052", "A key that does not exist there.";
    LATER = "LB053", "A word of the language that this version does not have.";
    MISSING = "LB054", "A required key is missing.";
    BAD_VALUE = "LB055", "A value of the wrong type or form.";
    EXCLUSIVE = "LB056", "Two keys that exclude each other.";
    SET_TWICE = "LB057", "The same thing set in two files.";
    TOO_MUCH = "LB058", "Too many files, or one too large.";
    SAME_ADDRESS = "LB059", "Two listeners, or a listener and the admin listener, want one address.";
    UNRESOLVED = "LB060", "A name that stands for no address, where every name is `required`.";
    BAD_KEY_LINE = "LB061", "A line of the secret file that is none.";
    NO_KEY = "LB062", "The secret file lacks a key.";
    LISTENER_CHANGED = "LB063", "A listener that differs from the running one.";
    DRAINING = "LB064", "A reload was asked for while draining.";
    SERIES = "LB065", "There could be more series of metrics than there may be.";
    CHECK = "LB066", "A check or a watch on outliers that cannot be carried out as it is written.";
    DRAIN_END = "LB084", "A drain that lasts no time, or longer than 90 days.";
    NOT_BUILT_IN = "LB086", "A key for which the program was built without the feature.";
    DRAIN_OVER = "LB120", "A drain whose end has passed.";
    DRAIN_OF_NOBODY = "LB121", "An end of a drain in a backend whose sessions do not stay.";
    GRPC_PORT = "LB122", "OTLP over HTTP at the port where collectors speak gRPC.";
    OWN_KEYS = "LB150", "The keys are this node's own, so nodes disagree.";
    PASSING_KEYS = "LB151", "The keys are made anew at every start.";
    NOTHING_INCLUDED = "LB152", "An include pattern that no file matches.";
    UNRESOLVED_HERE = "LB153", "A name that stands for no address just now: its servers are missing until it does.";
    OPEN_KEYS = "LB154", "The secret file can be read by everyone.";
    NEEDS_RESTART = "LB155", "A setting that only a restart applies.";
    NO_EFFECT = "LB156", "A key that has no effect as things stand.";
    NO_LISTENER = "LB157", "There is no listener, so nothing would be served.";
    NOT_TOLD_APART = "LB158", "There are too many routes to tell them apart in metrics unasked.";
}
