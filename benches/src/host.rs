//! Facts about the machine, for the head of a report.

use std::fs;

/// What a reader needs to judge the numbers, as `(what, value)`.
pub fn facts() -> Vec<(&'static str, String)> {
    let cpuinfo = read("/proc/cpuinfo");
    let cpu = field(&cpuinfo, "model name").unwrap_or("unknown");
    let cores = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    let machine = if field(&cpuinfo, "flags").is_some_and(|flags| flags.contains(" hypervisor")) {
        "virtual"
    } else {
        "physical"
    };
    let memory = read("/proc/meminfo");
    let memory_kib: u64 = field(&memory, "MemTotal")
        .and_then(|value| value.trim_end_matches(" kB").parse().ok())
        .unwrap_or_default();
    let load = read("/proc/loadavg");
    vec![
        ("processor", format!("{cpu}, {cores} cores, {machine} machine")),
        ("memory", format!("{:.0} GiB", memory_kib as f64 / (1024.0 * 1024.0))),
        ("kernel", format!("Linux {}", read("/proc/sys/kernel/osrelease").trim())),
        ("load before the run", load.split(' ').take(3).collect::<Vec<_>>().join(" ")),
    ]
}

/// Memory that [`touch_memory`] touches: more than the lines of a sample take in a file.
const TOUCHED_BYTES: usize = 512 << 20;

/// Takes memory and gives it back, so that the kernel's next pages are some that it really has. A virtual machine gives
/// those that it has not used for two seconds back to its host, and finding each of them anew costs several microseconds:
/// more than all else that becomes of a line of a log, for whoever happens to write it.
pub fn touch_memory() {
    std::hint::black_box(vec![1_u8; TOUCHED_BYTES]);
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim())
}
