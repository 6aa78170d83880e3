//! `/servers`: how every server stands, and why. Text for people, `?format=json` for programs.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::extract::{RawQuery, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use lb_core::{Health, ServerIndex};
use serde_json::{Value, json};

use crate::control::Shared;
use crate::health::Shown;
use crate::health::words::time;

/// What a reader must know; raised when something is renamed or goes.
const VERSION: u32 = 1;

pub(super) async fn show(State(shared): State<Arc<Shared>>, RawQuery(query): RawQuery) -> Response {
    let rows = rows(&shared);
    if query.as_deref() == Some("format=json") {
        let servers: Vec<Value> = rows.iter().map(Row::json).collect();
        let answer = json!({"version": VERSION, "servers": servers});
        return ([(CONTENT_TYPE, "application/json")], format!("{answer}\n")).into_response();
    }
    ([(CONTENT_TYPE, "text/plain; charset=utf-8")], text(&rows)).into_response()
}

/// A server: what is wanted of it, what picks see, and what its checks say.
struct Row {
    backend: String,
    name: String,
    address: String,
    weight: u32,
    backup: bool,
    admin: &'static str,
    health: Health,
    /// For how long yet connect failures keep it out of picks.
    removed: Duration,
    in_flight: u32,
    shown: Option<Shown>,
}

fn rows(shared: &Shared) -> Vec<Row> {
    let current = shared.current();
    let (table, now) = (&current.table, shared.workers.now());
    let mut shown = shared.health.shown(now).into_iter();
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
            admin: live.admin().word(),
            health: live.health(),
            removed: live.removed_until().saturating_sub(now),
            in_flight: live.in_flight(),
            shown: shown.map(|(_, shown)| shown),
        }
    });
    rows.collect()
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
        json!({
            "backend": self.backend,
            "server": self.name,
            "address": self.address,
            "weight": self.weight,
            "backup": self.backup,
            "admin": self.admin,
            "up": self.health == Health::Up,
            "health": self.health.word(),
            "changed_at": change.map(|(at, _)| since(at)),
            "changed_words": change.map(|(_, words)| words),
            "removed_for_s": seconds(self.removed),
            "in_flight": self.in_flight,
            "check": check,
            "ejection": ejection,
            "ejections": shown.map_or(0, |it| it.totals.ejections),
        })
    }

    /// The cells of its line.
    fn cells(&self) -> [String; 7] {
        let role = if self.backup { "backup".to_owned() } else { format!("weight {}", self.weight) };
        let mut health = self.health.word().to_owned();
        if !self.removed.is_zero() {
            health.push_str(&format!("; connects failed, out of picks for {}", time(self.removed)));
        }
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
            format!("{}/{}", self.backend, self.name),
            self.address.clone(),
            role,
            self.admin.to_owned(),
            health,
            since.map(time).unwrap_or_else(|| "-".to_owned()),
            check,
        ]
    }
}

fn text(rows: &[Row]) -> String {
    let head = ["server", "address", "role", "admin", "health", "since", "last check"].map(str::to_owned);
    let lines: Vec<[String; 7]> = std::iter::once(head).chain(rows.iter().map(Row::cells)).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 7] = std::array::from_fn(width);
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
