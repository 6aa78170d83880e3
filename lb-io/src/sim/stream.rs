//! Endpoints and the bytes, ends and resets that pass between them.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::time::Duration;

use super::world::{EndpointId, Happening, Owner, State, World};
use crate::driver::Received;

/// What is on its way.
pub(super) enum Segment {
    Bytes(Vec<u8>),
    Fin,
    Reset,
}

/// Both ends' addresses of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// The other side's.
    pub peer: SocketAddr,
    /// Ours.
    pub local: SocketAddr,
}

/// One end of a connection.
pub(super) struct Endpoint {
    pub owner: Owner,
    pub state: State,
    pub peer: Option<EndpointId>,
    pub addresses: Addresses,
    /// Arrived and not read.
    pub inbox: VecDeque<u8>,
    /// On their way to this endpoint, in order, with the time of arrival.
    arriving: VecDeque<(Duration, Segment)>,
    arriving_bytes: usize,
    fin_arrived: bool,
    fin_sent: bool,
    /// A send came up short: tell when there is room.
    pub wants_writable: bool,
    /// The owner was told that the end is known.
    pub hangup_told: bool,
    /// Events that the driver has not delivered yet.
    pub tell_readable: bool,
    pub tell_writable: bool,
}

impl Endpoint {
    pub fn new(owner: Owner, state: State, addresses: Addresses) -> Endpoint {
        Endpoint {
            owner,
            state,
            peer: None,
            addresses,
            inbox: VecDeque::new(),
            arriving: VecDeque::new(),
            arriving_bytes: 0,
            fin_arrived: false,
            fin_sent: false,
            wants_writable: false,
            hangup_told: false,
            tell_readable: false,
            tell_writable: false,
        }
    }

    pub fn hangup(&self) -> bool {
        self.fin_arrived || matches!(self.state, State::Broken | State::Refused)
    }
}

impl World {
    /// Bytes that have arrived and were not read.
    pub fn unread(&self, id: EndpointId) -> usize {
        self.endpoints[id.0 as usize].inbox.len()
    }

    pub fn recv(&mut self, id: EndpointId, into: &mut [u8]) -> io::Result<Received> {
        let limit = self.short(into.len(), self.faults.short_read);
        let endpoint = self.endpoint(id);
        if endpoint.inbox.is_empty() {
            return match endpoint.state {
                State::Closed => Err(ErrorKind::NotConnected.into()),
                State::Broken => Err(ErrorKind::ConnectionReset.into()),
                State::Refused => Err(ErrorKind::ConnectionRefused.into()),
                State::Connecting | State::Connected if endpoint.fin_arrived => Ok(Received::End),
                State::Connecting | State::Connected => Ok(Received::Drained(0)),
            };
        }
        let taken = limit.max(1).min(endpoint.inbox.len()).min(into.len());
        let (front, back) = endpoint.inbox.as_slices();
        let first = front.len().min(taken);
        into[..first].copy_from_slice(&front[..first]);
        into[first..taken].copy_from_slice(&back[..taken - first]);
        endpoint.inbox.drain(..taken);
        let more = !endpoint.inbox.is_empty() || taken == into.len() || endpoint.hangup_told;
        self.trace(id, || format!("received {}", shown(&into[..taken])));
        self.made_room(id);
        Ok(if more { Received::Bytes(taken) } else { Received::Drained(taken) })
    }

    /// The reader at `id` took bytes: its peer may be waiting for that.
    fn made_room(&mut self, id: EndpointId) {
        let Some(peer) = self.endpoint(id).peer else { return };
        if self.endpoint(peer).wants_writable {
            let at = self.now + self.latency();
            self.schedule(at, Happening::Room(peer));
        }
    }

    /// `limit`, or less by the fault's chance.
    fn short(&mut self, limit: usize, chance: u32) -> usize {
        if self.random.chance(chance) { self.random.index(limit + 1) } else { limit }
    }

    /// Bytes that `id` can send now.
    fn room(&mut self, id: EndpointId) -> usize {
        let Some(peer) = self.endpoint(id).peer else { return 0 };
        let window = self.window;
        let peer = self.endpoint(peer);
        window.saturating_sub(peer.inbox.len() + peer.arriving_bytes)
    }

    pub fn tell_room(&mut self, id: EndpointId) {
        let waits = self.endpoint(id).wants_writable;
        if waits && (self.room(id) > 0 || self.endpoint(id).state != State::Connected) {
            self.tell_writable(id);
        }
    }

    pub fn send(&mut self, id: EndpointId, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let endpoint = self.endpoint(id);
        match endpoint.state {
            State::Connecting => {
                endpoint.wants_writable = true;
                return Ok(0);
            }
            State::Refused | State::Broken => return Err(ErrorKind::BrokenPipe.into()),
            State::Closed => return Err(ErrorKind::NotConnected.into()),
            State::Connected if endpoint.fin_sent => return Err(ErrorKind::BrokenPipe.into()),
            State::Connected => {}
        }
        let by_driver = matches!(endpoint.owner, Owner::Driver(..));
        let whole: usize = bufs.iter().map(|buf| buf.len()).sum();
        if self.random.chance(self.faults.reset) {
            self.break_both(id);
            return Err(ErrorKind::ConnectionReset.into());
        }
        if by_driver && self.random.chance(self.faults.starved_send) {
            self.endpoint(id).wants_writable = true;
            let at = self.now + Duration::from_millis(5);
            self.schedule(at, Happening::Room(id));
            return Ok(0);
        }
        let room = self.room(id);
        let wish = whole.min(room);
        let accepted = self.short(wish, self.faults.short_write).min(wish);
        if accepted < whole {
            self.endpoint(id).wants_writable = true;
            if accepted < room {
                let at = self.now + self.latency();
                self.schedule(at, Happening::Room(id));
            }
        }
        let mut bytes: Vec<u8> = Vec::with_capacity(accepted);
        for buf in bufs {
            let wanted = accepted - bytes.len();
            bytes.extend_from_slice(&buf[..buf.len().min(wanted)]);
        }
        self.trace(id, || format!("sent {} of {whole}: {}", bytes.len(), shown(&bytes)));
        // Bytes may arrive cut anywhere.
        while !bytes.is_empty() {
            let cut =
                if self.random.chance(2_000) { 1 + self.random.index(bytes.len()) } else { bytes.len() };
            let rest = bytes.split_off(cut);
            self.transmit(id, Segment::Bytes(std::mem::replace(&mut bytes, rest)));
        }
        Ok(accepted)
    }

    fn transmit(&mut self, from: EndpointId, segment: Segment) {
        let Some(peer) = self.endpoint(from).peer else { return };
        let mut at = self.now + self.latency();
        if self.random.chance(self.faults.stall) {
            at += Duration::from_millis(self.random.between(100, 90_000));
        }
        let endpoint = self.endpoint(peer);
        if let Some((last, _)) = endpoint.arriving.back() {
            at = at.max(*last);
        }
        if let Segment::Bytes(bytes) = &segment {
            endpoint.arriving_bytes += bytes.len();
        }
        endpoint.arriving.push_back((at, segment));
        self.schedule(at, Happening::Arrival(peer));
    }

    pub fn arrive(&mut self, id: EndpointId) {
        let now = self.now;
        let endpoint = self.endpoint(id);
        // What an overtaking RST dropped leaves its arrivals in the calendar.
        if endpoint.arriving.front().is_none_or(|(at, _)| *at > now) {
            return;
        }
        let Some((_, segment)) = endpoint.arriving.pop_front() else { return };
        match segment {
            Segment::Bytes(bytes) => {
                endpoint.arriving_bytes -= bytes.len();
                match endpoint.state {
                    State::Connected => {
                        endpoint.inbox.extend(bytes);
                        self.tell_readable(id);
                    }
                    // Nobody reads this any more: RST.
                    State::Closed => self.transmit_reset(id),
                    State::Broken | State::Connecting | State::Refused => {}
                }
            }
            Segment::Fin => {
                endpoint.fin_arrived = true;
                if endpoint.state == State::Connected {
                    self.tell_readable(id);
                }
            }
            Segment::Reset => {
                if endpoint.state == State::Connected {
                    self.break_one(id);
                }
            }
        }
    }

    fn break_one(&mut self, id: EndpointId) {
        self.endpoint(id).state = State::Broken;
        self.trace(id, || "is broken".to_owned());
        self.tell_readable(id);
        if self.endpoint(id).wants_writable {
            self.tell_writable(id);
        }
    }

    /// The network breaks the connection under both ends.
    fn break_both(&mut self, id: EndpointId) {
        self.transmit_reset(id);
        if self.endpoint(id).state == State::Connected {
            self.break_one(id);
        }
    }

    /// Sends RST from `id`. It may overtake bytes: what a kernel has not sent when it resets is lost.
    fn transmit_reset(&mut self, id: EndpointId) {
        let Some(peer) = self.endpoint(id).peer else { return };
        if self.random.chance(5_000) {
            let endpoint = self.endpoint(peer);
            endpoint.arriving.clear();
            endpoint.arriving_bytes = 0;
        }
        self.transmit(id, Segment::Reset);
    }

    pub fn shutdown(&mut self, id: EndpointId) {
        let endpoint = self.endpoint(id);
        if endpoint.state == State::Connected && !endpoint.fin_sent {
            endpoint.fin_sent = true;
            self.trace(id, || "ends its side".to_owned());
            self.transmit(id, Segment::Fin);
        }
    }

    pub fn close(&mut self, id: EndpointId, reset: bool) {
        self.trace(id, || format!("closes{}", if reset { " with RST" } else { "" }));
        let endpoint = self.endpoint(id);
        let before = std::mem::replace(&mut endpoint.state, State::Closed);
        let unread = !endpoint.inbox.is_empty();
        endpoint.inbox.clear();
        if before == State::Connected {
            if reset || unread {
                self.transmit_reset(id);
            } else if !self.endpoint(id).fin_sent {
                self.transmit(id, Segment::Fin);
            }
        }
        self.detach(id);
    }

    /// Takes an endpoint from its owner.
    pub fn detach(&mut self, id: EndpointId) {
        if self.is_queued(id) {
            self.to_tell.retain(|queued| *queued != id);
        }
        let endpoint = self.endpoint(id);
        endpoint.owner = Owner::Nobody;
        (endpoint.tell_readable, endpoint.tell_writable, endpoint.hangup_told) = (false, false, false);
    }
}

/// The beginning of some bytes, for a trace.
fn shown(bytes: &[u8]) -> String {
    const SHOWN: usize = 200;
    let rest = bytes.len().saturating_sub(SHOWN);
    let text = bytes[..bytes.len() - rest].escape_ascii();
    if rest > 0 { format!("\"{text}\" and {rest} more") } else { format!("\"{text}\"") }
}
