//! `compare flood`: what a flood on silver does to platinum's latency, where lb knows classes and where it does not.
//!
//! Platinum asks at a modest, steady rate ([`pacer`](crate::pacer)); silver comes from wrk on many connections, each of
//! which asks again as soon as it is answered. One worker serves both, each class by a server process of its own. The
//! servers of platinum and its pacer may run before everything else on their core, where the system lets us ask for
//! that: what is measured is lb's part, not the queue for the other core.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::process::Running;
use crate::statistics::{Summary, quantile};
use crate::wrk::{self, Load};
use crate::{Result, client, launch};

/// How long the flood lasts before platinum is measured, and after it.
const MARGIN: Duration = Duration::from_millis(500);

/// What is measured.
pub struct Options<'a> {
    /// The lb.
    pub lb: &'a Path,
    /// The load generator.
    pub wrk: &'a Path,
    /// `auto`, `io_uring` or `epoll`.
    pub driver: &'a str,
    /// Connections of the flood.
    pub connections: usize,
    /// Requests of platinum in a second.
    pub rate: u32,
    /// Rounds.
    pub rounds: usize,
    /// Seconds of each sample.
    pub seconds: u32,
    /// lb's core, and that of everything else.
    pub cores: (usize, usize),
}

/// One way to measure, and what came of it.
struct Case {
    name: &'static str,
    classes: bool,
    flooded: bool,
    samples: Vec<Sample>,
}

/// Of one round.
struct Sample {
    p50_us: f64,
    p99_us: f64,
    /// Answers a second to silver; 0 without a flood.
    silver: f64,
    /// Of lb's core, in percent.
    busy_percent: f64,
}

/// Measures, and tells as it goes.
///
/// # Errors
/// If a program does not start or ends, or an answer is wrong.
pub fn run(options: &Options<'_>) -> Result<String> {
    let directory = tempfile::tempdir()?;
    let before_others = may_run_before_others();
    let (_platinum_origin, platinum) = origin(options, before_others)?;
    let (_silver_origin, silver) = origin(options, false)?;
    let case = |name, classes, flooded| Case { name, classes, flooded, samples: Vec::new() };
    let mut cases = [
        case("no classes, no flood", false, false),
        case("no classes, silver floods", false, true),
        case("classes, no flood", true, false),
        case("classes, silver floods", true, true),
    ];
    for round in 1..=options.rounds {
        for case in &mut cases {
            let (mut lb, address) = lb(options, directory.path(), [platinum, silver], case.classes)?;
            let sample = sample(options, directory.path(), &mut lb, address, case.flooded, before_others)?;
            eprintln!(
                "round {round}: {:<26} platinum p50 {:7.0} us, p99 {:7.0} us, silver {:7.0}/s, lb's core {:3.0} %",
                case.name, sample.p50_us, sample.p99_us, sample.silver, sample.busy_percent
            );
            case.samples.push(sample);
        }
    }
    let mut text = format!(
        "platinum {}/s, silver from {} connections, {} s a sample, {} rounds; medians{}\n",
        options.rate,
        options.connections,
        options.seconds,
        options.rounds,
        if before_others { "" } else { "; platinum's client and server had no precedence on their core" }
    );
    writeln!(text, "{:<26} {:>12} {:>12} {:>10} {:>8}", "", "platinum p50", "p99", "silver", "core")?;
    for case in &cases {
        let median = |of: fn(&Sample) -> f64| {
            Summary::of(case.samples.iter().map(of)).map_or(f64::NAN, |summary| summary.median)
        };
        writeln!(
            text,
            "{:<26} {:>9.0} us {:>9.0} us {:>8.0}/s {:>6.0} %",
            case.name,
            median(|sample| sample.p50_us),
            median(|sample| sample.p99_us),
            median(|sample| sample.silver),
            median(|sample| sample.busy_percent)
        )?;
    }
    Ok(text)
}

/// Whether this system lets us run something before all that is not urgent.
fn may_run_before_others() -> bool {
    let asked = Command::new("chrt").args(["--fifo", "1", "true"]).stderr(Stdio::null()).status();
    asked.is_ok_and(|status| status.success())
}

/// This program on the core of all but lb, perhaps before others there.
fn helper(options: &Options<'_>, before_others: bool) -> Result<Command> {
    let us = std::env::current_exe()?;
    if !before_others {
        return launch::command(options.cores.1, &us);
    }
    let mut command = launch::command(options.cores.1, Path::new("chrt"))?;
    command.args(["--fifo", "1"]).arg(us);
    Ok(command)
}

fn origin(options: &Options<'_>, before_others: bool) -> Result<(Running, SocketAddr)> {
    let mut command = helper(options, before_others)?;
    command.args(["origin", "1"]);
    let (running, told) = Running::start(&mut command, 1)?;
    Ok((running, told[0].parse()?))
}

fn lb(
    options: &Options<'_>,
    directory: &Path,
    servers: [SocketAddr; 2],
    classes: bool,
) -> Result<(Running, SocketAddr)> {
    let mut text = format!(
        "[engine]\nworkers = 1\ndriver = \"{}\"\n[state]\ndir = \"{}\"\n[log]\naccess = \"/dev/null\"\n\
         [[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n",
        options.driver,
        directory.join("state").display()
    );
    for (class, server) in ["platinum", "silver"].iter().zip(servers) {
        let key = if classes { format!("class = \"{class}\"\n") } else { String::new() };
        write!(
            text,
            "[[route]]\nname = \"{class}\"\npath_prefix = \"/{class}\"\nbackend = \"{class}\"\n{key}\
             [[backend]]\nname = \"{class}\"\nserver = {{ name = \"a\", address = \"{server}\" }}\n"
        )?;
    }
    let file = directory.join("lb.toml");
    std::fs::write(&file, text)?;
    let mut command = launch::command(options.cores.0, options.lb)?;
    command.args(["run", "--format", "json", "-c"]).arg(&file).stderr(Stdio::null());
    let (running, told) = Running::start(&mut command, 1)?;
    let ready: serde_json::Value = serde_json::from_str(&told[0])?;
    let address = ready["listeners"][0]["address"].as_str().ok_or("no listener")?.parse()?;
    Ok((running, address))
}

fn sample(
    options: &Options<'_>,
    directory: &Path,
    lb: &mut Running,
    address: SocketAddr,
    flooded: bool,
    before_others: bool,
) -> Result<Sample> {
    let load = Load {
        connections: options.connections,
        seconds: u64::from(options.seconds) + (2 * MARGIN).as_secs(),
        requests: vec![client::get("bench", "/silver", &[])],
    };
    std::thread::scope(|scope| {
        let flood = flooded
            .then(|| scope.spawn(|| wrk::run(options.wrk, options.cores.1, address, &load, directory)));
        std::thread::sleep(MARGIN);
        let (cpu, began) = (lb.cpu_ns()?, Instant::now());
        let mut pacer = helper(options, before_others)?;
        let [rate, seconds] = [options.rate, options.seconds].map(|number| number.to_string());
        pacer.args(["pacer", &address.to_string(), "/platinum", &rate, &seconds]);
        let output = pacer.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
        let busy = (lb.cpu_ns()? - cpu) as f64 / began.elapsed().as_nanos() as f64;
        let silver = match flood {
            Some(flood) => flood.join().map_err(|_| "the flood's thread panicked")??.requests_per_s,
            None => 0.0,
        };
        if !output.status.success() || lb.ended().is_some() {
            return Err("the pacer failed, or lb ended".into());
        }
        let text = String::from_utf8(output.stdout)?;
        let mut times = text.lines().map(str::parse).collect::<std::result::Result<Vec<f64>, _>>()?;
        if times.len() != (options.rate * options.seconds) as usize {
            return Err(format!("{} answers to platinum", times.len()).into());
        }
        times.sort_by(f64::total_cmp);
        let [p50_us, p99_us] = [0.5, 0.99].map(|share| quantile(&times, share));
        Ok(Sample { p50_us, p99_us, silver, busy_percent: busy * 100.0 })
    })
}
