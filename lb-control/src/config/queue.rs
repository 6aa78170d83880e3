//! Where requests wait for servers with room.

use lb_core::spec::QueueSpec;

use super::reader::{Reader, Scope};
use super::shapes;
use super::tree::Value;

/// `false` or `{ requests = …, timeout = "…" }`. Whoever asks for a queue says how long one waits in it.
pub(super) fn queue(reader: &mut Reader<'_>, scope: Scope<'_>) -> Option<QueueSpec> {
    let node = scope.table.get("queue")?;
    match &node.value {
        Value::Boolean(false) => Some(QueueSpec { requests: 0, ..QueueSpec::default() }),
        Value::Table(table) => {
            let scope = reader.enter(table, node.span, &shapes::QUEUE);
            if scope.table.get("timeout").is_none() {
                reader.missing(scope, "timeout", "how long a request waits at most, such as \"2s\"");
            }
            let most = i64::from(lb_core::defaults::QUEUE_REQUESTS_MAX);
            let requests = reader.integer(scope, "requests", 1..=most);
            let timeout = reader.duration(scope, "timeout");
            let default = QueueSpec::default();
            Some(QueueSpec {
                requests: requests.map_or(default.requests, |found| found.value as u32),
                timeout: timeout.map_or(default.timeout, |found| found.value),
            })
        }
        _ => {
            reader.wrong_type(node, "queue", "false or { requests = 1000, timeout = \"2s\" }");
            None
        }
    }
}
