//! Replays the seeds of the `cookie` fuzz target, past findings among them.
#![expect(clippy::disallowed_methods, reason = "the core does no I/O, but its seeds are files")]

#[path = "../../fuzz/checks/cookie.rs"]
mod cookie;

#[test]
fn seeds() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/seeds/cookie");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect(folder) {
        let path = entry.expect("an entry").path();
        println!("{}", path.display());
        cookie::check(&std::fs::read(&path).expect("a seed"));
        count += 1;
    }
    assert!(count >= 5, "{count} seeds in {folder}");
}
