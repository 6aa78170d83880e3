//! Whatever stands in a file, loading it ends with a report and never with a panic.

use lb_control::config::{Origin, Purpose, load_blocking};
use proptest::prelude::*;

const GOOD: &str = include_str!("config/good/design.toml");

/// Would loading read other files or ask the resolver? Neither is tested here, and both take their time.
fn reaches_out(text: &str) -> bool {
    let is_name = |part: &str| {
        let Some((host, port)) = part.rsplit_once(':') else { return false };
        let host = host.trim_matches(['[', ']']);
        port.parse::<u16>().is_ok() && host.parse::<std::net::IpAddr>().is_err()
    };
    text.contains("include") || text.split(['"', '\'']).any(is_name)
}

fn survives(text: String) -> Result<(), TestCaseError> {
    if reaches_out(&text) {
        return Ok(());
    }
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
        "\\",
    ]);
    prop::collection::vec(word, 0..60).prop_map(|words| words.join(" ").replace("\n ", "\n"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn noise(text in "\\PC{0,200}") {
        survives(text)?;
    }

    #[test]
    fn language(text in words()) {
        survives(text)?;
    }

    #[test]
    fn a_good_file_with_something_else_in_it(at in 0..GOOD.len(), cut in 0..40usize, put in "\\PC{0,8}") {
        let good = GOOD.replace("localhost", "127.0.0.1");
        let floor = |mut at: usize| { while !good.is_char_boundary(at) { at -= 1 } at };
        let (start, end) = (floor(at.min(good.len())), floor((at + cut).min(good.len())));
        survives(format!("{}{put}{}", &good[..start], &good[end..]))?;
    }
}
