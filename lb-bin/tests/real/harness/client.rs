//! A client that sends exactly the bytes it is given.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::SockRef;

use super::wire::{Message, Wire};

/// One connection of a client.
pub struct Client {
    wire: Wire,
}

impl Client {
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Client {
        let stream =
            TcpStream::connect(address).unwrap_or_else(|error| panic!("connect to {address}: {error}"));
        Client { wire: Wire::new(stream) }
    }

    /// A connection whose kernel buffers are small, so that not reading is felt soon.
    pub fn connect_narrow(address: SocketAddr) -> Client {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(16 * 1024).unwrap();
        socket.connect(&address.into()).unwrap();
        Client { wire: Wire::new(socket.into()) }
    }

    pub fn wire(&mut self) -> &mut Wire {
        &mut self.wire
    }

    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Client {
        self.wire.write(bytes.as_ref()).expect("a client can send");
        self
    }

    /// Sends, without minding that the peer may have answered and closed already.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.wire.write(bytes.as_ref())
    }

    /// Sends one byte at a time, each in a segment of its own (TCP_NODELAY is set).
    #[track_caller]
    pub fn dribble(&mut self, bytes: impl AsRef<[u8]>) -> &mut Client {
        for byte in bytes.as_ref() {
            if self.wire.write(&[*byte]).is_err() {
                break; // refused before its end: what was answered is to be read
            }
        }
        self
    }

    /// The next response to a request of this method, interim ones included.
    pub fn try_response(&mut self, method: &str) -> io::Result<Option<Message>> {
        let Some(mut message) = self.wire.head()? else { return Ok(None) };
        let length = message.response_length(method);
        self.wire.body(&mut message, length)?;
        Ok(Some(message))
    }

    #[track_caller]
    pub fn response_to(&mut self, method: &str) -> Message {
        self.try_response(method).expect("a response can be read").expect("a response comes before the end")
    }

    #[track_caller]
    pub fn response(&mut self) -> Message {
        self.response_to("GET")
    }

    /// Only a response's head: the body is left to be read.
    #[track_caller]
    pub fn response_head(&mut self) -> Message {
        self.wire.head().expect("a head can be read").expect("a head comes before the end")
    }

    /// Sends a request and reads its response.
    #[track_caller]
    pub fn exchange(&mut self, request: impl AsRef<[u8]>) -> Message {
        let request = request.as_ref();
        let method = request.split(|&byte| byte == b' ').next().unwrap_or(b"");
        let method = String::from_utf8_lossy(method).into_owned();
        self.send(request);
        self.response_to(&method)
    }

    /// Exactly `len` further bytes.
    #[track_caller]
    pub fn take(&mut self, len: usize) -> Vec<u8> {
        self.wire.take(len).expect("so many bytes come")
    }

    /// Whether the peer ends the connection with nothing more to say (an end or a reset).
    #[track_caller]
    pub fn assert_closed(&mut self) {
        match self.wire.fill() {
            Ok(0) => {}
            Ok(_) => panic!("more bytes came: {:?}", String::from_utf8_lossy(self.wire.waiting())),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            Err(error) => panic!("the connection was not closed: {error}"),
        }
    }

    /// Whether the connection stays open and silent for a moment. Proves little; pair it with a positive check.
    pub fn is_silent(&mut self, moment: Duration) -> bool {
        self.wire.set_patience(moment);
        let silent = matches!(self.wire.fill(), Err(error) if error.kind() == io::ErrorKind::TimedOut);
        self.wire.set_patience(super::PATIENCE);
        silent
    }

    /// Ends the sending side.
    pub fn end(&mut self) {
        let _ = self.wire.stream().shutdown(Shutdown::Write);
    }

    /// Leaves with a reset.
    pub fn reset(self) {
        SockRef::from(self.wire.stream()).set_linger(Some(Duration::ZERO)).unwrap();
    }
}

/// One request on a connection of its own.
#[track_caller]
pub fn once(address: SocketAddr, request: impl AsRef<[u8]>) -> Message {
    Client::connect(address).exchange(request)
}

/// `GET target` with `host`, on a connection of its own.
#[track_caller]
pub fn get(address: SocketAddr, host: &str, target: &str) -> Message {
    once(address, format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"))
}
