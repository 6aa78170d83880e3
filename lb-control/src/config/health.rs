//! `health` and `outliers` of a backend, and where its servers are checked.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use lb_core::health::{CheckSettings, Initial};

use super::outliers::outliers;
use super::reader::{Located, Reader, Scope};
use super::tree::{Entry, Value};
use super::value::Refused;
use super::{codes, shapes};
use crate::health::settings::{
    BackendHealth, CHECK_TIMEOUT, Checks, HttpProbe, POSTGRES_USER, Probe, Statuses, Target,
};
use crate::report::Diagnostic;

/// Times between checks that can be asked for.
const INTERVALS: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);

/// Checks in a row that can be asked for.
const IN_A_ROW: RangeInclusive<i64> = 1..=100;

/// Bytes that a check may send, and that it may look for, at most.
const TEXT_LEN_MAX: usize = 4096;

/// Fields that a check may add at most.
const HEADERS_MAX: usize = 32;

/// Keys of a check that only one kind has.
const HTTP_KEYS: [&str; 5] = ["path", "method", "host", "headers", "body"];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Http,
    Tcp,
    Redis,
    Postgres,
}

const KINDS: [(&str, Kind); 4] =
    [("http", Kind::Http), ("tcp", Kind::Tcp), ("redis", Kind::Redis), ("postgres", Kind::Postgres)];

/// What is watched of a backend, but for what its servers say.
pub(super) fn health(reader: &mut Reader<'_>, scope: Scope<'_>) -> BackendHealth {
    BackendHealth {
        checks: switched(reader, scope, "health", &shapes::HEALTH, "{ path = \"/healthz\" }", checks),
        outliers: switched(reader, scope, "outliers", &shapes::OUTLIERS, "{ failures = 5 }", outliers),
        ..BackendHealth::default()
    }
}

/// Where a server is checked, if it says so itself.
pub(super) fn target(
    reader: &mut Reader<'_>,
    scope: Scope<'_>,
    address: &'static str,
    port: &'static str,
) -> Target {
    let found = reader.parsed(scope, address, |text| {
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok((ip, None));
        }
        match text.parse::<SocketAddr>() {
            Ok(both) if both.port() > 0 => Ok((both.ip(), Some(both.port()))),
            _ => Err(Refused {
                expected: "an IP address such as \"10.0.1.10\" or \"10.0.1.10:8081\"".to_owned(),
                meant: None,
            }),
        }
    });
    let own = reader.integer(scope, port, 1..=65535).map(|found| found.value as u16);
    let (ip, with) = found.map_or((None, None), |found| (Some(found.value.0), found.value.1));
    if let (Some(_), Some(_), Some(entry)) = (own, with, scope.table.entry(port)) {
        exclusive(reader, entry, &format!("`{address}` has a port already"), "one port");
    }
    Target { ip, port: with.or(own) }
}

/// `true`, `false` or a table; absent is `false`.
fn switched<T>(
    reader: &mut Reader<'_>,
    scope: Scope<'_>,
    key: &'static str,
    shape: &'static super::reader::Shape,
    example: &str,
    read: impl Fn(&mut Reader<'_>, Scope<'_>) -> T,
) -> Option<T> {
    let node = scope.table.get(key)?;
    let empty = super::tree::Table::default();
    let table = match &node.value {
        Value::Boolean(false) => return None,
        Value::Boolean(true) => &empty,
        Value::Table(table) => table,
        _ => {
            reader.wrong_type(node, key, &format!("true, false or a table such as {example}"));
            return None;
        }
    };
    let scope = reader.enter(table, node.span, shape);
    Some(read(reader, scope))
}

fn exclusive(reader: &mut Reader<'_>, entry: &Entry, message: &str, expected: &str) {
    let finding = Diagnostic::error(codes::EXCLUSIVE, message).at(entry.key_span).expected(expected);
    reader.report.add(finding);
}

fn checks(reader: &mut Reader<'_>, scope: Scope<'_>) -> Checks {
    let default = CheckSettings::default();
    let interval = between(reader, scope, "interval", INTERVALS);
    let settled = interval.as_ref().map_or(default.interval, |found| found.value);
    let no_longer = |reader: &mut Reader<'_>, key: &'static str, least: Duration, why: &str| {
        let found = between(reader, scope, key, least..=*INTERVALS.end())?;
        if found.value > settled && !reader.is_broken(scope, "interval") {
            let message = format!("`{key}` is longer than the interval: {why}");
            let finding = Diagnostic::error(codes::CHECK, message).at(found.span);
            reader.report.add(finding.expected(format!("at most \"{}\"", words(settled))));
            return None;
        }
        Some(found.value)
    };
    let overlap = "one check would not have ended when the next begins";
    let timeout = no_longer(reader, "timeout", Duration::from_millis(1), overlap);
    let fast = no_longer(reader, "fast_interval", *INTERVALS.start(), "nothing would be faster");
    let in_a_row = |reader: &mut Reader<'_>, key, default| {
        reader.integer(scope, key, IN_A_ROW).map_or(default, |found| found.value as u32)
    };
    let initial = [("down", Initial::Down), ("up", Initial::Up)];
    let settings = CheckSettings {
        interval: settled,
        fast_interval: fast.unwrap_or(default.fast_interval.min(settled)),
        rise: in_a_row(reader, "rise", default.rise),
        fall: in_a_row(reader, "fall", default.fall),
        initial: reader.choice(scope, "initial", &initial, &[]).map(|it| it.value).unwrap_or_default(),
    };
    Checks {
        settings,
        timeout: timeout.unwrap_or(CHECK_TIMEOUT.min(settled)),
        probe: probe(reader, scope),
        target: target(reader, scope, "address", "port"),
    }
}

/// A duration within bounds.
pub(super) fn between(
    reader: &mut Reader<'_>,
    scope: Scope<'_>,
    key: &'static str,
    bounds: RangeInclusive<Duration>,
) -> Option<Located<Duration>> {
    let found = reader.duration(scope, key)?;
    if bounds.contains(&found.value) {
        return Some(found);
    }
    let expected = format!("from \"{}\" to \"{}\"", words(*bounds.start()), words(*bounds.end()));
    let message = format!("`{key}` is out of range");
    reader.refuse(found.span, message, Refused { expected, meant: None });
    None
}

/// A duration as the file has it.
fn words(duration: Duration) -> String {
    match duration.as_millis() {
        ms if ms % 3_600_000 == 0 => format!("{}h", ms / 3_600_000),
        ms if ms % 60_000 == 0 => format!("{}m", ms / 60_000),
        ms if ms % 1000 == 0 => format!("{}s", ms / 1000),
        ms => format!("{ms}ms"),
    }
}

fn probe(reader: &mut Reader<'_>, scope: Scope<'_>) -> Probe {
    let own = |key: &str| scope.table.entry(key).filter(|entry| !entry.inherited);
    let kind = reader.choice(scope, "kind", &KINDS, &["grpc", "https", "mysql"]).map(|found| found.value);
    if reader.is_broken(scope, "kind") {
        // Which keys go with it cannot be told.
        return Probe::Connect;
    }
    let asks_http = HTTP_KEYS.iter().find_map(|key| own(key));
    let sends = scope.table.entry("send").filter(|entry| !entry.inherited || asks_http.is_none());
    let of_kind = match (kind, sends) {
        (Some(kind), _) => kind,
        (None, Some(_)) => Kind::Tcp,
        (None, None) => Kind::Http,
    };
    let keys: &[&str] = match of_kind {
        Kind::Http => &["path", "method", "host", "headers", "body", "expect"],
        Kind::Tcp => &["send", "expect"],
        Kind::Redis => &[],
        Kind::Postgres => &["user"],
    };
    let mut clashes = false;
    let word = KINDS.iter().find(|(_, known)| *known == of_kind).map_or("", |(word, _)| *word);
    for key in ["path", "method", "host", "headers", "body", "expect", "send", "user"] {
        let Some(entry) = own(key).filter(|_| !keys.contains(&key)) else { continue };
        match kind {
            None if of_kind == Kind::Tcp && HTTP_KEYS.contains(&key) => {
                let message =
                    format!("a check has either `{key}` or `send`: the one asks HTTP, the other not");
                exclusive(reader, entry, &message, "an HTTP check or one that sends");
                clashes = true;
            }
            _ => {
                let message = format!("`{key}` means nothing to a check of kind \"{word}\"");
                let expected = match keys {
                    [] => format!("no keys of its own for \"{word}\""),
                    keys => format!("one of {}", keys.join(", ")),
                };
                exclusive(reader, entry, &message, &expected);
            }
        }
    }
    match of_kind {
        Kind::Http => Probe::Http(http(reader, scope)),
        Kind::Redis => Probe::Redis,
        Kind::Postgres => {
            let user = filled(reader, scope, "user", "the name of a role").filter(|user| {
                let fits = !user.value.contains('\0') && user.value.len() < 64;
                if !fits {
                    let expected = "the name of a role: less than 64 bytes".to_owned();
                    reader.refuse(user.span, "`user` is no role", Refused { expected, meant: None });
                }
                fits
            });
            Probe::Postgres { user: user.map_or_else(|| POSTGRES_USER.to_owned(), |user| user.value) }
        }
        // Which of both it is to be cannot be told.
        Kind::Tcp if clashes => Probe::Connect,
        Kind::Tcp => exchange(reader, scope),
    }
}

fn exchange(reader: &mut Reader<'_>, scope: Scope<'_>) -> Probe {
    let send = filled(reader, scope, "send", "what is sent, such as \"PING\\r\\n\"");
    // An answer that was inherited is not to what this one sends.
    let entry = scope.table.entry("expect");
    let is_ours =
        entry.is_some_and(|it| !it.inherited || scope.table.entry("send").is_none_or(|send| send.inherited));
    let expect = if is_ours {
        filled(reader, scope, "expect", "a part of the answer, such as \"+PONG\"")
    } else {
        None
    };
    match (send, expect) {
        (None, None) => Probe::Connect,
        (Some(_), None) => {
            if !is_ours {
                reader.missing(scope, "expect", "a part of the answer, such as expect = \"+PONG\"");
            }
            Probe::Connect
        }
        (send, Some(expect)) => Probe::Exchange {
            send: send.map(|text| text.value.into_bytes()).unwrap_or_default(),
            expect: expect.value.into_bytes(),
        },
    }
}

/// A string that is not empty, and not too long.
fn filled(
    reader: &mut Reader<'_>,
    scope: Scope<'_>,
    key: &'static str,
    expected: &str,
) -> Option<Located<String>> {
    reader.parsed(scope, key, |text| match text.len() {
        1..=TEXT_LEN_MAX => Ok(text.to_owned()),
        0 => Err(Refused { expected: expected.to_owned(), meant: None }),
        _ => Err(Refused { expected: format!("at most {TEXT_LEN_MAX} bytes"), meant: None }),
    })
}

fn http(reader: &mut Reader<'_>, scope: Scope<'_>) -> HttpProbe {
    let method = reader.parsed(scope, "method", |text| {
        let upper = text.to_ascii_uppercase();
        let is_token = !text.is_empty() && text.len() <= 32 && text.bytes().all(is_token_byte);
        let takes = is_token && upper != "CONNECT";
        match takes && text == upper {
            true => Ok(upper),
            false => Err(Refused {
                expected: "a method such as \"GET\" or \"HEAD\"".to_owned(),
                meant: takes.then_some(upper),
            }),
        }
    });
    let path = reader.parsed(scope, "path", |text| {
        let plain =
            text.len() <= TEXT_LEN_MAX && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
        match plain && text.starts_with('/') {
            true => Ok(text.to_owned()),
            false => Err(Refused {
                expected: "a path such as \"/healthz\" or \"/status?full=1\", percent-encoded".to_owned(),
                meant: (plain && !text.is_empty() && !text.contains("://")).then(|| format!("/{text}")),
            }),
        }
    });
    let host = reader.parsed(scope, "host", |text| {
        let fits = !text.is_empty() && text.len() <= 255 && text.bytes().all(|byte| byte.is_ascii_graphic());
        match fits && !text.contains('/') {
            true => Ok(text.to_owned()),
            false => Err(Refused { expected: "a host such as \"app.internal\"".to_owned(), meant: None }),
        }
    });
    let probe = HttpProbe {
        method: method.map_or_else(|| "GET".to_owned(), |found| found.value),
        path: path.map_or_else(|| "/".to_owned(), |found| found.value),
        host: host.map(|found| found.value),
        headers: headers(reader, scope, &OWN),
        statuses: statuses(reader, scope),
        body: filled(reader, scope, "body", "a part of the body, such as \"ok\"").map(|found| found.value),
    };
    if let (Some(_), "HEAD", Some(entry)) = (&probe.body, &*probe.method, scope.table.entry("body")) {
        exclusive(reader, entry, "the answer to HEAD has no body", "another method, or no `body`");
    }
    probe
}

/// Bytes of a token (RFC 9110, section 5.6.2).
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// What a request of ours says itself.
pub(super) struct Own {
    /// Which request, for a person.
    pub(super) who: &'static str,
    /// The fields that only it may set, `host` apart.
    pub(super) names: &'static [&'static str],
    /// What to write instead of a Host.
    pub(super) host: &'static str,
}

const OWN: Own = Own {
    who: "a check",
    names: &["connection", "content-length", "transfer-encoding", "upgrade", "expect"],
    host: "the key `host`",
};

/// Further fields of requests of ours: names in lower case, and values.
pub(super) fn headers(reader: &mut Reader<'_>, scope: Scope<'_>, own: &Own) -> Vec<(String, String)> {
    let mut headers = Vec::new();
    for (name, value) in reader.pairs(scope, "headers") {
        let lower = name.value.to_ascii_lowercase();
        let refuse = |reader: &mut Reader<'_>, span, message: String, expected: &str| {
            reader.refuse(span, message, Refused { expected: expected.to_owned(), meant: None });
        };
        if lower.is_empty() || !lower.bytes().all(is_token_byte) {
            let message = format!("`{}` cannot be the name of a header", name.value);
            refuse(reader, name.span, message, "letters, digits and hyphens");
        } else if lower == "host" || own.names.contains(&&*lower) {
            let expected = if lower == "host" { own.host } else { "another field" };
            refuse(reader, name.span, format!("`{lower}` is what {} says itself", own.who), expected);
        } else if headers.len() == HEADERS_MAX {
            let expected = format!("at most {HEADERS_MAX} fields");
            refuse(reader, name.span, "there are too many fields".to_owned(), &expected);
        } else if value.value.len() > TEXT_LEN_MAX
            || value.value.bytes().any(|byte| byte < b' ' || byte == 127)
        {
            let message = format!("`{lower}` cannot have this value");
            refuse(reader, value.span, message, "text without line ends, of at most 4096 bytes");
        } else {
            headers.push((lower, value.value));
        }
    }
    headers
}

const STATUSES: &str = "a status such as 200, \"2xx\" or \"200-299\", or a list of them";

/// `204`, `"2xx"`, `"200-299"`, or a list of these.
fn statuses(reader: &mut Reader<'_>, scope: Scope<'_>) -> Statuses {
    // What is inherited together with another kind means its answers.
    let Some(entry) = scope.table.entry("expect") else { return Statuses::default() };
    if entry.inherited && scope.table.entry("send").is_some_and(|send| send.inherited) {
        return Statuses::default();
    }
    let items = match &entry.node.value {
        Value::Array(items) => items.as_slice(),
        _ => std::slice::from_ref(&entry.node),
    };
    let mut ranges = Vec::with_capacity(items.len());
    for item in items {
        let read = match &item.value {
            Value::Integer(status @ 200..=599) => Ok((*status as u16, *status as u16)),
            Value::Integer(status) => Err((status.to_string(), None)),
            Value::String(text) => range(text).map_err(|meant| (text.clone(), meant)),
            _ => {
                reader.wrong_type(item, "expect", STATUSES);
                continue;
            }
        };
        match read {
            Ok(range) => ranges.push(range),
            Err((text, meant)) => {
                let message = format!("`expect` cannot be `{}`", super::reader::shortened(&text));
                reader.refuse(item.span, message, Refused { expected: STATUSES.to_owned(), meant });
            }
        }
    }
    if items.is_empty() {
        let expected = STATUSES.to_owned();
        reader.refuse(entry.node.span, "no status would be good", Refused { expected, meant: None });
    }
    Statuses(ranges)
}

/// A range of final statuses, or what was probably meant.
pub(super) fn range(text: &str) -> Result<(u16, u16), Option<String>> {
    let status = |text: &str| text.parse::<u16>().ok().filter(|status| (200..600).contains(status));
    let lower = text.to_ascii_lowercase();
    if let Some(class) = lower.strip_suffix("xx").and_then(|class| class.parse::<u16>().ok())
        && (2..6).contains(&class)
    {
        return if lower == text { Ok((class * 100, class * 100 + 99)) } else { Err(Some(lower)) };
    }
    if let Some((first, last)) = text.split_once('-') {
        return match (status(first.trim()), status(last.trim())) {
            (Some(first), Some(last)) if first <= last => Ok((first, last)),
            (Some(first), Some(last)) => Err(Some(format!("{last}-{first}"))),
            _ => Err(None),
        };
    }
    status(text).map(|status| (status, status)).ok_or(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_statuses() {
        for (text, expected) in [("2xx", (200, 299)), ("200", (200, 200)), ("200-204", (200, 204))] {
            assert_eq!(range(text), Ok(expected));
        }
        assert_eq!(range("2XX"), Err(Some("2xx".to_owned())));
        assert_eq!(range("299-200"), Err(Some("200-299".to_owned())));
        for text in ["", "x", "1xx", "6xx", "100", "600", "200-", "-200", "200,204"] {
            assert_eq!(range(text), Err(None), "{text}");
        }
    }

    #[test]
    fn durations_as_the_file_has_them() {
        for (ms, text) in [(100, "100ms"), (2000, "2s"), (300_000, "5m"), (3_600_000, "1h"), (1500, "1500ms")]
        {
            assert_eq!(words(Duration::from_millis(ms)), text);
        }
    }
}
