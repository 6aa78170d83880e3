//! From samples to tables and a verdict.

use std::fmt::Write as _;

use crate::plan::{GUARD_LARGE, GUARD_SMALL, Work};
use crate::run::{Measured, Options, Sample};
use crate::statistics::{Summary, paired_ratio};
use crate::subject::Kind;

/// The copying relay's CPU per request, as a multiple of nginx's, must not exceed this on small answers.
pub const COPY_TO_NGINX_MAX: f64 = 0.75;
/// The splicing relay's CPU per request, as a multiple of the copying one's, must not exceed this at 1 MB.
pub const SPLICE_TO_COPY_MAX: f64 = 0.60;
/// More foreign work than this on the subject's core, in the middle of the samples, is told to the reader.
const FOREIGN_QUIET: f64 = 0.03;

/// The subjects that others are compared with.
const REFERENCES: [Kind; 3] = [Kind::RelayCopy, Kind::Nginx, Kind::Haproxy];

/// A whole report in Markdown.
pub fn markdown(
    options: &Options,
    facts: &[(&str, String)],
    versions: &[(Kind, String)],
    all: &[Measured],
) -> String {
    let mut text = String::new();
    for (what, value) in facts {
        let _ = writeln!(text, "- {what}: {value}");
    }
    for (kind, version) in versions {
        let _ = writeln!(text, "- {kind}: {version}");
    }
    let _ = writeln!(
        text,
        "- {} rounds of {} s; subject on core {}, origin and load on core {}",
        options.rounds, options.seconds, options.subject_core, options.load_core
    );
    if let Some(foreign) = foreign(all) {
        let note = if foreign.median > FOREIGN_QUIET { " (**not a quiet machine**)" } else { "" };
        let _ = writeln!(
            text,
            "- others on the subject's core: {:.1} % of the time in the middle sample, {:.1} % at most{note}",
            foreign.median * 100.0,
            foreign.max * 100.0
        );
    }
    for measured in all {
        let _ = writeln!(text, "\n### {}\n", measured.row.name);
        match measured.row.work {
            Work::Idle => idle_table(&mut text, options, measured),
            _ => load_table(&mut text, options, measured),
        }
        for failure in &measured.failures {
            let _ = writeln!(text, "\nFailed: {failure}");
        }
    }
    text
}

fn load_table(text: &mut String, options: &Options, measured: &Measured) {
    text.push_str("| subject | requests/s | p50 | p99 | CPU µs/request | its core |");
    let references: Vec<Kind> =
        REFERENCES.into_iter().filter(|kind| measured.samples.contains_key(kind)).collect();
    for kind in &references {
        let _ = write!(text, " CPU ÷ {kind} |");
    }
    let _ = writeln!(text, "\n|---|{}", "--:|".repeat(5 + references.len()));
    for kind in &options.subjects {
        let of = |take: fn(&Sample) -> Option<f64>| {
            Summary::of(values(measured, *kind, take).into_iter().flatten())
        };
        let (Some(rate), Some(p50), Some(p99), Some(cpu), Some(busy)) =
            (of(rate), of(p50_us), of(p99_us), of(cpu_us), of(busy))
        else {
            let _ = writeln!(text, "| {kind} | failed |{}", " |".repeat(4 + references.len()));
            continue;
        };
        let _ = write!(
            text,
            "| {kind} | {:.0} | {} | {} | **{:.2}** ({:.2}–{:.2}) | {:.0} % |",
            rate.median,
            latency(p50.median),
            latency(p99.median),
            cpu.median,
            cpu.min,
            cpu.max,
            busy.median * 100.0,
        );
        for reference in &references {
            match cpu_ratio(measured, *kind, *reference) {
                Some(_) if kind == reference => text.push_str(" 1 |"),
                Some(ratio) => {
                    let _ = write!(text, " {:.2} ({:.2}–{:.2}) |", ratio.median, ratio.lower, ratio.upper);
                }
                None => text.push_str(" |"),
            }
        }
        text.push('\n');
    }
}

fn idle_table(text: &mut String, options: &Options, measured: &Measured) {
    let _ = writeln!(text, "{} connections.\n", options.idle_connections);
    text.push_str(
        "| subject | bytes per idle connection | resident before | with all idle |\n|---|--:|--:|--:|\n",
    );
    for kind in &options.subjects {
        let of = |take: fn(&Sample) -> Option<f64>| {
            Summary::of(values(measured, *kind, take).into_iter().flatten())
        };
        let (Some(each), Some(before), Some(after)) = (of(idle_each), of(idle_before), of(idle_after)) else {
            let _ = writeln!(text, "| {kind} | failed | | |");
            continue;
        };
        let _ = writeln!(
            text,
            "| {kind} | **{:.0}** ({:.0}–{:.0}) | {:.1} MiB | {:.1} MiB |",
            each.median, each.min, each.max, before.median, after.median
        );
    }
}

/// All samples, one to a line, for whoever wants other statistics.
pub fn samples(all: &[Measured]) -> String {
    let mut text = String::from(
        "row\tsubject\tround\trequests_per_s\tp50_us\tp99_us\tcpu_us\tbusy\tforeign\tload_busy\tidle_bytes\n",
    );
    for measured in all {
        let mut kinds: Vec<_> = measured.samples.keys().copied().collect();
        kinds.sort_by_key(|kind| Kind::ALL.iter().position(|other| other == kind));
        for kind in kinds {
            for (round, sample) in measured.samples[&kind].iter().enumerate() {
                let _ = write!(text, "{}\t{kind}\t{}", measured.row.name, round + 1);
                let columns: [fn(&Sample) -> Option<f64>; 8] =
                    [rate, p50_us, p99_us, cpu_us, busy, foreign_share, load_busy, idle_each];
                for column in columns {
                    match sample.as_ref().and_then(column) {
                        Some(value) => {
                            let _ = write!(text, "\t{value:.4}");
                        }
                        None => text.push('\t'),
                    }
                }
                text.push('\n');
            }
        }
    }
    text
}

/// Why the run is void, if it is: a slow yardstick, a failed sample, or no yardstick at all.
pub fn faults(all: &[Measured]) -> Vec<String> {
    let guards = [
        (GUARD_SMALL, Kind::RelayCopy, Kind::Nginx, COPY_TO_NGINX_MAX),
        (GUARD_LARGE, Kind::RelaySplice, Kind::RelayCopy, SPLICE_TO_COPY_MAX),
    ];
    let mut faults = Vec::new();
    for (row, this, that, max) in guards {
        let measured = all.iter().find(|measured| measured.row.name == row);
        match measured.and_then(|measured| cpu_ratio(measured, this, that)) {
            None => faults.push(format!("{row}: {this} and {that} were not both measured")),
            Some(ratio) if ratio.median > max => faults.push(format!(
                "{row}: {this} takes {:.3} × the CPU of {that}, and may take {max:.2} ×",
                ratio.median
            )),
            Some(_) => {}
        }
    }
    for measured in all {
        if let [first, rest @ ..] = &measured.failures[..] {
            let first = first.lines().next().unwrap_or_default();
            faults.push(format!("{}: {first}; {} more failures", measured.row.name, rest.len()));
        }
    }
    faults
}

fn cpu_ratio(measured: &Measured, this: Kind, that: Kind) -> Option<Summary> {
    paired_ratio(&values(measured, this, cpu_us), &values(measured, that, cpu_us))
}

fn values(measured: &Measured, kind: Kind, take: fn(&Sample) -> Option<f64>) -> Vec<Option<f64>> {
    let samples = measured.samples.get(&kind).map_or(&[][..], Vec::as_slice);
    samples.iter().map(|sample| sample.as_ref().and_then(take)).collect()
}

fn foreign(all: &[Measured]) -> Option<Summary> {
    let samples = all.iter().flat_map(|measured| measured.samples.values().flatten().flatten());
    Summary::of(samples.filter_map(foreign_share))
}

fn rate(sample: &Sample) -> Option<f64> {
    if let Sample::Load { seen, .. } = sample { Some(seen.requests_per_s) } else { None }
}

fn p50_us(sample: &Sample) -> Option<f64> {
    if let Sample::Load { seen, .. } = sample { Some(seen.p50_us) } else { None }
}

fn p99_us(sample: &Sample) -> Option<f64> {
    if let Sample::Load { seen, .. } = sample { Some(seen.p99_us) } else { None }
}

fn cpu_us(sample: &Sample) -> Option<f64> {
    if let Sample::Load { cpu_us, .. } = sample { Some(*cpu_us) } else { None }
}

fn busy(sample: &Sample) -> Option<f64> {
    if let Sample::Load { busy, .. } = sample { Some(*busy) } else { None }
}

fn foreign_share(sample: &Sample) -> Option<f64> {
    if let Sample::Load { foreign, .. } = sample { Some(*foreign) } else { None }
}

fn load_busy(sample: &Sample) -> Option<f64> {
    if let Sample::Load { load_busy, .. } = sample { Some(*load_busy) } else { None }
}

fn idle_each(sample: &Sample) -> Option<f64> {
    if let Sample::Idle(memory) = sample { Some(memory.bytes_per_connection()) } else { None }
}

fn idle_before(sample: &Sample) -> Option<f64> {
    if let Sample::Idle(memory) = sample { Some(mebibytes(memory.before_bytes)) } else { None }
}

fn idle_after(sample: &Sample) -> Option<f64> {
    if let Sample::Idle(memory) = sample { Some(mebibytes(memory.after_bytes)) } else { None }
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / (1024.0 * 1024.0)
}

fn latency(us: f64) -> String {
    if us < 1000.0 { format!("{us:.0} µs") } else { format!("{:.2} ms", us / 1000.0) }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::plan::ROWS;
    use crate::wrk::Seen;

    fn load(cpu_us: f64) -> Option<Sample> {
        let seen = Seen { requests: 1000, requests_per_s: 1e5, p50_us: 500.0, p99_us: 1500.0 };
        Some(Sample::Load { seen, cpu_us, busy: 1.0, foreign: 0.01, load_busy: 0.9 })
    }

    /// One row with the CPU time per request of each subject by round.
    fn row(name: &str, cpu: &[(Kind, &[f64])]) -> Measured {
        let row = ROWS.into_iter().find(|row| row.name == name).expect("a row");
        let of = |values: &[f64]| values.iter().map(|&cpu_us| load(cpu_us)).collect();
        let samples: HashMap<_, _> = cpu.iter().map(|(kind, values)| (*kind, of(values))).collect();
        Measured { row, samples, failures: Vec::new() }
    }

    fn run(copy: f64, splice: f64) -> Vec<Measured> {
        let small = [(Kind::RelayCopy, &[copy, copy * 2.0][..]), (Kind::Nginx, &[10.0, 20.0])];
        let large = [(Kind::RelaySplice, &[splice][..]), (Kind::RelayCopy, &[100.0])];
        vec![row(GUARD_SMALL, &small), row(GUARD_LARGE, &large)]
    }

    #[test]
    fn a_run_with_lean_yardsticks_is_valid() {
        assert_eq!(faults(&run(7.5, 60.0)), Vec::<String>::new());
    }

    #[test]
    fn a_slow_yardstick_voids_the_run() {
        let copying = faults(&run(7.6, 60.0));
        assert_eq!(copying.len(), 1);
        assert!(copying[0].contains("relay-copy takes 0.760 × the CPU of nginx"), "{copying:?}");
        let splicing = faults(&run(7.5, 61.0));
        assert_eq!(splicing.len(), 1);
        assert!(splicing[0].contains("relay-splice takes 0.610 × the CPU of relay-copy"), "{splicing:?}");
    }

    #[test]
    fn missing_yardsticks_and_failures_void_the_run() {
        assert_eq!(faults(&[]).len(), 2);
        let mut all = run(7.0, 50.0);
        all[0].failures.push("nginx, round 1: answered 502".into());
        assert_eq!(faults(&all), [format!("{GUARD_SMALL}: nginx, round 1: answered 502; 0 more failures")]);
    }
}
