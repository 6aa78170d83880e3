//! `compare checks`: what checks of many servers cost in lb, beside the minimal [`prober`](crate::prober) that keeps the
//! same schedule. Both ask the same servers over HTTP, one connection per check, in turn on the same core.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use crate::process::Running;
use crate::statistics::Summary;
use crate::{Result, launch};

/// How long a subject runs before it is measured: its first checks are over then.
const SETTLE: Duration = Duration::from_secs(4);

/// What is measured.
pub struct Options<'a> {
    /// The lb.
    pub lb: &'a Path,
    /// Servers.
    pub servers: usize,
    /// Time between two checks of one.
    pub interval: Duration,
    /// Rounds.
    pub rounds: usize,
    /// Length of each sample.
    pub sample: Duration,
    /// The subject's core and that of the servers.
    pub cores: (usize, usize),
}

/// Measures, and tells as it goes. Milliseconds of CPU per second: the prober's, lb's, and lb's that checks nobody.
///
/// # Errors
/// If a subject does not start or ends.
pub fn run(options: &Options<'_>) -> Result<String> {
    let mut origin = launch::command(options.cores.1, &std::env::current_exe()?)?;
    origin.args(["origin", &options.servers.to_string()]);
    let (mut origin, lines) = Running::start(&mut origin, options.servers)?;
    let servers: Vec<SocketAddr> =
        lines.iter().map(|line| line.parse()).collect::<std::result::Result<_, _>>()?;
    let directory = tempfile::tempdir()?;
    let mut samples: [Vec<f64>; 3] = Default::default();
    for round in 1..=options.rounds {
        let prober = prober(options, &servers)?;
        let checking = lb(options, directory.path(), &servers, true)?;
        let resting = lb(options, directory.path(), &servers, false)?;
        for (samples, sample) in samples.iter_mut().zip([prober, checking, resting]) {
            samples.push(sample);
        }
        eprintln!("round {round}: prober {prober:.2}, lb {checking:.2}, lb without checks {resting:.2} ms/s");
        if origin.ended().is_some() {
            return Err("the servers have ended".into());
        }
    }
    let [prober, checking, resting] =
        samples.map(|samples| Summary::of(samples).map_or(f64::NAN, |summary| summary.median));
    let per_second = options.servers as f64 / options.interval.as_secs_f64();
    let us = |ms: f64| ms * 1000.0 / per_second;
    let mut text = String::new();
    writeln!(text, "{} servers, every {:?}: {per_second:.0} checks/s", options.servers, options.interval)?;
    writeln!(text, "minimal prober        {prober:8.2} ms/s  {:6.1} us per check", us(prober))?;
    writeln!(text, "lb, all of it         {checking:8.2} ms/s  {:6.1} us per check", us(checking))?;
    writeln!(text, "lb without checks     {resting:8.2} ms/s")?;
    writeln!(
        text,
        "lb's checks           {:8.2} ms/s  {:6.1} us per check",
        checking - resting,
        us(checking - resting)
    )?;
    writeln!(
        text,
        "ratio                 {:8.2}        (all of it {:.2})",
        (checking - resting) / prober,
        checking / prober
    )?;
    Ok(text)
}

/// Milliseconds of CPU per second of a running subject.
fn sample(options: &Options<'_>, running: &mut Running) -> Result<f64> {
    std::thread::sleep(SETTLE);
    let (before, began) = (running.cpu_ns()?, std::time::Instant::now());
    std::thread::sleep(options.sample);
    let (after, took) = (running.cpu_ns()?, began.elapsed());
    if running.ended().is_some() {
        return Err("a subject ended while it was measured".into());
    }
    Ok((after - before) as f64 / 1e6 / took.as_secs_f64())
}

fn prober(options: &Options<'_>, servers: &[SocketAddr]) -> Result<f64> {
    let mut command = launch::command(options.cores.0, &std::env::current_exe()?)?;
    command.args(["prober", &options.interval.as_millis().to_string()]);
    command.args(servers.iter().map(SocketAddr::to_string));
    let mut running = Running::new(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?);
    sample(options, &mut running)
}

fn lb(options: &Options<'_>, directory: &Path, servers: &[SocketAddr], checks: bool) -> Result<f64> {
    let interval = options.interval.as_millis();
    let health = if checks { format!("health = {{ interval = \"{interval}ms\" }}\n") } else { String::new() };
    let mut text = format!(
        "[engine]\nworkers = 1\n[admin]\nlisten = \"127.0.0.1:0\"\n[state]\ndir = \"{}\"\n\
         [metrics]\nseries_max = 10000000\n[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n\
         [[route]]\nname = \"app\"\nbackend = \"app\"\n[[backend]]\nname = \"app\"\n{health}server = [\n",
        directory.join("state").display()
    );
    for (place, server) in servers.iter().enumerate() {
        writeln!(text, "{{ name = \"s{place}\", address = \"{server}\" }},")?;
    }
    text.push_str("]\n");
    let file = directory.join("lb.toml");
    std::fs::write(&file, text)?;
    let mut command = launch::command(options.cores.0, options.lb)?;
    command.args(["run", "--format", "json", "-c"]).arg(&file).stderr(Stdio::null());
    let (mut running, told) = Running::start(&mut command, 1)?;
    let ready: serde_json::Value = serde_json::from_str(&told[0])?;
    let admin: SocketAddr = ready["admin"].as_str().ok_or("no admin address")?.parse()?;
    let used = sample(options, &mut running)?;
    if checks {
        let took = SETTLE + options.sample;
        let expected = took.as_secs_f64() / (1.2 * options.interval.as_secs_f64());
        all_were_checked(admin, servers.len(), expected.floor())?;
    }
    Ok(used)
}

/// A sample in which servers were not asked often enough, jitter considered, would be worth nothing.
fn all_were_checked(admin: SocketAddr, servers: usize, expected: f64) -> Result<()> {
    let mut stream = std::net::TcpStream::connect(admin)?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    let good =
        page.lines().filter(|line| line.starts_with("lb_server_checks_total{") && line.contains("\"good\""));
    let counts: Vec<f64> = good.filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect();
    let least = counts.iter().copied().fold(f64::INFINITY, f64::min);
    if counts.len() != servers || least < expected {
        let found = counts.len();
        return Err(format!("{found} servers were checked, one {least} times instead of {expected}").into());
    }
    Ok(())
}
