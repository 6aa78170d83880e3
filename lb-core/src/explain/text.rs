//! An explanation for people.

use super::{Choose, Explanation, Find, Limits, Pick, RateNote, RouteNote, ServerNote};
use crate::decide::{ArmReason, PickReason, Refusal, RefusalReason, Verdict};
use crate::retry::RetryRules;
use crate::spec::{Admin, Policy};
use crate::text::duration;
use std::fmt;
use std::time::Duration;

/// Servers whose state is told, at most.
const SERVERS_TOLD_MAX: usize = 6;

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        line(f, "find", &found(&self.find), &find_words(&self.find))?;
        if let Some(rate) = &self.rate {
            line(f, "rate", &format!("{} in {}", rate.requests, duration(rate.per)), &rate_words(rate))?;
        }
        if let Some(choose) = &self.choose {
            line(f, "choose", &format!("arm {}", choose.arm), &choose_words(choose))?;
        }
        if let Some(pick) = &self.pick {
            let server = pick.server.as_ref().map_or("nobody".to_owned(), qualified);
            line(f, "pick", &server, &pick_words(pick))?;
            if !pick.then.is_empty() {
                line(f, "", "then", &then_words(pick))?;
            }
        }
        if let Some(limits) = &self.limits {
            write!(f, "{:<9}{}", "limits", limits_words(limits))?;
        }
        match (&self.verdict, &self.answer) {
            (Verdict::Refuse(refusal), _) => {
                let what = format!("{} {}", refusal.status(), refusal.word());
                write!(f, "{:<9}{what:<18} {}", "refuse", refusal_words(refusal))
            }
            (_, Some((status, Some(location)))) => {
                write!(f, "{:<9}{:<18} to {location}", "answer", format!("redirect {status}"))
            }
            (_, Some((status, None))) => {
                write!(f, "{:<9}{:<18} a fixed reply", "answer", format!("reply {status}"))
            }
            _ => Ok(()),
        }
    }
}

fn line(f: &mut fmt::Formatter<'_>, verb: &str, subject: &str, words: &str) -> fmt::Result {
    writeln!(f, "{}", format_args!("{verb:<9}{subject:<18} {words}").to_string().trim_end())
}

fn found(find: &Find) -> String {
    find.route.as_ref().map_or("no route".to_owned(), |route| format!("route {}", route.name))
}

fn find_words(find: &Find) -> String {
    let note = |note: &RouteNote| format!("route {}, {}", note.name, note.words);
    let mut words = match &find.route {
        Some(route) => route.words.clone(),
        None => format!("path {}", find.path),
    };
    if let Some((first, rest)) = find.beat.split_first() {
        words.push_str(&format!("   (beat: {}{})", note(first), and_more(rest.len())));
    }
    if let Some((first, rest)) = find.missed.split_first() {
        let (name, asks) = (&first.name, &first.words);
        words.push_str(&format!("   (passed: route {name} asks for {asks}{})", and_more(rest.len())));
    }
    words
}

fn and_more(count: usize) -> String {
    if count == 0 { String::new() } else { format!(", and {count} more") }
}

fn rate_words(rate: &RateNote) -> String {
    let RateNote { client, burst, left, .. } = rate;
    match rate.wait {
        None => format!("{client} may make {left} at once now, of {burst}"),
        Some(wait) => {
            let whole = Duration::from_secs(wait.as_secs() + u64::from(wait.subsec_nanos() > 0));
            let wait = duration(if wait.as_secs() == 0 { wait } else { whole });
            format!("{client} has used up its {burst} and has to wait {wait}")
        }
    }
}

fn percent(hundredths: u16) -> String {
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

fn choose_words(choose: &Choose) -> String {
    let at = choose.bucket.map(|bucket| format!("at {} %", percent(bucket))).unwrap_or_default();
    let takes = choose
        .canary
        .as_ref()
        .map(|it| format!("canary takes {} to {} %", percent(it.start), percent(it.end)))
        .unwrap_or_default();
    let mut words = match choose.reason {
        ArmReason::Only => "the only one".to_owned(),
        ArmReason::Share => format!("session {at}, {takes}"),
        ArmReason::Mark => format!("session marked {at}, {takes}"),
        ArmReason::Forced => format!("by the testers' cookie (session {at}, {takes})"),
    };
    if let Some(fallback) = choose.fallback {
        words.push_str(&format!("; it cannot serve, so arm {fallback} does"));
    }
    words
}

fn qualified(server: &ServerNote) -> String {
    format!("{}/{}", server.backend, server.name)
}

fn pick_words(pick: &Pick) -> String {
    let mut words = match pick.reason {
        Some(PickReason::Sticky) => "its sticky cookie names it".to_owned(),
        Some(PickReason::Moved) => {
            "the sticky cookie names no server that can serve; next by hash".to_owned()
        }
        Some(PickReason::Policy) => policy_words(pick),
        None => "no server can serve".to_owned(),
    };
    if pick.server.as_ref().is_some_and(|server| server.backup) {
        words.push_str("; a backup, for no primary can serve");
    }
    if let Some(connections) = pick.server.as_ref().and_then(connections) {
        words.push_str(&format!("; {connections}"));
    }
    if pick.waits {
        words.push_str(&match pick.may_wait {
            0 => "; it has as much as it may, and nobody waits here: the request is refused".to_owned(),
            most => format!("; it has as much as it may, so the request waits, if fewer than {most} do"),
        });
    }
    if pick.last_resort {
        words.push_str("; connections to it have just failed, but all others are out, too");
    }
    if pick.failed_open {
        words.push_str("; so few are up that health is ignored");
    }
    if let Some(zone) = &pick.zone {
        words.push_str(&format!("; {} % stay in zone {}", percent(zone.share), zone.name));
    }
    let out: Vec<String> =
        pick.servers.iter().filter_map(|it| why_out(it, true).or_else(|| why_less(it))).collect();
    for out in out.iter().take(SERVERS_TOLD_MAX) {
        words.push_str(&format!("; {out}"));
    }
    words.push_str(&and_more(out.len().saturating_sub(SERVERS_TOLD_MAX)));
    if pick.sticky_cookie == Some(false) && pick.server.is_some() {
        words.push_str("; no sticky cookie");
    }
    words
}

fn policy_words(pick: &Pick) -> String {
    let word = pick.policy.word();
    match pick.policy {
        Policy::LeastRequest => compared(pick, |server| {
            (format!("has {} in flight", server.in_flight), server.in_flight.to_string())
        }),
        Policy::PeakEwma => compared(pick, |server| {
            let in_flight = server.in_flight;
            let latency = server.latency.map_or("an unknown time".to_owned(), short);
            (format!("takes {latency} with {in_flight} in flight"), format!("{latency} with {in_flight}"))
        }),
        Policy::RoundRobin => format!("{word}: its turn"),
        Policy::Random => format!("{word}: drawn by weight"),
        Policy::Maglev => format!("{word}: this key's entry"),
        Policy::Rendezvous => format!("{word}: the highest score for this key"),
    }
}

/// The servers that a policy compares, in the words for the first one and those for the others.
fn compared(pick: &Pick, words: impl Fn(&ServerNote) -> (String, String)) -> String {
    let backup = pick.server.as_ref().is_some_and(|server| server.backup);
    let can_serve = |it: &&ServerNote| it.backup == backup && why_out(it, !pick.failed_open).is_none();
    let serving: Vec<&ServerNote> = pick.servers.iter().filter(can_serve).collect();
    let mut told = String::new();
    for (place, server) in serving.iter().take(SERVERS_TOLD_MAX).enumerate() {
        let (first, further) = words(server);
        match place {
            0 => told.push_str(&format!("{} {first}", server.name)),
            _ => told.push_str(&format!(", {} {further}", server.name)),
        }
    }
    format!("{}: {told}{}", pick.policy.word(), and_more(serving.len().saturating_sub(SERVERS_TOLD_MAX)))
}

/// A latency, to the digits that mean something.
fn short(latency: Duration) -> String {
    match latency.as_micros() {
        us @ 0..10_000 => format!("{us} µs"),
        us => format!("{} ms", us / 1000),
    }
}

/// A time that may be long, to the unit that means something.
fn long(time: Duration) -> String {
    match time.as_secs() {
        s @ 0..120 => format!("{s} s"),
        s @ 120..7200 => format!("{} min", s / 60),
        s => format!("{} h", s / 3600),
    }
}

/// How many of its connections there are, where they are bounded.
fn connections(server: &ServerNote) -> Option<String> {
    server.connections_most.map(|most| format!("connections {} of {most}", server.connections))
}

/// Why a server gets less than its weight says.
fn why_less(server: &ServerNote) -> Option<String> {
    let ServerNote { name, in_flight, .. } = server;
    match server.in_flight_most {
        Some(most) if u64::from(*in_flight) >= most => {
            let connections = connections(server).map_or(String::new(), |words| format!(", {words}"));
            return Some(format!("{name} is full with {in_flight} of {most} in flight{connections}"));
        }
        _ => {}
    }
    let percent = server.strength_percent;
    (percent < 100).then(|| format!("{name} is in slow start with {percent} % of its weight"))
}

/// Why a server takes no new session, be it that its health counts or not.
fn why_out(server: &ServerNote, health_counts: bool) -> Option<String> {
    let name = &server.name;
    match server.admin {
        Admin::Drain => {
            return Some(match server.drains_for {
                None => format!("{name} drains"),
                Some(Duration::ZERO) => format!("{name} has drained: its time is over"),
                Some(left) => format!("{name} drains for {} yet", long(left)),
            });
        }
        Admin::Maintenance => return Some(format!("{name} is in maintenance")),
        Admin::Ready => {}
    }
    if health_counts && server.health != "up" {
        return Some(format!("{name} is {}", server.health));
    }
    if !server.removed_for.is_zero() {
        let left = duration(server.removed_for);
        return Some(format!("{name} is out for {left}, as a connection failed"));
    }
    (server.weight == 0).then(|| format!("{name} has weight 0"))
}

fn then_words(pick: &Pick) -> String {
    let word = |server: &ServerNote| match server.backup {
        true => format!("backup {}", server.name),
        false => qualified(server),
    };
    pick.then.iter().map(word).collect::<Vec<_>>().join(", then ")
}

fn limits_words(limits: &Limits) -> String {
    let (connect, response) = (duration(limits.connect), duration(limits.response));
    let mut words = format!("connect {connect}, response {response}, {}", retry_words(limits));
    if let Some(class) = limits.class {
        words.push_str(&format!(", class {}", class.word()));
    }
    if let Some(max_body) = limits.max_body {
        words.push_str(&format!(", body up to {max_body} bytes"));
    }
    words
}

/// How many further attempts, and of when and how what is not as usual.
fn retry_words(limits: &Limits) -> String {
    let (rules, usual) = (&limits.retry, RetryRules::default());
    let plural = match rules.retries {
        0 => return "no retry".to_owned(),
        1 => "retry",
        _ => "retries",
    };
    let only = if limits.repeatable { "" } else { ", only while nothing was sent" };
    let mut words = format!("{} {plural} ({}{only}", rules.retries, limits.method);
    let is_usual = rules.on_connect && rules.on_closed && rules.on_statuses.is_empty();
    if !is_usual {
        let named = [(rules.on_connect, "connect"), (rules.on_closed, "closed")];
        let named = named.into_iter().filter(|(is_on, _)| *is_on).map(|(_, word)| word.to_owned());
        let statuses = Some(rules.on_statuses.to_string()).filter(|statuses| !statuses.is_empty());
        words.push_str(&format!("; on {}", named.chain(statuses).collect::<Vec<_>>().join(", ")));
    }
    if let Some(timeout) = rules.attempt_timeout {
        words.push_str(&format!("; attempt {}", duration(timeout)));
    }
    if (rules.backoff, rules.backoff_max) != (usual.backoff, usual.backoff_max) {
        words.push_str(&format!("; backoff {} to {}", duration(rules.backoff), duration(rules.backoff_max)));
    }
    if rules.hold_body != usual.hold_body {
        words.push_str(&format!("; body held up to {} bytes", rules.hold_body));
    }
    words.push_str(&format!("; budget {} %)", limits.retry_budget_percent));
    words
}

fn refusal_words(refusal: &Refusal) -> &'static str {
    match refusal.reason {
        RefusalReason::NoRoute => "no route matches",
        RefusalReason::BadPath => {
            "the path has a dot segment, a backslash or NUL, or does not begin with a slash"
        }
        RefusalReason::EncodedSlash => "the path has an encoded slash, and the route refuses them",
        RefusalReason::PathTooLong => "the path is too long",
        RefusalReason::NoServer => "no server can serve",
        RefusalReason::ArmDown => "the session's arm cannot serve, and no other may",
        RefusalReason::RateLimited => "more requests than the route's rate allows",
    }
}
