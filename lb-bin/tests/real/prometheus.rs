//! A real Prometheus scrapes, and everything that we ship for it works on what it has.

use std::collections::BTreeSet;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::client::{get, once};
use crate::harness::lb::backend;
use crate::harness::origin::{ok, response};
use crate::harness::tools::{run_ok, unused_address};
use crate::harness::*;

/// What we ship.
fn shipped(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operating")).join(name)
}

/// A Prometheus that scrapes one target every second.
struct Prometheus {
    child: Child,
    address: SocketAddr,
    directory: TempDir,
}

impl Prometheus {
    fn start(target: SocketAddr) -> Prometheus {
        let directory = tempfile::Builder::new().prefix("lb-prometheus-").tempdir().unwrap();
        let address = unused_address();
        let config = format!(
            "global: {{ scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s }}\n\
             rule_files: [\"{}\"]\n\
             scrape_configs:\n- job_name: lb\n  static_configs: [{{ targets: [\"{target}\"] }}]\n",
            shipped("alerts.yml").canonicalize().unwrap().display()
        );
        fs::write(directory.path().join("prometheus.yml"), config).unwrap();
        let log = fs::File::create(directory.path().join("log")).unwrap();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", directory.path().join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", directory.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("prometheus starts (the script `test` at the top installs it)");
        Prometheus { child, address, directory }
    }

    /// An answer of its API.
    #[track_caller]
    fn ask(&self, target: &str) -> Value {
        let page = get(self.address, "prometheus", target);
        let answer: Value =
            serde_json::from_str(&page.text()).unwrap_or_else(|_| panic!("{target}: {page:?}"));
        assert_eq!(answer["status"], "success", "{target}: {answer}");
        answer["data"].clone()
    }

    /// The samples that a query gives now.
    #[track_caller]
    fn query(&self, query: &str) -> Vec<Value> {
        self.ask(&format!("/api/v1/query?query={}", encoded(query)))["result"].as_array().unwrap().clone()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", fs::read_to_string(self.directory.path().join("log")).unwrap_or_default());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// What a Grafana puts in the place of its variables.
fn filled_in(query: &str) -> String {
    let filled = query
        .replace("$__rate_interval", "1m")
        .replace("$instance", ".*")
        .replace("$route", ".*")
        .replace("$backend", ".*");
    assert!(!filled.contains('$'), "a variable that the test does not know: {query}");
    filled
}

/// Every query of the dashboard, with the name of its panel.
fn queries(dashboard: &Value) -> Vec<(String, String)> {
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let queries = panels.flat_map(|panel| {
        let title = panel["title"].as_str().unwrap().to_owned();
        let targets = panel["targets"].as_array().cloned().unwrap_or_default();
        targets.into_iter().map(move |target| (title.clone(), target["expr"].as_str().unwrap().to_owned()))
    });
    queries.collect()
}

/// The names of our metrics in a text.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words.filter(|word| word.starts_with("lb_")).map(str::to_owned).collect()
}

const SECRETS: &str = "one:00112233445566778899aabbccddeeff\nshare:ffeeddccbbaa99887766554433221100\n";

/// A split with traffic on both arms, servers that fail in every way, a fallback and a sink that takes nothing; a server
/// whose one place is taken, for which others wait in vain; servers that are to leave. The client is who has the place.
fn busy() -> (Lb, [Origin; 3], Client) {
    let good = Origin::answering(|request| match request.target() {
        "/shop/500" => response(500, "No", &[], "no"),
        _ => ok("yes"),
    });
    let hangs_up = Origin::scripted(|conversation| _ = conversation.request());
    let full = Origin::scripted(|conversation| {
        if conversation.request().is_some() {
            conversation.until_closed();
        }
    });
    let config = format!(
        "[session]\nsecret_file = \"@DIR@/secret\"\n\
         [metrics]\nstatsd = {{ address = \"{dead}\", interval = \"1s\" }}\n\
         [trace]\notlp = \"http://{dead}\"\n\
         [[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n\
         [[route]]\nname = \"shop\"\npath_prefix = \"/shop\"\nbackend = \"old\"\n\
         canary = {{ backend = \"new\", cookie = \"canary\", share = \"50%\", release = \"1\" }}\n\
         [[route]]\nname = \"sick\"\npath_prefix = \"/sick\"\nbackend = \"sick\"\n\
         [[route]]\nname = \"lame\"\npath_prefix = \"/lame\"\nbackend = \"gone\"\n\
         canary = {{ backend = \"old\", share = \"0%\", release = \"2\", mark_cookie = \"lame\" }}\n\
         [[route]]\nname = \"full\"\npath_prefix = \"/full\"\nbackend = \"full\"\n\
         timeouts = {{ response = \"1h\" }}\n\
         [[backend]]\nname = \"full\"\nqueue = {{ timeout = \"10ms\" }}\n\
         server = [{{ name = \"f\", address = \"{}\", max_requests = 1 }}]\n\
         [[backend]]\nname = \"leaving\"\nsticky = true\nserver = [\
         {{ name = \"l\", address = \"127.0.0.1:9\", admin = {{ drain_until = 2099-01-01T00:00:00Z }} }}, \
         {{ name = \"m\", address = \"127.0.0.2:9\", admin = \"maintenance\" }}]\n{}{}{}{}",
        full.address,
        backend("old", &[("o", good.address)]),
        backend("new", &[("n", good.address)]),
        backend("sick", &[("s", hangs_up.address), ("t", hangs_up.address)]),
        backend("gone", &[("g", unused_address())]),
        dead = unused_address(),
    );
    let lb = Setup::new(Driver::Auto, config).file("secret", SECRETS).start();
    let mut holds = Client::connect(lb.web());
    holds.send("GET /full HTTP/1.1\r\nHost: a\r\n\r\n");
    full.wait_for("it to have its place", |records| records.iter().any(|(bytes, _)| !bytes.is_empty()));
    (lb, [good, hangs_up, full], holds)
}

fn traffic(lb: &Lb) {
    for target in ["/shop/1", "/shop/500", "/sick", "/lame", "/nowhere", "/full"] {
        for cookie in ["always", "never"] {
            once(lb.web(), format!("GET {target} HTTP/1.1\r\nHost: a\r\nCookie: canary={cookie}\r\n\r\n"));
        }
    }
}

#[test]
fn every_shipped_query_finds_something() {
    let (lb, _origins, _holds) = busy();
    let prometheus = Prometheus::start(lb.admin);
    until("prometheus to listen", || TcpStream::connect(prometheus.address).is_ok());
    until("prometheus to be ready", || get(prometheus.address, "prometheus", "/-/ready").status() == 200);
    // Rates need two scrapes of every series, and a series begins with its first event.
    until("three scrapes under traffic", || {
        traffic(&lb);
        prometheus.query("count_over_time(lb_route_fallbacks_total{arm=\"stable\"}[1m]) >= 3").len() >= 2
            && !prometheus.query("rate(lb_statsd_packets_total{result=\"lost\"}[1m]) > 0").is_empty()
    });
    let target = &prometheus.ask("/api/v1/targets")["activeTargets"][0];
    assert_eq!((&target["health"], &target["lastError"]), (&"up".into(), &"".into()), "{target}");

    let dashboard = fs::read_to_string(shipped("grafana.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
    let queries = queries(&dashboard);
    assert!(queries.len() > 40, "{queries:?}");
    let empty: Vec<_> = queries
        .iter()
        .filter(|(_, query)| {
            let found = prometheus.query(&filled_in(query));
            // A quantile of nothing is NaN: something must have been observed.
            found.iter().all(|sample| sample["value"][1] == "NaN")
        })
        .collect();
    assert!(empty.is_empty(), "queries of the dashboard without data: {empty:#?}");
    for annotation in dashboard["annotations"]["list"].as_array().unwrap() {
        prometheus.query(&filled_in(annotation["expr"].as_str().unwrap()));
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        let Some(query) = variable["query"]["query"].as_str() else { continue };
        let words = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')')).unwrap();
        let (metric, label) = words.split_once(", ").unwrap();
        let values = prometheus.ask(&format!("/api/v1/label/{label}/values?match%5B%5D={metric}"));
        assert!(!values.as_array().unwrap().is_empty(), "{query}");
    }

    until("every rule to be evaluated without error", || {
        let groups = &prometheus.ask("/api/v1/rules")["groups"];
        let rules: Vec<&Value> =
            groups.as_array().unwrap().iter().flat_map(|it| it["rules"].as_array().unwrap()).collect();
        assert!(rules.iter().all(|rule| rule["lastError"].is_null()), "{rules:#?}");
        rules.len() > 10 && rules.iter().all(|rule| rule["health"] == "ok")
    });
    // What a rule is about exists: an expression that compares is empty as long as all is well.
    let rules = fs::read_to_string(shipped("alerts.yml")).unwrap();
    for name in names(&rules) {
        let found = prometheus.query(&format!("count({{__name__=~\"{name}(_bucket)?\"}})"));
        assert!(!found.is_empty(), "a rule names {name}: there is none");
    }
    // What is wrong here is told: a route whose servers all hang up, an arm that cannot serve.
    let pending: BTreeSet<String> = prometheus
        .query("ALERTS")
        .iter()
        .map(|alert| alert["metric"]["alertname"].as_str().unwrap().to_owned())
        .collect();
    for expected in ["LbFailing", "LbFallingBack", "LbLosingRecords", "LbQueueRefusing", "LbRetrying"] {
        assert!(pending.contains(expected), "{expected} is not in {pending:?}");
    }
}

#[test]
fn the_shipped_rules_say_what_they_should() {
    let directory = tempfile::tempdir().unwrap();
    let rules = shipped("alerts.yml").canonicalize().unwrap();
    run_ok(Command::new("promtool").args(["check", "rules"]).arg(&rules));
    let tests = include_str!("alerts.test.yml").replace("@RULES@", &rules.display().to_string());
    let file = directory.path().join("tests.yml");
    fs::write(&file, tests).unwrap();
    run_ok(Command::new("promtool").args(["test", "rules"]).arg(&file));
}

#[test]
fn every_shipped_rule_is_seen_to_fire() {
    let rules = fs::read_to_string(shipped("alerts.yml")).unwrap();
    let names: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(names.len() > 10, "{names:?}");
    let tests = include_str!("alerts.test.yml");
    let fires = |name: &&str| {
        let named = format!("alertname: {name}\n");
        tests.split(&named).skip(1).any(|test| test.trim_start().starts_with("exp_alerts:\n"))
    };
    let quiet: Vec<&str> = names.iter().filter(|name| !fires(name)).copied().collect();
    assert!(quiet.is_empty(), "no test in alerts.test.yml expects these: {quiet:?}");
}
