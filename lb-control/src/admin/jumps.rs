//! `/jumps`: how every arm's comparisons stand, for a release guard.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::control::Shared;
use crate::watch::evidence::Verdict;
use crate::watch::{Comparison, Of, Watch};

/// What a reader must know; raised when something is renamed or goes.
const VERSION: u32 = 1;

pub(super) async fn show(State(shared): State<Arc<Shared>>) -> Response {
    let answer = answer(&shared.watch.state().watch);
    ([(CONTENT_TYPE, "application/json")], format!("{answer}\n")).into_response()
}

fn answer(watch: &Watch) -> Value {
    let arm = |arm: &crate::watch::Arm| {
        let comparisons: Vec<Value> = watch.comparisons(arm).iter().map(comparison).collect();
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

/// One comparison, as it stands.
pub(super) fn comparison(it: &Comparison) -> Value {
    let (state, numbers) = match it.verdict {
        Verdict::Unknown => ("unknown", None),
        Verdict::Calm(numbers) => ("calm", Some(numbers)),
        Verdict::Jumped(numbers) => ("jumped", Some(numbers)),
    };
    let mut shown = json!({"of": it.of.word(), "against": it.against.word(), "state": state});
    if let Some(numbers) = numbers {
        let unit = if it.of == Of::Failures { "share" } else { "seconds" };
        shown["unit"] = unit.into();
        shown["now"] = numbers.now.into();
        shown["usual"] = numbers.usual.into();
        shown["exchanges"] = numbers.exchanges.into();
        shown["usual_exchanges"] = numbers.usual_exchanges.into();
        if it.of != Of::Failures {
            shown["quantile"] = numbers.quantile.into();
        }
    }
    if it.jumped() {
        shown["for_s"] = it.seconds.into();
    }
    shown
}
