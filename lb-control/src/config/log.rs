//! The `[log]` table: what is logged of exchanges, how and where to.

use std::path::PathBuf;
use std::time::Duration;

use super::reader::{Reader, Scope};
use super::shapes;
use super::value::Refused;

/// The access log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccessLog {
    /// Where lines go.
    pub target: LogTarget,
    /// How they are written.
    pub format: LogFormat,
    /// The share of exchanges, neither failed nor slow, that is logged, in hundredths of a percent; absent: all are.
    pub sample: Option<u16>,
    /// From which time on an exchange is slow.
    pub slow: Option<Duration>,
}

/// How access log lines are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Words between spaces.
    #[default]
    Text,
    /// JSON objects.
    Json,
    /// As Apache's httpd does.
    Combined,
}

/// Where access log lines go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum LogTarget {
    /// Nowhere.
    #[default]
    Off,
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A file that is appended to.
    File(PathBuf),
}

pub(super) fn log(reader: &mut Reader<'_>, root: Scope<'_>) -> AccessLog {
    let Some(scope) = reader.table(root, "log", &shapes::LOG) else { return AccessLog::default() };
    let base = reader.report.sources.directory(scope.span).to_owned();
    let access = reader.parsed(scope, "access", |text| match text {
        "off" => Ok(LogTarget::Off),
        "stdout" => Ok(LogTarget::Stdout),
        "stderr" => Ok(LogTarget::Stderr),
        path if path.contains('/') => Ok(LogTarget::File(base.join(path))),
        word => Err(Refused {
            expected: "\"off\", \"stdout\", \"stderr\" or a path with a slash in it".to_owned(),
            meant: lb_core::nearest(word, ["off", "stdout", "stderr"]).map(str::to_owned),
        }),
    });
    let target = access.map(|found| found.value).unwrap_or_default();
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json), ("combined", LogFormat::Combined)];
    let format = reader.choice(scope, "format", &formats, &["haproxy", "common"]);
    let (sample, slow) = (reader.share(scope, "sample"), reader.duration(scope, "slow"));
    if target == LogTarget::Off && !reader.is_broken(scope, "access") {
        for key in ["format", "sample", "slow"] {
            reader.no_effect(scope, key, "`access` is off");
        }
    } else if sample.is_none() && !reader.is_broken(scope, "sample") {
        reader.no_effect(scope, "slow", "without `sample` every exchange is logged");
    }
    let format = format.map(|found| found.value).unwrap_or_default();
    AccessLog { target, format, sample: sample.map(|found| found.value), slow: slow.map(|found| found.value) }
}
