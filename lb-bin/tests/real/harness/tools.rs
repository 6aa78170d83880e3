//! Other programs: bounded runs, signals, nginx, free ports.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;

use tempfile::TempDir;

use super::{PATIENCE, until};

/// Runs a program to its end, which must come within three patiences (a browser's start takes one).
#[track_caller]
pub fn run(command: &mut Command) -> Output {
    let program = command.get_program().to_string_lossy().into_owned();
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error} (the script `test` at the top installs it)"));
    let pid = child.id();
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(child.wait_with_output()));
    match receiver.recv_timeout(3 * PATIENCE) {
        Ok(output) => output.unwrap(),
        Err(_) => {
            signal(pid, "KILL");
            let output = receiver.recv_timeout(PATIENCE).expect("killed").unwrap();
            panic!(
                "{program} did not end within {:?}:\n{}\n{}",
                3 * PATIENCE,
                text(&output.stdout),
                text(&output.stderr)
            );
        }
    }
}

/// The same, which must succeed; its standard output.
#[track_caller]
pub fn run_ok(command: &mut Command) -> String {
    let output = run(command);
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}\n{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Sends a signal by its short name (`HUP`).
pub fn signal(pid: u32, name: &str) {
    let status = Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).status().unwrap();
    assert!(status.success(), "kill -{name} {pid}");
}

/// A loopback address where nobody listens. Another process may take it, so nothing should depend on it for long.
pub fn unused_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// An nginx of the test's own, with a folder of its own.
pub struct Nginx {
    child: Child,
    pub address: SocketAddr,
    pub directory: TempDir,
}

impl Nginx {
    /// `server` is the text within `server { listen …; }`; `@DIR@` in it stands for its folder.
    pub fn start(server: &str) -> Nginx {
        Nginx::start_at(unused_address(), server)
    }

    /// The same on a given address (to come back where one was killed).
    pub fn start_at(address: SocketAddr, server: &str) -> Nginx {
        Nginx::start_by(&[], address, server)
    }

    /// The same by a program that becomes nginx, such as `ip netns exec NAME`.
    pub fn start_by(before: &[&str], address: SocketAddr, server: &str) -> Nginx {
        let directory = tempfile::Builder::new().prefix("lb-nginx-").tempdir().unwrap();
        let path = directory.path();
        let config = format!(
            "worker_processes 1; daemon off; pid @DIR@/nginx.pid; error_log @DIR@/error.log warn;\n\
             events {{ worker_connections 4096; }}\n\
             http {{\n\
               access_log off; client_max_body_size 0; keepalive_requests 1000000;\n\
               client_body_temp_path @DIR@/body; proxy_temp_path @DIR@/proxy; fastcgi_temp_path @DIR@/fastcgi;\n\
               uwsgi_temp_path @DIR@/uwsgi; scgi_temp_path @DIR@/scgi;\n\
               types {{ text/html html; text/css css; application/javascript js; image/svg+xml svg; }}\n\
               server {{ listen {address};\n{server}\n}}\n}}\n"
        )
        .replace("@DIR@", &path.display().to_string());
        fs::write(path.join("nginx.conf"), config).unwrap();
        let nginx = program("nginx");
        let words: Vec<&str> = before.iter().copied().chain([nginx.as_str()]).collect();
        let child = Command::new(words[0])
            .args(&words[1..])
            .args(["-p", &path.display().to_string(), "-c"])
            .arg(path.join("nginx.conf"))
            .args(["-e", &path.join("error.log").display().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nginx starts (the script `test` at the top installs it)");
        let mut nginx = Nginx { child, address, directory };
        until("nginx to listen", || {
            if let Ok(Some(status)) = nginx.child.try_wait() {
                let log = fs::read_to_string(nginx.directory.path().join("error.log")).unwrap_or_default();
                panic!("nginx ended with {status}: {log}");
            }
            TcpStream::connect(address).is_ok()
        });
        nginx
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Its processes: the master and its worker.
    pub fn pids(&self) -> Vec<u32> {
        let master = self.child.id();
        let children = format!("/proc/{master}/task/{master}/children");
        let mut pids = vec![master];
        until("nginx to have its worker", || {
            let children = fs::read_to_string(&children).unwrap_or_default();
            pids.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
            pids.len() > 1
        });
        pids
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // The master ends its workers on TERM, and would leave them behind on KILL.
        let _ = Command::new("sh").args(["-c", &format!("kill -TERM {}", self.child.id())]).status();
        let _ = self.child.wait();
    }
}

/// Where a program is that Debian keeps outside an ordinary user's PATH.
pub fn program(name: &str) -> String {
    let outside = format!("/usr/sbin/{name}");
    if Path::new(&outside).exists() { outside } else { name.to_owned() }
}
