//! `/jumps`: how every arm's comparisons stand, for a release guard.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde_json::{Value, json};

use super::json_page;
use crate::control::Shared;
use crate::stats::document::Comparison;
use crate::watch::Watch;

/// What a reader must know; raised when something is renamed or goes.
const VERSION: u32 = 1;

pub(super) async fn show(State(shared): State<Arc<Shared>>) -> Response {
    json_page(answer(&shared.watch.state().watch))
}

fn answer(watch: &Watch) -> Value {
    let arm = |arm: &crate::watch::Arm| {
        let comparisons: Vec<Comparison> = watch.comparisons(arm).iter().map(Comparison::of).collect();
        json!({
            "route": &*arm.route,
            "arm": arm.arm,
            "backend": &*arm.backend,
            "comparisons": comparisons,
        })
    };
    let arms: Vec<Value> = watch.arms().into_iter().map(arm).collect();
    json!({"version": VERSION, "unwatched_arms": watch.unwatched, "arms": arms})
}
