//! A scripted server.

use std::net::SocketAddr;
use std::time::Duration;

use lb_io::sim::{Actor, Context, EndpointId, Random, Read};

use super::ledger::SharedLedger;
use super::script::{Ending, Flaw, GARBAGE, Payload, Plan, Script, Side};
use super::wire::{Body, Framing, Head, Inbox, encode};

/// A response that nobody asked for.
const EXTRA: &[u8] = b"HTTP/1.1 200 OK\r\nx-id: 666\r\ncontent-length: 2\r\n\r\nno";

/// Longer than bytes are on their way, there and back, where nothing stalls.
const CROSSING: Duration = Duration::from_millis(300);

pub struct Origin {
    script: Script,
    ledger: SharedLedger,
    address: SocketAddr,
    random: Random,
    started: bool,
    connections: Vec<Connection>,
    /// When it stops listening for a while, and when it comes back.
    outages: Vec<(Duration, bool)>,
    idle: Idle,
}

/// How long a server lets a connection idle.
#[derive(Clone, Copy)]
enum Idle {
    ForEver,
    /// So many seconds, and says so in every response.
    Announced(u64),
    /// As Node does: longer than anybody keeps a connection who doesn't know.
    FiveSeconds,
    /// Any time, also while a request is on its way.
    Whenever,
}

struct Connection {
    endpoint: EndpointId,
    inbox: Inbox,
    out: Vec<u8>,
    out_start: usize,
    state: State,
    /// Total bytes of `out` after which the connection is cut.
    cut: Option<(usize, bool)>,
    /// Closes once all is written.
    closing: bool,
    shut: bool,
    /// Closes when it has been idle for so long.
    idle: Option<Duration>,
    idle_until: Option<Duration>,
    /// Tells how long.
    announced: bool,
    /// Closing, it sends what some servers do.
    parting_word: bool,
    /// When something is sent that nobody asked for.
    extra_at: Option<Duration>,
    extra_sent: Option<Duration>,
    /// An answer that takes its time, and when it is ready.
    late: Option<(Duration, Box<Plan>)>,
    read_piece: usize,
    served: usize,
}

enum State {
    Head,
    Body {
        plan: Box<Plan>,
        body: Body,
    },
    /// Reads and says nothing.
    Mute,
    Tunnel,
}

impl Origin {
    pub fn new(script: Script, ledger: SharedLedger, address: SocketAddr, mut random: Random) -> Origin {
        let mut outages = Vec::new();
        if script.restless && random.chance(2_000) {
            let from = random.below(10_000);
            let until = from + random.below(5_000);
            outages = vec![(Duration::from_millis(from), false), (Duration::from_millis(until), true)];
        }
        let idle = match random.below(4) {
            0 => Idle::ForEver,
            1 => Idle::Announced(2 + random.below(4)),
            2 => Idle::FiveSeconds,
            _ if script.wild => Idle::Whenever,
            _ => Idle::ForEver,
        };
        let (started, connections) = (false, Vec::new());
        Origin { script, ledger, address, random, started, connections, outages, idle }
    }
}

impl Actor for Origin {
    fn step(&mut self, context: &mut Context<'_>) {
        if !self.started {
            self.started = true;
            context.listen(self.address);
            for (at, _) in &self.outages {
                context.wake_at(*at);
            }
        }
        while let Some((_, back)) = self.outages.first().filter(|(at, _)| *at <= context.now()).copied() {
            self.outages.remove(0);
            if back {
                context.listen(self.address);
            } else {
                context.unlisten(self.address);
                for connection in self.connections.drain(..) {
                    context.close(connection.endpoint, true);
                }
            }
        }
        while let Some(endpoint) = context.accept() {
            let idle = match self.idle {
                Idle::Whenever => Some(Duration::from_millis(self.random.below(5_000))),
                Idle::Announced(seconds) => Some(Duration::from_secs(seconds)),
                Idle::FiveSeconds => Some(Duration::from_secs(5)),
                Idle::ForEver => None,
            };
            let idle_until = idle.map(|idle| context.now() + idle);
            if let Some(at) = idle_until {
                context.wake_at(at);
            }
            self.connections.push(Connection {
                endpoint,
                inbox: Inbox::default(),
                out: Vec::new(),
                out_start: 0,
                state: State::Head,
                cut: None,
                closing: false,
                shut: false,
                idle,
                idle_until,
                announced: matches!(self.idle, Idle::Announced(_)),
                parting_word: matches!(self.idle, Idle::Whenever),
                extra_at: None,
                extra_sent: None,
                late: None,
                read_piece: self.random.pick(&[1 << 20, 1 << 20, 50_000, 900]),
                served: 0,
            });
        }
        let (script, ledger) = (self.script, &self.ledger);
        self.connections.retain_mut(|connection| match connection.go_on(context, script, ledger) {
            Ok(open) => open,
            Err(what) => {
                ledger.violation(format!("at a server: {what}"));
                context.close(connection.endpoint, true);
                false
            }
        });
    }

    /// A server waits for ever.
    fn is_done(&self) -> bool {
        true
    }
}

impl Connection {
    /// False once it is closed.
    fn go_on(
        &mut self,
        context: &mut Context<'_>,
        script: Script,
        ledger: &SharedLedger,
    ) -> Result<bool, String> {
        loop {
            if self.extra_at.is_some_and(|at| at <= context.now()) {
                self.extra_at = None;
                if matches!(self.state, State::Head) && !self.closing && self.late.is_none() {
                    self.extra_sent = Some(context.now());
                    self.out.extend_from_slice(EXTRA);
                }
            }
            if let Some((_, plan)) = self.late.take_if(|(at, _)| *at <= context.now()) {
                self.respond(context.now(), &plan);
            }
            if let Some(reset) = self.write(context) {
                context.close(self.endpoint, reset);
                return Ok(false);
            }
            if self.closes_idle(context) {
                context.close(self.endpoint, false);
                return Ok(false);
            }
            match context.read(self.endpoint, self.read_piece) {
                Read::Pending => {
                    self.wake(context);
                    return Ok(true);
                }
                Read::Bytes(bytes) => {
                    self.inbox.extend(&bytes);
                    self.idle_until = None;
                    if let Some(reset) = self.understand(context.now(), script, ledger)? {
                        context.close(self.endpoint, reset);
                        return Ok(false);
                    }
                }
                Read::End if matches!(self.state, State::Tunnel) => {
                    self.closing = true;
                    if self.write(context).is_some() || self.out.is_empty() {
                        context.close(self.endpoint, false);
                        return Ok(false);
                    }
                    return Ok(true);
                }
                Read::End | Read::Broken => {
                    context.close(self.endpoint, false);
                    return Ok(false);
                }
            }
        }
    }

    /// Has the time to come back told.
    fn wake(&mut self, context: &mut Context<'_>) {
        let idle = self.out.is_empty() && self.late.is_none() && matches!(self.state, State::Head);
        if idle && self.idle_until.is_none() {
            self.idle_until = self.idle.map(|idle| context.now() + idle);
        }
        let now = context.now();
        let late_at = self.late.as_ref().map(|(at, _)| *at);
        for at in [self.idle_until, self.extra_at, late_at].into_iter().flatten().filter(|at| *at > now) {
            context.wake_at(at);
        }
    }

    fn closes_idle(&mut self, context: &mut Context<'_>) -> bool {
        let answered = self.out.is_empty() && self.late.is_none();
        let idle = matches!(self.state, State::Head) && self.inbox.is_empty() && answered;
        let due = self.idle_until.is_some_and(|until| until <= context.now());
        if due && !idle {
            self.idle_until = None;
        }
        if due && idle && self.parting_word && self.served % 3 == 2 {
            // As some servers do, with a parting word that answers nothing.
            context.send(
                self.endpoint,
                b"HTTP/1.1 408 Request Timeout\r\nx-id: 0\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            );
        }
        due && idle
    }

    /// Writes what there is. Some(reset) when the connection is to be closed now.
    fn write(&mut self, context: &mut Context<'_>) -> Option<bool> {
        let end = self.cut.map_or(self.out.len(), |(at, _)| at.min(self.out.len()));
        let from = self.out_start.min(end);
        self.out_start += context.send(self.endpoint, &self.out[from..end]);
        if let Some((at, reset)) = self.cut
            && self.out_start >= at
        {
            return Some(reset);
        }
        if self.out_start == self.out.len() {
            self.out.clear();
            self.out_start = 0;
            if self.closing && !self.shut {
                // In order: our side first, then read what still comes.
                self.shut = true;
                context.shutdown(self.endpoint);
            }
        }
        None
    }

    /// Reads requests out of the inbox and queues their responses. Some(reset) to close now.
    fn understand(
        &mut self,
        now: Duration,
        script: Script,
        ledger: &SharedLedger,
    ) -> Result<Option<bool>, String> {
        loop {
            match &mut self.state {
                State::Mute => {
                    self.inbox.take();
                    return Ok(None);
                }
                State::Tunnel => {
                    let bytes = self.inbox.take();
                    self.out.extend_from_slice(&bytes);
                    return Ok(None);
                }
                State::Body { plan, body } => {
                    let whole = body.read(&mut self.inbox);
                    if !whole.map_err(|what| format!("request {:x}: {what}", plan.id))? {
                        return Ok(None);
                    }
                    let plan = plan.clone();
                    self.state = State::Head;
                    if !plan.early {
                        self.respond(now, &plan);
                    }
                }
                State::Head if self.closing => {
                    self.inbox.take();
                    return Ok(None);
                }
                State::Head => {
                    let Some(head) = self.inbox.take_head() else { return Ok(None) };
                    if let Some(reset) = self.begin(now, script, ledger, &head?)? {
                        return Ok(Some(reset));
                    }
                }
            }
        }
    }

    fn begin(
        &mut self,
        now: Duration,
        script: Script,
        ledger: &SharedLedger,
        head: &Head,
    ) -> Result<Option<bool>, String> {
        let words: Vec<&str> = head.line.split(' ').collect();
        let id = match words.as_slice() {
            [_, path, "HTTP/1.1"] => path.strip_prefix("/p/").and_then(|id| u64::from_str_radix(id, 16).ok()),
            _ => None,
        };
        let Some(id) = id else { return Err(format!("request line `{}`", head.line)) };
        let mut plan = script.plan(id);
        let is_first = ledger.seen(id, script.again.most(plan.method)) == 1;
        if head.one("x-version")? == Some("1.0") {
            plan = plan.for_legacy();
        }
        if words[0] != plan.method {
            return Err(format!("{} for {id:x}, planned {}", words[0], plan.method));
        }
        let forwarded = script.direct || head.one("x-forwarded-for")?.is_some();
        if !forwarded || head.one("host")? != Some("example.org") {
            return Err(format!("fields of {head:?}"));
        }
        // A request may cross unasked bytes, but whoever has seen them must not use the connection.
        if self.extra_sent.is_some_and(|at| now > at + CROSSING) && !script.restless {
            return Err(format!("{id:x} came behind a response that nobody asked for"));
        }
        if self.extra_sent.is_some() {
            // To answer now would shift all later answers by one, beyond what anybody could notice.
            return Ok(Some(false));
        }
        self.served += 1;
        if let Flaw::HangUp { reset } = plan.flaw {
            return Ok(Some(reset));
        }
        if plan.upgrade {
            if head.one("upgrade")? != Some("echo") {
                return Err(format!("no upgrade in {head:?}"));
            }
            self.out.extend_from_slice(
                format!("HTTP/1.1 101 Switching Protocols\r\nx-id: {id:x}\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n")
                    .as_bytes(),
            );
            self.out.extend_from_slice(&encode(id, Side::Response, plan.response.len(), false, false));
            self.state = State::Tunnel;
            return Ok(None);
        }
        let framing = head.framing()?;
        let as_planned = match (plan.request, framing) {
            (Payload::None, None | Some(Framing::Length(0))) | (Payload::Length(0), None) => true,
            (Payload::Length(planned), Some(Framing::Length(len))) => planned == len,
            (Payload::Chunked(_), Some(Framing::Chunked(_))) => true,
            _ => false,
        };
        if !as_planned {
            return Err(format!("framing {framing:?} of {id:x}, planned {:?}", plan.request));
        }
        plan = match plan.flaw {
            Flaw::Busy if is_first => plan.by_a_busy_server(),
            Flaw::Busy | Flaw::Slow { .. } if !is_first => Plan { flaw: Flaw::None, ..plan },
            _ => plan,
        };
        if plan.flaw == Flaw::Mute {
            self.state = State::Mute;
            return Ok(None);
        }
        if plan.expect && !plan.early {
            self.out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        if plan.early {
            self.respond(now, &plan);
        }
        let body = Body::new(id, Side::Request, framing.unwrap_or(Framing::Length(0)), plan.request.len());
        self.state = State::Body { plan: Box::new(plan), body };
        Ok(None)
    }

    fn respond(&mut self, now: Duration, plan: &Plan) {
        if let Flaw::Slow { after_ms } = plan.flaw {
            let plan = Plan { flaw: Flaw::None, ..plan.clone() };
            self.late = Some((now + Duration::from_millis(after_ms), Box::new(plan)));
            return;
        }
        let start = self.out.len();
        if let Flaw::Garbage(which) = plan.flaw {
            self.out.extend_from_slice(GARBAGE[which]);
            self.closing = true;
            return;
        }
        let id = plan.id;
        let interim = if plan.flaw == Flaw::Chatty { 12 } else { plan.interim };
        for _ in 0..interim {
            self.out
                .extend_from_slice(format!("HTTP/1.1 103 Early Hints\r\nx-id: {id:x}\r\n\r\n").as_bytes());
        }
        let version = if plan.old_server { "1.0" } else { "1.1" };
        let mut head = format!("HTTP/{version} {} Planned\r\nX-Id: {id:x}\r\n", plan.status);
        if self.announced
            && let Some(idle) = self.idle
        {
            head.push_str(&format!("Keep-Alive: timeout={}\r\n", idle.as_secs()));
        }
        let len = plan.response.len();
        match plan.response {
            _ if plan.status == 204 => {}
            Payload::None | Payload::Length(_) => head.push_str(&format!("Content-Length: {len}\r\n")),
            Payload::Chunked(_) => head.push_str("Transfer-Encoding: chunked\r\n"),
            Payload::UntilClose(_) => {}
        }
        // Without a length a body ends with the connection.
        let until_close = matches!(plan.response, Payload::UntilClose(_)) && plan.has_body();
        let close = plan.ending != Ending::Keep || until_close || plan.old_server;
        if plan.ending == Ending::Announced {
            head.push_str("Connection: close\r\n");
        }
        head.push_str("\r\n");
        self.out.extend_from_slice(head.as_bytes());
        if plan.has_body() {
            let chunked = matches!(plan.response, Payload::Chunked(_));
            self.out.extend_from_slice(&encode(id, Side::Response, len, chunked, plan.trailer));
        }
        match plan.flaw {
            Flaw::Cut { after, reset } => self.cut = Some((start + after.min(self.out.len() - start), reset)),
            Flaw::Extra { after_ms: 0 } if !until_close => {
                self.out.extend_from_slice(EXTRA);
                self.extra_sent = Some(now);
            }
            Flaw::Extra { after_ms } if !close => self.extra_at = Some(now + Duration::from_millis(after_ms)),
            _ => {}
        }
        self.closing |= close;
    }
}
