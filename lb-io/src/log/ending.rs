//! How an exchange ended: a plain word, the step in which it did, and HAProxy's four letters.
//!
//! The letters are those of HAProxy's documentation ("Session state at disconnection"), so that dashboards and
//! habits go on working. What we cannot tell apart: its `L` (the server is done, the client still takes) is `D` here.

use lb_core::decide::Stickiness;

use crate::metrics::Phases;
use crate::metrics::meter::End;
use crate::reason::Cause;

/// HAProxy's letter for who or what ended it.
fn letter(cause: Cause) -> u8 {
    match cause {
        Cause::Complete => b'-',
        Cause::Answered => b'L',
        Cause::Refused | Cause::BadResponse => b'P',
        Cause::ClientLeft => b'C',
        Cause::ClientTimeout | Cause::TunnelIdle => b'c',
        Cause::ServerFailed | Cause::QueueFull => b'S',
        Cause::ServerTimeout | Cause::QueueTimeout => b's',
        Cause::Overloaded => b'R',
        Cause::Stopped => b'K',
    }
}

/// The step in which an exchange ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The request was read or decided on.
    Request,
    /// All servers were full.
    Queue,
    /// A connection to a server was wanted.
    Connect,
    /// The response head was waited for.
    Wait,
    /// The response was on its way.
    Transfer,
}

impl Step {
    /// The plain word; the last three as the timers are called.
    pub fn word(self) -> &'static str {
        match self {
            Step::Request => "request",
            Step::Queue => "queue",
            Step::Connect => "connect",
            Step::Wait => "wait",
            Step::Transfer => "transfer",
        }
    }

    fn letter(self) -> u8 {
        match self {
            Step::Request => b'R',
            Step::Queue => b'Q',
            Step::Connect => b'C',
            Step::Wait => b'H',
            Step::Transfer => b'D',
        }
    }
}

/// How an exchange ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ending {
    /// Who or what ended it.
    pub cause: Cause,
    /// Where it had come to; none if to its end.
    pub step: Option<Step>,
    /// HAProxy's first two letters.
    letters: [u8; 2],
}

impl Ending {
    /// The ending of an exchange with these times. `tunnel` is how its tunnel ended, if there was one.
    pub fn of(end: &End, phases: &Phases, attempts: u32, tunnel: Option<Cause>) -> Ending {
        let cause = match (end.reason, tunnel) {
            (Some(reason), _) => reason.cause,
            (None, Some(cause)) => cause,
            (None, None) if attempts == 0 => Cause::Answered,
            (None, None) => Cause::Complete,
        };
        let step = match cause {
            Cause::Complete => return Ending { cause, step: None, letters: *b"--" },
            Cause::Answered => return Ending { cause, step: None, letters: *b"LR" },
            _ if phases.queueing => Step::Queue,
            _ if phases.transfer_us.is_some() => Step::Transfer,
            _ if phases.connect_us.is_some() => Step::Wait,
            _ if phases.before_us.is_some() => Step::Connect,
            Cause::ServerFailed => Step::Connect,
            _ => Step::Request,
        };
        Ending { cause, step: Some(step), letters: [letter(cause), step.letter()] }
    }

    /// HAProxy's four letters: who, where, the sticky cookie as it came, and as it was sent.
    pub fn letters(&self, sticky: Option<(Stickiness, bool)>) -> [u8; 4] {
        let [who, at] = self.letters;
        let Some((came, is_set)) = sticky else { return [who, at, b'-', b'-'] };
        let sent = match (is_set, came) {
            (false, _) => b'N',
            (true, Stickiness::New) => b'I',
            (true, _) => b'U',
        };
        let came = match came {
            Stickiness::New => b'N',
            Stickiness::Unknown => b'I',
            Stickiness::Kept => b'V',
            Stickiness::Moved => b'D',
        };
        [who, at, came, sent]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reason::*;
    use lb_core::decide::RefusalReason;

    /// 0: to no server, 1: to a pick, 2: to a connection, 3: to a response, 4: to a queue.
    fn ended(reason: Option<Reason>, come_to: u32) -> (String, &'static str) {
        let end = End { status: 200, reason, bytes_received: 0, bytes_sent: 0 };
        let come_so_far = |step| (come_to < 4 && come_to >= step).then_some(0);
        let phases = Phases {
            before_us: come_so_far(1),
            queue_us: None,
            connect_us: come_so_far(2),
            wait_us: come_so_far(3),
            transfer_us: come_so_far(3),
            total_us: 0,
            queueing: come_to == 4,
        };
        let ending = Ending::of(&end, &phases, come_to.min(1), None);
        (String::from_utf8(ending.letters(None).to_vec()).unwrap(), ending.cause.word())
    }

    #[test]
    fn the_letters_are_haproxys() {
        let refused = |status, word| Some(Reason::of_request(status, word));
        for (reason, come_to, letters, word) in [
            (None, 3, "----", "complete"),
            (None, 0, "LR--", "answered"),
            (Some(CLIENT_LEFT), 0, "CR--", "client_left"),
            (Some(CLIENT_LEFT), 1, "CC--", "client_left"),
            (Some(CLIENT_LEFT), 2, "CH--", "client_left"),
            (Some(CLIENT_LEFT), 3, "CD--", "client_left"),
            (Some(HEAD_TIMEOUT), 0, "cR--", "client_timeout"),
            (Some(BODY_TIMEOUT), 2, "cH--", "client_timeout"),
            (Some(BODY_SLOW), 2, "cH--", "client_timeout"),
            (Some(CLIENT_STALLED), 3, "cD--", "client_timeout"),
            (Some(CONNECT_FAILED), 1, "SC--", "server_failed"),
            (Some(CONNECT_TIMEOUT), 1, "sC--", "server_timeout"),
            (Some(SERVER_CLOSED), 2, "SH--", "server_failed"),
            (Some(RESPONSE_TIMEOUT), 2, "sH--", "server_timeout"),
            (Some(RESPONSE_TIMEOUT), 3, "sD--", "server_timeout"),
            (Some(RESPONSE_CUT), 3, "SD--", "server_failed"),
            (Some(TOO_MANY_INTERIM), 2, "PH--", "bad_response"),
            (Some(QUEUE_FULL), 4, "SQ--", "queue_full"),
            (Some(QUEUE_TIMEOUT), 4, "sQ--", "queue_timeout"),
            (Some(CLIENT_LEFT), 4, "CQ--", "client_left"),
            (Some(OVERLOADED), 0, "RR--", "overloaded"),
            (Some(CLASS_FULL), 0, "RR--", "overloaded"),
            (Some(STOPPED), 3, "KD--", "stopped"),
            (refused(400, "bad_path"), 0, "PR--", "refused"),
            (refused(404, "no_route"), 0, "PR--", "refused"),
            (Some(Reason::of_refusal(RefusalReason::NoServer)), 0, "SC--", "server_failed"),
            (Some(Reason::of_refusal(RefusalReason::RateLimited)), 0, "PR--", "refused"),
            (refused(413, "body_too_large"), 2, "PH--", "refused"),
        ] {
            assert_eq!(ended(reason, come_to), (letters.to_owned(), word), "{reason:?} {come_to}");
        }
    }

    #[test]
    fn the_sticky_cookies_letters_are_haproxys() {
        let end = End { status: 200, reason: None, bytes_received: 0, bytes_sent: 0 };
        let ending = Ending::of(&end, &Phases::default(), 1, None);
        for (sticky, letters) in [
            (Some((Stickiness::New, true)), b"--NI"),
            (Some((Stickiness::Unknown, true)), b"--IU"),
            (Some((Stickiness::Kept, false)), b"--VN"),
            (Some((Stickiness::Moved, true)), b"--DU"),
            (Some((Stickiness::New, false)), b"--NN"),
        ] {
            assert_eq!(&ending.letters(sticky), letters);
        }
    }
}
