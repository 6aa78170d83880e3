//! The socket towards a StatsD.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::{UdpSocket, UnixDatagram, lookup_host};

use crate::config::SinkAddress;

/// Bytes of a UDP packet at most: what fits into an Ethernet frame with IPv6 and a little tunnelling.
const UDP_LEN: usize = 1_432;

/// Bytes of a Unix datagram at most: the buffer that Datadog's agent reads into.
const UNIX_LEN: usize = 8_192;

/// Bytes of a packet at most. A line that is longer by itself goes alone.
pub(super) fn packet_len(address: &SinkAddress) -> usize {
    match address {
        SinkAddress::Udp(_) => UDP_LEN,
        SinkAddress::Unix(_) => UNIX_LEN,
    }
}

/// A connected datagram socket.
pub(super) enum Sink {
    Udp(UdpSocket),
    Unix(UnixDatagram),
}

impl Sink {
    /// Looks the address up and connects to it.
    pub(super) async fn connect(address: &SinkAddress) -> io::Result<Sink> {
        match address {
            SinkAddress::Udp(address) => {
                let found = lookup_host(address).await?.next();
                let to = found.ok_or_else(|| io::Error::other("the name stands for no address"))?;
                let any: SocketAddr = match to {
                    SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
                    SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
                };
                let socket = UdpSocket::bind(any).await?;
                socket.connect(to).await?;
                Ok(Sink::Udp(socket))
            }
            SinkAddress::Unix(path) => {
                let socket = UnixDatagram::unbound()?;
                socket.connect(path)?;
                Ok(Sink::Unix(socket))
            }
        }
    }

    /// Sends one packet; waits for as long as the other side's queue is full.
    pub(super) async fn send(&self, packet: &[u8]) -> io::Result<()> {
        match self {
            Sink::Udp(socket) => socket.send(packet).await,
            Sink::Unix(socket) => socket.send(packet).await,
        }
        .map(|_| ())
    }
}
