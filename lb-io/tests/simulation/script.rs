//! What each request of a run is to be, as a function of the seed and the request's number: client and
//! server read the same plan, so neither has to trust what it was sent.

use lb_io::sim::Random;

/// How a message's body is framed, and its length in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload {
    None,
    Length(usize),
    Chunked(usize),
    /// Responses only.
    UntilClose(usize),
}

impl Payload {
    pub fn len(self) -> usize {
        match self {
            Payload::None => 0,
            Payload::Length(len) | Payload::Chunked(len) | Payload::UntilClose(len) => len,
        }
    }
}

/// What a server does with its connection after a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    Keep,
    /// Says `connection: close` and closes.
    Announced,
    /// Closes without a word.
    Silent,
}

/// What a server does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    None,
    /// Ends the connection after this many bytes of its response.
    Cut {
        after: usize,
        reset: bool,
    },
    /// Never answers.
    Mute,
    /// Ends the connection as soon as it has read the head.
    HangUp {
        reset: bool,
    },
    /// Sends something that is no response.
    Garbage(usize),
    /// Sends a second response that nobody asked for, at once or so much later.
    Extra {
        after_ms: u64,
    },
    /// Sends more interim responses than anybody passes on.
    Chatty,
    /// Says 503 when it reads the request for the first time, wherever that is.
    Busy,
    /// Answers only after so long when it reads the request for the first time.
    Slow {
        after_ms: u64,
    },
}

/// What a busy server says.
pub const BUSY: u16 = 503;

/// One exchange as planned.
#[derive(Debug, Clone)]
pub struct Plan {
    pub id: u64,
    pub method: &'static str,
    pub request: Payload,
    pub expect: bool,
    /// Asks for a tunnel; its lengths are `request` (echoed) and `response` (sent by the server first).
    pub upgrade: bool,
    pub interim: usize,
    pub status: u16,
    pub response: Payload,
    pub trailer: bool,
    /// The server answers before it has read the body.
    pub early: bool,
    /// The server answers in HTTP/1.0.
    pub old_server: bool,
    pub ending: Ending,
    pub flaw: Flaw,
}

impl Plan {
    /// Whether the response has a body on the wire.
    pub fn has_body(&self) -> bool {
        self.method != "HEAD" && !matches!(self.status, 204 | 304)
    }

    /// The same as a client of HTTP/1.0 can ask for it.
    pub fn for_legacy(mut self) -> Plan {
        if self.upgrade {
            (self.upgrade, self.status, self.request) = (false, 200, Payload::None);
        }
        if let Payload::Chunked(len) = self.request {
            self.request = Payload::Length(len);
        }
        self.expect = false;
        self
    }

    /// The same as a busy server answers it.
    pub fn by_a_busy_server(&self) -> Plan {
        Plan { status: BUSY, flaw: Flaw::None, ..self.clone() }
    }

    /// Whether requests behind this one on its connection may go unanswered though nobody misbehaved.
    pub fn may_end_connection(&self) -> bool {
        self.early || self.upgrade || matches!(self.response, Payload::UntilClose(_))
    }
}

/// The seed's choice of plans.
#[derive(Debug, Clone, Copy)]
pub struct Script {
    pub seed: u64,
    /// Servers misbehave too.
    pub wild: bool,
    /// Clients leave and servers go away.
    pub restless: bool,
    /// No balancer stands between clients and servers.
    pub direct: bool,
    /// The longest body.
    pub longest: usize,
    /// What the balancer may do again.
    pub again: Again,
}

/// What a run's balancer is told about further attempts.
#[derive(Debug, Clone, Copy)]
pub struct Again {
    pub retries: u32,
    /// On what servers say, too.
    pub on_busy: bool,
    pub attempt_timeout_ms: Option<u64>,
    pub backoff_ms: u64,
    pub hold_body: u64,
    /// POST may be sent twice.
    pub posts: bool,
}

impl Again {
    /// Half of the runs have what nobody has set.
    pub fn of(seed: u64) -> Again {
        let mut random = Random::new(seed.rotate_left(7));
        if random.chance(5_000) {
            let (retries, backoff_ms, hold_body) = (1, 25, 16 << 10);
            return Again {
                retries,
                on_busy: false,
                attempt_timeout_ms: None,
                backoff_ms,
                hold_body,
                posts: false,
            };
        }
        Again {
            retries: random.pick(&[0, 1, 2, 3, 10]),
            on_busy: random.chance(8_000),
            attempt_timeout_ms: random.pick(&[None, Some(20), Some(100), Some(500), Some(3_000)]),
            backoff_ms: random.pick(&[0, 1, 25, 2_000]),
            hold_body: random.pick(&[0, 100, 1_000, 16 << 10, 256 << 10]),
            posts: random.chance(5_000),
        }
    }

    /// How often servers may be sent a request at most. Behind a pooled connection that was closed comes one that is new,
    /// which is no retry.
    pub fn most(&self, method: &str) -> u32 {
        let repeatable = method != "POST" || self.posts;
        if repeatable && self.retries > 0 { 2 + self.retries } else { 1 }
    }
}

impl Script {
    pub fn plan(&self, id: u64) -> Plan {
        let mut random = Random::new(self.seed ^ id.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let random = &mut random;
        let method = random.pick(&["GET", "GET", "GET", "GET", "POST", "POST", "PUT", "HEAD", "DELETE"]);
        let request = match method {
            "POST" | "PUT" => match random.below(10) {
                0 => Payload::Length(0),
                1..=5 => Payload::Length(self.length(random)),
                _ => Payload::Chunked(self.length(random)),
            },
            _ => Payload::None,
        };
        let upgrade = method == "GET" && random.chance(300);
        let status = if upgrade { 101 } else { random.pick(&[200, 200, 200, 200, 200, 404, 500, 204, 304]) };
        let response = match random.below(20) {
            0 if !upgrade => Payload::UntilClose(self.length(random)),
            1..=7 if !upgrade => Payload::Chunked(self.length(random)),
            8 => Payload::Length(0),
            _ => Payload::Length(self.length(random)),
        };
        let flaw = if self.wild && !upgrade && random.chance(1_200) { self.flaw(random) } else { Flaw::None };
        let ending = match random.below(10) {
            0 => Ending::Announced,
            1 if self.wild => Ending::Silent,
            _ => Ending::Keep,
        };
        Plan {
            id,
            method,
            request: if upgrade { Payload::Length(self.length(random)) } else { request },
            expect: request.len() > 0 && random.chance(1_500),
            upgrade,
            interim: if upgrade || random.chance(9_000) { 0 } else { 1 + random.index(3) },
            status,
            response,
            trailer: random.chance(3_000),
            early: request.len() > 0 && random.chance(1_000),
            old_server: !upgrade && !matches!(response, Payload::Chunked(_)) && random.chance(500),
            ending,
            flaw,
        }
    }

    fn length(&self, random: &mut Random) -> usize {
        let bound = match random.below(100) {
            0..=39 => 50,
            40..=79 => 2_000,
            80..=96 => 20_000,
            _ => 300_000,
        };
        1 + random.index(bound.min(self.longest))
    }

    fn flaw(&self, random: &mut Random) -> Flaw {
        let reset = random.chance(5_000);
        match random.below(15) {
            0..=3 => Flaw::Cut { after: random.index(2_000), reset },
            4 => Flaw::Mute,
            5 | 6 => Flaw::HangUp { reset },
            7 => Flaw::Garbage(random.index(GARBAGE.len())),
            8 => Flaw::Chatty,
            9..=11 => Flaw::Busy,
            12 => Flaw::Slow { after_ms: random.pick(&[10, 50, 300, 2_000, 10_000]) },
            _ => Flaw::Extra { after_ms: random.pick(&[0, 1, 30, 1_000]) },
        }
    }
}

/// Heads that no response may have.
pub const GARBAGE: [&[u8]; 6] = [
    b"\0\0\0\0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nabcdef",
    b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n",
    b"HTTP/1.1 20 OK\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nupgrade: echo\r\nconnection: upgrade\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nx : y\r\ncontent-length: 0\r\n\r\n",
];

/// Whose bytes a body is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Request,
    Response,
}

/// The bytes of a body from offset `from`: they name the request that they belong to.
pub fn content(id: u64, side: Side, from: usize, len: usize) -> Vec<u8> {
    let key = id.wrapping_mul(2).wrapping_add(u64::from(side == Side::Response));
    let mut bytes = Vec::with_capacity(len + 8);
    let first = from / 8;
    let mut block = first;
    while bytes.len() < len + from % 8 {
        let word = Random::new(key.rotate_left(32) ^ block as u64).bits();
        bytes.extend_from_slice(&word.to_le_bytes());
        block += 1;
    }
    bytes.drain(..from % 8);
    bytes.truncate(len);
    bytes
}
