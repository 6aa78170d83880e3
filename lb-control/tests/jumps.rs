//! `/jumps` and the metric over made-up numbers that grow.

mod support;

use std::time::{Duration, Instant};

use lb_control::{ArmReading, ExchangeNumbers};
use serde_json::Value;
use support::Running;

const CONFIG: &str = r#"
[admin]
listen = "127.0.0.1:0"

[[listener]]
name = "web"
bind = "127.0.0.1:0"

[[route]]
name = "hello"
reply = { body = "hello" }
"#;

/// How long anything may take before the test gives up.
const PATIENCE: Duration = Duration::from_secs(30);

fn arm(name: &'static str) -> ArmReading {
    let exchanges = ExchangeNumbers { requests: vec![(200, 0)], ..ExchangeNumbers::default() };
    ArmReading { route: "shop".into(), arm: name, backend: name.into(), exchanges }
}

/// Lets time pass in which each arm has exchanges of so many milliseconds, until the answer is as it should be.
fn pass(running: &Running, what: &str, ms: [u64; 2], holds: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        for (arm, ms) in running.workers.arms.lock().unwrap().iter_mut().zip(ms) {
            arm.exchanges.wait.record(Duration::from_millis(ms));
            arm.exchanges.requests[0].1 += 1;
        }
        let (status, body) = running.get("/jumps");
        assert_eq!(status, 200, "{body}");
        let answer: Value = serde_json::from_str(&body).expect("JSON");
        if holds(&answer) {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}: {answer:#}");
    }
}

#[test]
fn a_slow_canary_is_shown() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let file = dir.path().join("lb.toml");
    std::fs::write(&file, CONFIG).expect("write");
    let running = Running::start(&file);
    *running.workers.arms.lock().unwrap() = vec![arm("stable"), arm("canary")];
    let seen = |answer: &Value| answer["arms"].as_array().is_some_and(|arms| arms.len() == 2);
    let answer = pass(&running, "both arms", [20, 20], seen);
    assert_eq!((&answer["version"], &answer["unwatched_arms"]), (&1.into(), &0.into()));
    assert_eq!(answer["arms"][1]["comparisons"].as_array().map(Vec::len), Some(3), "the stable arm's");

    let wait = |answer: &Value| answer["arms"][0]["comparisons"][4].clone();
    let answer = pass(&running, "a jump", [20, 200], |answer| wait(answer)["state"] == "jumped");
    let jump = wait(&answer);
    assert_eq!((&answer["arms"][0]["arm"], &jump["of"]), (&"canary".into(), &"wait".into()), "{answer:#}");
    assert_eq!((&jump["against"], &jump["unit"]), (&"stable".into(), &"seconds".into()), "{answer:#}");
    assert!(jump["now"].as_f64() > Some(0.18) && jump["usual"].as_f64() < Some(0.022), "{answer:#}");
    assert_eq!(
        answer["arms"][0]["comparisons"][0],
        serde_json::json!({"of": "exchange", "against": "before", "state": "unknown"})
    );
    let (_, metrics) = running.get("/metrics");
    let labels = "route=\"shop\",arm=\"canary\",backend=\"canary\"";
    for (of, against, level) in [("wait", "stable", 1), ("exchange", "stable", 0), ("wait", "before", 0)] {
        let line = format!("lb_route_jump{{{labels},of=\"{of}\",against=\"{against}\"}} {level}");
        assert!(metrics.lines().any(|found| found == line), "no `{line}` in\n{metrics}");
    }
}
