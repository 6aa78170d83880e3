//! The subjects: what is measured, how it is configured, started and stopped.

mod haproxy;
mod lb;
mod nginx;

use std::fmt;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::plan::Shape;
use crate::process::Running;
use crate::{Result, launch};

/// How long a subject may take until it accepts; 10,000 routes take a moment.
const START_TIMEOUT: Duration = Duration::from_secs(20);
const START_POLL: Duration = Duration::from_millis(5);
/// Connections that each subject is configured to hold. Each takes two descriptors, and common hard limits
/// begin at 20,000.
pub const CONNECTIONS_MAX: usize = 9_000;
/// Idle connections to servers that each subject may keep.
const IDLE_UPSTREAM_MAX: usize = 2048;

/// What can be measured, in the order within a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `lb` with `driver = "io_uring"`.
    LbIoUring,
    /// `lb` with `driver = "epoll"`.
    LbEpoll,
    /// HAProxy with one thread.
    Haproxy,
    /// nginx with one worker.
    Nginx,
    /// The blind relay that copies.
    RelayCopy,
    /// The blind relay that splices.
    RelaySplice,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 6] =
        [Kind::LbIoUring, Kind::LbEpoll, Kind::Haproxy, Kind::Nginx, Kind::RelayCopy, Kind::RelaySplice];

    /// As the tables and `--subjects` have it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::LbIoUring => "lb-io_uring",
            Kind::LbEpoll => "lb-epoll",
            Kind::Haproxy => "haproxy",
            Kind::Nginx => "nginx",
            Kind::RelayCopy => "relay-copy",
            Kind::RelaySplice => "relay-splice",
        }
    }

    /// It forwards bytes and knows nothing of routes, servers or headers.
    pub fn is_relay(self) -> bool {
        matches!(self, Kind::RelayCopy | Kind::RelaySplice)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where the programs are. What is missing is not measured.
#[derive(Debug, Default)]
pub struct Programs {
    /// Ours.
    pub lb: Option<PathBuf>,
    /// HAProxy.
    pub haproxy: Option<PathBuf>,
    /// nginx.
    pub nginx: Option<PathBuf>,
}

impl Programs {
    fn path(&self, kind: Kind) -> Option<&Path> {
        match kind {
            Kind::LbIoUring | Kind::LbEpoll => self.lb.as_deref(),
            Kind::Haproxy => self.haproxy.as_deref(),
            Kind::Nginx => self.nginx.as_deref(),
            Kind::RelayCopy | Kind::RelaySplice => None,
        }
    }

    /// Whether `kind` can be measured.
    pub fn has(&self, kind: Kind) -> bool {
        kind.is_relay() || self.path(kind).is_some()
    }

    /// The first line that tells the version.
    ///
    /// # Errors
    /// If the program cannot be run.
    pub fn version(&self, kind: Kind) -> Result<String> {
        let Some(path) = self.path(kind) else {
            return Ok(format!("relay of benches {}", env!("CARGO_PKG_VERSION")));
        };
        let flag = if matches!(kind, Kind::LbIoUring | Kind::LbEpoll) { "--version" } else { "-v" };
        let output = Command::new(path).arg(flag).stdin(Stdio::null()).output()?;
        // nginx writes to stderr.
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        let line = text.lines().next().unwrap_or("").trim();
        let line = line.trim_start_matches("nginx version: ").trim_end_matches(" - https://haproxy.org/");
        if line.is_empty() {
            Err(format!("{} tells no version", path.display()).into())
        } else {
            Ok(line.into())
        }
    }
}

/// What a configuration is made from.
pub struct Setup<'a> {
    /// What the subject shall do.
    pub shape: Shape,
    /// The origin's listeners.
    pub origin: &'a [SocketAddr],
    /// For configuration files and what they name.
    pub directory: &'a Path,
}

impl Setup<'_> {
    /// A file for a subject's access log; what an earlier run left there is gone.
    fn log(&self, name: &str) -> PathBuf {
        let file = self.directory.join(format!("{name}-access.log"));
        let _ = fs::remove_file(&file);
        file
    }
}

/// A started subject.
pub struct Subject {
    /// Its process.
    pub process: Running,
    /// Where it accepts.
    pub address: SocketAddr,
}

/// Starts `kind` on `core` and waits until it accepts.
///
/// # Errors
/// If it does not start; the message holds what it wrote to standard error.
pub fn start(kind: Kind, programs: &Programs, core: usize, setup: &Setup<'_>) -> Result<Subject> {
    let (command, address) = match kind {
        Kind::RelayCopy | Kind::RelaySplice => (relay_command(kind, core, setup)?, None),
        _ => {
            let program = programs.path(kind).ok_or_else(|| format!("{kind} is not installed"))?;
            match kind {
                Kind::Haproxy => haproxy::command(program, core, setup)?,
                Kind::Nginx => nginx::command(program, core, setup)?,
                _ => (lb::command(program, core, setup, kind)?, None),
            }
        }
    };
    let is_logged = matches!(setup.shape, Shape::Logged(_));
    let log = (kind == Kind::Haproxy && is_logged).then(|| setup.log("haproxy"));
    let errors = setup.directory.join(format!("{kind}.err"));
    spawn(command, address, log.as_deref(), &errors).map_err(|error| {
        let written = fs::read_to_string(&errors).unwrap_or_default();
        let tail: Vec<&str> = written.lines().rev().take(20).collect();
        format!("{kind}: {error}\n{}", tail.into_iter().rev().collect::<Vec<_>>().join("\n")).into()
    })
}

/// Without `address`, the program tells it in its first line. With `log`, that is what it writes otherwise.
fn spawn(
    mut command: Command,
    address: Option<SocketAddr>,
    log: Option<&Path>,
    errors: &Path,
) -> Result<Subject> {
    let stdout = match (address, log) {
        (None, _) => Stdio::piped(),
        (Some(_), None) => Stdio::null(),
        (Some(_), Some(log)) => fs::File::create(log)?.into(),
    };
    let child = command.stdin(Stdio::null()).stdout(stdout).stderr(fs::File::create(errors)?).spawn()?;
    let mut process = Running::new(child);
    let address = match address {
        Some(address) => address,
        None => told_address(&mut process)?,
    };
    let deadline = Instant::now() + START_TIMEOUT;
    while TcpStream::connect(address).is_err() {
        if let Some(status) = process.ended() {
            return Err(format!("ended at once: {status}").into());
        }
        if Instant::now() > deadline {
            return Err("did not accept in time".into());
        }
        std::thread::sleep(START_POLL);
    }
    Ok(Subject { process, address })
}

fn told_address(process: &mut Running) -> Result<SocketAddr> {
    let stdout = process.stdout().ok_or("no standard output")?;
    let mut stdout = BufReader::new(stdout);
    let mut line = String::new();
    stdout.read_line(&mut line)?;
    // Whatever else it says must not block it, nor end it with SIGPIPE.
    std::thread::spawn(move || std::io::copy(&mut stdout.by_ref(), &mut std::io::sink()));
    parse_ready(&line)
}

/// The relay and the origin print a bare address, `lb` a line of JSON.
fn parse_ready(line: &str) -> Result<SocketAddr> {
    if let Ok(address) = line.trim().parse() {
        return Ok(address);
    }
    let ready: serde_json::Value =
        serde_json::from_str(line).map_err(|_| format!("instead of its address it wrote {line:?}"))?;
    let address = ready["listeners"][0]["address"].as_str().and_then(|text| text.parse().ok());
    address.ok_or_else(|| format!("no listener's address in {line:?}").into())
}

fn relay_command(kind: Kind, core: usize, setup: &Setup<'_>) -> Result<Command> {
    let mut command = launch::command(core, &std::env::current_exe()?)?;
    command.args(["relay", if kind == Kind::RelayCopy { "copy" } else { "splice" }]);
    command.args(setup.origin[..upstreams(setup.shape)].iter().map(SocketAddr::to_string));
    Ok(command)
}

/// How many of the origin's listeners a shape uses.
pub fn upstreams(shape: Shape) -> usize {
    match shape {
        Shape::Bare => 1,
        Shape::Product | Shape::Logged(_) => crate::plan::PRODUCT_SERVERS + 1,
        Shape::Routes => crate::plan::ROUTE_BACKENDS,
        Shape::Servers => crate::plan::SERVERS,
    }
}

/// A port that nobody uses at the moment, for programs that cannot choose one themselves.
fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_told_plainly_or_in_json() {
        let expected: SocketAddr = "127.0.0.1:41234".parse().expect("an address");
        assert_eq!(parse_ready("127.0.0.1:41234\n").expect("plain"), expected);
        let json = r#"{"event":"ready","driver":"io_uring","workers":1,"listeners":[{"name":"web","address":"127.0.0.1:41234"}],"admin":null}"#;
        assert_eq!(parse_ready(json).expect("json"), expected);
        assert!(parse_ready("").is_err());
        assert!(parse_ready("{}").is_err());
    }
}
