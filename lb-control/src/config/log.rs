//! The `[log]` table: what is logged of exchanges, how and where to.

use std::path::PathBuf;
use std::time::Duration;

use super::metrics::SinkAddress;
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

/// The syslog daemon that takes lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyslogSettings {
    /// Where it listens.
    pub address: SinkAddress,
    /// The facility's number.
    pub facility: u8,
    /// Who the messages are from.
    pub name: String,
}

impl Default for SyslogSettings {
    fn default() -> SyslogSettings {
        SyslogSettings {
            address: SinkAddress::Unix(PathBuf::from("/dev/log")),
            facility: LOCAL0,
            name: "lb".to_owned(),
        }
    }
}

/// Facilities, at their numbers (RFC 5424 section 6.2.1).
const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
    "ntp", "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4", "local5", "local6",
    "local7",
];

const LOCAL0: u8 = 16;

/// Bytes of a syslog message's `APP-NAME` at most (RFC 5424 section 6.2.5).
const NAME_LEN_MAX: usize = 48;

fn syslog(reader: &mut Reader<'_>, parent: Scope<'_>) -> Option<SyslogSettings> {
    let scope = reader.table(parent, "syslog", &shapes::SYSLOG)?;
    let mut settings = SyslogSettings::default();
    if let Some(address) = reader.parsed(scope, "address", |text| super::metrics::sink(text, 514)) {
        settings.address = address.value;
    }
    let facilities: Vec<(&'static str, u8)> = FACILITIES.into_iter().zip(0..).collect();
    if let Some(facility) = reader.choice(scope, "facility", &facilities, &[]) {
        settings.facility = facility.value;
    }
    let name = reader.parsed(scope, "name", |text| {
        let is_plain =
            (1..=NAME_LEN_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        let expected = format!("1 to {NAME_LEN_MAX} visible ASCII characters");
        if is_plain { Ok(text.to_owned()) } else { Err(Refused { expected, meant: None }) }
    });
    if let Some(name) = name {
        settings.name = name.value;
    }
    Some(settings)
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
    /// A syslog daemon.
    Syslog(SyslogSettings),
}

pub(super) fn log(reader: &mut Reader<'_>, root: Scope<'_>) -> AccessLog {
    let Some(scope) = reader.table(root, "log", &shapes::LOG) else { return AccessLog::default() };
    let base = reader.report.sources.directory(scope.span).to_owned();
    let access = reader.parsed(scope, "access", |text| match text {
        "off" => Ok(LogTarget::Off),
        "stdout" => Ok(LogTarget::Stdout),
        "stderr" => Ok(LogTarget::Stderr),
        "syslog" => Ok(LogTarget::Syslog(SyslogSettings::default())),
        path if path.contains('/') => Ok(LogTarget::File(base.join(path))),
        word => Err(Refused {
            expected: "\"off\", \"stdout\", \"stderr\", \"syslog\" or a path with a slash in it".to_owned(),
            meant: lb_core::nearest(word, ["off", "stdout", "stderr", "syslog"]).map(str::to_owned),
        }),
    });
    let mut target = access.map(|found| found.value).unwrap_or_default();
    match (&mut target, syslog(reader, scope)) {
        (LogTarget::Syslog(default), Some(settings)) => *default = settings,
        (_, Some(_)) if !reader.is_broken(scope, "access") => {
            reader.no_effect(scope, "syslog", "`access` is not \"syslog\"");
        }
        _ => {}
    }
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
