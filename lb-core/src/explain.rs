//! `decide` with a recorder: the same code decides, so what is explained is what happens.

mod pick;
mod rate;
mod text;

pub use pick::{Pick, ServerNote, ZoneNote};
pub use rate::RateNote;

use crate::choose::Choice;
use crate::class::Class;
use crate::cursors::Cursors;
use crate::decide::{ArmReason, Decision, Recorder, Verdict, decide_watched};
use crate::find::{Conditions, Missed, Test, TestValue, Watch};
use crate::live::Table;
use crate::path::NormalPath;
use crate::pick::{Care, Picked};
use crate::retry::{RetryRules, is_idempotent};
use crate::snapshot::{ArmIndex, Route, RouteIndex, Target};
use crate::view::{Fields, RequestView};
use std::ops::Range;
use std::time::Duration;

/// Routes that are named beside the one that was found, at most.
const ROUTES_NAMED_MAX: usize = 8;

/// Why a request goes where it goes. Its Display is for people; the fields are for programs.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Explanation {
    /// What was decided.
    pub verdict: Verdict,
    /// From the request to a route.
    pub find: Find,
    /// How the client stands by the route's rate; `None` where it has none. Who is refused by it goes no further.
    pub rate: Option<RateNote>,
    /// From the route to an arm; `None` where no server was looked for.
    pub choose: Option<Choose>,
    /// From the arm to a server.
    pub pick: Option<Pick>,
    /// What bounds the exchange; `None` if it goes to no server.
    pub limits: Option<Limits>,
    /// What a redirect or fixed reply answers: its status and, of a redirect, its location.
    pub answer: Option<(u16, Option<String>)>,
}

/// How the route was found.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Find {
    /// The path as it is matched; bytes that are not UTF-8 are replaced.
    pub path: String,
    /// The route.
    pub route: Option<RouteNote>,
    /// Routes that match, too, and are less specific (or of lower priority), the next one first.
    pub beat: Vec<RouteNote>,
    /// More specific routes with the right host and path, of which a condition does not hold.
    pub missed: Vec<RouteNote>,
}

/// A route and what it has to do with the request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RouteNote {
    /// Its name.
    pub name: String,
    /// What it asks of a request; of a missed one, the condition that does not hold.
    pub words: String,
}

/// How the arm was chosen.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Choose {
    /// The arm that the session belongs to.
    pub arm: &'static str,
    /// Why.
    pub reason: ArmReason,
    /// The session's bucket, in hundredths of a percent.
    pub bucket: Option<u16>,
    /// The buckets that the canary takes.
    pub canary: Option<Range<u16>>,
    /// The release that decides, with the session, about the bucket.
    pub release: Option<String>,
    /// The arm that serves in its place, because it cannot.
    pub fallback: Option<&'static str>,
}

/// What bounds the exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Time to connect.
    pub connect: Duration,
    /// Time that the server may stay silent.
    pub response: Duration,
    /// Further attempts: how many at most, and when.
    pub retry: RetryRules,
    /// Share of the backend's exchanges, in percent, that may be retried over time.
    pub retry_budget_percent: u32,
    /// The route's class; `None` where all routes have the same.
    pub class: Option<Class>,
    /// The method.
    pub method: String,
    /// Whether the method is idempotent (RFC 9110, section 9.2.2).
    pub idempotent: bool,
    /// Whether the request may be sent twice, by its method: else only an attempt of which nothing was sent is repeated.
    pub repeatable: bool,
    /// Bytes of a request body at most.
    pub max_body: Option<u64>,
}

/// Decides like [`decide`](crate::decide()) and, by what its client owes, like [`Verdict::charge`], and says why. Has no
/// effect: nothing is charged. Allocates.
pub fn explain<F: Fields + ?Sized>(
    table: &Table,
    cursors: &Cursors,
    view: &RequestView<'_, F>,
    now: Duration,
    random: u128,
) -> Explanation {
    let mut notes = Notes::default();
    let verdict = decide_watched(table, cursors, view, now, random, &mut notes);
    let (rate, verdict) = Teller { table, cursors, now, random, notes: &notes }.rate(view, verdict);
    if rate.as_ref().is_some_and(|rate| rate.wait.is_some()) {
        (notes.choice, notes.asked) = (None, None);
    }
    let found = match &verdict {
        Verdict::Forward(decision) => Some(decision.route()),
        Verdict::Answer(route) => Some(*route),
        Verdict::Refuse(refusal) => refusal.route,
    };
    let route = found.map(|route| table.snapshot.route(route));
    let decision = match &verdict {
        Verdict::Forward(decision) => Some(*decision),
        Verdict::Answer(_) | Verdict::Refuse(_) => None,
    };
    let teller = Teller { table, cursors, now, random, notes: &notes };
    Explanation {
        find: teller.find(),
        rate,
        choose: route.and_then(|route| teller.choose(route, decision)),
        pick: route.and_then(|route| teller.pick(route, decision)),
        limits: route.zip(decision).map(|(route, decision)| teller.limits(route, decision, view.method)),
        answer: match (&verdict, route.map(|route| &route.target)) {
            (Verdict::Answer(_), Some(Target::Redirect(redirect))) => {
                let mut location = Vec::new();
                redirect.write_location(view.host, view.path, view.query, view.secure, &mut location);
                Some((redirect.status(), Some(lossy(&location))))
            }
            (Verdict::Answer(_), Some(Target::Reply(reply))) => Some((reply.status(), None)),
            _ => None,
        },
        verdict,
    }
}

/// What was seen on the way.
#[derive(Default)]
struct Notes {
    path: String,
    matched: Vec<RouteIndex>,
    missed: Vec<(RouteIndex, Missed)>,
    choice: Option<Choice>,
    /// The last arm that was asked for a server.
    asked: Option<(ArmIndex, Care)>,
}

impl Watch for Notes {
    fn matched(&mut self, route: RouteIndex) -> bool {
        self.matched.push(route);
        self.matched.len() <= ROUTES_NAMED_MAX
    }

    fn missed(&mut self, route: RouteIndex, missed: Missed) {
        // After the first match they would not have won anyway.
        if self.matched.is_empty() && self.missed.len() < ROUTES_NAMED_MAX {
            self.missed.push((route, missed));
        }
    }
}

impl Recorder for Notes {
    fn read(&mut self, path: &NormalPath<'_>) {
        self.path = lossy(path.bytes);
    }

    fn chose(&mut self, choice: &Choice) {
        self.choice = Some(*choice);
    }

    fn asked(&mut self, arm: ArmIndex, care: Care, _: Option<&Picked>) {
        self.asked = Some((arm, care));
    }
}

/// Puts what was seen into words and numbers.
struct Teller<'a> {
    table: &'a Table,
    cursors: &'a Cursors,
    now: Duration,
    random: u128,
    notes: &'a Notes,
}

impl Teller<'_> {
    fn find(&self) -> Find {
        let route = |index: &RouteIndex| self.table.snapshot.route(*index);
        let mut matched = self
            .notes
            .matched
            .iter()
            .map(route)
            .map(|route| RouteNote { name: route.name.to_string(), words: asks(&route.conditions) });
        Find {
            path: self.notes.path.clone(),
            route: matched.next(),
            beat: matched.collect(),
            missed: (self.notes.missed.iter())
                .map(|(index, missed)| RouteNote {
                    name: route(index).name.to_string(),
                    words: missed_words(&route(index).conditions, *missed),
                })
                .collect(),
        }
    }

    fn choose(&self, route: &Route, decision: Option<Decision>) -> Option<Choose> {
        let choice = self.notes.choice?;
        let Target::Backends(split) = &route.target else { return None };
        let fallback = decision.filter(Decision::fallback).map(|decision| route.arm(decision.arm()).name);
        Some(Choose {
            arm: route.arm(choice.arm).name,
            reason: choice.reason,
            bucket: choice.bucket,
            canary: split.arms.get(1).map(|arm| arm.buckets.clone()),
            release: split.release().map(str::to_owned),
            fallback,
        })
    }

    fn limits(&self, route: &Route, decision: Decision, method: &[u8]) -> Limits {
        let arm = route.arm(decision.arm());
        Limits {
            connect: arm.timeouts.connect,
            response: arm.timeouts.response,
            retry: arm.retry.clone(),
            retry_budget_percent: self.table.snapshot.backend(arm.backend).retry_budget_percent,
            class: self.table.snapshot.classes().map(|_| route.class),
            method: lossy(method),
            idempotent: is_idempotent(method),
            repeatable: arm.retry.may_repeat(method),
            max_body: route.max_body,
        }
    }
}

/// What a route asks of a request.
fn asks(conditions: &Conditions) -> String {
    let mut words = Vec::new();
    if !conditions.hosts.is_empty() {
        words.push(format!("host {}", conditions.hosts.join(" or ")));
    }
    if let Some((kind, path)) = &conditions.path {
        words.push(format!("{kind} {path}"));
    }
    if !conditions.methods.is_empty() {
        let methods: Vec<String> = conditions.methods.iter().map(|method| lossy(method)).collect();
        words.push(format!("method {}", methods.join(" or ")));
    }
    let named =
        [("header", &conditions.headers), ("query", &conditions.query), ("cookie", &conditions.cookies)];
    for (kind, tests) in named {
        words.extend(tests.iter().map(|test| test_words(kind, test)));
    }
    if !conditions.sources.is_empty() {
        let networks: Vec<String> = conditions.sources.iter().take(4).map(ToString::to_string).collect();
        words.push(format!("source {}", networks.join(" or ")));
    }
    if words.is_empty() { "anything".to_owned() } else { words.join(", ") }
}

fn test_words(kind: &str, test: &Test) -> String {
    let name = lossy(&test.name);
    match &test.value {
        TestValue::Present => format!("{kind} {name}"),
        TestValue::Absent => format!("no {kind} {name}"),
        TestValue::Is(value) => format!("{kind} {name}={}", lossy(value)),
        TestValue::Regex(regex) => format!("{kind} {name}~{}", regex.as_str()),
    }
}

/// What a route asks and the request does not have.
fn missed_words(conditions: &Conditions, missed: Missed) -> String {
    let test = |kind, tests: &[Test], place: usize| tests.get(place).map(|test| test_words(kind, test));
    let words = match missed {
        Missed::Listener => Some("another listener".to_owned()),
        Missed::Method => {
            let methods: Vec<String> = conditions.methods.iter().map(|method| lossy(method)).collect();
            Some(format!("method {}", methods.join(" or ")))
        }
        Missed::Header(place) => test("header", &conditions.headers, place),
        Missed::Query(place) => test("query", &conditions.query, place),
        Missed::Cookie(place) => test("cookie", &conditions.cookies, place),
        Missed::Source => Some("another source".to_owned()),
    };
    words.unwrap_or_default()
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
