//! The `lb` process under test.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::LazyLock;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Instant;

use serde_json::Value;
use tempfile::TempDir;

use super::tools::{run, signal};
use super::{Origin, PATIENCE, client, until};

/// Which driver a test asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    IoUring,
    Epoll,
    Auto,
}

impl Driver {
    pub fn name(self) -> &'static str {
        match self {
            Driver::IoUring => "io_uring",
            Driver::Epoll => "epoll",
            Driver::Auto => "auto",
        }
    }
}

/// Whether this machine lets a process make a ring. Containers often forbid it: the tests on it are then passed
/// over with a word, unless `LB_TEST_REQUIRE_IO_URING=1` makes that a failure.
pub fn io_uring_works() -> bool {
    static WORKS: LazyLock<bool> = LazyLock::new(|| {
        let works = Setup::new(Driver::IoUring, MINIMAL).try_start().is_ok();
        let required = std::env::var_os("LB_TEST_REQUIRE_IO_URING").is_some_and(|value| value == "1");
        assert!(works || !required, "io_uring is required and `lb` does not start on it");
        works
    });
    if !*WORKS {
        eprintln!("passed over: this machine does not allow io_uring");
    }
    *WORKS
}

const MINIMAL: &str = r#"
[[listener]]
name = "web"
bind = "127.0.0.1:0"
[[route]]
name = "all"
reply = { status = 200, body = "here" }
"#;

/// The built binary.
pub const BINARY: &str = env!("CARGO_BIN_EXE_lb");

/// A listener, a route for everything, and one server: where most tests start.
pub fn one_server(origin: &Origin) -> String {
    servers(&[("a", origin.address)])
}

/// The same with several servers.
pub fn servers(servers: &[(&str, SocketAddr)]) -> String {
    format!(
        "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n\
         [[route]]\nname = \"all\"\nbackend = \"app\"\n{}",
        backend("app", servers)
    )
}

/// A `[[backend]]` table; add keys of it after.
pub fn backend(name: &str, servers: &[(&str, SocketAddr)]) -> String {
    let list: Vec<_> = servers
        .iter()
        .map(|(name, address)| format!("{{ name = \"{name}\", address = \"{address}\" }}"))
        .collect();
    format!("[[backend]]\nname = \"{name}\"\nserver = [{}]\n", list.join(", "))
}

/// What to start.
pub struct Setup {
    driver: Driver,
    workers: u32,
    engine: String,
    log: String,
    log_to: String,
    config: String,
    files: BTreeMap<String, String>,
    before: Vec<String>,
}

impl Setup {
    /// `config` without `[engine]`, `[admin]`, `[state]` and `[log]`, which the harness writes. `@DIR@` in it
    /// stands for the test's own folder.
    pub fn new(driver: Driver, config: impl Into<String>) -> Setup {
        Setup {
            driver,
            workers: 2,
            engine: String::new(),
            log: String::new(),
            log_to: "@DIR@/access.log".to_owned(),
            config: config.into(),
            files: BTreeMap::new(),
            before: Vec::new(),
        }
    }

    pub fn workers(mut self, workers: u32) -> Setup {
        self.workers = workers;
        self
    }

    /// Further lines of `[engine]`.
    pub fn engine(mut self, lines: &str) -> Setup {
        self.engine = lines.to_owned();
        self
    }

    /// Further lines of `[log]`.
    pub fn log(mut self, lines: &str) -> Setup {
        self.log = lines.to_owned();
        self
    }

    /// Another place for the access log than its usual file.
    pub fn log_to(mut self, target: &str) -> Setup {
        self.log_to = target.to_owned();
        self
    }

    /// A file in the test's folder.
    pub fn file(mut self, name: &str, text: impl Into<String>) -> Setup {
        self.files.insert(name.to_owned(), text.into());
        self
    }

    /// RLIMIT_NOFILE of the process.
    pub fn open_files(self, limit: u32) -> Setup {
        self.started_by(&["sh", "-c", &format!("ulimit -n {limit} && exec \"$@\""), "sh"])
    }

    /// Started by a program that becomes `lb`, such as `unshare --mount`.
    pub fn started_by(mut self, words: &[&str]) -> Setup {
        self.before = words.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    fn text(&self, directory: &Path, config: &str) -> String {
        let directory = directory.display();
        format!(
            "[engine]\nworkers = {}\ndriver = \"{}\"\n{}\n\
             [admin]\nlisten = \"127.0.0.1:0\"\n\
             [state]\ndir = \"{directory}/state\"\n\
             [log]\naccess = \"{}\"\n{}\n\n{}",
            self.workers,
            self.driver.name(),
            self.engine,
            self.log_to.replace("@DIR@", &directory.to_string()),
            self.log,
            config.replace("@DIR@", &directory.to_string()),
        )
    }

    fn lay_out(&self) -> TempDir {
        let directory = tempfile::Builder::new().prefix("lb-test-").tempdir().unwrap();
        fs::create_dir(directory.path().join("state")).unwrap();
        for (name, text) in &self.files {
            fs::write(directory.path().join(name), text).unwrap();
        }
        fs::write(directory.path().join("lb.toml"), self.text(directory.path(), &self.config)).unwrap();
        directory
    }

    /// Starts `lb` and waits until it says that it is ready.
    #[track_caller]
    pub fn start(self) -> Lb {
        match self.try_start() {
            Ok(lb) => lb,
            Err(failure) => panic!("lb did not start: {failure}"),
        }
    }

    /// Starts `lb`; what it printed if it ended instead.
    pub fn try_start(self) -> Result<Lb, String> {
        let directory = self.lay_out();
        let config = directory.path().join("lb.toml");
        let here = directory.path().display().to_string();
        let mut words: Vec<String> = self.before.iter().map(|word| word.replace("@DIR@", &here)).collect();
        words.extend([BINARY, "run", "--format", "json", "-c"].map(str::to_owned));
        words.push(config.display().to_string());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        let log = File::create(directory.path().join("lb.log")).unwrap();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::from(log))
            .env("RUST_BACKTRACE", "1")
            .spawn()
            .unwrap_or_else(|error| panic!("{words:?}: {error}"));
        let stdout = child.stdout.take().unwrap();
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                let Ok(line) = line else { break };
                if sender.send(line).is_err() {
                    break;
                }
            }
        });

        let ready = lines.recv_timeout(PATIENCE);
        let mut lb = Lb {
            child,
            directory,
            listeners: Vec::new(),
            admin: "127.0.0.1:0".parse().unwrap(),
            driver: String::new(),
            setup: self,
            lines,
            ended: None,
        };
        let Ok(ready) = ready else {
            let _ = lb.child.kill();
            let status = lb.child.wait();
            lb.ended = status.ok();
            return Err(format!("no ready line; {:?}\n{}", lb.ended, lb.log()));
        };
        let ready: Value = match serde_json::from_str::<Value>(&ready) {
            Ok(value) if value["event"] == "ready" => value,
            _ => {
                lb.ended = lb.child.wait().ok();
                return Err(format!("{ready}\n{}\n{:?}", lb.log(), lb.ended));
            }
        };
        for listener in ready["listeners"].as_array().expect("listeners") {
            let name = listener["name"].as_str().expect("a listener's name").to_owned();
            let address = listener["address"].as_str().expect("a listener's address").parse().unwrap();
            lb.listeners.push((name, address));
        }
        lb.admin = ready["admin"].as_str().expect("the admin address").parse().unwrap();
        lb.driver = ready["driver"].as_str().expect("the driver").to_owned();
        Ok(lb)
    }

    /// Runs `lb` with these words (`-c FILE` is added) to its end.
    pub fn command(self, words: &[&str]) -> Output {
        let directory = self.lay_out();
        let mut command = Command::new(BINARY);
        command.args(words).arg("-c").arg(directory.path().join("lb.toml"));
        run(&mut command)
    }
}

/// A running `lb`. Dropping it kills it.
pub struct Lb {
    child: Child,
    directory: TempDir,
    listeners: Vec<(String, SocketAddr)>,
    /// The admin listener's address.
    pub admin: SocketAddr,
    /// The driver in use, as the ready line names it.
    pub driver: String,
    setup: Setup,
    lines: Receiver<String>,
    ended: Option<ExitStatus>,
}

impl Lb {
    /// Starts with the usual configuration on `driver`.
    #[track_caller]
    pub fn start(driver: Driver, config: impl Into<String>) -> Lb {
        Setup::new(driver, config).start()
    }

    /// The first listener's address.
    pub fn web(&self) -> SocketAddr {
        self.listeners[0].1
    }

    /// Where a listener is.
    pub fn listener(&self, name: &str) -> SocketAddr {
        self.listeners.iter().find(|(found, _)| found == name).expect("a listener of this name").1
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub fn config_file(&self) -> PathBuf {
        self.directory.path().join("lb.toml")
    }

    /// Everything on its standard error so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("lb.log")).unwrap_or_default()
    }

    /// The access log so far.
    pub fn access_log(&self) -> String {
        fs::read_to_string(self.directory.path().join("access.log")).unwrap_or_default()
    }

    /// Waits for an access log line that contains all `parts`, and returns it.
    #[track_caller]
    pub fn access_line(&self, parts: &[&str]) -> String {
        let mut found = String::new();
        until(&format!("an access log line with {parts:?}"), || {
            let log = self.access_log();
            let complete = log.rsplit_once('\n').map_or("", |(complete, _)| complete);
            match complete.lines().find(|line| parts.iter().all(|part| line.contains(part))) {
                Some(line) => {
                    found = line.to_owned();
                    true
                }
                None => false,
            }
        });
        found
    }

    /// Writes a new configuration in the place of the old one, without telling anybody.
    pub fn write_config(&self, config: &str) {
        let text = self.setup.text(self.directory.path(), config);
        let file = self.config_file();
        let next = file.with_extension("next");
        fs::write(&next, text).unwrap();
        fs::rename(next, file).unwrap();
    }

    pub fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// Writes `config`, sends HUP and waits until the configuration in use has another hash.
    #[track_caller]
    pub fn reload(&self, config: &str) {
        let before = self.metric("lb_reloads_total", &["result=\"applied\""]);
        self.write_config(config);
        self.signal("HUP");
        until("the reload to be counted", || {
            self.metric("lb_reloads_total", &["result=\"applied\""]) > before
        });
    }

    /// A page of the admin listener.
    #[track_caller]
    pub fn admin_get(&self, target: &str) -> super::Message {
        client::get(self.admin, "admin", target)
    }

    /// The sum of the samples of a metric whose labels contain all `labels`.
    #[track_caller]
    pub fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let page = self.admin_get("/metrics").text();
        page.lines()
            .filter(|line| {
                line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
                    && labels.iter().all(|label| line.contains(label))
            })
            .map(|line| {
                let value = line.rsplit(' ').next().unwrap_or("");
                value.parse::<f64>().unwrap_or_else(|_| panic!("no number in {line:?}"))
            })
            .sum()
    }

    /// Resident memory in bytes.
    pub fn resident_bytes(&self) -> usize {
        self.status_line("VmRSS:") * 1024
    }

    /// The most resident memory so far, in bytes.
    pub fn peak_bytes(&self) -> usize {
        self.status_line("VmHWM:") * 1024
    }

    fn status_line(&self, name: &str) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("lb is running");
        let line = status.lines().find(|line| line.starts_with(name)).expect("a line of /proc/PID/status");
        line.split_whitespace().nth(1).and_then(|it| it.parse().ok()).expect("a number of KiB")
    }

    /// How many descriptors it has open.
    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("lb is running").count()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child can be asked").is_none()
    }

    /// Waits until the process ends by itself.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // Its standard output ends with it.
            if let Err(mpsc::RecvTimeoutError::Disconnected) =
                self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                let status = self.child.wait().unwrap();
                self.ended = Some(status);
                return status;
            }
            assert!(Instant::now() < deadline, "lb did not end within {PATIENCE:?}");
        }
    }
}

impl Drop for Lb {
    fn drop(&mut self) {
        let before = self.child.try_wait();
        let _ = self.child.kill();
        let status = self.child.wait();
        if thread::panicking() {
            let text = fs::read_to_string(self.config_file()).unwrap_or_default();
            let access = self.access_log();
            let lines: Vec<_> = access.lines().collect();
            eprintln!(
                "--- lb on {} ({before:?}, then {status:?}) with\n{text}\n--- its log\n{}\n--- the end of its access log\n{}\n---",
                self.driver,
                self.log(),
                lines[lines.len().saturating_sub(30)..].join("\n"),
            );
        } else {
            let log = self.log();
            assert!(!log.contains("panicked"), "lb panicked during a test that passed:\n{log}");
        }
    }
}
