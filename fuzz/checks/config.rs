//! A configuration text: a report in the end, whatever it says, and a plan exactly when the report has no error.

use lb_control::config::{Origin, Purpose, load_blocking};

/// `bytes` are the text of a configuration file.
pub fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if reaches_out(text) {
        return;
    }
    let origin = Origin::Text { name: "lb.toml".to_owned(), text: text.to_owned() };
    let loaded = load_blocking(&origin, Purpose::Check, None).expect("a runtime");
    assert_eq!(loaded.plan.is_none(), loaded.report.failed());
    assert_eq!(loaded.summary().is_some(), loaded.plan.is_some());
    let report = loaded.report.text("Nothing was changed.");
    assert!(report.is_empty() || report.ends_with('\n'));
    assert!(!loaded.json().contains('\n'));
}

/// Would loading read other files or ask for names? The resolver and the disk are not what is tested here.
fn reaches_out(text: &str) -> bool {
    let named = |part: &str| {
        part.rsplit_once(':').is_some_and(|(host, port)| {
            let bare = host.trim_start_matches('[').trim_end_matches(']');
            !port.is_empty()
                && port.bytes().all(|byte| byte.is_ascii_digit())
                && bare.parse::<std::net::IpAddr>().is_err()
        })
    };
    ["include", "secret", "dir", "srv", "\\u", "\\U", "\\x"].iter().any(|word| text.contains(word))
        || text.split(['"', '\'', '\n']).any(named)
}
