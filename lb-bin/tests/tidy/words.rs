//! What must not be written where.

use std::path::{Path, PathBuf};

use crate::source::{code_only, lines_with};
use crate::{files, read, report};

/// Rust files under one of `folders` (relative to the top).
fn rust_under(folders: &[&str]) -> Vec<PathBuf> {
    files("rs").into_iter().filter(|path| folders.iter().any(|folder| path.starts_with(folder))).collect()
}

fn find(paths: &[PathBuf], needles: &[&str]) -> Vec<String> {
    let mut breaches = Vec::new();
    for path in paths {
        let code = code_only(&read(path));
        for needle in needles {
            for line in lines_with(&code, needle) {
                breaches.push(format!("{}:{line}: `{needle}`", path.display()));
            }
        }
    }
    breaches
}

/// Where `unsafe` may be written: the folder, or one file for one stated purpose.
const UNSAFE_PLACES: &[&str] = &[
    "lb-io/src/sys",
    // Blind relays and /proc readers of the measuring tools.
    "benches/src/sys.rs",
    "benches/src/sys",
    // A GlobalAlloc that counts is unsafe to implement, and only tests need one.
    "lb-io/tests/allocations.rs",
    "lb-core/tests/allocations.rs",
];

#[test]
fn unsafe_is_a_place() {
    let paths: Vec<_> = files("rs")
        .into_iter()
        .filter(|path| !UNSAFE_PLACES.iter().any(|place| path.starts_with(place)))
        .collect();
    report(
        "`unsafe` stands only in lb-io/src/sys",
        "what must be proved by hand stays in one folder that one person can read in an hour",
        &find(&paths, &["unsafe"]),
    );
}

#[test]
fn crates_without_unsafe_say_so() {
    let mut breaches = Vec::new();
    for (file, attribute) in [
        ("lb-core/src/lib.rs", "#![forbid(unsafe_code)]"),
        ("lb-control/src/lib.rs", "#![forbid(unsafe_code)]"),
        ("lb-bin/src/main.rs", "#![forbid(unsafe_code)]"),
        ("lb-io/src/lib.rs", "#![deny(unsafe_code)]"),
    ] {
        if !code_only(&read(Path::new(file))).contains(attribute) {
            breaches.push(format!("{file}: {attribute} is missing"));
        }
    }
    report(
        "Each crate states what it does without",
        "the compiler then keeps it, also inside macros",
        &breaches,
    );
}

#[test]
fn core_only_computes() {
    report(
        "lb-core/src has no clock, no I/O, no threads, no environment",
        "a decision depends only on its arguments: that is what lets tests, the simulator and embedders replay one",
        &find(
            &rust_under(&["lb-core/src"]),
            &[
                "Instant",
                "SystemTime",
                "std::thread",
                "std::fs",
                "std::env",
                "std::process",
                "std::io",
                "TcpStream",
                "TcpListener",
                "UdpSocket",
                "to_socket_addrs",
                "RandomState",
                "println!",
                "eprintln!",
                "thread_local!",
            ],
        ),
    );
}

#[test]
fn io_has_no_foreign_runtime() {
    report(
        "lb-io/src knows neither tokio nor serde",
        "a worker's thread belongs to its own executor, and nothing that crosses to it is text",
        &find(&rust_under(&["lb-io/src"]), &["tokio", "serde", "serde_json", "toml", "lb_control"]),
    );
}

#[test]
fn codec_knows_no_engine() {
    let paths = rust_under(&["lb-io/src/http1"]);
    let mut breaches = find(
        &paths,
        &[
            "std::net::Tcp",
            "TcpStream",
            "std::time",
            "Instant",
            "libc",
            "mio",
            "io_uring",
            "lb_core",
            "socket2",
        ],
    );
    for path in &paths {
        let code = code_only(&read(path));
        for (number, line) in code.lines().enumerate() {
            for (at, _) in line.match_indices("crate::") {
                let rest = &line[at + "crate::".len()..];
                if !rest.starts_with("http1") {
                    breaches.push(format!("{}:{}: `crate::{rest}`", path.display(), number + 1));
                }
            }
        }
    }
    report(
        "lb-io/src/http1 is sans-IO and imports nothing of the engine",
        "bytes in, verdict out: so it is fuzzed, replayed and embedded without a socket",
        &breaches,
    );
}

#[test]
fn only_the_seam_knows_the_kernel() {
    let paths: Vec<_> = rust_under(&["lb-io/src"])
        .into_iter()
        .filter(|path| !path.starts_with("lb-io/src/sys") && !path.starts_with("lb-io/src/driver"))
        .collect();
    report(
        "Only lb-io/src/sys and lb-io/src/driver name io_uring, mio or libc calls",
        "the engine runs on three drivers; one that looks past the seam runs on one",
        &find(&paths, &["io_uring::", "mio::"]),
    );
}

#[test]
fn tests_wait_for_events() {
    let mut breaches = find(
        &files("rs").into_iter().filter(|path| !path.starts_with("benches")).collect::<Vec<_>>(),
        &["thread::sleep", "sleep_ms"],
    );
    let tests: Vec<_> = files("rs")
        .into_iter()
        .filter(|path| path.components().any(|part| part.as_os_str() == "tests"))
        .collect();
    breaches.extend(find(&tests, &["time::sleep", "sleep("]));
    report(
        "Nothing sleeps to synchronise",
        "a sleep is either too short (a test that fails on a busy machine) or too long: wait for the event itself",
        &breaches,
    );
}

#[test]
fn no_test_is_switched_off() {
    report(
        "No test is ignored",
        "a test that does not run proves nothing and rots: mend it or delete it",
        &find(&files("rs"), &["#[ignore", "#[ignore]"]),
    );
}

/// Above this many lines a file must be listed in [`LONG_FILES`].
const MAX_LINES: usize = 700;

/// Files over [`MAX_LINES`], with the length that they may have. Numbers only go down; a new line here needs a
/// comment that says why the file has no seam.
const LONG_FILES: &[(&str, usize)] = &[];

#[test]
fn files_are_small_things_with_names() {
    let mut breaches = Vec::new();
    for path in files("rs") {
        let lines = read(&path).lines().count();
        let listed = LONG_FILES.iter().find(|(name, _)| path == Path::new(name)).map(|&(_, max)| max);
        match listed {
            None if lines > MAX_LINES => {
                breaches.push(format!("{}: {lines} lines, at most {MAX_LINES}", path.display()));
            }
            Some(max) if lines > max => {
                breaches.push(format!(
                    "{}: {lines} lines, listed with {max}: it may only shrink",
                    path.display()
                ));
            }
            Some(_) if lines <= MAX_LINES => {
                breaches.push(format!("{}: {lines} lines: take it off the list", path.display()));
            }
            Some(max) if lines + 20 < max => {
                breaches
                    .push(format!("{}: {lines} lines, listed with {max}: lower the number", path.display()));
            }
            _ => {}
        }
    }
    for (name, _) in LONG_FILES {
        if !crate::root().join(name).exists() {
            breaches.push(format!("{name}: listed, and gone: take it off the list"));
        }
    }
    report(
        "Files are short",
        "at this length a file holds two things: split it along the seam that has a name",
        &breaches,
    );
}

/// Reason words, as the code has them: what `word` of these says, and the constants of the engine.
fn reason_words() -> Vec<String> {
    let places = [
        ("lb-io/src/http1/request.rs", "impl RequestError {"),
        ("lb-io/src/http1/response.rs", "impl ResponseError {"),
        ("lb-io/src/http1/body.rs", "impl BodyError {"),
        ("lb-core/src/decide/verdict.rs", "impl RefusalReason {"),
    ];
    let mut words = Vec::new();
    for (file, begin) in places {
        let text = read(Path::new(file));
        let (_, rest) = text.split_once(begin).unwrap_or_else(|| panic!("{file} has `{begin}`"));
        let (_, rest) = rest.split_once("fn word(").unwrap_or_else(|| panic!("{file} has words"));
        let (body, _) = rest.split_once("\n    }\n").expect("a function ends");
        words.extend(body.split("=> \"").skip(1).filter_map(|it| it.split('"').next()).map(str::to_owned));
    }
    let constants = read(Path::new("lb-io/src/reason.rs"));
    let constants = constants.lines().filter(|line| line.starts_with("pub const "));
    words.extend(constants.filter_map(|line| line.split('"').nth(1)).map(str::to_owned));
    words.sort();
    words.dedup();
    words
}

#[test]
fn every_reason_word_is_explained() {
    let page = read(Path::new("docs/operating/reasons.md"));
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    let mut listed: Vec<&str> = rows.flat_map(|cell| cell.trim_end_matches('`').split("`, `")).collect();
    listed.sort_unstable();
    let words = reason_words();
    assert!(words.len() > 60, "{words:?}");
    let missing = words.iter().filter(|word| !listed.contains(&word.as_str()));
    let breaches: Vec<String> = missing.map(|word| format!("`{word}` has no row")).collect();
    report(
        "docs/operating/reasons.md has every reason word",
        "whoever meets one looks it up there",
        &breaches,
    );
    let gone = listed.iter().filter(|word| !words.iter().any(|it| it == *word));
    let breaches: Vec<String> = gone.map(|word| format!("`{word}` is no word any more")).collect();
    report("docs/operating/reasons.md has no other words", "nobody ever meets them", &breaches);
}
