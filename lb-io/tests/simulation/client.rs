//! A scripted client: several connections one after the other, several requests on each.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use lb_io::sim::{Actor, Context, EndpointId, Random, Read};

use super::ledger::{End, SharedLedger};
use super::script::{BUSY, Flaw, Payload, Plan, Script, Side};
use super::wire::{Body, Framing, Head, Inbox, encode};

/// How long a client waits for `100 Continue` before it sends its body anyway.
const CONTINUE_WAIT: Duration = Duration::from_secs(1);
/// How long a client leaves an answered connection idle before its next request at most.
const PAUSE_MS: u64 = 6_000;

/// Stands for a reason where a server sent what nobody asked for.
const CROSSED: &str = "crossed";

pub struct Client {
    script: Script,
    ledger: SharedLedger,
    target: SocketAddr,
    random: Random,
    next_id: u64,
    connections_left: usize,
    connection: Option<Connection>,
    resume_at: Duration,
}

/// How a client uses one connection.
struct Habits {
    /// Speaks HTTP/1.0.
    legacy: bool,
    requests_left: usize,
    /// Requests under way at once.
    depth: usize,
    /// Bytes written at once.
    write_piece: usize,
    /// Bytes read at once.
    read_piece: usize,
    /// Between two pieces.
    pace: Duration,
    /// Stops reading for a while once it has read so much.
    stop_reading_after: usize,
    stop_reading_for: Duration,
    /// Leaves after so many bytes sent and received; with RST or in order.
    leave_after: Option<(usize, bool)>,
    /// Ends its side once all is sent.
    half_close: bool,
}

struct Connection {
    endpoint: EndpointId,
    habits: Habits,
    out: Vec<u8>,
    out_start: usize,
    /// A body that waits for `100 Continue`.
    held: Option<Held>,
    waiting: VecDeque<Plan>,
    inbox: Inbox,
    /// Of the response to the first of `waiting`, once its head was read.
    reading: Option<Response>,
    tunnel: Option<Tunnel>,
    moved: usize,
    received: usize,
    next_move: Duration,
    reading_from: Duration,
    /// No request will follow.
    closing: bool,
    /// What ends behind this response is excused.
    excused: bool,
    half_closed: bool,
}

struct Held {
    id: u64,
    body: Vec<u8>,
    /// When it is sent unasked; not known before the head has gone.
    until: Option<Duration>,
}

struct Response {
    body: Option<Body>,
    end: End,
    keep_alive: bool,
}

struct Tunnel {
    /// The server's bytes, then ours that it echoes.
    theirs: Body,
    echo: Body,
    ended: bool,
}

/// Why a connection is over.
enum Over {
    /// As planned, or by the other side; what waits is closed (or excused).
    Ended,
    /// By RST.
    Broken,
    /// By us.
    Left,
}

impl Client {
    pub fn new(
        index: u64,
        script: Script,
        ledger: SharedLedger,
        target: SocketAddr,
        mut random: Random,
    ) -> Client {
        let connections_left = 1 + random.index(3);
        let resume_at = Duration::from_micros(random.below(50_000));
        Client {
            script,
            ledger,
            target,
            random,
            next_id: index << 32,
            connections_left,
            connection: None,
            resume_at,
        }
    }

    fn habits(&mut self) -> Habits {
        let (script, random) = (self.script, &mut self.random);
        let slow = random.chance(1_500);
        Habits {
            legacy: !script.direct && random.chance(1_000),
            requests_left: 1 + random.index(5),
            depth: random.pick(&[1, 1, 1, 1, 2, 5]),
            write_piece: if slow { 1 + random.index(200) } else { usize::MAX },
            read_piece: random.pick(&[1 << 20, 1 << 20, 1 << 20, 10_000, 700]),
            pace: if slow { Duration::from_micros(random.below(20_000)) } else { Duration::ZERO },
            stop_reading_after: if random.chance(1_000) { random.index(100_000) } else { usize::MAX },
            stop_reading_for: Duration::from_secs(if script.restless { random.pick(&[4, 4, 45]) } else { 4 }),
            leave_after: (script.restless && random.chance(1_200))
                .then(|| (random.index(5_000), random.chance(5_000))),
            half_close: script.restless && random.chance(300),
        }
    }

    fn connect(&mut self, context: &mut Context<'_>) {
        self.connections_left -= 1;
        let mut habits = self.habits();
        if habits.legacy {
            // Without keep-alive there is one.
            habits.requests_left = 1;
        }
        self.connection = Some(Connection {
            endpoint: context.connect(self.target),
            habits,
            out: Vec::new(),
            out_start: 0,
            held: None,
            waiting: VecDeque::new(),
            inbox: Inbox::default(),
            reading: None,
            tunnel: None,
            moved: 0,
            received: 0,
            next_move: context.now(),
            reading_from: Duration::ZERO,
            closing: false,
            excused: false,
            half_closed: false,
        });
    }

    /// Queues further requests as far as the habits allow.
    fn ask(&mut self) {
        let Some(connection) = &mut self.connection else { return };
        while connection.habits.requests_left > 0
            && !connection.closing
            && connection.held.is_none()
            && connection.waiting.len() < connection.habits.depth
        {
            self.next_id += 1;
            let mut plan = self.script.plan(self.next_id);
            if connection.habits.legacy {
                plan = plan.for_legacy();
            }
            connection.habits.requests_left -= 1;
            if plan.upgrade {
                // Behind a tunnel nothing can follow.
                connection.habits.requests_left = 0;
            }
            self.ledger.sent(plan.id, plan.method);
            connection.ask(plan);
        }
    }

    /// Counts the connection's end for all that waits on it.
    fn end(&mut self, context: &mut Context<'_>, over: &Over) {
        let Some(connection) = self.connection.take() else { return };
        // Where a response has no other way to say that it was cut, the connection is reset, which can take
        // the end of the response before it along.
        let later_flaw = connection.waiting.iter().skip(1).any(|plan| plan.flaw != Flaw::None);
        let broken = matches!(over, Over::Broken) && later_flaw;
        // Of what a server said unasked, the end may be cut off with its connection.
        let crossed = connection.reading.as_ref().is_some_and(|response| response.end == End::Crossed);
        for (place, plan) in connection.waiting.iter().enumerate() {
            let end = match over {
                Over::Left => End::Left,
                _ if crossed && place == 0 => End::Crossed,
                _ if connection.excused || place > 0 || broken => End::Excused,
                Over::Ended | Over::Broken => End::Closed,
            };
            self.ledger.end(plan.id, end);
        }
        let reset =
            matches!(over, Over::Left) && connection.habits.leave_after.is_some_and(|(_, reset)| reset);
        context.close(connection.endpoint, reset);
        self.resume_at = context.now() + Duration::from_micros(self.random.below(100_000));
        context.wake_at(self.resume_at);
    }
}

impl Actor for Client {
    fn step(&mut self, context: &mut Context<'_>) {
        if context.now() < self.resume_at {
            context.wake_at(self.resume_at);
            return;
        }
        if let Some(connection) = &mut self.connection
            && connection.waiting.is_empty()
            && connection.received > 0
        {
            // Idle until now: an end that has come meanwhile ends no request.
            let over = connection.read(context, &self.ledger).unwrap_or_else(|what| {
                self.ledger.violation(what);
                Some(Over::Left)
            });
            if let Some(over) = over {
                return self.end(context, &over);
            }
        }
        if self.connection.is_none() {
            if self.connections_left == 0 {
                return;
            }
            self.connect(context);
        }
        self.ask();
        let Some(connection) = &mut self.connection else { return };
        let over = match connection.go_on(context, &self.ledger) {
            Ok(over) => over,
            Err(what) => {
                let waiting: Vec<_> = connection.waiting.iter().collect();
                self.ledger.violation(format!("{what}; waiting for {waiting:#x?}"));
                Some(Over::Left)
            }
        };
        match over {
            Some(over) => self.end(context, &over),
            None if connection.waiting.is_empty() && !connection.closing => {
                // A pause before the next request, at times longer than servers' connections idle.
                if connection.habits.requests_left == 0 {
                    self.end(context, &Over::Ended);
                } else {
                    let pause = if self.random.chance(8_000) { 0 } else { self.random.below(PAUSE_MS) };
                    self.resume_at = context.now() + Duration::from_millis(pause);
                    context.wake_at(self.resume_at);
                }
            }
            None => {}
        }
    }

    fn is_done(&self) -> bool {
        self.connection.is_none() && self.connections_left == 0
    }

    fn describe(&self) -> String {
        match &self.connection {
            None => format!("a client with {} connections to go", self.connections_left),
            Some(connection) => format!(
                "a client from which {} of {} bytes went and {} came, waiting for {:x?} (head read: {}, held: {}, tunnel: {})",
                connection.out_start,
                connection.out.len(),
                connection.received,
                connection.waiting,
                connection.reading.is_some(),
                connection.held.is_some(),
                connection.tunnel.is_some(),
            ),
        }
    }
}

impl Connection {
    fn ask(&mut self, plan: Plan) {
        let version = if self.habits.legacy { "1.0" } else { "1.1" };
        let mut head = format!(
            "{} /p/{:x} HTTP/{version}\r\nHost: example.org\r\nX-Version: {version}\r\n",
            plan.method, plan.id
        );
        if plan.upgrade {
            head.push_str("Connection: Upgrade\r\nUpgrade: echo\r\n\r\n");
            self.out.extend_from_slice(head.as_bytes());
            self.waiting.push_back(plan);
            return;
        }
        match plan.request {
            Payload::Length(len) => head.push_str(&format!("Content-Length: {len}\r\n")),
            Payload::Chunked(_) => head.push_str("Transfer-Encoding: chunked\r\n"),
            Payload::None | Payload::UntilClose(_) => {}
        }
        if plan.expect {
            head.push_str("Expect: 100-continue\r\n");
        }
        head.push_str("\r\n");
        self.out.extend_from_slice(head.as_bytes());
        let chunked = matches!(plan.request, Payload::Chunked(_));
        let body = encode(plan.id, Side::Request, plan.request.len(), chunked, plan.trailer);
        if plan.request == Payload::None {
        } else if plan.expect {
            self.held = Some(Held { id: plan.id, body, until: None });
        } else {
            self.out.extend_from_slice(&body);
        }
        self.waiting.push_back(plan);
    }

    /// Writes and reads what is possible.
    fn go_on(&mut self, context: &mut Context<'_>, ledger: &SharedLedger) -> Result<Option<Over>, String> {
        let now = context.now();
        if now < self.next_move {
            context.wake_at(self.next_move);
            return Ok(None);
        }
        self.write(context);
        if let Some(over) = self.read(context, ledger)? {
            return Ok(Some(over));
        }
        if let Some((after, _)) = self.habits.leave_after
            && self.moved >= after
        {
            return Ok(Some(Over::Left));
        }
        Ok(None)
    }

    fn write(&mut self, context: &mut Context<'_>) {
        let now = context.now();
        let end = self.out.len().min(self.out_start.saturating_add(self.habits.write_piece));
        let sent = context.send(self.endpoint, &self.out[self.out_start..end]);
        self.out_start += sent;
        self.moved += sent;
        if self.out_start < self.out.len() && end < self.out.len() && sent > 0 {
            self.next_move = now + self.habits.pace;
            context.wake_at(self.next_move);
        }
        if self.out_start < self.out.len() {
            return;
        }
        match &mut self.held {
            Some(Held { until: until @ None, .. }) => {
                *until = Some(now + CONTINUE_WAIT);
                context.wake_at(now + CONTINUE_WAIT);
            }
            Some(Held { until: Some(until), .. }) if now >= *until => {
                self.send_held();
                self.write(context);
            }
            _ => {}
        }
        if self.out_start == self.out.len() && self.held.is_none() {
            self.out.clear();
            self.out_start = 0;
            let tunnel_over = self.tunnel.as_ref().is_some_and(|tunnel| tunnel.ended);
            let all_asked = self.habits.requests_left == 0 && self.habits.half_close && self.tunnel.is_none();
            if (all_asked || tunnel_over) && !self.half_closed {
                self.half_closed = true;
                context.shutdown(self.endpoint);
            }
        }
    }

    fn send_held(&mut self) {
        if let Some(held) = self.held.take() {
            self.out.extend_from_slice(&held.body);
        }
    }

    fn read(&mut self, context: &mut Context<'_>, ledger: &SharedLedger) -> Result<Option<Over>, String> {
        loop {
            if context.now() < self.reading_from {
                context.wake_at(self.reading_from);
                return Ok(None);
            }
            match context.read(self.endpoint, self.habits.read_piece.max(1)) {
                Read::Pending => return Ok(None),
                Read::Bytes(bytes) => {
                    self.received += bytes.len();
                    self.moved += bytes.len();
                    self.inbox.extend(&bytes);
                    self.understand(ledger)?;
                    self.write(context);
                    if self.received >= self.habits.stop_reading_after {
                        self.habits.stop_reading_after = usize::MAX;
                        self.reading_from = context.now() + self.habits.stop_reading_for;
                    } else if bytes.len() == self.habits.read_piece && self.habits.pace > Duration::ZERO {
                        self.reading_from = context.now() + self.habits.pace;
                    }
                    if self.closing && self.waiting.is_empty() && self.tunnel.is_none() {
                        return Ok(Some(Over::Ended));
                    }
                    if self.waiting.is_empty() && self.tunnel.is_none() && !self.inbox.is_empty() {
                        let text = String::from_utf8_lossy(self.inbox.rest()).into_owned();
                        return Err(format!("bytes that nobody asked for: {text}"));
                    }
                    if self.waiting.is_empty() && self.habits.requests_left > 0 {
                        return Ok(None);
                    }
                }
                Read::End => {
                    self.ended(ledger)?;
                    return Ok(Some(Over::Ended));
                }
                Read::Broken => return Ok(Some(Over::Broken)),
            }
        }
    }

    /// The balancer ended its side: an until-close body may be whole now.
    fn ended(&mut self, ledger: &SharedLedger) -> Result<(), String> {
        if let Some(tunnel) = self.tunnel.take() {
            if let Some(plan) = self.waiting.pop_front() {
                let whole = tunnel.theirs.finish().is_ok() && tunnel.echo.finish().is_ok();
                ledger.end(plan.id, if whole { End::Answered } else { End::Closed });
            }
            return Ok(());
        }
        if let Some(Response { body: Some(body), .. }) = &self.reading
            && body.is_until_close()
            && let Some(plan) = self.waiting.front()
        {
            // An end in order says that this was all, unless the server was cut and the client too old for
            // any better framing than this.
            if body.finish().is_ok() {
                let id = plan.id;
                self.waiting.pop_front();
                self.excused = true;
                ledger.end(id, End::Answered);
            }
        }
        Ok(())
    }

    /// Reads responses out of the inbox.
    fn understand(&mut self, ledger: &SharedLedger) -> Result<(), String> {
        loop {
            if let Some(tunnel) = &mut self.tunnel {
                if tunnel.theirs.read(&mut self.inbox)? && tunnel.echo.read(&mut self.inbox)? {
                    tunnel.ended = true;
                    if !self.inbox.is_empty() {
                        return Err("bytes behind a tunnel's last".to_owned());
                    }
                }
                return Ok(());
            }
            let Some(plan) = self.waiting.front() else { return Ok(()) };
            if let Some(response) = &mut self.reading {
                let whole = match &mut response.body {
                    Some(body) => body
                        .read(&mut self.inbox)
                        .map_err(|what| format!("response to {:x}: {what}", plan.id))?,
                    None => true,
                };
                if !whole {
                    return Ok(());
                }
                ledger.end(plan.id, response.end);
                if !response.keep_alive
                    || self.habits.legacy
                    || plan.may_end_connection()
                    || response.end != End::Answered
                {
                    self.excused = true;
                }
                let unsent = self.held.as_ref().is_some_and(|held| held.id == plan.id);
                // A body that was held back and never sent leaves the connection useless.
                if !response.keep_alive || self.habits.legacy || unsent {
                    self.closing = true;
                    self.excused = true;
                    self.held = None;
                }
                self.reading = None;
                self.waiting.pop_front();
                continue;
            }
            let plan = plan.clone();
            match self.inbox.take_head() {
                None => return Ok(()),
                Some(head) => self.begin_response(&plan, &head?)?,
            }
        }
    }

    fn begin_response(&mut self, plan: &Plan, head: &Head) -> Result<(), String> {
        let mut words = head.line.split(' ');
        let version = words.next().unwrap_or_default();
        let status: u16 = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
        if !matches!(version, "HTTP/1.1" | "HTTP/1.0") || !(100..=599).contains(&status) {
            return Err(format!("status line `{}`", head.line));
        }
        let keep_alive = version == "HTTP/1.1"
            && head.one("connection")?.is_none_or(|value| !value.eq_ignore_ascii_case("close"));
        let mut reason = head.one("x-lb-reason")?;
        if matches!(head.one("x-id")?, Some("0" | "666")) {
            // What a server sent unasked crossed the request: nobody can tell it from an answer. (That it did
            // cross is the server's to check.)
            reason = Some(CROSSED);
        }
        if reason.is_none() {
            let id = head.one("x-id")?.unwrap_or("none");
            let interim_continue = status == 100;
            if id != format!("{:x}", plan.id) && !interim_continue {
                return Err(format!("the response to {:x} is {id}'s", plan.id));
            }
        }
        // Nobody else was there, or nobody was to be tried.
        let busy =
            (reason.is_none() && plan.flaw == Flaw::Busy && status == BUSY).then(|| plan.by_a_busy_server());
        let plan = busy.as_ref().unwrap_or(plan);
        if status == 101 && plan.upgrade {
            let theirs =
                Body::new(plan.id, Side::Response, Framing::Length(plan.response.len()), plan.response.len());
            let echo =
                Body::new(plan.id, Side::Request, Framing::Length(plan.request.len()), plan.request.len());
            self.tunnel = Some(Tunnel { theirs, echo, ended: false });
            self.out.extend_from_slice(&encode(plan.id, Side::Request, plan.request.len(), false, false));
            return Ok(());
        }
        if status < 200 {
            if self.habits.legacy {
                return Err(format!("a {status} to HTTP/1.0"));
            }
            if status == 101 {
                return Err("101 that was not asked for".to_owned());
            }
            if status == 100 {
                self.send_held();
            }
            return Ok(());
        }
        if reason.is_none() && status != plan.status {
            return Err(format!("status {status} for {:x}, planned {}", plan.id, plan.status));
        }
        let bodiless = plan.method == "HEAD" || matches!(status, 204 | 304);
        let framing = if bodiless { None } else { Some(head.framing()?.unwrap_or(Framing::UntilClose)) };
        if self.habits.legacy && matches!(framing, Some(Framing::Chunked(_))) {
            return Err("a chunked response to HTTP/1.0".to_owned());
        }
        let until_close = framing == Some(Framing::UntilClose);
        let body = match (framing, reason) {
            (None, _) => None,
            (Some(Framing::Length(len)), Some(_)) => Some(Body::any(len)),
            (Some(other), Some(_)) => return Err(format!("a local reply framed as {other:?}")),
            (Some(framing), None) => {
                if let Framing::Length(len) = framing
                    && len != plan.response.len()
                {
                    return Err(format!(
                        "content-length {len} for {:x}, planned {}",
                        plan.id,
                        plan.response.len()
                    ));
                }
                Some(Body::new(plan.id, Side::Response, framing, plan.response.len()))
            }
        };
        let end = match reason {
            None => End::Answered,
            Some(CROSSED) => End::Crossed,
            Some(_) => End::Local(status),
        };
        self.reading = Some(Response { body, end, keep_alive: keep_alive && !until_close });
        Ok(())
    }
}
