//! An explanation for people.

use super::{Choose, Explanation, Find, Limits, Pick, RouteNote, ServerNote};
use crate::decide::{ArmReason, PickReason, Refusal, RefusalReason, Verdict};
use crate::spec::{Admin, Policy};
use crate::text::duration;
use std::fmt;

/// Servers whose state is told, at most.
const SERVERS_TOLD_MAX: usize = 6;

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        line(f, "find", &found(&self.find), &find_words(&self.find))?;
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

fn choose_words(choose: &Choose) -> String {
    let percent = |hundredths: u16| format!("{}.{:02}", hundredths / 100, hundredths % 100);
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
    if pick.last_resort {
        words.push_str("; connections to it have just failed, but all others are out, too");
    }
    let out: Vec<String> = pick.servers.iter().filter_map(why_out).collect();
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
        Policy::LeastRequest => {
            let backup = pick.server.as_ref().is_some_and(|server| server.backup);
            let can_serve = |it: &&ServerNote| it.backup == backup && why_out(it).is_none();
            let serving: Vec<&ServerNote> = pick.servers.iter().filter(can_serve).collect();
            let mut told = String::new();
            for (place, server) in serving.iter().take(SERVERS_TOLD_MAX).enumerate() {
                match place {
                    0 => told.push_str(&format!("{} has {} in flight", server.name, server.in_flight)),
                    _ => told.push_str(&format!(", {} {}", server.name, server.in_flight)),
                }
            }
            format!("{word}: {told}{}", and_more(serving.len().saturating_sub(SERVERS_TOLD_MAX)))
        }
        Policy::RoundRobin => format!("{word}: its turn"),
        Policy::Rendezvous => format!("{word}: the highest score for this key"),
        Policy::PeakEwma | Policy::Random | Policy::Maglev => word.to_owned(),
    }
}

/// Why a server takes no new session.
fn why_out(server: &ServerNote) -> Option<String> {
    let name = &server.name;
    match server.admin {
        Admin::Drain => return Some(format!("{name} drains")),
        Admin::Maintenance => return Some(format!("{name} is in maintenance")),
        Admin::Ready => {}
    }
    if server.health != "up" {
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
    let retries = match (limits.retries, limits.idempotent) {
        (0, _) => "no retry".to_owned(),
        (count, idempotent) => {
            let plural = if count == 1 { "retry" } else { "retries" };
            let only = if idempotent { "" } else { ", only while nothing was sent" };
            format!("{count} {plural} ({}{only}; budget {} %)", limits.method, limits.retry_budget_percent)
        }
    };
    let mut words =
        format!("connect {}, response {}, {retries}", duration(limits.connect), duration(limits.response));
    if let Some(max_body) = limits.max_body {
        words.push_str(&format!(", body up to {max_body} bytes"));
    }
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
    }
}
