//! `/names`: what every name stands for, and how asking for it goes.

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::response::Response;
use serde_json::{Value, json};

use super::json_page;
use crate::control::Shared;
use crate::resolve::members::{Member, Members};
use crate::resolve::names::{Names, Shown};

/// What a reader must know; raised when something is renamed or goes.
const VERSION: u32 = 1;

pub(super) async fn show(State(shared): State<Arc<Shared>>) -> Response {
    json_page(answer(&shared.names.lock().unwrap_or_else(PoisonError::into_inner), Instant::now()))
}

fn answer(names: &Names, now: Instant) -> Value {
    let shown: Vec<Value> = names.shown().map(|shown| name(&shown, names.remove_after(), now)).collect();
    json!({"version": VERSION, "names": shown})
}

fn name(shown: &Shown<'_>, remove_after: Duration, now: Instant) -> Value {
    let Shown { question, name, members: [all, first] } = shown;
    let mut value = json!({
        "name": question.name,
        "kind": question.kind.word(),
        "answers_are_parts": name.is_in_parts(),
    });
    for (key, members) in [("all", all), ("first", first)] {
        if let Some(members) = members {
            value[key] = servers(members, remove_after, now);
        }
    }
    if let Some(good) = name.last_good() {
        value["answered_s_ago"] = seconds(now.saturating_duration_since(good.at));
        value["ttl_s"] = seconds(good.ttl);
    }
    match name.due() {
        Some(due) => value["next_ask_in_s"] = seconds(due.saturating_duration_since(now)),
        None => value["asking"] = true.into(),
    }
    if let Some((failures, why)) = name.failing() {
        value["failures"] = failures.into();
        value["failure"] = json!({"reason": why.word(), "words": why.to_string()});
    }
    if let Some(gap) = name.gap() {
        value["missing_part"] = json!({"reason": gap.failure.word(), "words": gap.failure.to_string()});
    }
    value
}

fn servers(members: &Members, remove_after: Duration, now: Instant) -> Value {
    let server = |member: &Member| {
        let target = &member.target;
        let mut value = match target.address.port() {
            0 => json!({"address": target.address.ip().to_string()}),
            _ => json!({
                "address": SocketAddr::to_string(&target.address),
                "priority": target.priority,
                "weight": target.weight,
            }),
        };
        value["state"] = if member.left.is_some() { "leaving" } else { "present" }.into();
        if let Some(left) = member.left {
            value["left_s_ago"] = seconds(now.saturating_duration_since(left));
            value["leaves_within_s"] = seconds((left + remove_after).saturating_duration_since(now));
        }
        value
    };
    members.all().iter().map(server).collect()
}

/// In seconds, to the millisecond.
fn seconds(duration: Duration) -> Value {
    (duration.as_millis() as f64 / 1000.0).into()
}
