//! `compare`: see `docs/performance.md`.

use std::ffi::OsString;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use benches::relay::Mode;
use benches::run::Options;
use benches::subject::{Kind, Programs};
use benches::{Result, checks, flood, host, launch, origin, pacer, plan, prober, relay, report, run};
use clap::{Args, Parser, Subcommand};

/// Measures what one request costs in lb, HAProxy, nginx and blind relays, side by side.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Command {
    #[command(subcommand)]
    helper: Option<Helper>,
    #[command(flatten)]
    compare: Compare,
}

#[derive(Args)]
struct Compare {
    /// The HAProxy to measure
    #[arg(long, value_name = "PATH", default_value = "haproxy")]
    haproxy: PathBuf,
    /// The nginx to measure
    #[arg(long, value_name = "PATH", default_value = "nginx")]
    nginx: PathBuf,
    /// The lb to measure [default: beside this program]
    #[arg(long, value_name = "PATH")]
    lb: Option<PathBuf>,
    /// The load generator
    #[arg(long, value_name = "PATH", default_value = "wrk")]
    wrk: PathBuf,
    /// Interleaved rounds of each row [default: 7, quick: 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1000))]
    rounds: Option<u64>,
    /// Seconds of load in each sample [default: 2, quick: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: Option<u64>,
    /// Rows by name or beginning, such as `bare,product/keepalive-64`; two guard rows are always run
    #[arg(long, value_name = "LIST")]
    rows: Option<String>,
    /// Subjects by name, such as `lb-epoll,nginx`; without nginx and both relays the run is void
    #[arg(long, value_name = "LIST")]
    subjects: Option<String>,
    /// Few rows, few rounds: under three minutes
    #[arg(long)]
    quick: bool,
    /// Write the report, in Markdown, to this file as well
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write every sample, separated by tabs, to this file
    #[arg(long, value_name = "FILE")]
    samples: Option<PathBuf>,
    /// The subject's core and the load's core [default: the first two that we may use]
    #[arg(long, value_name = "A,B", value_delimiter = ',', num_args = 1..)]
    cores: Vec<usize>,
}

/// What the run starts this binary as.
#[derive(Subcommand)]
enum Helper {
    /// Become a program on one core
    #[command(hide = true)]
    Launch {
        #[arg(long)]
        core: usize,
        #[arg(last = true, required = true)]
        program: Vec<OsString>,
    },
    /// A blind relay
    #[command(hide = true)]
    Relay { mode: String, upstreams: Vec<SocketAddr> },
    /// The servers behind all subjects
    #[command(hide = true)]
    Origin { listeners: usize },
    /// A minimal prober
    #[command(hide = true)]
    Prober { interval_ms: u64, servers: Vec<SocketAddr> },
    /// Measures what checks of many servers cost, beside a minimal epoll prober of the same schedule
    Checks(Checks),
    /// Asks at a steady rate and tells how many microseconds each answer took
    #[command(hide = true)]
    Pacer { address: SocketAddr, path: String, rate: u32, seconds: u32 },
    /// Measures what a flood on silver does to platinum's latency, with classes and without
    Flood(Flood),
}

#[derive(Args)]
struct Flood {
    /// The lb to measure [default: beside this program]
    #[arg(long, value_name = "PATH")]
    lb: Option<PathBuf>,
    /// The load generator
    #[arg(long, value_name = "PATH", default_value = "wrk")]
    wrk: PathBuf,
    /// lb's driver: auto, io_uring or epoll
    #[arg(long, value_name = "NAME", default_value = "auto", value_parser = ["auto", "io_uring", "epoll"])]
    driver: String,
    /// Connections of the flood
    #[arg(long, value_name = "N", default_value = "1000", value_parser = clap::value_parser!(u64).range(1..=8000))]
    connections: u64,
    /// Requests of platinum in a second
    #[arg(long, value_name = "N", default_value = "500", value_parser = clap::value_parser!(u32).range(16..=20_000))]
    rate: u32,
    /// Rounds
    #[arg(long, value_name = "N", default_value = "5", value_parser = clap::value_parser!(u64).range(1..=100))]
    rounds: u64,
    /// Seconds of each sample
    #[arg(long, value_name = "N", default_value = "3", value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// lb's core and that of all else [default: the first two that we may use]
    #[arg(long, value_name = "A,B", value_delimiter = ',', num_args = 1..)]
    cores: Vec<usize>,
}

#[derive(Args)]
struct Checks {
    /// The lb to measure [default: beside this program]
    #[arg(long, value_name = "PATH")]
    lb: Option<PathBuf>,
    /// Servers
    #[arg(long, value_name = "N", default_value = "1000", value_parser = clap::value_parser!(u64).range(1..=4000))]
    servers: u64,
    /// Milliseconds between two checks of one server
    #[arg(long, value_name = "MS", default_value = "2000", value_parser = clap::value_parser!(u64).range(100..=60_000))]
    interval_ms: u64,
    /// Rounds
    #[arg(long, value_name = "N", default_value = "5", value_parser = clap::value_parser!(u64).range(1..=100))]
    rounds: u64,
    /// Seconds of each sample
    #[arg(long, value_name = "N", default_value = "6", value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// The subject's core and the servers' core [default: the first two that we may use]
    #[arg(long, value_name = "A,B", value_delimiter = ',', num_args = 1..)]
    cores: Vec<usize>,
}

fn main() -> ExitCode {
    let command = Command::parse();
    let done = match command.helper {
        Some(helper) => help(helper).map(|()| true),
        None => compare(command.compare),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("compare: {error}");
            ExitCode::FAILURE
        }
    }
}

fn help(helper: Helper) -> Result<()> {
    match helper {
        Helper::Launch { core, program } => launch::become_program(core, &program),
        Helper::Relay { mode, upstreams } => {
            let mode = match mode.as_str() {
                "copy" => Mode::Copy,
                "splice" => Mode::Splice,
                _ => return Err(format!("a relay cannot {mode}").into()),
            };
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            tell(std::slice::from_ref(&listener))?;
            Ok(relay::run(listener, &upstreams, mode)?)
        }
        Helper::Origin { listeners } => {
            let bind = |_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
            let listeners: Vec<_> = (0..listeners).map(bind).collect::<std::io::Result<_>>()?;
            tell(&listeners)?;
            Ok(origin::run(listeners)?)
        }
        Helper::Prober { interval_ms, servers } => {
            Ok(prober::run(&servers, Duration::from_millis(interval_ms))?)
        }
        Helper::Pacer { address, path, rate, seconds } => {
            let mut stdout = std::io::stdout().lock();
            for time_us in pacer::run(address, &path, rate, seconds)? {
                writeln!(stdout, "{time_us}")?;
            }
            Ok(stdout.flush()?)
        }
        Helper::Flood(arguments) => {
            let options = flood::Options {
                lb: &lb_or_beside_us(arguments.lb)?,
                wrk: &found(&arguments.wrk)?.ok_or("wrk is not installed")?,
                driver: &arguments.driver,
                connections: arguments.connections as usize,
                rate: arguments.rate,
                rounds: arguments.rounds as usize,
                seconds: arguments.seconds,
                cores: cores(&arguments.cores)?,
            };
            print!("{}", flood::run(&options)?);
            Ok(())
        }
        Helper::Checks(arguments) => {
            let options = checks::Options {
                lb: &lb_or_beside_us(arguments.lb)?,
                servers: arguments.servers as usize,
                interval: Duration::from_millis(arguments.interval_ms),
                rounds: arguments.rounds as usize,
                sample: Duration::from_secs(arguments.seconds),
                cores: cores(&arguments.cores)?,
            };
            print!("{}", checks::run(&options)?);
            Ok(())
        }
    }
}

fn lb_or_beside_us(lb: Option<PathBuf>) -> Result<PathBuf> {
    let lb = lb.map_or_else(|| Ok(std::env::current_exe()?.with_file_name("lb")), Result::Ok)?;
    found(&lb)?.ok_or_else(|| "there is no lb: name it with --lb".into())
}

fn tell(listeners: &[TcpListener]) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    for listener in listeners {
        writeln!(stdout, "{}", listener.local_addr()?)?;
    }
    Ok(stdout.flush()?)
}

/// True if the run is valid.
fn compare(arguments: Compare) -> Result<bool> {
    let beside_us = std::env::current_exe()?.with_file_name("lb");
    let lb = match &arguments.lb {
        Some(path) => found(path)?,
        None => beside_us.exists().then_some(beside_us),
    };
    let programs = Programs { lb, haproxy: found(&arguments.haproxy)?, nginx: found(&arguments.nginx)? };
    let wrk = found(&arguments.wrk)?.ok_or("wrk is not installed")?;
    let (subject_core, load_core) = cores(&arguments.cores)?;
    let mut subjects = subjects(arguments.subjects.as_deref())?;
    subjects.retain(|&kind| {
        let has = programs.has(kind);
        if !has {
            eprintln!("{kind} is not there and will not be measured");
        }
        has
    });
    let quick = arguments.quick;
    let options = Options {
        programs,
        wrk,
        subjects,
        rows: plan::select(arguments.rows.as_deref(), quick)?,
        rounds: arguments.rounds.unwrap_or(if quick { 3 } else { 7 }) as usize,
        seconds: arguments.seconds.unwrap_or(if quick { 1 } else { 2 }),
        idle_connections: if quick { 2000 } else { 8000 },
        subject_core,
        load_core,
    };
    let facts = host::facts();
    let version = |&kind: &Kind| Ok((kind, options.programs.version(kind)?));
    let versions: Vec<_> = options.subjects.iter().map(version).collect::<Result<_>>()?;
    eprintln!(
        "{} rows, {} subjects, {} rounds of {} s: about {:.0} minutes",
        options.rows.len(),
        options.subjects.len(),
        options.rounds,
        options.seconds,
        options.estimate().as_secs_f64() / 60.0
    );
    let all = run::run(&options)?;
    let mut text = report::markdown(&options, &facts, &versions, &all);
    let faults = report::faults(&all);
    text.push('\n');
    for fault in &faults {
        text.push_str(&format!("**Void**: {fault}\n\n"));
    }
    if faults.is_empty() {
        text.push_str("The run is valid: the yardsticks are lean and no answer was wrong.\n");
    }
    print!("{text}");
    write_to(arguments.out.as_deref(), &text)?;
    write_to(arguments.samples.as_deref(), &report::samples(&all))?;
    Ok(faults.is_empty())
}

fn write_to(path: Option<&Path>, text: &str) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    std::fs::write(path, text).map_err(|error| format!("cannot write {}: {error}", path.display()).into())
}

fn subjects(list: Option<&str>) -> Result<Vec<Kind>> {
    let Some(list) = list else { return Ok(Kind::ALL.to_vec()) };
    let wanted: Vec<&str> = list.split(',').map(str::trim).collect();
    if let Some(unknown) = wanted.iter().find(|name| !Kind::ALL.iter().any(|kind| kind.name() == **name)) {
        let names = Kind::ALL.map(Kind::name).join(" ");
        return Err(format!("no subject is named `{unknown}`; there are: {names}").into());
    }
    Ok(Kind::ALL.into_iter().filter(|kind| wanted.contains(&kind.name())).collect())
}

fn cores(asked: &[usize]) -> Result<(usize, usize)> {
    let allowed = launch::cores()?;
    match (asked, &allowed[..]) {
        ([a, b], _) if a != b && allowed.contains(a) && allowed.contains(b) => Ok((*a, *b)),
        ([], [a, b, ..]) => Ok((*a, *b)),
        ([], _) => Err("two cores are needed: one for the subject, one for origin and load".into()),
        _ => Err(format!("--cores takes two different ones of {allowed:?}").into()),
    }
}

/// The program at a path, which must be there, or of that name on the search path or where root's programs
/// are, if it is.
fn found(program: &Path) -> Result<Option<PathBuf>> {
    if program.components().count() > 1 {
        return match program.canonicalize() {
            Ok(path) => Ok(Some(path)),
            Err(error) => Err(format!("{}: {error}", program.display()).into()),
        };
    }
    let search = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&search).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    Ok(directories.map(|directory| directory.join(program)).find(|path| path.is_file()))
}
