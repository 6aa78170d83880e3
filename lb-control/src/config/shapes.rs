//! What may stand in each table: the language of the config file in one place.
//!
//! `later` lists the words that belong to the language but not to this version; they are refused by name,
//! never ignored.

use super::reader::Shape;

pub(super) const ROOT: Shape = Shape {
    what: "the config file",
    keys: &[
        "include", "engine", "admin", "state", "session", "log", "trace", "metrics", "resolver", "timeouts",
        "retry", "classes", "defaults", "listener", "route", "backend",
    ],
    later: &["tls", "certificate", "release", "fleet", "discovery", "limit", "limits", "overlay", "ramp"],
};

pub(super) const ENGINE: Shape = Shape {
    what: "[engine]",
    keys: &["workers", "driver", "max_connections", "zone"],
    later: &["user", "group", "chroot", "cpu_affinity", "buffer_memory"],
};

pub(super) const ADMIN: Shape =
    Shape { what: "[admin]", keys: &["listen"], later: &["allow", "token_file", "tls", "page"] };

pub(super) const STATE: Shape = Shape { what: "[state]", keys: &["dir"], later: &["overlay"] };

pub(super) const SESSION: Shape = Shape {
    what: "[session]",
    keys: &["cookie", "secret_file", "strip"],
    later: &["domain", "max_age", "same_site", "secure"],
};

pub(super) const LOG: Shape = Shape {
    what: "[log]",
    keys: &["access", "format", "sample", "slow", "syslog"],
    later: &["level", "errors"],
};

pub(super) const SYSLOG: Shape =
    Shape { what: "[log.syslog]", keys: &["address", "facility", "name"], later: &["protocol", "tls"] };

pub(super) const TRACE: Shape =
    Shape { what: "[trace]", keys: &["context", "sample", "otlp"], later: &["header", "b3"] };

pub(super) const OTLP: Shape = Shape {
    what: "[trace.otlp]",
    keys: &["endpoint", "headers", "service_name", "attributes", "timeout", "interval", "queue"],
    later: &["protocol", "compression", "tls", "query", "client_spans"],
};

pub(super) const METRICS: Shape = Shape {
    what: "[metrics]",
    keys: &["series_max", "routes", "servers", "statuses", "compat", "statsd"],
    later: &["buckets", "otlp", "exemplars"],
};

pub(super) const RESOLVER: Shape = Shape {
    what: "[resolver]",
    keys: &[
        "servers",
        "family",
        "timeout",
        "retries",
        "ttl_min",
        "ttl_max",
        "remove_after",
        "required",
        "start_wait",
    ],
    later: &["tls", "dnssec", "search"],
};

pub(super) const STATSD: Shape = Shape {
    what: "[metrics.statsd]",
    keys: &["address", "prefix", "interval", "tags"],
    later: &["container_id"],
};

/// The global timeouts: the names of the list of defaults.
pub(super) const TIMEOUTS: Shape = Shape {
    what: "[timeouts]",
    keys: &["connect", "request_head", "response", "idle_down", "idle_up", "tunnel_idle", "drain"],
    later: &["request_body", "queue", "tls_handshake", "total"],
};

pub(super) const LISTENER_TIMEOUTS: Shape = Shape {
    what: "the timeouts table of a listener",
    keys: &["request_head", "idle_down"],
    later: &["request_body", "tls_handshake"],
};

pub(super) const ROUTE_TIMEOUTS: Shape = Shape {
    what: "the timeouts table of a route",
    keys: &["connect", "response", "tunnel_idle"],
    later: &["request_body", "queue", "total"],
};

pub(super) const BACKEND_TIMEOUTS: Shape = Shape {
    what: "the timeouts table of a backend",
    keys: &["connect", "response", "idle_up", "tunnel_idle"],
    later: &["queue", "tls_handshake", "total"],
};

pub(super) const RETRY: Shape = Shape {
    what: "[retry]",
    keys: &[
        "retries",
        "budget",
        "on",
        "attempt_timeout",
        "backoff",
        "backoff_max",
        "hold_body",
        "non_idempotent",
    ],
    later: &["hedge"],
};

pub(super) const BACKEND_RETRY: Shape =
    Shape { what: "the retry table of a backend", keys: RETRY.keys, later: RETRY.later };

pub(super) const ROUTE_RETRY: Shape = Shape {
    what: "the retry table of a route",
    keys: &["retries", "on", "attempt_timeout", "backoff", "backoff_max", "hold_body", "non_idempotent"],
    later: RETRY.later,
};

pub(super) const CLASSES: Shape =
    Shape { what: "[classes]", keys: &["platinum", "gold", "silver", "waiting"], later: &[] };

pub(super) const DEFAULTS: Shape =
    Shape { what: "[defaults]", keys: &["listener", "route", "backend", "server"], later: &[] };

pub(super) const DEFAULT_LISTENER: Shape = Shape {
    what: "[defaults.listener]",
    keys: &["trusted", "client_address", "timeouts", "max_connections"],
    later: LISTENER.later,
};

pub(super) const DEFAULT_ROUTE: Shape = Shape {
    what: "[defaults.route]",
    keys: &[
        "listener",
        "class",
        "encoded_slash",
        "path_encoding",
        "timeouts",
        "retry",
        "request_headers",
        "response_headers",
        "max_body",
        "error_pages",
        "rate",
        "body_rate",
        "body_grace",
    ],
    later: ROUTE.later,
};

pub(super) const DEFAULT_BACKEND: Shape = Shape {
    what: "[defaults.backend]",
    keys: &[
        "balance",
        "hash_key",
        "sticky",
        "timeouts",
        "retry",
        "accept_legacy_responses",
        "slow_start",
        "fail_open_below",
        "health",
        "outliers",
        "queue",
    ],
    later: BACKEND.later,
};

pub(super) const DEFAULT_SERVER: Shape = Shape {
    what: "[defaults.server]",
    keys: &["weight", "resolve", "max_requests", "max_connections"],
    later: SERVER.later,
};

pub(super) const LISTENER: Shape = Shape {
    what: "a listener",
    keys: &["name", "bind", "protocol", "trusted", "client_address", "timeouts", "max_connections"],
    later: &["backend", "allow", "deny", "tls", "proxy_protocol", "http2", "http3"],
};

pub(super) const ROUTE: Shape = Shape {
    what: "a route",
    keys: &[
        "name",
        "listener",
        "host",
        "path",
        "path_prefix",
        "path_regex",
        "method",
        "header",
        "query",
        "cookie",
        "source",
        "priority",
        "class",
        "encoded_slash",
        "path_encoding",
        "backend",
        "canary",
        "set_host",
        "strip_prefix",
        "replace_path",
        "request_headers",
        "response_headers",
        "redirect",
        "reply",
        "max_body",
        "error_pages",
        "timeouts",
        "retry",
        "rate",
        "body_rate",
        "body_grace",
    ],
    later: &[
        "mirror",
        "limit",
        "allow",
        "deny",
        "auth",
        "cors",
        "compress",
        "cache",
        "split",
        "arms",
        "rewrite_regex",
    ],
};

pub(super) const CANARY: Shape = Shape {
    what: "a canary",
    keys: &[
        "backend",
        "share",
        "cookie",
        "mark_cookie",
        "release",
        "force_from",
        "force_value",
        "marked",
        "fallback",
        "forced_fallback",
        "key",
    ],
    later: &["ramp", "steps", "guard", "slo", "until"],
};

pub(super) const HEADER_EDITS: Shape =
    Shape { what: "a table of header edits", keys: &["set", "remove"], later: &["add"] };

pub(super) const REDIRECT: Shape =
    Shape { what: "a redirect", keys: &["status", "location", "scheme", "host", "path"], later: &[] };

pub(super) const REPLY: Shape =
    Shape { what: "a reply", keys: &["status", "body", "content_type"], later: &["body_file"] };

pub(super) const VALUE_TEST: Shape =
    Shape { what: "a condition", keys: &["regex"], later: &["prefix", "not"] };

pub(super) const BY_HEADER: Shape = Shape { what: "a session key", keys: &["header"], later: &["query"] };

pub(super) const RATE: Shape = Shape {
    what: "a rate",
    keys: &["requests", "per", "burst", "key", "ipv6_prefix"],
    later: &["delay", "status"],
};

pub(super) const RATE_BY_HEADER: Shape =
    Shape { what: "a rate's key", keys: &["header"], later: &["cookie", "query"] };

pub(super) const HASH_BY: Shape =
    Shape { what: "a hash key", keys: &["header", "query"], later: &["cookie"] };

pub(super) const BACKEND: Shape = Shape {
    what: "a backend",
    keys: &[
        "name",
        "balance",
        "hash_key",
        "sticky",
        "server",
        "timeouts",
        "retry",
        "accept_legacy_responses",
        "slow_start",
        "max_load",
        "fail_open_below",
        "spill_below",
        "health",
        "queue",
        "outliers",
    ],
    later: &["max_requests", "max_connections", "discovery", "tls", "protocol", "proxy_protocol"],
};

pub(super) const HEALTH: Shape = Shape {
    what: "a health check",
    keys: &[
        "kind",
        "path",
        "method",
        "host",
        "headers",
        "expect",
        "body",
        "send",
        "user",
        "interval",
        "fast_interval",
        "timeout",
        "rise",
        "fall",
        "initial",
        "address",
        "port",
    ],
    later: &["tls", "agent", "proxy_protocol"],
};

pub(super) const OUTLIERS: Shape = Shape {
    what: "a table of outliers",
    keys: &[
        "failures",
        "ratio",
        "ratio_attempts",
        "latency",
        "latency_min",
        "latency_responses",
        "server_errors",
        "window",
        "ejection",
        "ejection_max",
        "forgive_after",
        "max_ejected",
    ],
    later: &[],
};

pub(super) const QUEUE: Shape = Shape { what: "queue", keys: &["requests", "timeout"], later: &[] };

pub(super) const STICKY: Shape =
    Shape { what: "sticky", keys: &["cookie"], later: &["max_age", "header", "source", "learn"] };

pub(super) const SERVER: Shape = Shape {
    what: "a server",
    keys: &[
        "name",
        "address",
        "weight",
        "backup",
        "resolve",
        "admin",
        "zone",
        "labels",
        "check_address",
        "check_port",
        "max_requests",
        "max_connections",
    ],
    later: &["health", "tls", "slow_start", "proxy_protocol"],
};

pub(super) const ADMIN_STATE: Shape = Shape {
    what: "a table of `admin`",
    keys: &["drain", "drain_until"],
    later: &["maintenance", "maintenance_until", "reason"],
};
