//! Why we ended an exchange ourselves: a status, a stable word and who was at fault, for the client, the log and the
//! metrics.

use lb_core::decide::RefusalReason;

/// A status with its reason word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reason {
    /// The status that the client is sent, or 499 for one that left.
    pub status: u16,
    /// The stable word, as in the `x-lb-reason` header.
    pub word: &'static str,
    /// Who or what ended the exchange.
    pub cause: Cause,
}

const fn reason(status: u16, word: &'static str, cause: Cause) -> Reason {
    Reason { status, word, cause }
}

impl Reason {
    /// For what the codec does not take of a request.
    pub fn of_request(status: u16, word: &'static str) -> Reason {
        reason(status, word, Cause::Refused)
    }

    /// For what the codec does not take of a response.
    pub fn of_response(word: &'static str) -> Reason {
        reason(502, word, Cause::BadResponse)
    }

    /// For what the core refuses.
    pub fn of_refusal(refusal: RefusalReason) -> Reason {
        // A word of the core's that is not known here; a test sees to it that there is none.
        let unknown = if refusal.status() < 500 { Cause::Refused } else { Cause::ServerFailed };
        reason(refusal.status(), refusal.word(), cause_of(refusal).unwrap_or(unknown))
    }
}

fn cause_of(refusal: RefusalReason) -> Option<Cause> {
    match refusal {
        RefusalReason::NoRoute
        | RefusalReason::BadPath
        | RefusalReason::EncodedSlash
        | RefusalReason::PathTooLong
        | RefusalReason::RateLimited => Some(Cause::Refused),
        RefusalReason::NoServer | RefusalReason::ArmDown => Some(Cause::ServerFailed),
        _ => None,
    }
}

/// Who or what ended an exchange. Each reason names one, so that none is without its ending in the access log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Nobody: it went to its end.
    Complete,
    /// We: the route answers itself.
    Answered,
    /// We, for what the request is.
    Refused,
    /// We, for what the server's response is.
    BadResponse,
    /// The client left.
    ClientLeft,
    /// The client neither sent nor took anything for too long.
    ClientTimeout,
    /// The server refused, closed or reset, or there is none that can serve.
    ServerFailed,
    /// The server was too slow.
    ServerTimeout,
    /// No server had room, and no more requests may wait.
    QueueFull,
    /// No server had room in time.
    QueueTimeout,
    /// A tunnel in which nothing moved for too long.
    TunnelIdle,
    /// A bound of ours.
    Overloaded,
    /// The process was told to stop.
    Stopped,
}

impl Cause {
    /// All of them.
    pub const ALL: [Cause; 13] = [
        Cause::Complete,
        Cause::Answered,
        Cause::Refused,
        Cause::BadResponse,
        Cause::ClientLeft,
        Cause::ClientTimeout,
        Cause::ServerFailed,
        Cause::ServerTimeout,
        Cause::QueueFull,
        Cause::QueueTimeout,
        Cause::TunnelIdle,
        Cause::Overloaded,
        Cause::Stopped,
    ];

    /// The plain word.
    pub fn word(self) -> &'static str {
        match self {
            Cause::Complete => "complete",
            Cause::Answered => "answered",
            Cause::Refused => "refused",
            Cause::BadResponse => "bad_response",
            Cause::ClientLeft => "client_left",
            Cause::ClientTimeout => "client_timeout",
            Cause::ServerFailed => "server_failed",
            Cause::ServerTimeout => "server_timeout",
            Cause::QueueFull => "queue_full",
            Cause::QueueTimeout => "queue_timeout",
            Cause::TunnelIdle => "tunnel_idle",
            Cause::Overloaded => "overloaded",
            Cause::Stopped => "stopped",
        }
    }

    /// Whether this is how exchanges are meant to end.
    pub fn is_good(self) -> bool {
        matches!(self, Cause::Complete | Cause::Answered)
    }

    /// Whether it is a server's fault or ours, and not the client's.
    pub fn is_failure(self) -> bool {
        match self {
            Cause::BadResponse
            | Cause::ServerFailed
            | Cause::ServerTimeout
            | Cause::QueueFull
            | Cause::QueueTimeout
            | Cause::Overloaded
            | Cause::Stopped => true,
            Cause::Complete
            | Cause::Answered
            | Cause::Refused
            | Cause::ClientLeft
            | Cause::ClientTimeout
            | Cause::TunnelIdle => false,
        }
    }
}

/// The client left before its answer was complete.
pub const CLIENT_LEFT: Reason = reason(499, "client_left", Cause::ClientLeft);
/// The client did not take its answer for as long as the response timeout.
pub const CLIENT_STALLED: Reason = reason(499, "client_stalled", Cause::ClientTimeout);
/// The request head did not come in time.
pub const HEAD_TIMEOUT: Reason = reason(408, "request_head_timeout", Cause::ClientTimeout);
/// The request body stopped coming.
pub const BODY_TIMEOUT: Reason = reason(408, "request_body_timeout", Cause::ClientTimeout);
/// The request body came, and too slowly for the route's `body_rate`.
pub const BODY_SLOW: Reason = reason(408, "request_body_slow", Cause::ClientTimeout);
/// The request body is larger than the route allows.
pub const BODY_TOO_LARGE: Reason = reason(413, "body_too_large", Cause::Refused);
/// No connection to the server came about.
pub const CONNECT_FAILED: Reason = reason(502, "connect_failed", Cause::ServerFailed);
/// No connection to the server came about in time.
pub const CONNECT_TIMEOUT: Reason = reason(502, "connect_timeout", Cause::ServerTimeout);
/// The server closed the connection or reset it before it answered.
pub const SERVER_CLOSED: Reason = reason(502, "server_closed", Cause::ServerFailed);
/// The server broke off within its response.
pub const RESPONSE_CUT: Reason = reason(502, "response_cut", Cause::ServerFailed);
/// The server's response head is larger than we read.
pub const RESPONSE_HEAD_TOO_LARGE: Reason = reason(502, "response_head_too_large", Cause::BadResponse);
/// The server sent more interim responses than we pass on.
pub const TOO_MANY_INTERIM: Reason = reason(502, "too_many_interim_responses", Cause::BadResponse);
/// The server did not answer, or stopped answering, in time.
pub const RESPONSE_TIMEOUT: Reason = reason(504, "response_timeout", Cause::ServerTimeout);
/// A bound of ours was reached: buffers, descriptors or tasks.
pub const OVERLOADED: Reason = reason(503, "overloaded", Cause::Overloaded);
/// All servers that could serve have as much as they may, and as many requests wait as may wait.
pub const QUEUE_FULL: Reason = reason(503, "queue_full", Cause::QueueFull);
/// No server had room for as long as a request may wait.
pub const QUEUE_TIMEOUT: Reason = reason(503, "queue_timeout", Cause::QueueTimeout);
/// As many requests of the route's class wait for their turn at the worker as may.
pub const CLASS_FULL: Reason = reason(503, "class_full", Cause::Overloaded);
/// The worker was told to stop before the exchange ended.
pub const STOPPED: Reason = reason(503, "stopped", Cause::Stopped);

/// The standard phrase of a status (RFC 9110 section 15), or an empty one.
pub fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        418 => "I'm a teapot",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        451 => "Unavailable For Legal Reasons",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_of_the_core_has_its_cause() {
        for refusal in RefusalReason::ALL {
            assert!(cause_of(*refusal).is_some(), "{refusal:?}: say who ended the exchange");
        }
    }
}
