//! Asking an admin listener: enough HTTP for one question.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::config::plain;

/// How long any step may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of an answer at most.
const ANSWER_BYTES_MAX: u64 = 16 << 20;

/// Sends a GET for `target` to the admin listener at `address` (`host:port`, `http://host:port` or
/// `unix:/path`) and returns status and body.
///
/// # Errors
/// What failed, for a person.
pub fn get(address: &str, target: &str) -> Result<(u16, String), String> {
    let failed = |error: io::Error| format!("cannot ask {address}: {}", plain(&error));
    if let Some(path) = address.strip_prefix("unix:") {
        let stream = UnixStream::connect(path).map_err(failed)?;
        stream.set_read_timeout(Some(TIMEOUT)).map_err(failed)?;
        stream.set_write_timeout(Some(TIMEOUT)).map_err(failed)?;
        return exchange(stream, "admin", target).map_err(failed);
    }
    let host = address.strip_prefix("http://").unwrap_or(address).trim_end_matches('/');
    let mut resolved = host.to_socket_addrs().map_err(failed)?;
    let resolved = resolved.next().ok_or_else(|| format!("`{host}` stands for no address"))?;
    let stream = TcpStream::connect_timeout(&resolved, TIMEOUT).map_err(failed)?;
    stream.set_read_timeout(Some(TIMEOUT)).map_err(failed)?;
    stream.set_write_timeout(Some(TIMEOUT)).map_err(failed)?;
    exchange(stream, host, target).map_err(failed)
}

/// HTTP/1.0 (RFC 1945): the answer is neither chunked nor kept open.
fn exchange(mut stream: impl Read + Write, host: &str, target: &str) -> io::Result<(u16, String)> {
    write!(stream, "GET {target} HTTP/1.0\r\nHost: {host}\r\n\r\n")?;
    let mut bytes = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text.split_once("\r\n\r\n").ok_or(io::ErrorKind::InvalidData)?;
    let status =
        head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
    Ok((status, body.to_owned()))
}
