//! Says to lb-core's files that they are under the model checker (`src/sync.rs` is what asks).

fn main() {
    println!("cargo::rustc-cfg=lb_model");
    println!("cargo::rerun-if-changed=build.rs");
}
