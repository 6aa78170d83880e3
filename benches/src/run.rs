//! The conductor: rows, rounds, subjects; one sample each.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::idle::{self, Memory};
use crate::plan::{Row, Shape, Work};
use crate::process::{Running, core_busy_ticks};
use crate::subject::{self, Kind, Programs, Setup, Subject};
use crate::{Result, check, host, launch, wrk};

/// What a run is made of.
pub struct Options {
    /// Where the subjects are.
    pub programs: Programs,
    /// The load generator.
    pub wrk: PathBuf,
    /// Subjects in their order within a round.
    pub subjects: Vec<Kind>,
    /// Rows in their order.
    pub rows: Vec<Row>,
    /// Rounds of each row.
    pub rounds: usize,
    /// Seconds of load in each sample.
    pub seconds: u64,
    /// Connections in the idle row.
    pub idle_connections: usize,
    /// The core of the subject.
    pub subject_core: usize,
    /// The core of the origin and the load.
    pub load_core: usize,
}

/// Rounds of the idle row: memory hardly varies.
const IDLE_ROUNDS_MAX: usize = 3;
/// A sample that failed is tried once more: on a busy machine a port may be taken in between.
const TRIES: usize = 2;
/// Time to start, check and stop a subject, as far as it can be told in advance.
const OVERHEAD_PER_SAMPLE: Duration = Duration::from_millis(350);

/// One subject, one round.
#[derive(Clone, Debug)]
pub enum Sample {
    /// Under load.
    Load {
        /// What the load saw.
        seen: wrk::Seen,
        /// CPU microseconds of the subject per request.
        cpu_us: f64,
        /// Share of the time that the subject was busy.
        busy: f64,
        /// Share of the time that something else was busy on the subject's core.
        foreign: f64,
        /// Share of the time that the load's core was busy.
        load_busy: f64,
    },
    /// Holding idle connections.
    Idle(Memory),
}

/// One row of samples.
pub struct Measured {
    /// Which row.
    pub row: Row,
    /// By subject, one place for each round.
    pub samples: HashMap<Kind, Vec<Option<Sample>>>,
    /// What went wrong, if anything.
    pub failures: Vec<String>,
}

impl Options {
    fn rounds_of(&self, row: &Row) -> usize {
        if row.work == Work::Idle { self.rounds.min(IDLE_ROUNDS_MAX) } else { self.rounds }
    }

    /// How long the run will take, about.
    pub fn estimate(&self) -> Duration {
        let each = Duration::from_secs(self.seconds) + OVERHEAD_PER_SAMPLE;
        let samples: usize = self.rows.iter().map(|row| self.rounds_of(row) * self.subjects.len()).sum();
        each * u32::try_from(samples).unwrap_or(u32::MAX)
    }
}

/// Runs all rows.
///
/// # Errors
/// If the origin fails; what fails in a subject is noted in the row.
pub fn run(options: &Options) -> Result<Vec<Measured>> {
    let directory = tempfile::tempdir()?;
    // The origin and wrk are pinned where they are started; we are idle meanwhile, but not on that core.
    launch::pin(options.load_core)?;
    launch::raise_open_files();
    let listeners = options.rows.iter().map(|row| subject::upstreams(row.shape)).max().unwrap_or(1);
    let (_origin, origin) = start_origin(options.load_core, listeners)?;
    let started = Instant::now();
    let mut all = Vec::new();
    for row in &options.rows {
        let rounds = options.rounds_of(row);
        let mut measured = Measured { row: *row, samples: HashMap::new(), failures: Vec::new() };
        for round in 0..rounds {
            for &kind in &options.subjects {
                let result = sample(options, kind, row, &origin, directory.path());
                let minutes = started.elapsed().as_secs_f64() / 60.0;
                let text = result.as_ref().map_or_else(ToString::to_string, Sample::line);
                eprintln!(
                    "{minutes:5.1} min  {:<26} round {}/{rounds}  {kind:<13} {text}",
                    row.name,
                    round + 1
                );
                let sample = match result {
                    Ok(sample) => Some(sample),
                    Err(error) => {
                        measured.failures.push(format!("{kind}, round {}: {error}", round + 1));
                        None
                    }
                };
                measured.samples.entry(kind).or_default().push(sample);
            }
        }
        all.push(measured);
    }
    Ok(all)
}

fn sample(
    options: &Options,
    kind: Kind,
    row: &Row,
    origin: &[SocketAddr],
    directory: &std::path::Path,
) -> Result<Sample> {
    let mut last = None;
    for _ in 0..TRIES {
        match try_sample(options, kind, row, origin, directory) {
            Ok(sample) => return Ok(sample),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| "not tried".into()))
}

/// A fresh process for each sample: where its memory happens to lie is part of the spread.
fn try_sample(
    options: &Options,
    kind: Kind,
    row: &Row,
    origin: &[SocketAddr],
    directory: &std::path::Path,
) -> Result<Sample> {
    let directory = directory.join(kind.name());
    std::fs::create_dir_all(&directory)?;
    let setup = Setup { shape: row.shape, origin, directory: &directory };
    let subject = subject::start(kind, &options.programs, options.subject_core, &setup)?;
    let requests = check::check(kind, row, subject.address)?;
    let connections = match row.work {
        Work::Idle => {
            let memory = idle::measure(&subject.process, subject.address, options.idle_connections)?;
            return Ok(Sample::Idle(memory));
        }
        Work::Get { connections, .. } | Work::Post { connections, .. } => connections,
    };
    let load = wrk::Load { connections, seconds: options.seconds, requests };
    if matches!(row.shape, Shape::Logged(_)) {
        host::touch_memory();
    }
    time(options, &subject, &load, &directory)
}

fn time(
    options: &Options,
    subject: &Subject,
    load: &wrk::Load,
    directory: &std::path::Path,
) -> Result<Sample> {
    let tick_s = 1.0 / rustix::param::clock_ticks_per_second() as f64;
    let cores = || {
        Ok::<_, crate::Error>((core_busy_ticks(options.subject_core)?, core_busy_ticks(options.load_core)?))
    };
    let (subject_core_before, load_core_before) = cores()?;
    let cpu_before = subject.process.cpu_ns()?;
    let start = Instant::now();
    let seen = wrk::run(&options.wrk, options.load_core, subject.address, load, directory)?;
    let wall_s = start.elapsed().as_secs_f64();
    let cpu_s = (subject.process.cpu_ns()? - cpu_before) as f64 / 1e9;
    let (subject_core_after, load_core_after) = cores()?;
    let core_s = (subject_core_after - subject_core_before) as f64 * tick_s;
    Ok(Sample::Load {
        cpu_us: cpu_s * 1e6 / seen.requests as f64,
        busy: cpu_s / wall_s,
        foreign: ((core_s - cpu_s) / wall_s).max(0.0),
        load_busy: (load_core_after - load_core_before) as f64 * tick_s / wall_s,
        seen,
    })
}

impl Sample {
    fn line(&self) -> String {
        match self {
            Sample::Load { seen, cpu_us, busy, foreign, load_busy } => format!(
                "{:9.0} requests/s {cpu_us:8.2} µs CPU each, core {:3.0} % (others {:2.0} %), load core {:3.0} %",
                seen.requests_per_s,
                busy * 100.0,
                foreign * 100.0,
                load_busy * 100.0,
            ),
            Sample::Idle(memory) => format!("{:7.0} bytes per connection", memory.bytes_per_connection()),
        }
    }
}

fn start_origin(core: usize, listeners: usize) -> Result<(Running, Vec<SocketAddr>)> {
    let mut command = launch::command(core, &std::env::current_exe()?)?;
    command.args(["origin", &listeners.to_string()]).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut origin = Running::new(command.spawn()?);
    let stdout = origin.stdout().ok_or("no standard output")?;
    let lines = BufReader::new(stdout).lines().take(listeners);
    let addresses: Vec<SocketAddr> =
        lines.map(|line| Ok::<_, crate::Error>(line?.parse()?)).collect::<Result<_>>()?;
    if addresses.len() < listeners { Err("the origin did not start".into()) } else { Ok((origin, addresses)) }
}
