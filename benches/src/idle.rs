//! Memory per idle connection: resident memory of the subject with many connections open, each of which
//! served one request, less what it was before. The kernel's part (sockets, buffers) is not in it, nor are
//! tables that a program fills at start for the most connections it may ever have.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::Result;
use crate::client::{Client, get};
use crate::process::Running;

/// Late work (deferred freeing, a pool that shrinks) gets this long to finish.
const SETTLE: Duration = Duration::from_millis(300);

/// What was found.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Resident bytes before the connections were opened.
    pub before_bytes: u64,
    /// Resident bytes with all of them idle.
    pub after_bytes: u64,
    /// Connections.
    pub connections: usize,
}

impl Memory {
    /// Bytes that each idle connection added.
    pub fn bytes_per_connection(&self) -> f64 {
        (self.after_bytes as f64 - self.before_bytes as f64) / self.connections as f64
    }
}

/// Opens `connections`, has one request served on each, and keeps them all open.
///
/// # Errors
/// If one is refused or answered wrongly.
pub fn measure(process: &Running, address: SocketAddr, connections: usize) -> Result<Memory> {
    let request = get(&address.to_string(), "/", &[]);
    std::thread::sleep(SETTLE);
    let before_bytes = process.resident_bytes()?;
    let mut open: Vec<TcpStream> = Vec::with_capacity(connections);
    for number in 0..connections {
        let failed = |error| format!("connection {number}: {error}");
        let mut client = Client::connect(address).map_err(failed)?;
        let status = client.send(request.as_bytes()).map_err(failed)?.status;
        if status != 200 {
            return Err(format!("connection {number} was answered {status}").into());
        }
        open.push(client.into_stream());
    }
    std::thread::sleep(SETTLE);
    let after_bytes = process.resident_bytes()?;
    // One that was closed meanwhile would not be an idle one.
    for stream in &open {
        stream.set_nonblocking(true)?;
        if stream.peek(&mut [0]).is_ok() {
            return Err("a connection did not stay open and idle".into());
        }
    }
    Ok(Memory { before_bytes, after_bytes, connections })
}
