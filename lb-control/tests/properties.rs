//! Whatever stands in a file, loading it ends with a report and never with a panic.

use lb_control::config::{Origin, Purpose, load_blocking};
use proptest::prelude::*;

const GOOD: &str = include_str!("config/good/design.toml");

fn survives(text: String) -> Result<(), TestCaseError> {
    let origin = Origin::Text { name: "lb.toml".to_owned(), text };
    let loaded = load_blocking(&origin, Purpose::Check, None).expect("a runtime");
    prop_assert_eq!(loaded.plan.is_none(), loaded.report.failed());
    let text = loaded.report.text("Nothing was changed.");
    prop_assert!(text.is_empty() || text.ends_with(".\n"));
    let json: serde_json::Value = serde_json::from_str(&loaded.json()).expect("JSON");
    prop_assert_eq!(json["valid"].as_bool(), Some(loaded.plan.is_some()));
    Ok(())
}

/// Words of the language in any order: reaches further than plain noise.
fn words() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "[[route]]",
        "[[backend]]",
        "[[listener]]",
        "[engine]",
        "[timeouts]",
        "[defaults.route]",
        "[route.canary]",
        "[[backend.server]]",
        "name",
        "backend",
        "server",
        "address",
        "host",
        "path",
        "path_regex",
        "canary",
        "share",
        "sticky",
        "bind",
        "timeouts",
        "header",
        "include",
        "=",
        "{",
        "}",
        "[",
        "]",
        ",",
        "\n",
        "\"a\"",
        "\"2%\"",
        "\"10.0.0.1:80\"",
        "\"127.0.0.1:0\"",
        "\"2s\"",
        "1",
        "-1",
        "true",
        "1.5",
        "é",
        "\"",
        "'",
        "#",
        "\"*\"",
        "\"a-name-that-is-nowhere.invalid.:80\"",
        "\\",
    ]);
    prop::collection::vec(word, 0..60).prop_map(|words| words.join(" ").replace("\n ", "\n"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn noise(text in "\\PC{0,200}") {
        // `include` would read files that are not ours.
        survives(text.replace("include", "exclude"))?;
    }

    #[test]
    fn language(text in words()) {
        survives(text.replace("include", "exclude"))?;
    }

    #[test]
    fn a_good_file_with_something_else_in_it(at in 0..GOOD.len(), cut in 0..40usize, put in "\\PC{0,8}") {
        let floor = |mut at: usize| { while !GOOD.is_char_boundary(at) { at -= 1 } at };
        let (start, end) = (floor(at), floor((at + cut).min(GOOD.len())));
        survives(format!("{}{put}{}", &GOOD[..start], &GOOD[end..]))?;
    }
}
