//! Families as text: OpenMetrics, or the older text format of Prometheus for those who do not ask for it.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelSet, LabelSetEncoder, MetricEncoder, NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::family::{Family, Kind, Labels, Sample, Value};

/// How to write the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// The text format 0.0.4 of Prometheus.
    Plain,
}

impl Format {
    /// What somebody gets who sends this `Accept`: OpenMetrics if it is named, as Prometheus does; not for `*/*`,
    /// because `curl` and `promtool check metrics` say that and know the older format only.
    pub(crate) fn accepted(accept: &str) -> Format {
        let named = |part: &str| part.trim_start().starts_with("application/openmetrics-text");
        if accept.split(',').any(named) { Format::OpenMetrics } else { Format::Plain }
    }

    /// Its content type.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::Plain => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// The families as text.
///
/// # Errors
/// None that are ours: writing to a string does not fail.
pub(crate) fn text(families: Vec<Family>, format: Format) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Families(families)));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry)?;
    Ok(if format == Format::OpenMetrics { text } else { plain(&text) })
}

/// The same in the older format, which differs in two things only: a counter's family is called like its samples,
/// and there is no mark at the end.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 16);
    // Help stands before the type, which decides the name.
    let mut help = None;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
            continue;
        }
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            let suffix = if kind == "counter" { "_total" } else { "" };
            if let Some((_, words)) = help.take() {
                out.extend(["# HELP ", name, suffix, " ", words, "\n"]);
            }
            out.extend(["# TYPE ", name, suffix, " ", kind, "\n"]);
        } else if line != "# EOF" {
            out.extend([line, "\n"]);
        }
    }
    out
}

#[derive(Debug)]
struct Families(Vec<Family>);

impl Collector for Families {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for family in &self.0 {
            let kind = match family.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
                Kind::Histogram => MetricType::Histogram,
            };
            let mut metric = encoder.encode_descriptor(family.name, family.help, None, kind)?;
            for sample in &family.samples {
                if sample.labels.iter().next().is_none() {
                    write(&mut metric, sample)?;
                } else {
                    write(&mut metric.encode_family(&sample.labels)?, sample)?;
                }
            }
        }
        Ok(())
    }
}

impl EncodeLabelSet for Labels {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        for (name, value) in self.iter() {
            prometheus_client::encoding::EncodeLabel::encode(
                &(*name, value.as_ref()),
                encoder.encode_label(),
            )?;
        }
        Ok(())
    }
}

fn write(metric: &mut MetricEncoder<'_>, sample: &Sample) -> fmt::Result {
    match &sample.value {
        Value::Count(count) => metric.encode_counter::<NoLabelSet, u64, f64>(count, None),
        Value::Level(level) => metric.encode_gauge(&i64::try_from(*level).unwrap_or(i64::MAX)),
        Value::Part(part) => metric.encode_gauge(part),
        Value::Times(times, edges) => {
            let (mut buckets, mut below) = (Vec::new(), 0);
            for edge_us in edges.us() {
                let up_to = times.count_up_to(edge_us);
                buckets.push((edge_us as f64 / 1e6, up_to - below));
                below = up_to;
            }
            let count = times.count();
            buckets.push((f64::INFINITY, count - below));
            metric.encode_histogram::<NoLabelSet>(times.sum_us() as f64 / 1e6, count, &buckets, None)
        }
    }
}
