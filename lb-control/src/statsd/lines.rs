//! Families as StatsD lines: `name:value|type|@rate|#tag:value,…`.
//!
//! Counters are what was added since the last time (`c`), gauges what they are (`g`), times milliseconds (`ms`): one
//! line for every bucket that something fell into, with a rate that makes it count for as many.

use std::collections::HashMap;
use std::fmt::Write as _;

use lb_core::histogram::{Histogram, typical_ns};

use crate::metrics::family::{Family, Labels, Value};

/// Writes lines, and remembers what it has told.
pub(super) struct Lines {
    prefix: String,
    /// Those of the configuration, joined.
    tags: String,
    told: HashMap<(&'static str, Labels), Value>,
}

impl Lines {
    pub(super) fn new(prefix: &str, tags: &[String]) -> Lines {
        Lines { prefix: prefix.to_owned(), tags: tags.join(","), told: HashMap::new() }
    }

    /// What is new in the families, as packets of at most `len` bytes. Families of other products' names are
    /// left out: they say the same again.
    pub(super) fn packets(&mut self, families: &[Family], len: usize) -> Vec<Vec<u8>> {
        let mut packets = Packets { len, done: Vec::new(), open: Vec::new() };
        let mut told = HashMap::with_capacity(self.told.len());
        for family in families.iter().filter(|family| family.name.starts_with("lb_")) {
            for sample in &family.samples {
                let key = (family.name, sample.labels.clone());
                let before = self.told.get(&key);
                match &sample.value {
                    Value::Level(level) => packets.add(&self.line(&key, level, "g", None)),
                    Value::Part(part) => packets.add(&self.line(&key, part, "g", None)),
                    Value::Count(count) => {
                        let since = match before {
                            // It began anew where it is less.
                            Some(Value::Count(before)) if before <= count => count - before,
                            _ => *count,
                        };
                        if since > 0 {
                            packets.add(&self.line(&key, since, "c", None));
                        }
                        told.insert(key, sample.value.clone());
                    }
                    Value::Times(times, _) => {
                        let since = match before {
                            Some(Value::Times(before, _)) if before.count() <= times.count() => {
                                times.since(before)
                            }
                            _ => times.clone(),
                        };
                        self.times(&key, &since, &mut packets);
                        told.insert(key, sample.value.clone());
                    }
                }
            }
        }
        self.told = told;
        packets.finish()
    }

    fn times(&self, key: &(&'static str, Labels), since: &Histogram, packets: &mut Packets) {
        for (bucket, count) in since.buckets() {
            let ms = typical_ns(bucket) as f64 / 1e6;
            packets.add(&self.line(key, ms, "ms", Some(count)));
        }
    }

    fn line(
        &self,
        (name, labels): &(&'static str, Labels),
        value: impl std::fmt::Display,
        kind: &str,
        weight: Option<u64>,
    ) -> String {
        // Times are told in milliseconds, which is what StatsD's timers are.
        let name = name.strip_suffix("_seconds").unwrap_or(name);
        let mut line = format!("{}{name}:{value}|{kind}", self.prefix);
        if let Some(weight) = weight.filter(|weight| *weight > 1) {
            let _ = write!(line, "|@{}", rate(weight));
        }
        let mut separator = "|#";
        if !self.tags.is_empty() {
            line.extend([separator, &self.tags]);
            separator = ",";
        }
        for (name, value) in labels.iter().filter(|(_, value)| !value.is_empty()) {
            line.extend([separator, name, ":"]);
            line.extend(value.chars().map(tag_character));
            separator = ",";
        }
        line
    }
}

/// A rate whose inverse, cut to a whole number as receivers do, is `weight`.
fn rate(weight: u64) -> f64 {
    let mut rate = 1.0 / weight as f64;
    while 1.0 / rate < weight as f64 {
        rate = rate.next_down();
    }
    rate
}

/// What would end a tag or the line cannot stand in one.
fn tag_character(character: char) -> char {
    match character {
        ',' | '|' | '#' | '@' => '_',
        character if character.is_whitespace() || character.is_control() => '_',
        character => character,
    }
}

/// Lines in packets, separated by line ends.
struct Packets {
    len: usize,
    done: Vec<Vec<u8>>,
    open: Vec<u8>,
}

impl Packets {
    fn add(&mut self, line: &str) {
        if !self.open.is_empty() && self.open.len() + 1 + line.len() > self.len {
            self.done.push(std::mem::take(&mut self.open));
        }
        if !self.open.is_empty() {
            self.open.push(b'\n');
        }
        self.open.extend_from_slice(line.as_bytes());
    }

    fn finish(mut self) -> Vec<Vec<u8>> {
        if !self.open.is_empty() {
            self.done.push(self.open);
        }
        self.done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::family::{Edges, Kind, Sample};
    use std::time::Duration;

    fn family(
        name: &'static str,
        kind: Kind,
        labels: &[(&'static str, &'static str)],
        value: Value,
    ) -> Family {
        let labels = Labels::of(labels.iter().map(|(name, value)| (*name, (*value).into())).collect());
        Family { name, help: "", kind, samples: vec![Sample { labels, value }] }
    }

    fn told(lines: &mut Lines, family: &Family) -> String {
        let packets = lines.packets(std::slice::from_ref(family), 1000);
        packets.iter().map(|packet| String::from_utf8_lossy(packet).into_owned()).collect()
    }

    #[test]
    fn counters_are_told_by_what_came() {
        let mut lines = Lines::new("prod.", &["env:prod".to_owned()]);
        let labels = [("route", "a b,c|d#e"), ("arm", ""), ("address", "10.0.0.1:80")];
        let requests = |count| family("lb_route_requests", Kind::Counter, &labels, Value::Count(count));
        let tags = "|#env:prod,route:a_b_c_d_e,address:10.0.0.1:80";
        assert_eq!(told(&mut lines, &requests(5)), format!("prod.lb_route_requests:5|c{tags}"));
        assert_eq!(told(&mut lines, &requests(5)), "");
        assert_eq!(told(&mut lines, &requests(7)), format!("prod.lb_route_requests:2|c{tags}"));
        assert_eq!(told(&mut lines, &requests(1)), format!("prod.lb_route_requests:1|c{tags}"), "anew");
        assert!(lines.packets(&[], 1000).is_empty());
        assert_eq!(
            told(&mut lines, &requests(3)),
            format!("prod.lb_route_requests:3|c{tags}"),
            "it came back"
        );
    }

    #[test]
    fn gauges_are_told_always_and_others_names_never() {
        let mut lines = Lines::new("", &[]);
        let ready = family("lb_ready", Kind::Gauge, &[], Value::Level(1));
        assert_eq!(told(&mut lines, &ready), "lb_ready:1|g");
        assert_eq!(told(&mut lines, &ready), "lb_ready:1|g");
        let share = family("lb_route_share_served", Kind::Gauge, &[("arm", "canary")], Value::Part(0.125));
        assert_eq!(told(&mut lines, &share), "lb_route_share_served:0.125|g|#arm:canary");
        let other = family("haproxy_frontend_status", Kind::Gauge, &[], Value::Level(1));
        assert_eq!(told(&mut lines, &other), "");
    }

    #[test]
    fn times_are_told_by_bucket_with_their_weight() {
        let mut lines = Lines::new("", &[]);
        let mut times = Histogram::default();
        (0..3).for_each(|_| times.record(Duration::from_micros(8)));
        times.record(Duration::from_millis(5));
        let of = |times: &Histogram| {
            family("lb_route_wait_seconds", Kind::Histogram, &[], Value::Times(times.clone(), Edges::Fine))
        };
        let text = told(&mut lines, &of(&times));
        let (first, second) = text.split_once('\n').unwrap();
        let rate = first.strip_prefix("lb_route_wait:0.008|ms|@").unwrap().parse::<f64>().unwrap();
        assert_eq!((1.0 / rate) as u64, 3);
        let ms = second.strip_prefix("lb_route_wait:").and_then(|rest| rest.strip_suffix("|ms")).unwrap();
        assert!((ms.parse::<f64>().unwrap() - 5.0).abs() < 5.0 / 17.0);
        times.record(Duration::from_micros(8));
        assert_eq!(told(&mut lines, &of(&times)), "lb_route_wait:0.008|ms");
    }

    #[test]
    fn a_rate_stands_for_its_weight_however_it_is_cut() {
        for weight in (1..10_000).chain([99_999, 1_000_003, 123_456_789]) {
            let text = rate(weight).to_string();
            assert_eq!((1.0 / text.parse::<f64>().unwrap()) as u64, weight, "{text}");
            assert!(text.len() < 30 && !text.contains('e'), "{text}");
        }
    }

    #[test]
    fn packets_are_full_and_no_longer_than_they_may_be() {
        let mut packets = Packets { len: 10, done: Vec::new(), open: Vec::new() };
        ["aaaa", "bbbb", "c", "a line that is too long", "dd"].iter().for_each(|line| packets.add(line));
        let packets = packets.finish();
        let texts: Vec<_> = packets.iter().map(|packet| std::str::from_utf8(packet).unwrap()).collect();
        assert_eq!(texts, ["aaaa\nbbbb", "c", "a line that is too long", "dd"]);
    }
}
