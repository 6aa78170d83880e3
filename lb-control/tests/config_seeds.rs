//! Replays the seeds of the `config` fuzz target, past findings among them.

#[path = "../../fuzz/checks/config.rs"]
mod config;

#[test]
fn seeds() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/seeds/config");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect(folder) {
        let path = entry.expect("an entry").path();
        println!("{}", path.display());
        config::check(&std::fs::read(&path).expect("a seed"));
        count += 1;
    }
    assert!(count >= 5, "{count} seeds in {folder}");
}
