//! Sockets as the drivers need them.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

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

/// Accepts one connection: non-blocking, close-on-exec.
///
/// # Errors
/// `WouldBlock` when none waits; EMFILE, ENFILE, ENOBUFS, ENOMEM; errors of the one connection, such as
/// ECONNABORTED, after which the next may be well.
pub fn accept(listener: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: null pointers say that we do not want the peer's address.
    let raw = unsafe { libc::accept4(listener.as_raw_fd(), ptr::null_mut(), ptr::null_mut(), flags) };
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `raw` was just made and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}
