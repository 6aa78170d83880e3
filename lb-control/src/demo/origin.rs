//! One origin of the demo: says who it is and what in the request led there.

use axum::Router;
use axum::extract::{Path, State};
use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, COOKIE, LOCATION, SET_COOKIE};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

/// The origin called `name`. Its pages:
///
/// - `/style.css`, `/logo.svg`: the page's assets;
/// - `/try/always`, `/try/never`, `/try/forget`: set or drop the tester's cookie and go back to `/`;
/// - anything else: who answered and why, as HTML for browsers and plain text for others.
pub(super) fn app(name: &'static str) -> Router {
    Router::new()
        .route("/style.css", get(style))
        .route("/logo.svg", get(logo))
        .route("/try/{word}", get(choose))
        .fallback(answer)
        .with_state(name)
}

async fn style(State(name): State<&'static str>) -> Response {
    let accent = if name.starts_with("new") { "#0a7d4b" } else { "#2454a6" };
    asset(name, "text/css", STYLE.replace("ACCENT", accent))
}

async fn logo(State(name): State<&'static str>) -> Response {
    asset(name, "image/svg+xml", LOGO.to_owned())
}

fn asset(name: &'static str, content_type: &'static str, body: String) -> Response {
    ([(CONTENT_TYPE.as_str(), content_type), ("x-served-by", name)], body).into_response()
}

async fn choose(State(name): State<&'static str>, Path(word): Path<String>) -> Response {
    let cookie = match word.as_str() {
        "always" => "canary=always; Path=/; SameSite=Lax",
        "never" => "canary=never; Path=/; SameSite=Lax",
        _ => "canary=; Path=/; Max-Age=0; SameSite=Lax",
    };
    let fields = [(SET_COOKIE.as_str(), cookie), (LOCATION.as_str(), "/"), ("x-served-by", name)];
    (StatusCode::SEE_OTHER, fields, "").into_response()
}

async fn answer(State(name): State<&'static str>, method: Method, uri: Uri, fields: HeaderMap) -> Response {
    let html =
        fields.get(ACCEPT).is_some_and(|accept| accept.to_str().is_ok_and(|text| text.contains("text/html")));
    let facts = facts(name, &method, &uri, &fields);
    let (content_type, body) = if html {
        ("text/html; charset=utf-8", page(name, &facts))
    } else {
        ("text/plain; charset=utf-8", plain(&facts))
    };
    let headers =
        [(CONTENT_TYPE.as_str(), content_type), (CACHE_CONTROL.as_str(), "no-store"), ("x-served-by", name)];
    (headers, body).into_response()
}

/// What the request shows, as pairs of a word and a sentence.
fn facts(name: &str, method: &Method, uri: &Uri, fields: &HeaderMap) -> Vec<(&'static str, String)> {
    let canary = name.starts_with("new");
    let marked = cookie(fields, "canary_mark").is_some();
    let arm = match (cookie(fields, "canary").as_deref(), canary) {
        (Some("always"), true) => "canary, because of your cookie canary=always",
        (Some("never"), false) => "stable, because of your cookie canary=never",
        (_, true) if marked => "canary, where your canary_mark cookie belongs",
        (_, true) => "canary, which takes 10 % of the sessions",
        (_, false) => "stable, which takes the 90 % of the sessions that the canary leaves",
    };
    let sticky = match (canary, cookie(fields, "lb_old").is_some()) {
        (true, _) => "the only server of its backend",
        (false, true) => "your lb_old cookie, if it names this server",
        (false, false) => "least_request; the lb_old cookie in this answer brings you back here",
    };
    let mut facts = vec![
        ("served by", name.to_owned()),
        ("arm", arm.to_owned()),
        ("server", sticky.to_owned()),
        ("request", format!("{method} {uri}")),
    ];
    for (word, field) in [("from", "x-forwarded-for"), ("id", "x-request-id")] {
        if let Some(value) = fields.get(field).and_then(|value| value.to_str().ok()) {
            facts.push((word, value.to_owned()));
        }
    }
    let session = if cookie(fields, "lb_session").is_some() { "known by its cookie" } else { "new" };
    facts.push(("session", session.to_owned()));
    facts
}

fn cookie(fields: &HeaderMap, name: &str) -> Option<String> {
    let lines = fields.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(';')).find_map(|pair| {
        let (key, value) = pair.trim().split_once('=')?;
        (key == name).then(|| value.to_owned())
    })
}

fn plain(facts: &[(&str, String)]) -> String {
    facts.iter().map(|(word, text)| format!("{word:<10} {text}\n")).collect()
}

fn page(name: &str, facts: &[(&str, String)]) -> String {
    let rows: String = facts
        .iter()
        .map(|(word, text)| format!("<dt>{}</dt><dd>{}</dd>\n", escape(word), escape(text)))
        .collect();
    PAGE.replace("NAME", &escape(name)).replace("ROWS", &rows)
}

fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    safe
}

const PAGE: &str = r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>NAME answered</title>
<link rel="stylesheet" href="/style.css">
<link rel="icon" href="/logo.svg">
</head>
<body>
<h1><img src="/logo.svg" alt="" width="48" height="48"> NAME answered</h1>
<dl>
ROWS</dl>
<p>Reload to stay; or be a tester:
<a href="/try/always">always the canary</a>,
<a href="/try/never">never the canary</a>,
<a href="/try/forget">whatever the share says</a>.</p>
</body>
</html>
"#;

const STYLE: &str =
    "body { font: 18px/1.5 system-ui, sans-serif; margin: 3em auto; max-width: 44em; padding: 0 1em }
h1 { color: ACCENT; display: flex; align-items: center; gap: .5em }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .3em 1.5em }
dt { color: #667 }
dd { margin: 0; overflow-wrap: anywhere }
a { color: ACCENT }
";

const LOGO: &str = r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 48 48"><g fill="none" stroke="#445" stroke-width="4" stroke-linecap="round"><path d="M4 24h14M18 24 40 8M18 24h22M18 24l22 16"/></g><circle cx="18" cy="24" r="6" fill="#2454a6"/></svg>
"##;

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for (name, value) in pairs {
            fields.append(*name, axum::http::HeaderValue::from_static(value));
        }
        fields
    }

    #[test]
    fn tells_why_and_escapes_what_it_was_sent() {
        let fields = fields(&[("cookie", "a=b; canary=always"), ("x-forwarded-for", "<script>")]);
        let facts = facts("new-1", &Method::GET, &Uri::from_static("/x?a=b"), &fields);
        let text = plain(&facts);
        assert!(text.starts_with("served by  new-1\n"), "{text}");
        assert!(text.contains("cookie canary=always"), "{text}");
        let page = page("new-1", &facts);
        assert!(page.contains("&lt;script&gt;") && !page.contains("<script>"), "{page}");
    }
}
