//! The codes of problems: stable, for people to look up and for scripts to tell apart. One that is no longer needed
//! (`LB007`, for what a version could not do yet) is not given to anything else.

macro_rules! codes {
    ($($(#[$about:meta])* $name:ident = $code:literal, $text:literal;)*) => {
        $($(#[$about])* #[doc = $text] pub const $name: &str = $code;)*
        /// Every code with what it means, in order; below `LB100` errors, from there on warnings.
        pub const ALL: &[(&str, &str)] = &[$(($code, $text)),*];
    };
}

codes! {
    NAME = "LB001", "A name is missing, too long, or has characters other than letters, digits, `.`, `_` and `-`.";
    TWICE = "LB002", "A name is used twice where it must be unique.";
    TOO_MANY = "LB003", "There are more of something than the bound says.";
    TIMEOUT = "LB004", "A timeout is zero or longer than a week.";
    TIMEOUT_PLACE = "LB005", "A timeout that means nothing where it is set.";
    RETRY = "LB006", "A number of retries or a retry budget is out of bounds.";
    NO_TARGET = "LB010", "A route has no backend, no redirect and no reply.";
    TWO_TARGETS = "LB011", "A route has more than one of backend, redirect and reply.";
    NO_BACKEND = "LB012", "No backend has this name.";
    NO_LISTENER = "LB013", "No listener has this name.";
    HOST = "LB014", "A host is not a host name.";
    PATH = "LB015", "A path cannot be matched by any request.";
    REGEX = "LB016", "A regular expression cannot be used.";
    METHOD = "LB017", "A method is not a token.";
    HEADER = "LB018", "A header name or value is not valid.";
    COOKIE = "LB019", "A cookie name or value is not valid.";
    COOKIE_CLASH = "LB020", "Two of our cookies would have the same name on the same host.";
    SECRET = "LB021", "A key is needed and not given, or given twice.";
    PARAMETER = "LB022", "A query parameter has no name.";
    ADDRESS = "LB030", "A server's address cannot be connected to.";
    WEIGHT = "LB031", "A weight is out of bounds.";
    MAX_LOAD = "LB032", "A bound on the load that cannot be kept, or with a policy that does not hash.";
    SLOW_START = "LB033", "A slow start of no time, or of more than an hour.";
    SPILL = "LB034", "Zones are to spill over where there are none that count.";
    QUEUE = "LB035", "A bound on requests or connections of a server, or of a queue, that cannot be.";
    LABEL = "LB036", "A server has too many labels, or one whose value is empty, too long or not one line.";
    HEADER_EDIT = "LB040", "A header that must not be edited.";
    REDIRECT = "LB041", "A redirect is not valid.";
    REPLY = "LB042", "A fixed reply or an error page is not valid.";
    REWRITE = "LB043", "A change of host or path is not valid.";
    RETRY_STATUS = "LB070", "A status on which no other server can be tried.";
    RETRY_BODY = "LB071", "More of a request's body is to be held than can be.";
    RETRY_TIME = "LB072", "A timeout of attempts or a wait before retries is out of bounds.";
    RETRY_ON = "LB073", "A list of reasons to try again without a reason.";
    RATE = "LB074", "A rate of requests that cannot be.";
    BODY_RATE = "LB075", "A least rate of request bodies that cannot be.";
    CLASS = "LB080", "A class's share, or how many of its requests may wait, is out of bounds.";
    NO_SERVERS = "LB101", "A backend has no servers.";
    NO_WEIGHT = "LB102", "All servers of a backend have weight 0.";
    BACKUP_WEIGHT = "LB103", "A backup has a weight, which counts only among backups.";
    NEVER_REACHED = "LB104", "A route can never match: another one takes all its requests.";
    UNUSED = "LB105", "A backend is used by no route.";
    SAME_ARMS = "LB106", "Both arms of a route have the same backend.";
    MARK_CLASH = "LB107", "Two routes would overwrite each other's marks.";
    STRIPS_NOTHING = "LB108", "A prefix that is to be stripped is never there.";
    SAME_ADDRESS = "LB109", "Two servers of a backend have the same address.";
    ZONE_UNUSED = "LB110", "A zone means nothing as things stand.";
    QUEUE_UNUSED = "LB111", "A queue in which nobody ever waits.";
    RETRY_UNUSED = "LB112", "A word about retries that changes nothing.";
    ATTEMPT_TIMEOUT_UNUSED = "LB113", "A timeout of attempts that the timeout of the response comes before.";
    RATE_OF_PROXIES = "LB114", "A rate that counts all clients behind a proxy as one.";
    MORE_REQUESTS = "LB116", "A server may have more requests than connections to carry them.";
    CLASSES_UNUSED = "LB118", "Classes, where all routes have the same one.";
    CLASS_ORDER = "LB119", "A class has a larger share than the one that comes before it.";
    STICKY_UNUSED = "LB124", "Stickiness that only backups could honour, which are never named in a cookie.";
}

#[cfg(test)]
mod tests {
    #[test]
    fn codes_are_unique_and_in_order() {
        assert!(super::ALL.is_sorted_by(|left, right| left.0 < right.0));
    }
}
