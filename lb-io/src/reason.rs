//! Why we ended an exchange ourselves: a status and a stable word, for the client, the log and the metrics.

/// A status with its reason word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reason {
    /// The status that the client is sent, or 499 for one that left.
    pub status: u16,
    /// The stable word, as in the `x-lb-reason` header.
    pub word: &'static str,
}

const fn reason(status: u16, word: &'static str) -> Reason {
    Reason { status, word }
}

/// The client left before its answer was complete.
pub const CLIENT_LEFT: Reason = reason(499, "client_left");
/// The client did not take its answer for as long as the response timeout.
pub const CLIENT_STALLED: Reason = reason(499, "client_stalled");
/// The request head did not come in time.
pub const HEAD_TIMEOUT: Reason = reason(408, "request_head_timeout");
/// The request body stopped coming.
pub const BODY_TIMEOUT: Reason = reason(408, "request_body_timeout");
/// The request body is larger than the route allows.
pub const BODY_TOO_LARGE: Reason = reason(413, "body_too_large");
/// No connection to the server came about.
pub const CONNECT_FAILED: Reason = reason(502, "connect_failed");
/// No connection to the server came about in time.
pub const CONNECT_TIMEOUT: Reason = reason(502, "connect_timeout");
/// The server closed the connection or reset it before it answered.
pub const SERVER_CLOSED: Reason = reason(502, "server_closed");
/// The server broke off within its response.
pub const RESPONSE_CUT: Reason = reason(502, "response_cut");
/// The server's response head is larger than we read.
pub const RESPONSE_HEAD_TOO_LARGE: Reason = reason(502, "response_head_too_large");
/// The server sent more interim responses than we pass on.
pub const TOO_MANY_INTERIM: Reason = reason(502, "too_many_interim_responses");
/// The server did not answer, or stopped answering, in time.
pub const RESPONSE_TIMEOUT: Reason = reason(504, "response_timeout");
/// A bound of ours was reached: buffers, descriptors or tasks.
pub const OVERLOADED: Reason = reason(503, "overloaded");
/// The worker was told to stop before the exchange ended.
pub const STOPPED: Reason = reason(503, "stopped");

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
