//! Routes: what a request must look like, where it goes, and what is done to it.

use lb_core::spec::{
    Actions, CanarySpec, Class, EncodedSlash, Fallback, HeaderEdits, Marked, PathEncoding, PathMatch,
    Redirect, Reply, RouteSpec, SessionKey, Share, ValueMatch, ValueTest,
};

use super::reader::{Reader, Scope};
use super::retry::retry;
use super::settings::{networks, timeouts};
use super::tree::{Entry, Value};
use super::value::Refused;
use super::{codes, rate, shapes};
use crate::report::Diagnostic;

pub(super) fn routes(reader: &mut Reader<'_>, root: Scope<'_>) -> Vec<RouteSpec> {
    reader.tables(root, "route", &shapes::ROUTE).into_iter().map(|scope| route(reader, scope)).collect()
}

fn route(reader: &mut Reader<'_>, scope: Scope<'_>) -> RouteSpec {
    let texts = |reader: &mut Reader<'_>, key| -> Vec<String> {
        reader.strings(scope, key).into_iter().map(|text| text.value).collect()
    };
    let slashes = [("keep", EncodedSlash::Keep), ("refuse", EncodedSlash::Refuse)];
    let classes = Class::ALL.map(|class| (class.word(), class));
    let encodings = [("strict", PathEncoding::Strict), ("raw", PathEncoding::Raw)];
    RouteSpec {
        name: reader
            .required(scope, "name", "a name such as \"shop\"")
            .map(|name| name.value)
            .unwrap_or_default(),
        listeners: texts(reader, "listener"),
        hosts: texts(reader, "host"),
        path: path(reader, scope),
        methods: texts(reader, "method"),
        headers: conditions(reader, scope, "header"),
        query: conditions(reader, scope, "query"),
        cookies: conditions(reader, scope, "cookie"),
        sources: networks(reader, scope, "source"),
        priority: reader
            .integer(scope, "priority", -1_000_000..=1_000_000)
            .map_or(0, |found| found.value as i32),
        class: reader.choice(scope, "class", &classes, &[]).map(|found| found.value).unwrap_or_default(),
        encoded_slash: reader
            .choice(scope, "encoded_slash", &slashes, &[])
            .map(|found| found.value)
            .unwrap_or_default(),
        path_encoding: reader
            .choice(scope, "path_encoding", &encodings, &[])
            .map(|found| found.value)
            .unwrap_or_default(),
        backend: reader.string(scope, "backend").map(|backend| backend.value),
        canary: canary(reader, scope),
        actions: actions(reader, scope),
        timeouts: timeouts(reader, scope, &shapes::ROUTE_TIMEOUTS),
        retry: retry(reader, scope, &shapes::ROUTE_RETRY),
        rate: rate::rate(reader, scope),
        body_rate: rate::body_rate(reader, scope),
    }
}

fn path(reader: &mut Reader<'_>, scope: Scope<'_>) -> PathMatch {
    const KEYS: [&str; 3] = ["path", "path_prefix", "path_regex"];
    let given: Vec<&Entry> = KEYS.iter().filter_map(|key| scope.table.entry(key)).collect();
    if let [first, second, ..] = given.as_slice() {
        let message = format!("a route has either `{}` or `{}`", first.key, second.key);
        reader.report.add(
            Diagnostic::error(codes::EXCLUSIVE, message)
                .at(second.key_span)
                .expected("one condition on the path"),
        );
    }
    let mut condition = PathMatch::Any;
    let kinds: [fn(String) -> PathMatch; 3] = [PathMatch::Exact, PathMatch::Prefix, PathMatch::Regex];
    for (key, kind) in KEYS.into_iter().zip(kinds).rev() {
        if let Some(text) = reader.string(scope, key) {
            condition = kind(text.value);
        }
    }
    condition
}

/// `{ name = "value", name = true, name = false, name = { regex = "…" } }`.
fn conditions(reader: &mut Reader<'_>, scope: Scope<'_>, key: &'static str) -> Vec<ValueMatch> {
    const EXPECTED: &str =
        "a table such as { name = \"value\", name = true, name = { regex = \"v[0-9]+\" } }";
    let Some(node) = scope.table.get(key) else { return Vec::new() };
    let Value::Table(table) = &node.value else {
        reader.wrong_type(node, key, EXPECTED);
        return Vec::new();
    };
    let mut conditions = Vec::with_capacity(table.entries.len());
    for entry in &table.entries {
        let test = match &entry.node.value {
            Value::String(text) => ValueTest::Is(text.clone()),
            Value::Boolean(true) => ValueTest::Present,
            Value::Boolean(false) => ValueTest::Absent,
            Value::Table(inner) => {
                let inner = reader.enter(inner, entry.node.span, &shapes::VALUE_TEST);
                match reader.required(inner, "regex", "a regular expression") {
                    Some(regex) => ValueTest::Regex(regex.value),
                    None => ValueTest::Present,
                }
            }
            _ => {
                let expected = "a string, true (present), false (absent) or { regex = \"…\" }";
                reader.wrong_type(&entry.node, &entry.key, expected);
                ValueTest::Present
            }
        };
        conditions.push(ValueMatch { name: entry.key.clone(), test });
    }
    conditions
}

fn canary(reader: &mut Reader<'_>, route: Scope<'_>) -> Option<CanarySpec> {
    let scope = reader.table(route, "canary", &shapes::CANARY)?;
    let fallbacks = [("other", Fallback::Other), ("refuse", Fallback::Refuse)];
    let backend = reader.required(scope, "backend", "the name of a backend").map(|found| found.value);
    if scope.table.get("share").is_none() {
        reader.missing(scope, "share", "a share such as \"2%\"; \"0%\" lets in testers alone");
    }
    let share = reader.share(scope, "share").map(|found| found.value);
    let word = |reader: &mut Reader<'_>, key| reader.string(scope, key).map(|found| found.value);
    let key = session_key(reader, scope);
    if key == SessionKey::Draw {
        for key in ["mark_cookie", "marked"] {
            reader.no_effect(scope, key, "a session that is one request is not marked");
        }
    }
    Some(CanarySpec {
        backend: backend.unwrap_or_default(),
        share: share.and_then(Share::from_hundredths).unwrap_or_default(),
        cookie: word(reader, "cookie"),
        mark_cookie: word(reader, "mark_cookie"),
        release: word(reader, "release").unwrap_or_default(),
        force_from: networks(reader, scope, "force_from"),
        force_value: word(reader, "force_value"),
        marked: reader
            .choice(scope, "marked", &[("follow", Marked::Follow), ("stay", Marked::Stay)], &[])
            .map(|found| found.value)
            .unwrap_or_default(),
        fallback: reader
            .choice(scope, "fallback", &fallbacks, &[])
            .map(|found| found.value)
            .unwrap_or_default(),
        forced_fallback: reader.choice(scope, "forced_fallback", &fallbacks, &[]).map(|found| found.value),
        key,
    })
}

fn session_key(reader: &mut Reader<'_>, scope: Scope<'_>) -> SessionKey {
    if matches!(scope.table.get("key").map(|node| &node.value), Some(Value::Table(_))) {
        return match reader.table(scope, "key", &shapes::BY_HEADER) {
            Some(inner) => reader
                .required(inner, "header", "the name of a header")
                .map_or(SessionKey::Cookie, |header| SessionKey::Header(header.value)),
            None => SessionKey::Cookie,
        };
    }
    let found = reader.parsed(scope, "key", |word| match word {
        "cookie" => Ok(SessionKey::Cookie),
        "source" => Ok(SessionKey::Source),
        "draw" => Ok(SessionKey::Draw),
        _ => Err(Refused {
            expected: "\"cookie\", \"source\", \"draw\" or { header = \"name\" }".to_owned(),
            meant: lb_core::nearest(word, ["cookie", "source", "draw"]).map(str::to_owned),
        }),
    });
    found.map(|found| found.value).unwrap_or_default()
}

fn actions(reader: &mut Reader<'_>, scope: Scope<'_>) -> Actions {
    let word = |reader: &mut Reader<'_>, key| reader.string(scope, key).map(|found| found.value);
    Actions {
        set_host: word(reader, "set_host"),
        strip_prefix: word(reader, "strip_prefix"),
        replace_path: word(reader, "replace_path"),
        request: edits(reader, scope, "request_headers"),
        response: edits(reader, scope, "response_headers"),
        redirect: redirect(reader, scope),
        reply: reply(reader, scope),
        max_body: reader.size(scope, "max_body").map(|found| found.value),
        error_pages: error_pages(reader, scope),
    }
}

fn edits(reader: &mut Reader<'_>, scope: Scope<'_>, key: &'static str) -> HeaderEdits {
    let Some(scope) = reader.table(scope, key, &shapes::HEADER_EDITS) else { return HeaderEdits::default() };
    HeaderEdits {
        set: reader.pairs(scope, "set").into_iter().map(|(name, value)| (name.value, value.value)).collect(),
        remove: reader.strings(scope, "remove").into_iter().map(|name| name.value).collect(),
    }
}

fn redirect(reader: &mut Reader<'_>, scope: Scope<'_>) -> Option<Redirect> {
    let scope = reader.table(scope, "redirect", &shapes::REDIRECT)?;
    let word = |reader: &mut Reader<'_>, key| reader.string(scope, key).map(|found| found.value);
    Some(Redirect {
        status: reader.integer(scope, "status", 300..=399).map(|found| found.value as u16),
        location: word(reader, "location"),
        scheme: word(reader, "scheme"),
        host: word(reader, "host"),
        path: word(reader, "path"),
    })
}

fn reply(reader: &mut Reader<'_>, scope: Scope<'_>) -> Option<Reply> {
    let scope = reader.table(scope, "reply", &shapes::REPLY)?;
    let word = |reader: &mut Reader<'_>, key| reader.string(scope, key).map(|found| found.value);
    Some(Reply {
        status: reader.integer(scope, "status", 200..=599).map(|found| found.value as u16),
        body: word(reader, "body").unwrap_or_default(),
        content_type: word(reader, "content_type"),
    })
}

/// `{ 503 = "<h1>…</h1>" }`.
fn error_pages(reader: &mut Reader<'_>, scope: Scope<'_>) -> Vec<(u16, String)> {
    let mut pages = Vec::new();
    for (status, body) in reader.pairs(scope, "error_pages") {
        match status.value.parse::<u16>() {
            Ok(number) if (400..=599).contains(&number) => pages.push((number, body.value)),
            _ => {
                let expected = "a status from 400 to 599".to_owned();
                let message =
                    format!("`error_pages` cannot have `{}`", super::reader::shortened(&status.value));
                reader.refuse(status.span, message, Refused { expected, meant: None });
            }
        }
    }
    pages
}
