//! `/servers`: how every server stands, and why. Text for people, `?format=json` for programs.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::extract::{RawQuery, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use lb_core::spec::Admin;
use lb_core::{Health, ServerIndex};
use serde_json::{Value, json};

use super::json_page;
use crate::config::moment::Moment;
use crate::control::{Current, Shared, Unresolved};
use crate::drain::Shown as Leaving;
use crate::health::Shown;
use crate::health::words::time;

/// What a reader must know; raised when something is renamed or goes.
const VERSION: u32 = 1;

pub(super) async fn show(State(shared): State<Arc<Shared>>, RawQuery(query): RawQuery) -> Response {
    let current = shared.current();
    let (rows, queues) = (rows(&shared, &current), queues(&shared, &current));
    if query.as_deref() == Some("format=json") {
        let servers: Vec<Value> = rows.iter().map(Row::json).collect();
        let queues: Vec<Value> = queues.iter().map(Line::json).collect();
        return json_page(json!({"version": VERSION, "servers": servers, "queues": queues}));
    }
    let mut page = text(SERVERS, rows.iter().map(Row::cells));
    if !queues.is_empty() {
        page = format!("{page}\n{}", text(QUEUES, queues.iter().map(Line::cells)));
    }
    ([(CONTENT_TYPE, "text/plain; charset=utf-8")], page).into_response()
}

const SERVERS: [&str; 9] =
    ["server", "address", "role", "admin", "in flight", "health", "since", "connections", "last check"];

const QUEUES: [&str; 5] = ["backend", "in flight", "waiting", "may wait", "have waited"];

/// A server: what is wanted of it, what picks see, and what its checks say.
struct Row {
    backend: String,
    name: String,
    address: String,
    weight: u32,
    backup: bool,
    admin: Admin,
    leaving: Option<Leaving>,
    stand: Stand,
    shown: Option<Shown>,
    /// When the page was made.
    at: Moment,
}

/// How it stands.
enum Stand {
    /// As picks see it.
    Known(Known),
    /// Its name stands for no address, for this reason.
    NoAddress(String),
}

/// What is known of one with an address.
struct Known {
    health: Health,
    /// For how long yet connect failures keep it out of picks.
    removed: Duration,
    in_flight: u32,
    /// By all of its bounds.
    most_in_flight: Option<u32>,
    max_requests: Option<u32>,
    connections: u32,
    max_connections: Option<u32>,
}

/// Who waits for a backend whose servers may be full.
struct Line {
    backend: String,
    in_flight: u32,
    waiting: u32,
    may_wait: u32,
    entered: u64,
}

fn rows(shared: &Shared, current: &Current) -> Vec<Row> {
    let (table, now, at) = (&current.table, shared.workers.now(), Moment::now());
    let mut shown = shared.health.shown(now).into_iter();
    let mut leaving: HashMap<_, _> = shared.drains.shown(now).into_iter().collect();
    let servers = table.snapshot.servers().iter().enumerate();
    let rows = servers.map(|(place, server)| {
        let live = table.server_live(ServerIndex(place as u32));
        // The keeper may be a table ahead; what is in both comes in the same order, but for what moved.
        let shown = shown.next().filter(|(identity, _)| *identity == server.identity);
        Row {
            backend: live.backend().to_owned(),
            name: live.name().to_owned(),
            address: live.address().to_string(),
            weight: server.weight,
            backup: server.backup,
            admin: live.admin(),
            leaving: leaving.remove(&server.identity),
            stand: Stand::Known(Known {
                health: live.health(),
                removed: live.removed_until().saturating_sub(now),
                in_flight: live.in_flight(),
                most_in_flight: live.most_in_flight(),
                max_requests: live.max_requests(),
                connections: live.connections(),
                max_connections: live.max_connections(),
            }),
            shown: shown.map(|(_, shown)| shown),
            at,
        }
    });
    let nowhere = shared.unresolved(current).into_iter().map(|Unresolved { entry, why }| Row {
        backend: entry.backend_name().to_owned(),
        name: entry.name.clone(),
        address: entry.address.clone(),
        weight: entry.weight,
        backup: entry.backup,
        admin: entry.admin,
        leaving: None,
        stand: Stand::NoAddress(why),
        shown: None,
        at,
    });
    rows.chain(nowhere).collect()
}

fn queues(shared: &Shared, current: &Current) -> Vec<Line> {
    let table = &current.table;
    let limited = table.snapshot.backends().iter().filter_map(|backend| Some((backend, backend.queue?)));
    let readings = shared.workers.queues().into_iter();
    let readings: HashMap<_, _> = readings.map(|it| (it.backend, it.numbers)).collect();
    let lines = limited.map(|(backend, queue)| {
        let servers = &table.live.servers()[backend.servers.start as usize..backend.servers.end as usize];
        let numbers = readings.get(&backend.name);
        Line {
            backend: backend.name.to_string(),
            in_flight: servers.iter().map(|live| live.in_flight()).sum(),
            waiting: numbers.map_or(0, |it| it.waiting),
            may_wait: queue.requests,
            entered: numbers.map_or(0, |it| it.entered),
        }
    });
    lines.collect()
}

impl Line {
    fn json(&self) -> Value {
        json!({
            "backend": self.backend,
            "in_flight": self.in_flight,
            "waiting": self.waiting,
            "may_wait": self.may_wait,
            "have_waited": self.entered,
        })
    }

    fn cells(&self) -> [String; 5] {
        let Line { backend, in_flight, waiting, may_wait, entered } = self;
        [
            backend.clone(),
            in_flight.to_string(),
            waiting.to_string(),
            may_wait.to_string(),
            entered.to_string(),
        ]
    }
}

/// Whole seconds and milliseconds, as a program adds them up.
fn seconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1e6
}

impl Row {
    fn json(&self) -> Value {
        let since = |at: &SystemTime| seconds(at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default());
        let shown = self.shown.as_ref();
        let check = shown.filter(|it| it.checked).map(|it| {
            json!({
                "address": it.target.map(|target| target.to_string()),
                "next_in_s": it.next.map(seconds),
                "good": it.totals.good,
                "bad": it.totals.bad,
                "not_asked": it.totals.not_asked,
                "last": it.last.as_ref().map(|(found, took, ago)| json!({
                    "good": found.sort.result().map(|result| result.is_ok()),
                    "status": found.status,
                    "words": found.words,
                    "took_s": seconds(*took),
                    "ago_s": seconds(*ago),
                })),
            })
        });
        let ejection = shown
            .and_then(|it| it.ejected.as_ref())
            .map(|(ejection, left)| json!({"why": ejection.offence.to_string(), "for_s": seconds(*left)}));
        let change = shown.and_then(|it| it.turned.as_ref());
        let (known, unresolved) = match &self.stand {
            Stand::Known(known) => (Some(known), None),
            Stand::NoAddress(why) => (None, Some(json!({"name": self.address, "why": why}))),
        };
        json!({
            "backend": self.backend,
            "server": self.name,
            "address": known.map(|_| &self.address),
            "unresolved": unresolved,
            "weight": self.weight,
            "backup": self.backup,
            "admin": self.admin.word(),
            "leaving": self.leaving.as_ref().map(leaving_json),
            "up": known.is_some_and(|it| it.health == Health::Up),
            "health": known.map_or("no address", |it| it.health.word()),
            "changed_at": change.map(|(at, _)| since(at)),
            "changed_words": change.map(|(_, words)| words),
            "removed_for_s": known.map_or(0.0, |it| seconds(it.removed)),
            "in_flight": known.map_or(0, |it| it.in_flight),
            "max_requests": known.and_then(|it| it.max_requests),
            "connections": known.map_or(0, |it| it.connections),
            "max_connections": known.and_then(|it| it.max_connections),
            "check": check,
            "ejection": ejection,
            "ejections": shown.map_or(0, |it| it.totals.ejections),
        })
    }

    /// The cells of its line.
    fn cells(&self) -> [String; 9] {
        let role = if self.backup { "backup".to_owned() } else { format!("weight {}", self.weight) };
        let admin = self.leaving.as_ref().map_or(self.admin.word().to_owned(), |it| it.words(self.at));
        let name = format!("{}/{}", self.backend, self.name);
        let known = match &self.stand {
            Stand::NoAddress(why) => {
                let nothing = || "-".to_owned();
                return [
                    name,
                    self.address.clone(),
                    role,
                    admin,
                    nothing(),
                    "no address".to_owned(),
                    nothing(),
                    nothing(),
                    why.clone(),
                ];
            }
            Stand::Known(known) => known,
        };
        let mut health = known.health.word().to_owned();
        if !known.removed.is_zero() {
            health.push_str(&format!("; connects failed, out of picks for {}", time(known.removed)));
        }
        let full = known.most_in_flight.is_some_and(|most| known.in_flight >= most);
        let in_flight = of(known.in_flight, known.most_in_flight) + if full { ", full" } else { "" };
        let shown = self.shown.as_ref();
        let turned = shown.and_then(|it| it.turned.as_ref());
        let since = turned.and_then(|(at, _)| SystemTime::now().duration_since(*at).ok());
        let mut check = match shown.filter(|it| it.checked) {
            None => "not checked".to_owned(),
            Some(Shown { last: None, .. }) => "under way".to_owned(),
            Some(Shown { last: Some((found, took, ago)), next, .. }) => {
                let next = next.map_or("under way".to_owned(), |next| format!("in {}", time(next)));
                format!("{} in {}, {} ago, next {next}", found.words, time(*took), time(*ago))
            }
        };
        if let Some((ejection, left)) = shown.and_then(|it| it.ejected.as_ref()) {
            check.push_str(&format!("; ejected for {} yet: {}", time(*left), ejection.offence));
        }
        [
            name,
            self.address.clone(),
            role,
            admin,
            in_flight,
            health,
            since.map(time).unwrap_or_else(|| "-".to_owned()),
            of(known.connections, known.max_connections),
            check,
        ]
    }
}

/// How many there are, of how many there may be.
fn of(count: u32, most: Option<u32>) -> String {
    most.map_or(count.to_string(), |most| format!("{count} of {most}"))
}

fn leaving_json(it: &Leaving) -> Value {
    let (requests, within) = it.lately;
    json!({
        "since_s": seconds(it.since),
        "until": it.until.map(|(moment, _)| moment.to_string()),
        "until_in_s": it.until.map(|(_, left)| seconds(left)),
        "over": it.over,
        "idle_s": it.idle.map(seconds),
        "empty_after_s": it.empty_after.map(seconds),
        "requests": requests,
        "requests_within_s": seconds(within),
    })
}

/// A table: its columns as wide as they must be.
fn text<const COLUMNS: usize>(
    head: [&str; COLUMNS],
    rows: impl Iterator<Item = [String; COLUMNS]>,
) -> String {
    let lines: Vec<[String; COLUMNS]> = std::iter::once(head.map(str::to_owned)).chain(rows).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; COLUMNS] = std::array::from_fn(width);
    let mut out = String::new();
    for line in &lines {
        for (cell, width) in line.iter().zip(widths) {
            out.push_str(&format!("{cell:<width$}  "));
        }
        out.truncate(out.trim_end().len());
        out.push('\n');
    }
    out
}
