//! `compare checks`: what checks of many servers cost in lb, beside the minimal [`prober`](crate::prober) that keeps the
//! same schedule. Both ask the same servers over HTTP, one connection per check, in turn on the same core. And what they
//! do to a worker's turns: how long a light load waits for answers that need no server, with checks and without.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::client::{Client, get};
use crate::process::Running;
use crate::statistics::Summary;
use crate::{Result, launch};

/// How long a subject runs before it is measured: its first checks are over then.
const SETTLE: Duration = Duration::from_secs(4);

/// Time between two requests of the light load: so long that no request waits for another one.
const LIGHT_EVERY: Duration = Duration::from_millis(2);

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

/// What one lb came to.
struct Sample {
    /// Milliseconds of CPU per second, without any load.
    cpu_ms: f64,
    /// Microseconds until the answer under a light load: of half of the requests, of 99 of 100, and the most.
    waits_us: [f64; 3],
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
    let mut cpu: [Vec<f64>; 3] = Default::default();
    let mut waits: [[Vec<f64>; 3]; 2] = Default::default();
    for round in 1..=options.rounds {
        let prober = prober(options, &servers)?;
        let checking = lb(options, directory.path(), &servers, true)?;
        let resting = lb(options, directory.path(), &servers, false)?;
        eprintln!(
            "round {round}: prober {prober:.2}, lb {:.2}, lb without checks {:.2} ms/s",
            checking.cpu_ms, resting.cpu_ms
        );
        for (samples, sample) in cpu.iter_mut().zip([prober, checking.cpu_ms, resting.cpu_ms]) {
            samples.push(sample);
        }
        for (samples, sample) in waits.iter_mut().zip([checking, resting]) {
            samples.iter_mut().zip(sample.waits_us).for_each(|(samples, sample)| samples.push(sample));
        }
        if origin.ended().is_some() {
            return Err("the servers have ended".into());
        }
    }
    let median = |samples: Vec<f64>| Summary::of(samples).map_or(f64::NAN, |summary| summary.median);
    let [prober, checking, resting] = cpu.map(median);
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
    for (name, waits) in ["lb, all of it", "lb without checks"].into_iter().zip(waits) {
        let [half, most, worst] = waits.map(median);
        writeln!(
            text,
            "a light load's waits  {name}: p50 {half:.0} us, p99 {most:.0} us, at most {worst:.0} us"
        )?;
    }
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

fn lb(options: &Options<'_>, directory: &Path, servers: &[SocketAddr], checks: bool) -> Result<Sample> {
    let interval = options.interval.as_millis();
    let health = if checks { format!("health = {{ interval = \"{interval}ms\" }}\n") } else { String::new() };
    let mut text = format!(
        "[engine]\nworkers = 1\n[admin]\nlisten = \"127.0.0.1:0\"\n[state]\ndir = \"{}\"\n\
         [metrics]\nseries_max = 10000000\n[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n\
         [[route]]\nname = \"here\"\npath = \"/here\"\nreply = {{ status = 200, body = \"here\" }}\n\
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
    let web = ready["listeners"][0]["address"].as_str().ok_or("no listener's address")?.parse()?;
    let cpu_ms = sample(options, &mut running)?;
    let waits_us = waits(options, web)?;
    if checks {
        let took = SETTLE + 2 * options.sample;
        let expected = took.as_secs_f64() / (1.2 * options.interval.as_secs_f64());
        all_were_checked(admin, servers.len(), expected.floor())?;
    }
    Ok(Sample { cpu_ms, waits_us })
}

/// How long a light load waits for its answers, in microseconds: half of it, 99 of 100, and the most.
fn waits(options: &Options<'_>, web: SocketAddr) -> Result<[f64; 3]> {
    // On the servers' core, so that only lb itself stands in the way.
    launch::pin(options.cores.1)?;
    let request = get("light", "/here", &[]);
    let (mut client, began) = (Client::connect(web)?, Instant::now());
    let mut waits_us = Vec::new();
    while began.elapsed() < options.sample {
        std::thread::sleep(LIGHT_EVERY);
        let sent = Instant::now();
        let reply = client.send(request.as_bytes())?;
        waits_us.push(sent.elapsed().as_secs_f64() * 1e6);
        if reply.status != 200 {
            return Err(format!("a light request was answered with {}", reply.status).into());
        }
    }
    waits_us.sort_by(f64::total_cmp);
    let at = |share: f64| waits_us[((waits_us.len() - 1) as f64 * share) as usize];
    Ok([at(0.5), at(0.99), at(1.0)])
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
