//! Are the answers right, and do the subjects do the same work? Nothing is timed before.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use crate::client::{Client, Reply, get, post};
use crate::origin::{BODY_1M, BODY_100K, BODY_SMALL, body_byte};
use crate::plan::{self, Row, Shape, Work};
use crate::{Result, subject::Kind};

/// Answers that a warm subject has given before it is timed.
const WARM_UP: usize = 200;
/// Routes looked at one by one.
const ROUTES_TRIED: usize = 50;
/// Sessions looked at twice.
const SESSIONS_TRIED: usize = 20;

/// Checks a fresh subject and warms it up. Returns the requests to load it with.
///
/// # Errors
/// If an answer is wrong, or the subject does not do what the row's shape says.
pub fn check(kind: Kind, row: &Row, address: SocketAddr) -> Result<Vec<String>> {
    let host = address.to_string();
    let mut client = Client::connect(address)?;
    let mut sessions = Vec::new();
    if !kind.is_relay() {
        match row.shape {
            Shape::Bare => {}
            Shape::Routes => check_routes(&mut client)?,
            Shape::Servers => check_servers(&mut client, &host)?,
            Shape::Product | Shape::Logged(_) => sessions = check_product(&mut client, &host)?,
        }
    }
    let requests = requests(row, &host, &sessions);
    for request in requests.iter().cycle().take(WARM_UP) {
        let reply = client.send(request.as_bytes())?;
        check_answer(row.work, &reply)?;
        if reply.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
            || matches!(row.work, Work::Get { close: true, .. })
        {
            client = Client::connect(address)?;
        }
    }
    Ok(requests)
}

/// What the load sends: every route in scattered order, every session in turn, or one request for ever.
fn requests(row: &Row, host: &str, sessions: &[String]) -> Vec<String> {
    let (path, close) = match row.work {
        Work::Get { path, close, .. } => (path, close),
        Work::Post { .. } | Work::Idle => ("/", false),
    };
    let closing = close.then(|| "Connection: close".to_owned());
    let plain: Vec<String> = closing.into_iter().collect();
    if row.shape == Shape::Routes {
        // A stride without common factors visits all, far from its neighbours.
        const STRIDE: usize = 7919;
        return (0..plan::ROUTES)
            .map(|index| plan::route(index * STRIDE % plan::ROUTES))
            .map(|(host, prefix)| get(&host, &format!("{prefix}/x"), &plain))
            .collect();
    }
    let with_cookies = |cookies: &String| {
        let mut fields = plain.clone();
        fields.push(format!("Cookie: {cookies}"));
        fields
    };
    let fields: Vec<Vec<String>> = match sessions {
        [] => vec![plain.clone()],
        _ => sessions.iter().map(with_cookies).collect(),
    };
    match row.work {
        Work::Post { len, .. } => {
            let body = post(host, path, len);
            let (head, rest) = body.split_at(body.find("Content-Length").unwrap_or(0));
            let whole = |fields: Vec<String>| {
                let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
                format!("{head}{fields}{rest}")
            };
            // Each is 64 KB: fewer sessions do.
            fields.into_iter().take(SESSIONS_TRIED).map(whole).collect()
        }
        _ => fields.iter().map(|fields| get(host, path, fields)).collect(),
    }
}

fn check_answer(work: Work, reply: &Reply) -> Result<()> {
    if reply.status != 200 {
        let reason = reply.field("x-lb-reason").unwrap_or("");
        return Err(format!("answered {} {reason}", reply.status).into());
    }
    let large = |len: usize| {
        reply.body.len() == len
            && reply.body.iter().enumerate().all(|(position, &byte)| byte == body_byte(position))
    };
    let small = |received: usize| {
        reply.body.len() == BODY_SMALL && reply.body.starts_with(format!("{received} bytes").as_bytes())
    };
    let right = match work {
        Work::Get { path: "/100k", .. } => large(BODY_100K),
        Work::Get { path: "/1m", .. } => large(BODY_1M),
        Work::Get { .. } | Work::Idle => small(0),
        Work::Post { len, .. } => small(len),
    };
    if right { Ok(()) } else { Err(format!("a wrong body of {} bytes", reply.body.len()).into()) }
}

/// Which of the origin's listeners answered, and the head that it got.
fn echo(client: &mut Client, host: &str, prefix: &str, fields: &[String]) -> Result<(usize, String, Reply)> {
    let reply = client.send(get(host, &format!("{prefix}/echo"), fields).as_bytes())?;
    let body = String::from_utf8_lossy(&reply.body).into_owned();
    let (first, head) = body.split_once('\n').ok_or_else(|| format!("no echo: {} {body:?}", reply.status))?;
    let listener = first.strip_prefix("listener ").and_then(|number| number.parse().ok());
    Ok((listener.ok_or_else(|| format!("no listener in {first:?}"))?, head.to_owned(), reply))
}

fn check_routes(client: &mut Client) -> Result<()> {
    for index in (0..plan::ROUTES).step_by(plan::ROUTES / ROUTES_TRIED + 1) {
        let (host, prefix) = plan::route(index);
        let (listener, ..) = echo(client, &host, &prefix, &[])?;
        if listener != index % plan::ROUTE_BACKENDS {
            return Err(format!("route {index} led to backend {listener}").into());
        }
    }
    Ok(())
}

fn check_servers(client: &mut Client, host: &str) -> Result<()> {
    let mut seen = BTreeSet::new();
    for _ in 0..WARM_UP {
        seen.insert(echo(client, host, "", &[])?.0);
    }
    // Even two random choices hit far more.
    if seen.len() < WARM_UP / 4 {
        Err(format!("only {} servers were used", seen.len()).into())
    } else {
        Ok(())
    }
}

/// Collects the cookies of new sessions, and checks header fields, share and stickiness on the way.
fn check_product(client: &mut Client, host: &str) -> Result<Vec<String>> {
    let mut sessions = Vec::new();
    let mut served = [0; plan::PRODUCT_SERVERS + 1];
    for number in 0..plan::SESSIONS {
        let (listener, head, reply) = echo(client, host, "", &[])?;
        let cookies = reply.cookies().join("; ");
        *served.get_mut(listener).ok_or("an unknown server answered")? += 1;
        if number < SESSIONS_TRIED {
            check_fields(&head, host)?;
            let (again, _, reply) = echo(client, host, "", &[format!("Cookie: {cookies}")])?;
            if again != listener || !reply.cookies().is_empty() {
                return Err(
                    format!("{cookies:?} went to {listener}, then {again}; {:?}", reply.fields).into()
                );
            }
        }
        sessions.push(cookies);
    }
    let canary = served[plan::PRODUCT_SERVERS] as f64 / plan::SESSIONS as f64;
    if !(0.04..0.16).contains(&canary) || served.contains(&0) {
        return Err(format!("served by server: {served:?} of {} sessions", plan::SESSIONS).into());
    }
    Ok(sessions)
}

fn check_fields(head: &str, host: &str) -> Result<()> {
    let value = |name: &str| {
        head.lines()
            .filter_map(|line| line.split_once(':'))
            .find_map(|(field, value)| field.eq_ignore_ascii_case(name).then(|| value.trim().to_owned()))
    };
    let wanted =
        [("x-forwarded-for", "127.0.0.1"), ("x-forwarded-proto", "http"), ("x-forwarded-host", host)];
    for (name, expected) in wanted {
        if value(name).as_deref() != Some(expected) {
            return Err(format!("{name} should be {expected:?} in {head:?}").into());
        }
    }
    if value("x-request-id").is_none_or(|id| id.len() < 16) {
        return Err(format!("no request id in {head:?}").into());
    }
    Ok(())
}
