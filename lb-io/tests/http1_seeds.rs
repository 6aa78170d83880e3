//! Replays the seeds of the codec's fuzz targets, past findings among them.

#[path = "../../fuzz/checks/chunked_body.rs"]
mod chunked_body;
#[path = "http1/relay.rs"]
mod relay;
#[path = "../../fuzz/checks/request_head.rs"]
mod request_head;
#[path = "../../fuzz/checks/response_head.rs"]
mod response_head;

/// Checks every seed of `target`. There are some, or the folder is not where it should be.
fn replay(target: &str, check: fn(&[u8])) {
    let folder = format!("{}/../fuzz/seeds/{target}", env!("CARGO_MANIFEST_DIR"));
    let mut count = 0;
    for entry in std::fs::read_dir(&folder).expect(&folder) {
        let path = entry.expect("an entry").path();
        println!("{}", path.display());
        check(&std::fs::read(&path).expect("a seed"));
        count += 1;
    }
    assert!(count >= 5, "{count} seeds in {folder}");
}

#[test]
fn request_heads() {
    replay("request_head", request_head::check);
}

#[test]
fn response_heads() {
    replay("response_head", response_head::check);
}

#[test]
fn chunked_bodies() {
    replay("chunked_body", chunked_body::check);
}
