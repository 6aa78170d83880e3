//! `/stats`: everything that a person looks at, as one JSON document.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::json_page;
use crate::control::Shared;
use crate::stats::stats;

/// One document is made at a time, beside control's thread.
static MAKING: tokio::sync::Semaphore = tokio::sync::Semaphore::const_new(1);

pub(super) async fn show(State(shared): State<Arc<Shared>>) -> Response {
    // The semaphore is never closed; without a permit the document would only be made beside another.
    let _one = MAKING.acquire().await;
    let text = tokio::task::spawn_blocking(move || serde_json::to_string(&stats(&shared))).await;
    match text {
        Ok(Ok(text)) => json_page(text),
        _ => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
