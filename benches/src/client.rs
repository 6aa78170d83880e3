//! A small blocking HTTP/1.1 client for the checks and for idle connections: one request at a time, bodies
//! by Content-Length only.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::Result;

/// A subject that needs longer for one answer is broken.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// One keep-alive connection.
pub struct Client {
    stream: BufReader<TcpStream>,
}

/// One answer.
#[derive(Debug)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// Names as sent, values trimmed.
    pub fields: Vec<(String, String)>,
    /// As long as Content-Length said.
    pub body: Vec<u8>,
}

impl Reply {
    /// The first value under `name`, in any case.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields
            .iter()
            .find(|(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The `name=value` pairs that the answer sets as cookies.
    pub fn cookies(&self) -> Vec<String> {
        let set = self.fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie"));
        set.filter_map(|(_, value)| value.split(';').next()).map(|pair| pair.trim().to_owned()).collect()
    }
}

impl Client {
    /// # Errors
    /// If nobody accepts.
    pub fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&address, ANSWER_TIMEOUT)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::with_capacity(4096, stream) })
    }

    /// Sends a whole request, head and body, and waits for the answer.
    ///
    /// # Errors
    /// If the connection fails or the answer has no Content-Length.
    pub fn send(&mut self, request: &[u8]) -> Result<Reply> {
        self.stream.get_mut().write_all(request)?;
        let mut line = String::new();
        self.line(&mut line)?;
        let status = line.split(' ').nth(1).and_then(|word| word.parse().ok());
        let status = status.ok_or_else(|| format!("no status in {line:?}"))?;
        let mut fields = Vec::new();
        loop {
            self.line(&mut line)?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').ok_or_else(|| format!("no field in {line:?}"))?;
            fields.push((name.to_owned(), value.trim().to_owned()));
        }
        let mut reply = Reply { status, fields, body: Vec::new() };
        let len = reply.field("content-length").and_then(|value| value.parse().ok());
        reply.body = vec![0; len.ok_or_else(|| format!("{status} without Content-Length"))?];
        self.stream.read_exact(&mut reply.body)?;
        Ok(reply)
    }

    /// The socket, to keep it open without the client's buffer.
    pub fn into_stream(self) -> TcpStream {
        self.stream.into_inner()
    }

    fn line(&mut self, line: &mut String) -> Result<()> {
        line.clear();
        if self.stream.read_line(line)? == 0 {
            return Err("the connection ended before the answer did".into());
        }
        line.truncate(line.trim_end_matches(['\r', '\n']).len());
        Ok(())
    }
}

/// A GET without a body; `fields` are complete lines without their ends.
pub fn get(host: &str, path: &str, fields: &[String]) -> String {
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n")
}

/// A POST of `len` bytes.
pub fn post(host: &str, path: &str, len: usize) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len}\r\n\r\n{}", "x".repeat(len))
}
