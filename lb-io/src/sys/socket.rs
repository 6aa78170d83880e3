//! Sockets as the drivers need them.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::ptr;

use rustix::net::{SocketAddrAny, SocketFlags};
use socket2::{Domain, Protocol, SockAddr, Type};

/// Connections that may wait to be accepted on one listening socket (`net.core.somaxconn` may say fewer).
pub const BACKLOG: i32 = 4096;

/// A bound, listening socket, non-blocking. With `shared` several workers may bind the same address
/// (`SO_REUSEPORT`): the kernel then spreads new connections over them by a hash of the addresses.
///
/// `TCP_NODELAY` is set here because accepted sockets inherit it, which saves a call per connection. An
/// address `[::]` means IPv6 only, so that it can stand next to `0.0.0.0`.
///
/// # Errors
/// The address is in use, not ours, or needs a privilege.
pub fn listening(address: SocketAddr, shared: bool) -> io::Result<OwnedFd> {
    let socket = stream_socket(address)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    socket.set_tcp_nodelay(true)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Has a listening socket give a connection only when its first bytes have come, or a second later.
///
/// One event for both instead of two, and nothing to keep for a client that has sent nothing: a third less CPU for a
/// connection that serves one request (`docs/performance.md`). Not for protocols in which the server speaks first.
///
/// # Errors
/// The kernel's; the socket then works as any other.
pub fn defer_accept(listener: impl AsFd) -> io::Result<()> {
    let seconds: libc::c_int = 1;
    // SAFETY: the descriptor is open for the call's time, and the option takes an int, whose size is given.
    let outcome = unsafe {
        libc::setsockopt(
            listener.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_DEFER_ACCEPT,
            ptr::from_ref(&seconds).cast(),
            size_of_val(&seconds) as libc::socklen_t,
        )
    };
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A socket that has begun to connect to `address`: non-blocking, `TCP_NODELAY`.
///
/// # Errors
/// What the kernel knows at once: no route, no descriptor, no local port, or (on loopback) a refusal.
pub fn connecting(address: SocketAddr) -> io::Result<OwnedFd> {
    let socket = stream_socket(address)?;
    socket.set_tcp_nodelay(true)?;
    match socket.connect(&SockAddr::from(address)) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
        Err(error) => return Err(error),
    }
    Ok(socket.into())
}

fn stream_socket(address: SocketAddr) -> io::Result<socket2::Socket> {
    let kind = Type::STREAM.nonblocking().cloexec();
    socket2::Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))
}

/// Accepts one connection: non-blocking, close-on-exec. Tells the peer's address too.
///
/// # Errors
/// `WouldBlock` when none waits; EMFILE, ENFILE, ENOBUFS, ENOMEM; errors of the one connection, such as
/// ECONNABORTED, after which the next may be well.
pub fn accept(listener: impl AsFd) -> io::Result<(OwnedFd, SocketAddr)> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let (socket, peer) = rustix::net::acceptfrom_with(listener, flags)?;
    Ok((socket, internet(peer).ok_or(io::ErrorKind::ConnectionAborted)?))
}

/// The address of a connected socket's other side.
///
/// # Errors
/// It is not connected any more.
pub fn peer(socket: impl AsFd) -> io::Result<SocketAddr> {
    internet(rustix::net::getpeername(socket)?).ok_or_else(|| io::ErrorKind::NotConnected.into())
}

fn internet(address: Option<SocketAddrAny>) -> Option<SocketAddr> {
    address.and_then(|address| address.try_into().ok())
}
