//! What routes do to requests and responses.

use super::problem::{Place, Problems};
use super::{at_most, codes};
use crate::actions::{Actions, HeaderEdits, Redirect, Reply};
use crate::cookie::is_token_byte;
use crate::text::nearest;

/// Fields that say how a message is framed, or that belong to one connection (RFC 9110, section 7.6.1): whoever
/// could edit them could make two parties see different messages.
const NEVER_EDITED: [&str; 8] = [
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// One for each status from 400 to 599.
const ERROR_PAGES_MAX: usize = 200;

/// What may stand between braces in a location.
const PLACEHOLDERS: [&str; 4] = ["{scheme}", "{host}", "{path}", "{query}"];

/// Checks actions and lowers the case of header names.
pub(super) fn compile(actions: &Actions, place: &Place, problems: &mut Problems) -> Actions {
    check_rewrites(actions, place, problems);
    let mut request_never: Vec<&str> = NEVER_EDITED.to_vec();
    request_never.push("host");
    let request = edits(&actions.request, &place.field("request"), &request_never, problems);
    let response = edits(&actions.response, &place.field("response"), &NEVER_EDITED, problems);
    if let Some(redirect) = &actions.redirect {
        check_redirect(redirect, &place.field("redirect"), problems);
    }
    if let Some(reply) = &actions.reply {
        check_reply(reply, &place.field("reply"), problems);
    }
    let pages_place = place.field("error_pages");
    at_most(actions.error_pages.len(), ERROR_PAGES_MAX, "error pages", &pages_place, problems);
    for (index, (status, _)) in actions.error_pages.iter().take(ERROR_PAGES_MAX).enumerate() {
        let place = place.field("error_pages").index(index);
        if !(400..=599).contains(status) {
            let message = format!("there is no error page for the status {status}");
            problems.error(codes::REPLY, &place, message).expected("expected a status from 400 to 599");
        } else if actions.error_pages[..index].iter().any(|(earlier, _)| earlier == status) {
            problems.error(
                codes::REPLY,
                &place,
                format!("there are two error pages for the status {status}"),
            );
        }
    }
    Actions { request, response, ..actions.clone() }
}

fn check_rewrites(actions: &Actions, place: &Place, problems: &mut Problems) {
    if let Some(host) = &actions.set_host
        && !is_authority(host)
    {
        let message = format!("`{host}` cannot be a Host");
        problems
            .error(codes::REWRITE, &place.field("set_host"), message)
            .expected("expected a host, with a port if it needs one");
    }
    for (field, path) in [("strip_prefix", &actions.strip_prefix), ("replace_path", &actions.replace_path)] {
        if let Some(path) = path
            && !is_sendable_path(path)
        {
            let message = format!("`{path}` cannot be a path of a request");
            problems
                .error(codes::REWRITE, &place.field(field), message)
                .expected("expected a path such as /cart, percent-encoded as it is to be sent");
        }
    }
    if actions.strip_prefix.is_some() && actions.replace_path.is_some() {
        let message = "a path that is replaced has no prefix to strip".to_owned();
        problems.error(codes::REWRITE, &place.field("strip_prefix"), message);
    }
}

fn edits(edits: &HeaderEdits, place: &Place, never: &[&str], problems: &mut Problems) -> HeaderEdits {
    let mut name = |name: &str, place: Place| {
        let lower = name.to_ascii_lowercase();
        if name.is_empty() || !name.bytes().all(is_token_byte) {
            problems.error(codes::HEADER, &place, format!("`{name}` cannot be the name of a header"));
        } else if never.contains(&&*lower) {
            let expected = match &*lower {
                "host" => "expected set_host",
                _ => "expected a header that says nothing about framing or the connection",
            };
            problems
                .error(codes::HEADER_EDIT, &place, format!("the header `{lower}` must not be edited"))
                .expected(expected);
        }
        lower
    };
    let remove_place = place.field("remove");
    let removed = edits.remove.iter().enumerate();
    let remove = removed.map(|(index, removed)| name(removed, remove_place.index(index))).collect();
    let set_place = place.field("set");
    let set = edits.set.iter().enumerate();
    let set: Vec<(String, String)> =
        set.map(|(index, (set, value))| (name(set, set_place.index(index)), value.clone())).collect();
    for (index, (_, value)) in set.iter().enumerate() {
        check_value(value, &set_place.index(index), problems);
    }
    HeaderEdits { set, remove }
}

/// A field value (RFC 9110, section 5.5): nothing that ends the line, nothing that a recipient would trim.
fn check_value(value: &str, place: &Place, problems: &mut Problems) {
    let allowed = |byte: u8| byte == b'\t' || byte >= b' ' && byte != 0x7f;
    if !value.bytes().all(allowed) || value.trim_ascii() != value {
        problems
            .error(codes::HEADER, place, "this cannot be the value of a header".to_owned())
            .expected("expected text without control characters and without spaces around it");
    }
}

fn check_redirect(redirect: &Redirect, place: &Place, problems: &mut Problems) {
    if !matches!(redirect.status(), 301 | 302 | 303 | 307 | 308) {
        let message = format!("{} is not a status of a redirect with a location", redirect.status());
        problems
            .error(codes::REDIRECT, &place.field("status"), message)
            .expected("expected 301, 302, 303, 307 or 308");
    }
    if let Some(scheme) = &redirect.scheme
        && scheme != "http"
        && scheme != "https"
    {
        let message = format!("the scheme `{scheme}` is not one that we know");
        problems
            .error(codes::REDIRECT, &place.field("scheme"), message)
            .expected("expected http or https")
            .meant(nearest(scheme, ["http", "https"]));
    }
    if let Some(host) = &redirect.host
        && !is_authority(host)
    {
        let message = format!("`{host}` cannot be a host");
        problems
            .error(codes::REDIRECT, &place.field("host"), message)
            .expected("expected a host, with a port if it needs one");
    }
    if let Some(path) = &redirect.path
        && !is_sendable_path(path)
    {
        let message = format!("`{path}` cannot be a path");
        problems
            .error(codes::REDIRECT, &place.field("path"), message)
            .expected("expected a path such as /new");
    }
    let parts = redirect.scheme.is_some() || redirect.host.is_some() || redirect.path.is_some();
    match &redirect.location {
        Some(location) => check_location(location, &place.field("location"), problems),
        None if !parts => {
            let message = "this redirects every request to itself".to_owned();
            problems
                .error(codes::REDIRECT, place, message)
                .expected("expected a location, or a scheme, host or path that differs");
        }
        None => {}
    }
}

fn check_location(location: &str, place: &Place, problems: &mut Problems) {
    if location.is_empty() || !location.bytes().all(|byte| byte.is_ascii_graphic()) {
        problems
            .error(codes::REDIRECT, place, "this cannot be a location".to_owned())
            .expected("expected a URL, percent-encoded as it is to be sent");
    }
    let mut rest = location;
    while let Some(open) = rest.find('{') {
        rest = &rest[open..];
        let close = rest.find('}').map_or(rest.len(), |index| index + 1);
        let found = &rest[..close];
        if !PLACEHOLDERS.contains(&found) {
            problems
                .error(codes::REDIRECT, place, format!("`{found}` stands for nothing"))
                .expected(format!("expected one of `{}`", PLACEHOLDERS.join("`, `")))
                .meant(nearest(found, PLACEHOLDERS));
        }
        rest = &rest[close..];
    }
}

fn check_reply(reply: &Reply, place: &Place, problems: &mut Problems) {
    let status = reply.status();
    if !(200..=599).contains(&status) {
        let message = format!("{status} is not a status of a final response");
        problems
            .error(codes::REPLY, &place.field("status"), message)
            .expected("expected a status from 200 to 599");
    }
    // RFC 9110, sections 15.3.5, 15.3.6 and 15.4.5.
    if matches!(status, 204 | 205 | 304) && !reply.body.is_empty() {
        let message = format!("a response with the status {status} has no body");
        problems.error(codes::REPLY, &place.field("body"), message).expected("expected no body");
    }
    if let Some(content_type) = &reply.content_type {
        check_value(content_type, &place.field("content_type"), problems);
    }
}

/// A host with or without port (RFC 3986, section 3.2), loosely: what can be sent without harm.
fn is_authority(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:[]".contains(&byte);
    (1..=260).contains(&text.len()) && text.bytes().all(allowed)
}

fn is_sendable_path(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_graphic() && !b"?#\"<>\\^`{|}".contains(&byte);
    text.starts_with('/') && text.bytes().all(allowed)
}
