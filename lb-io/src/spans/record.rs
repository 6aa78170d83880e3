//! One sampled exchange as bytes, from the worker that served it to whoever tells a collector.
//!
//! ```text
//! length (u32) │ numbers, each of its fixed size │ texts, each behind its length (u16) │ place
//! ```
//!
//! Little-endian; the length counts what follows it. Writer and reader are one build: the layout is nobody else's, and
//! has no version.

use std::net::{IpAddr, SocketAddr};

use lb_core::defaults::NAME_LEN_MAX;

/// Bytes of a path that are kept; what is longer is cut off.
pub const PATH_BYTES_MAX: usize = 1024;

/// Bytes of a user agent that are kept.
pub const AGENT_BYTES_MAX: usize = 256;

/// Bytes that a place has at most: five words or names, an address, a flag.
pub const PLACE_BYTES_MAX: usize = 5 * (2 + NAME_LEN_MAX) + 20;

/// Bytes that a record has at most; whoever writes it cuts what a client sent.
pub const RECORD_BYTES_MAX: usize = 4 << 10;

/// A number that is none.
const NONE: u64 = u64::MAX;

/// One sampled exchange.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SpanRecord<'a> {
    /// The trace.
    pub trace: u128,
    /// The exchange.
    pub id: u64,
    /// What it was caused by; none: the trace begins with it.
    pub parent: Option<u64>,
    /// The flags of its `traceparent`.
    pub flags: u8,
    /// When its head was complete, in nanoseconds since 1970.
    pub started_ns: u64,
    /// When it ended.
    pub ended_ns: u64,
    /// The status that the client was sent; 499: it left before; 0: none applies.
    pub status: u16,
    /// It came by HTTP/1.0.
    pub is_old: bool,
    /// It failed, and not for what the client did or is.
    pub failed: bool,
    /// Attempts at servers.
    pub attempts: u32,
    /// Bytes from the client.
    pub bytes_received: u64,
    /// Bytes to the client.
    pub bytes_sent: u64,
    /// From the complete head to the last pick, in microseconds; none: not come to. The others likewise.
    pub before_us: Option<u64>,
    /// From the pick to a connection.
    pub connect_us: Option<u64>,
    /// From the connection to the response head.
    pub wait_us: Option<u64>,
    /// From the response head to the end.
    pub transfer_us: Option<u64>,
    /// The client, as far as it is known.
    pub source: Option<IpAddr>,
    /// The exchange's id.
    pub request_id: &'a str,
    /// The method.
    pub method: &'a [u8],
    /// The path as received, without a query.
    pub path: &'a [u8],
    /// The authority.
    pub host: &'a [u8],
    /// `user-agent`.
    pub agent: &'a [u8],
    /// The listener that it came by.
    pub listener: &'a str,
    /// Who or what ended it.
    pub ending: &'a str,
    /// Why we ended it; empty if we did not.
    pub reason: &'a str,
    /// Where it went.
    pub place: Place<'a>,
}

/// Where an exchange went. What there is none of is empty.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Place<'a> {
    /// The route.
    pub route: &'a str,
    /// The arm that served.
    pub arm: &'a str,
    /// Why the session belongs to its arm.
    pub choose: &'a str,
    /// The backend.
    pub backend: &'a str,
    /// The server of the last attempt.
    pub server: &'a str,
    /// Its address.
    pub address: Option<SocketAddr>,
    /// Another arm served than the session's.
    pub fallback: bool,
}

impl<'a> SpanRecord<'a> {
    /// Appends the record.
    pub fn write(&self, out: &mut Vec<u8>) {
        let begin = out.len();
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.trace.to_le_bytes());
        let parent = self.parent.unwrap_or(0);
        for number in [self.id, parent, self.started_ns, self.ended_ns, self.bytes_received, self.bytes_sent]
        {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for timer in [self.before_us, self.connect_us, self.wait_us, self.transfer_us] {
            out.extend_from_slice(&timer.unwrap_or(NONE).to_le_bytes());
        }
        out.extend_from_slice(&self.attempts.to_le_bytes());
        out.extend_from_slice(&self.status.to_le_bytes());
        out.extend_from_slice(&[self.flags, self.is_old.into(), self.failed.into()]);
        write_address(out, self.source.map(|source| SocketAddr::new(source, 0)));
        for text in [self.request_id, self.listener, self.ending, self.reason] {
            write_text(out, text.as_bytes());
        }
        for text in [self.method, self.path, self.host, self.agent] {
            write_text(out, text);
        }
        self.place.write(out);
        let len = (out.len() - begin - 4) as u32;
        out[begin..begin + 4].copy_from_slice(&len.to_le_bytes());
    }

    /// Reads the first record of several, and takes it off; none if there is no whole one.
    pub fn read(bytes: &mut &'a [u8]) -> Option<SpanRecord<'a>> {
        let mut outer = Reader(bytes);
        let len = u32::from_le_bytes(outer.array()?);
        let mut inner = Reader(outer.take(len as usize)?);
        let record = SpanRecord::read_whole(&mut inner)?;
        *bytes = outer.0;
        inner.0.is_empty().then_some(record)
    }

    fn read_whole(from: &mut Reader<'a>) -> Option<SpanRecord<'a>> {
        let trace = u128::from_le_bytes(from.array()?);
        let mut number = || from.array().map(u64::from_le_bytes);
        let [id, parent, started_ns] = [number()?, number()?, number()?];
        let [ended_ns, bytes_received, bytes_sent] = [number()?, number()?, number()?];
        let mut timer = || number().map(|number| (number != NONE).then_some(number));
        let [before_us, connect_us, wait_us, transfer_us] = [timer()?, timer()?, timer()?, timer()?];
        let attempts = u32::from_le_bytes(from.array()?);
        let status = u16::from_le_bytes(from.array()?);
        let [flags, is_old, failed] = from.array()?;
        let source = from.address()?.map(|address| address.ip());
        let [request_id, listener] = [from.word()?, from.word()?];
        let [ending, reason] = [from.word()?, from.word()?];
        let [method, path] = [from.text()?, from.text()?];
        let [host, agent] = [from.text()?, from.text()?];
        let place = Place::read_from(from)?;
        Some(SpanRecord {
            trace,
            id,
            parent: (parent != 0).then_some(parent),
            flags,
            started_ns,
            ended_ns,
            status,
            is_old: is_old != 0,
            failed: failed != 0,
            attempts,
            bytes_received,
            bytes_sent,
            before_us,
            connect_us,
            wait_us,
            transfer_us,
            source,
            request_id,
            method,
            path,
            host,
            agent,
            listener,
            ending,
            reason,
            place,
        })
    }
}

impl<'a> Place<'a> {
    /// Appends the place, which an exchange carries with it until it ends.
    pub fn write(&self, out: &mut Vec<u8>) {
        for text in [self.route, self.arm, self.choose, self.backend, self.server] {
            write_text(out, text.as_bytes());
        }
        write_address(out, self.address);
        out.push(self.fallback.into());
    }

    /// Reads what was written; nowhere if that is nothing.
    pub fn read(bytes: &'a [u8]) -> Place<'a> {
        Place::read_from(&mut Reader(bytes)).unwrap_or_default()
    }

    fn read_from(from: &mut Reader<'a>) -> Option<Place<'a>> {
        let [route, arm, choose] = [from.word()?, from.word()?, from.word()?];
        let [backend, server] = [from.word()?, from.word()?];
        let address = from.address()?;
        let [fallback] = from.array()?;
        Some(Place { route, arm, choose, backend, server, address, fallback: fallback != 0 })
    }
}

fn write_text(out: &mut Vec<u8>, text: &[u8]) {
    let text = &text[..text.len().min(u16::MAX.into())];
    out.extend_from_slice(&(text.len() as u16).to_le_bytes());
    out.extend_from_slice(text);
}

/// The length of the IP address in bytes, 0 for none, the address, its port.
fn write_address(out: &mut Vec<u8>, address: Option<SocketAddr>) {
    let Some(address) = address else { return out.push(0) };
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => {
            out.push(4);
            out.extend_from_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            out.push(16);
            out.extend_from_slice(&ip.octets());
        }
    }
    out.extend_from_slice(&address.port().to_le_bytes());
}

/// What is still to be read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        let len = u16::from_le_bytes(self.array()?);
        self.take(len.into())
    }

    fn word(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.text()?).ok()
    }

    fn address(&mut self) -> Option<Option<SocketAddr>> {
        let [len] = self.array()?;
        let ip: IpAddr = match len {
            0 => return Some(None),
            4 => self.array::<4>()?.into(),
            16 => self.array::<16>()?.into(),
            _ => return None,
        };
        Some(Some(SocketAddr::new(ip, u16::from_le_bytes(self.array()?))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn address() -> impl Strategy<Value = Option<SocketAddr>> {
        let ip = prop_oneof![
            any::<[u8; 4]>().prop_map(IpAddr::from),
            any::<[u8; 16]>().prop_map(|octets| IpAddr::from(octets).to_canonical()),
        ];
        proptest::option::of((ip, any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip, port)))
    }

    /// All that a record is made of, owned.
    #[derive(Debug, Clone)]
    struct Parts {
        ids: (u128, u64, Option<u64>, u8),
        numbers: [u64; 4],
        small: (u16, u32, bool, bool, bool),
        timers: [Option<u64>; 4],
        source: Option<IpAddr>,
        address: Option<SocketAddr>,
        words: [String; 9],
        texts: [Vec<u8>; 4],
    }

    impl Parts {
        fn record(&self) -> SpanRecord<'_> {
            let [before_us, connect_us, wait_us, transfer_us] = self.timers;
            let [started_ns, ended_ns, bytes_received, bytes_sent] = self.numbers;
            let [request_id, listener, ending, reason, route, arm, choose, backend, server] =
                self.words.each_ref().map(String::as_str);
            let [method, path, host, agent] = self.texts.each_ref().map(Vec::as_slice);
            let (trace, id, parent, flags) = self.ids;
            let (status, attempts, is_old, failed, fallback) = self.small;
            let place = Place { route, arm, choose, backend, server, address: self.address, fallback };
            SpanRecord {
                trace,
                id,
                parent,
                flags,
                started_ns,
                ended_ns,
                status,
                is_old,
                failed,
                attempts,
                bytes_received,
                bytes_sent,
                before_us,
                connect_us,
                wait_us,
                transfer_us,
                source: self.source,
                request_id,
                method,
                path,
                host,
                agent,
                listener,
                ending,
                reason,
                place,
            }
        }
    }

    fn parts() -> impl Strategy<Value = Parts> {
        let ids = (any::<u128>(), any::<u64>(), proptest::option::of(1..=u64::MAX), any::<u8>());
        let timers = proptest::array::uniform4(proptest::option::of(0..u64::MAX));
        let words = proptest::array::uniform9("\\PC{0,20}");
        let texts = proptest::array::uniform4(proptest::collection::vec(any::<u8>(), 0..40));
        let source = address().prop_map(|address| address.map(|address| address.ip()));
        (
            ids,
            any::<[u64; 4]>(),
            any::<(u16, u32, bool, bool, bool)>(),
            timers,
            source,
            address(),
            words,
            texts,
        )
            .prop_map(|(ids, numbers, small, timers, source, address, words, texts)| Parts {
                ids,
                numbers,
                small,
                timers,
                source,
                address,
                words,
                texts,
            })
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(all in proptest::collection::vec(parts(), 0..4)) {
            let mut bytes = Vec::new();
            all.iter().for_each(|parts| parts.record().write(&mut bytes));
            let mut rest = &bytes[..];
            for parts in &all {
                prop_assert_eq!(SpanRecord::read(&mut rest), Some(parts.record()));
            }
            prop_assert!(rest.is_empty());
            prop_assert_eq!(SpanRecord::read(&mut rest), None);
        }

        #[test]
        fn a_part_of_a_record_is_none(parts in parts(), cut in any::<prop::sample::Index>()) {
            let mut bytes = Vec::new();
            parts.record().write(&mut bytes);
            let mut part = &bytes[..cut.index(bytes.len())];
            prop_assert_eq!(SpanRecord::read(&mut part), None);
        }

        #[test]
        fn whatever_there_is_nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut rest = &bytes[..];
            while SpanRecord::read(&mut rest).is_some() {}
            let place = Place::read(&bytes);
            let mut again = Vec::new();
            place.write(&mut again);
            prop_assert!(again.len() <= bytes.len().max(13));
        }

        #[test]
        fn a_place_is_carried(parts in parts()) {
            let mut bytes = Vec::new();
            parts.record().place.write(&mut bytes);
            prop_assert_eq!(Place::read(&bytes), parts.record().place);
        }
    }

    #[test]
    fn the_longest_has_room() {
        let name = "n".repeat(NAME_LEN_MAX);
        let six = SocketAddr::new([0xffff_u16; 8].into(), 1);
        let place = Place {
            route: &name,
            arm: &name,
            choose: &name,
            backend: &name,
            server: &name,
            address: Some(six),
            fallback: true,
        };
        let mut bytes = Vec::new();
        place.write(&mut bytes);
        assert_eq!(bytes.len(), PLACE_BYTES_MAX);
        // A client's id, the longest method and authority that are kept, and words of ours.
        let id = "i".repeat(128);
        let (method, host) = ([b'm'; 32], [b'h'; 261]);
        let (path, agent) = ([b'/'; PATH_BYTES_MAX], [b'a'; AGENT_BYTES_MAX]);
        let record = SpanRecord {
            source: Some(six.ip()),
            request_id: &id,
            method: &method,
            path: &path,
            host: &host,
            agent: &agent,
            listener: &name,
            ending: &name,
            reason: &name,
            place,
            ..SpanRecord::default()
        };
        bytes.clear();
        record.write(&mut bytes);
        assert!(bytes.len() <= RECORD_BYTES_MAX, "{}", bytes.len());
    }
}
