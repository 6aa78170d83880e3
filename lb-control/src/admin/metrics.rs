//! `/metrics`: all families as text.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};

use crate::control::Shared;
use crate::metrics::collect::families;
use crate::metrics::text::{Format, text};

/// One page is made at a time, beside control's thread, which has others to answer meanwhile.
static MAKING: tokio::sync::Semaphore = tokio::sync::Semaphore::const_new(1);

pub(super) async fn show(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let format = Format::accepted(accept);
    shared.scrapes.fetch_add(1, Relaxed);
    // The semaphore is never closed; without a permit the page would only be made beside another.
    let _one = MAKING.acquire().await;
    let page = tokio::task::spawn_blocking(move || text(families(&shared), format)).await;
    match page {
        Ok(Ok(text)) => ([(CONTENT_TYPE, format.content_type())], text).into_response(),
        _ => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
