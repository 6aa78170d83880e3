//! What the README says, tried.

use std::process::Command;

use crate::harness::lb::BINARY;
use crate::harness::tools::run_ok;

const README: &str = include_str!("../../../README.md");

fn block(language: &str) -> &'static str {
    let start =
        README.find(&format!("```{language}\n")).expect("a block of this language") + language.len() + 4;
    &README[start..start + README[start..].find("```").expect("its end")]
}

#[test]
fn its_configuration_is_valid() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("lb.toml");
    std::fs::write(&file, block("toml")).unwrap();
    run_ok(Command::new(BINARY).args(["check", "-c"]).arg(&file));
    let told = run_ok(
        Command::new(BINARY).args(["explain", "-c"]).arg(&file).args(["GET", "http://shop.example.com/cart"]),
    );
    assert!(told.contains("route shop"), "{told}");
}

#[test]
fn its_first_screen_has_both_commands() {
    let screen: String = README.lines().take(22).collect::<Vec<_>>().join("\n");
    for command in ["\ncargo run --release -p lb-bin -- demo\n", "\n./test\n"] {
        assert!(screen.contains(command), "{command:?}");
    }
}
