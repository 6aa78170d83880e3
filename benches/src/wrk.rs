//! Running wrk and reading what it prints.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::{Result, launch};

/// How to load a subject.
#[derive(Debug)]
pub struct Load {
    /// Connections kept busy.
    pub connections: usize,
    /// For how long.
    pub seconds: u64,
    /// Whole requests, sent in turn. One that is alone costs no script call each time.
    pub requests: Vec<String>,
}

/// What wrk saw.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// Answers received whole.
    pub requests: u64,
    /// Answers a second.
    pub requests_per_s: f64,
    /// Median latency in microseconds.
    pub p50_us: f64,
    /// The latency that one answer in a hundred exceeded, in microseconds.
    pub p99_us: f64,
}

/// Loads `address` from `core`.
///
/// # Errors
/// If wrk fails, or reports a single error or a single answer that is not 2xx or 3xx.
pub fn run(wrk: &Path, core: usize, address: SocketAddr, load: &Load, directory: &Path) -> Result<Seen> {
    let script: PathBuf = directory.join("load.lua");
    std::fs::write(&script, script_text(&load.requests))?;
    let output = launch::command(core, wrk)?
        .args(["--threads", "1", "--latency", "--timeout", "10s"])
        .args(["--connections", &load.connections.to_string()])
        .args(["--duration", &format!("{}s", load.seconds)])
        .arg("--script")
        .arg(&script)
        .arg(format!("http://{address}/"))
        .stdin(Stdio::null())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        return Err(
            format!("wrk: {}: {text}{}", output.status, String::from_utf8_lossy(&output.stderr)).into()
        );
    }
    parse(&text)
}

/// A wrk script that sends `requests` in turn.
fn script_text(requests: &[String]) -> String {
    let mut text = String::from("local requests = {\n");
    for request in requests {
        // Long bodies are runs of one byte: written as such, the script stays small.
        let (head, body) = request.split_at(request.find("\r\n\r\n").map_or(request.len(), |end| end + 4));
        let _ = write!(text, "  {}", quoted(head));
        if let Some(byte) = body.get(..1) {
            let _ = write!(text, " .. string.rep({}, {})", quoted(byte), body.len());
        }
        text.push_str(",\n");
    }
    text.push_str("}\n");
    text.push_str(match requests.len() {
        // wrk.init makes wrk.request return one fixed request; so does this, without formatting it.
        1 => "wrk.init = function(args)\n  wrk.request = function() return requests[1] end\nend\n",
        _ => {
            "local next, count = 0, #requests\n\
             request = function()\n  next = next % count + 1\n  return requests[next]\nend\n"
        }
    });
    text
}

fn quoted(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\r', "\\r").replace('\n', "\\n");
    format!("\"{escaped}\"")
}

/// Reads wrk's report.
///
/// # Errors
/// If a number is missing, or there were errors.
pub fn parse(text: &str) -> Result<Seen> {
    for line in text.lines().map(str::trim) {
        if line.starts_with("Socket errors:") || line.starts_with("Non-2xx or 3xx responses:") {
            return Err(format!("wrk reports: {line}").into());
        }
    }
    let missing = |what: &str| format!("wrk did not report {what}:\n{text}");
    let words = || text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let requests = words().find_map(|words| match words[..] {
        [count, "requests", "in", ..] => count.parse().ok(),
        _ => None,
    });
    let requests_per_s = words().find_map(|words| match words[..] {
        ["Requests/sec:", rate] => rate.parse().ok(),
        _ => None,
    });
    let latency = |share: &str| {
        words().find_map(|words| match words[..] {
            [name, value] if name == share => microseconds(value),
            _ => None,
        })
    };
    Ok(Seen {
        requests: requests.filter(|&count: &u64| count > 0).ok_or_else(|| missing("requests"))?,
        requests_per_s: requests_per_s.ok_or_else(|| missing("requests a second"))?,
        p50_us: latency("50%").ok_or_else(|| missing("the median"))?,
        p99_us: latency("99%").ok_or_else(|| missing("the 99th percentile"))?,
    })
}

/// wrk prints `us`, `ms`, `s`, `m` and `h`.
fn microseconds(text: &str) -> Option<f64> {
    let split = text.find(|character: char| character.is_ascii_alphabetic())?;
    let factor = match &text[split..] {
        "us" => 1.0,
        "ms" => 1e3,
        "s" => 1e6,
        "m" => 60e6,
        "h" => 3600e6,
        _ => return None,
    };
    Some(text[..split].parse::<f64>().ok()? * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = "\
Running 2s test @ http://127.0.0.1:8080/
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   642.87us  101.44us   5.71ms   91.02%
    Req/Sec    99.80k     2.31k  104.52k    80.00%
  Latency Distribution
     50%  620.00us
     75%  661.00us
     90%  717.00us
     99%    1.05ms
  198765 requests in 2.00s, 41.89MB read
Requests/sec:  99312.44
Transfer/sec:     20.93MB
";

    #[test]
    fn a_report_is_read_in_microseconds() {
        let seen = parse(REPORT).expect("a whole report");
        assert_eq!(
            seen,
            Seen { requests: 198_765, requests_per_s: 99_312.44, p50_us: 620.0, p99_us: 1050.0 }
        );
    }

    #[test]
    fn any_error_voids_the_sample() {
        for line in
            ["  Socket errors: connect 0, read 1, write 0, timeout 0\n", "  Non-2xx or 3xx responses: 3\n"]
        {
            let error = parse(&format!("{REPORT}{line}")).expect_err("errors count");
            assert!(error.to_string().contains(line.trim()), "{error}");
        }
    }

    #[test]
    fn a_report_without_answers_is_no_sample() {
        assert!(parse(&REPORT.replace("198765 requests", "0 requests")).is_err());
        assert!(parse(&REPORT.replace("99%", "98%")).is_err());
        assert!(parse("unable to connect to 127.0.0.1:8080 Connection refused\n").is_err());
    }

    #[test]
    fn units_of_latency() {
        let all = [("0.00us", 0.0), ("1.50ms", 1500.0), ("2.00s", 2e6), ("1.00m", 6e7), ("1.00h", 3.6e9)];
        for (text, expected) in all {
            assert_eq!(microseconds(text), Some(expected), "{text}");
        }
        assert_eq!(microseconds("12"), None);
        assert_eq!(microseconds("12parsecs"), None);
    }

    #[test]
    fn a_script_quotes_and_repeats() {
        let text = script_text(&["GET /\"\\ HTTP/1.1\r\n\r\n".into(), "POST / HTTP/1.1\r\n\r\nxxxx".into()]);
        assert!(text.contains(r#""GET /\"\\ HTTP/1.1\r\n\r\n","#), "{text}");
        assert!(text.contains(r#""POST / HTTP/1.1\r\n\r\n" .. string.rep("x", 4),"#), "{text}");
        assert!(text.contains("request = function()"), "{text}");
        assert!(!script_text(&["GET / HTTP/1.1\r\n\r\n".into()]).contains("\nrequest = "));
    }
}
