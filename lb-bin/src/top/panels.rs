//! What is shown, as tables: pure, from a document, a filter and an order.

use std::collections::BTreeSet;

use lb_control::stats::document::{Arm, Backend, Comparison, Lately, Leaving, Route, Server, Stats};

use super::numbers::{UNKNOWN, age, count, or_unknown, percent, rate, share, time};

/// How good a row is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Tone {
    /// Something is wrong.
    Bad,
    /// Something is not as usual.
    Odd,
    /// All is well, or nothing is known.
    #[default]
    Plain,
    /// Nothing happens there.
    Quiet,
}

/// A row of a table.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Row {
    /// One for every column.
    pub cells: Vec<String>,
    pub tone: Tone,
}

/// A column of a table.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Column {
    pub title: &'static str,
    /// 0: what is left, at least [`FLEXIBLE_MIN`].
    pub width: u16,
    /// From this width of the screen on it is shown.
    pub from: u16,
    /// Up to below this width.
    pub until: u16,
    /// Numbers stand to the right.
    pub right: bool,
    /// Of `route/arm` and `backend/server` the end is not cut.
    pub is_name: bool,
}

/// The least width of a column that takes what is left.
pub(crate) const FLEXIBLE_MIN: u16 = 12;

/// One of the tables.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Subject {
    Canaries,
    Routes,
    Backends,
    #[default]
    Servers,
    Changes,
}

impl Subject {
    /// From top to bottom.
    pub(crate) const ALL: [Subject; 5] =
        [Subject::Canaries, Subject::Routes, Subject::Backends, Subject::Servers, Subject::Changes];

    /// Rows that it has on a small screen while another one is looked at.
    pub(crate) fn rows_min(self) -> usize {
        match self {
            Subject::Canaries | Subject::Backends | Subject::Changes => 2,
            Subject::Routes | Subject::Servers => 3,
        }
    }
}

/// A table.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Panel {
    pub subject: Subject,
    pub columns: &'static [Column],
    pub rows: Vec<Row>,
    /// Said instead of rows when there are none.
    pub empty: &'static str,
}

/// In which order routes, backends and servers are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Order {
    /// What is wrong first, then what is busiest.
    #[default]
    BadFirst,
    /// The busiest first.
    Rate,
    /// The slowest first.
    Slow,
    /// By name.
    Name,
}

impl Order {
    pub(crate) fn next(self) -> Order {
        match self {
            Order::BadFirst => Order::Rate,
            Order::Rate => Order::Slow,
            Order::Slow => Order::Name,
            Order::Name => Order::BadFirst,
        }
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            Order::BadFirst => "bad first",
            Order::Rate => "busy first",
            Order::Slow => "slow first",
            Order::Name => "by name",
        }
    }
}

const fn text(title: &'static str, width: u16, from: u16) -> Column {
    Column { title, width, from, until: u16::MAX, right: false, is_name: false }
}

const fn name(title: &'static str) -> Column {
    Column { is_name: true, ..text(title, 0, ALWAYS) }
}

const fn number(title: &'static str, width: u16, from: u16) -> Column {
    Column { title, width, from, until: u16::MAX, right: true, is_name: false }
}

/// A width that every screen has.
const ALWAYS: u16 = 0;
/// The width of most terminals.
const USUAL: u16 = 80;
/// A width at which there is room for more.
const WIDE: u16 = 120;
const VERY_WIDE: u16 = 160;

const CANARIES: &[Column] = &[text("CANARIES AND JUMPS", 0, ALWAYS)];

const ROUTES: &[Column] = &[
    name("ROUTES"),
    text("leads to", 20, WIDE),
    number("share", 6, ALWAYS),
    number("served", 6, ALWAYS),
    number("since", 5, ALWAYS),
    number("active", 6, WIDE),
    number("rate/s", 6, ALWAYS),
    number("2xx", 6, VERY_WIDE),
    number("3xx", 6, VERY_WIDE),
    number("4xx", 6, VERY_WIDE),
    number("fail", 6, ALWAYS),
    number("p50", 6, ALWAYS),
    number("p90", 6, WIDE),
    number("p99", 6, ALWAYS),
    number("srv p50", 7, WIDE),
    number("srv p90", 7, VERY_WIDE),
    number("srv p99", 7, ALWAYS),
];

const BACKENDS: &[Column] = &[
    name("BACKENDS"),
    Column { until: WIDE, ..number("up", 9, ALWAYS) },
    text("servers", 34, WIDE),
    number("busy", 5, ALWAYS),
    number("wait", 5, USUAL),
    number("w p99", 6, WIDE),
    number("rate/s", 6, ALWAYS),
    number("fail", 6, ALWAYS),
    number("p50", 6, ALWAYS),
    number("p90", 6, VERY_WIDE),
    number("p99", 6, ALWAYS),
    number("srv p50", 7, WIDE),
    number("srv p90", 7, VERY_WIDE),
    number("srv p99", 7, ALWAYS),
];

const SERVERS: &[Column] = &[
    name("SERVERS"),
    text("address", 22, WIDE),
    Column { until: VERY_WIDE, ..text("state", 17, ALWAYS) },
    text("state", 40, VERY_WIDE),
    number("weight", 6, ALWAYS),
    number("busy", 5, ALWAYS),
    number("rate/s", 6, ALWAYS),
    number("fail", 6, ALWAYS),
    number("srv p50", 7, WIDE),
    number("srv p90", 7, VERY_WIDE),
    number("srv p99", 7, ALWAYS),
];

const CHANGES: &[Column] = &[number("CHANGES", 7, ALWAYS), text("", 26, ALWAYS), text("", 0, ALWAYS)];

/// All tables that there is something to say in.
pub(crate) fn panels(stats: &Stats, filter: &str, order: Order) -> Vec<Panel> {
    let filter = Filter::new(filter, &stats.routes);
    let panel = |subject, columns, rows, empty| Panel { subject, columns, rows, empty };
    let canaries = panel(Subject::Canaries, CANARIES, canaries(stats, &filter), "");
    let mut panels = Vec::with_capacity(Subject::ALL.len());
    if !canaries.rows.is_empty() {
        panels.push(canaries);
    }
    let nothing = if filter.word.is_empty() { "there are none" } else { "none that the filter lets through" };
    panels.push(panel(Subject::Routes, ROUTES, routes(stats, &filter, order), nothing));
    panels.push(panel(Subject::Backends, BACKENDS, backends(stats, &filter, order), nothing));
    panels.push(panel(Subject::Servers, SERVERS, servers(stats, &filter, order), nothing));
    panels.push(panel(Subject::Changes, CHANGES, changes(stats, &filter), nothing));
    panels
}

/// Which names are looked for. A route brings its backends along, and a backend its servers.
struct Filter {
    word: String,
    /// Backends of the routes that are called so.
    backends: BTreeSet<String>,
}

impl Filter {
    fn new(word: &str, routes: &[Route]) -> Filter {
        let mut filter = Filter { word: word.to_lowercase(), backends: BTreeSet::new() };
        let called = routes.iter().filter(|route| filter.is_in(&route.name));
        filter.backends = called.flat_map(|route| &route.arms).map(|arm| arm.backend.clone()).collect();
        filter
    }

    fn is_in(&self, name: &str) -> bool {
        name.to_lowercase().contains(&self.word)
    }

    fn route(&self, route: &Route) -> bool {
        self.is_in(&route.name) || route.arms.iter().any(|arm| self.is_in(&arm.backend))
    }

    fn backend(&self, backend: &Backend) -> bool {
        self.is_in(&backend.name) || self.backends.contains(&backend.name)
    }

    fn server(&self, backend: &Backend, server: &Server) -> bool {
        self.backend(backend)
            || self.is_in(&server.address)
            || self.is_in(&format!("{}/{}", backend.name, server.name))
    }
}

fn jumped(arm: &Arm) -> impl Iterator<Item = &Comparison> {
    arm.comparisons.iter().filter(|it| it.state == "jumped")
}

fn arm_name(route: &Route, arm: &Arm) -> String {
    match (route.name.as_str(), arm.arm.as_str(), route.arms.len()) {
        ("", _, _) if arm.backend.is_empty() => "(no route)".to_owned(),
        ("", _, _) => format!("→ {}", arm.backend),
        (name, "", _) | (name, "stable", 1) => name.to_owned(),
        (name, word, _) => format!("{name}/{word}"),
    }
}

/// What a comparison says: `wait 210ms, stable 20ms`.
fn compared(it: &Comparison) -> String {
    let number = |number: Option<f64>| match it.unit.as_deref() {
        Some("share") => or_unknown(number, percent),
        _ => or_unknown(number, time),
    };
    let against = if it.against == "stable" { "stable" } else { "before" };
    format!("{} {}, {against} {}", it.of, number(it.now), number(it.usual))
}

/// How many times as much it is.
fn factor(it: &Comparison) -> f64 {
    it.now.unwrap_or_default() / it.usual.unwrap_or_default().max(1e-6)
}

/// A line for every canary and for every other arm that has jumped: is it worse, and since when.
fn canaries(stats: &Stats, filter: &Filter) -> Vec<Row> {
    let mut rows = Vec::new();
    for route in stats.routes.iter().filter(|route| filter.route(route)) {
        for (place, arm) in route.arms.iter().enumerate() {
            let worst = jumped(arm).max_by(|left, right| factor(left).total_cmp(&factor(right)));
            let is_canary = place > 0;
            if worst.is_none() && !is_canary {
                continue;
            }
            let known = || arm.comparisons.iter().any(|it| it.against == "stable" && it.state == "calm");
            let (word, says, tone) = match worst {
                Some(worst) => {
                    let more = jumped(arm).count() - 1;
                    let more = if more > 0 { format!(" (+{more})") } else { String::new() };
                    let since = age(f64::from(worst.for_s.unwrap_or_default()));
                    let says = format!("{}, for {since}{more}", compared(worst));
                    (if is_canary { "WORSE" } else { "JUMP" }, says, Tone::Bad)
                }
                None if known() => ("ok", "no worse than stable".to_owned(), Tone::Plain),
                None => ("?", "too few exchanges to tell".to_owned(), Tone::Quiet),
            };
            let mut parts = Vec::new();
            if is_canary {
                let since = or_unknown(arm.share_since, |since| age(stats.at - since));
                parts.push(format!("{} for {since}", or_unknown(arm.share_target, share)));
            }
            parts.push(says);
            if is_canary {
                parts.push(format!("served {}", or_unknown(arm.share_served, percent)));
                let release = arm.release.as_deref().filter(|release| !release.is_empty());
                parts.extend(release.map(|release| format!("release {release}")));
            }
            let says = parts.join(" · ");
            let name = arm_name(route, arm);
            rows.push(Row { cells: vec![format!("{word:<5}  {name}  {says}")], tone });
        }
    }
    rows.sort_by_key(|row| row.tone);
    rows
}

/// What rows are put in order by.
struct Place {
    tone: Tone,
    rate: f64,
    slow: f64,
    name: String,
}

impl Place {
    fn new(tone: Tone, lately: Option<&Lately>, name: String) -> Place {
        let slow = lately.and_then(|it| it.server.or(it.client)).map_or(-1.0, |times| times.p99);
        Place { tone, rate: lately.map_or(-1.0, |it| it.rate), slow, name }
    }
}

/// In order; what is alike stays as it was, which is as in the file.
fn ordered<T>(mut rows: Vec<(Place, T)>, order: Order) -> impl Iterator<Item = T> {
    rows.sort_by(|(left, _), (right, _)| match order {
        Order::BadFirst => left.tone.cmp(&right.tone).then(right.rate.total_cmp(&left.rate)),
        Order::Rate => right.rate.total_cmp(&left.rate),
        Order::Slow => right.slow.total_cmp(&left.slow),
        Order::Name => left.name.cmp(&right.name),
    });
    rows.into_iter().map(|(_, row)| row)
}

/// How good it is that so many fail.
fn failing(lately: Option<&Lately>) -> Tone {
    match lately {
        None => Tone::Plain,
        Some(it) if it.count == 0 => Tone::Quiet,
        Some(it) if it.failures >= Some(FAILURES_BAD) => Tone::Bad,
        Some(it) if it.failures > Some(0.0) => Tone::Odd,
        Some(_) => Tone::Plain,
    }
}

/// From this share of failures on it is bad.
const FAILURES_BAD: f64 = 0.05;

fn routes(stats: &Stats, filter: &Filter, order: Order) -> Vec<Row> {
    let mut rows = Vec::new();
    for route in stats.routes.iter().filter(|route| filter.route(route)) {
        let tone = |arm: &Arm| {
            if jumped(arm).next().is_some() { Tone::Bad } else { failing(arm.lately.as_ref()) }
        };
        // What was refused before it had a route is of interest when there is any.
        let has_come = |arm: &&Arm| {
            !(route.name.is_empty() && arm.backend.is_empty())
                || arm.lately.as_ref().is_some_and(|it| it.count > 0)
        };
        let arms: Vec<Row> = route
            .arms
            .iter()
            .filter(has_come)
            .map(|arm| Row { cells: arm_cells(stats, route, arm), tone: tone(arm) })
            .collect();
        let worst = arms.iter().map(|row| row.tone).min().unwrap_or_default();
        let mut place = Place::new(worst, None, route.name.clone());
        for lately in route.arms.iter().filter_map(|arm| arm.lately.as_ref()) {
            place.rate = place.rate.max(0.0) + lately.rate;
            let slow = lately.client.map_or(-1.0, |times| times.p99);
            place.slow = place.slow.max(slow);
        }
        rows.push((place, arms));
    }
    ordered(rows, order).flatten().collect()
}

fn quantiles(lately: Option<&Lately>, of_client: bool) -> [String; 3] {
    let times = lately.and_then(|it| if of_client { it.client } else { it.server });
    times.map_or([UNKNOWN; 3].map(str::to_owned), |it| [it.p50, it.p90, it.p99].map(time))
}

fn rate_and_failures(lately: Option<&Lately>) -> [String; 2] {
    [or_unknown(lately.map(|it| it.rate), rate), or_unknown(lately.and_then(|it| it.failures), percent)]
}

fn arm_cells(stats: &Stats, route: &Route, arm: &Arm) -> Vec<String> {
    let lately = arm.lately.as_ref();
    let hundred = |word: &str| {
        let part = lately
            .filter(|it| it.count > 0)
            .map(|it| it.statuses.get(word).copied().unwrap_or_default() as f64 / it.count as f64);
        or_unknown(part, percent)
    };
    let [rate, failures] = rate_and_failures(lately);
    let [p50, p90, p99] = quantiles(lately, true);
    let [server_p50, server_p90, server_p99] = quantiles(lately, false);
    // Without another arm there is no share to speak of.
    let of_split = |text: String| if arm.share_target.is_some() { text } else { String::new() };
    vec![
        arm_name(route, arm),
        arm.backend.clone(),
        arm.share_target.map_or(String::new(), share),
        of_split(or_unknown(arm.share_served, percent)),
        of_split(or_unknown(arm.share_since, |since| age(stats.at - since))),
        count(arm.exchanges_active),
        rate,
        hundred("2xx"),
        hundred("3xx"),
        hundred("4xx"),
        failures,
        p50,
        p90,
        p99,
        server_p50,
        server_p90,
        server_p99,
    ]
}

fn backends(stats: &Stats, filter: &Filter, order: Order) -> Vec<Row> {
    let rows = stats.backends.iter().filter(|backend| filter.backend(backend)).map(|backend| {
        let attempts = backend.attempts.as_ref();
        let of = |word: &str| backend.states.get(word).copied().unwrap_or_default();
        let all: u64 = backend.states.values().sum();
        let has_no_address = backend.servers.iter().any(|server| no_address(server).is_some());
        let tone = match (of("up"), all) {
            (0, 1..) => Tone::Bad,
            (0, 0) if has_no_address => Tone::Bad,
            (up, all) if up < all || has_no_address || backend.waiting > 0 => {
                Tone::Odd.min(failing(attempts))
            }
            _ => failing(attempts),
        };
        let states = ["up", "down", "drain", "maintenance"].into_iter();
        let states = states.filter(|word| of(word) > 0 || (*word == "up" && all > 0));
        let states: Vec<String> = states.map(|word| format!("{} {word}", of(word))).collect();
        let [rate, failures] = rate_and_failures(attempts);
        let [p50, p90, p99] = quantiles(backend.exchanges.as_ref(), true);
        let [server_p50, server_p90, server_p99] = quantiles(attempts, false);
        let states = if states.is_empty() { "no server".to_owned() } else { states.join(", ") };
        let cells = vec![
            backend.name.clone(),
            format!("{}/{all}", of("up")),
            states,
            count(backend.in_flight),
            // Where servers are never full nobody waits.
            backend.may_wait.map_or(String::new(), |_| count(backend.waiting)),
            backend.waits.map_or(String::new(), |waits| time(waits.p99)),
            rate,
            failures,
            p50,
            p90,
            p99,
            server_p50,
            server_p90,
            server_p99,
        ];
        (Place::new(tone, attempts, backend.name.clone()), Row { cells, tone })
    });
    ordered(rows.collect(), order).collect()
}

/// Why a server's name stands for no address, if it is so.
fn no_address(server: &Server) -> Option<&str> {
    server.health.strip_prefix("no address").map(|why| why.trim().trim_matches(['(', ')']))
}

/// What is left on a server that is to leave, and for how long its sessions may stay.
fn left(at: f64, leaving: &Leaving) -> Vec<String> {
    let word = if leaving.empty_after_s.is_some() { "empty" } else { "idle" };
    let empty = leaving.idle_s.map(|idle| format!("{word} {}", age(idle)));
    let end = match leaving.until {
        _ if leaving.over => Some("over".to_owned()),
        until => until.map(|until| format!("{} left", age(until - at))),
    };
    empty.into_iter().chain(end).collect()
}

/// A server's state in a word or two, the reason for it, and how good it is.
fn state(at: f64, server: &Server) -> (String, String, Tone) {
    if let Some(why) = no_address(server) {
        return ("no address".to_owned(), why.to_owned(), Tone::Bad);
    }
    let is_full = server.max_requests.is_some_and(|most| server.in_flight >= most);
    let why = server.health.strip_prefix("down").map(|why| why.trim().trim_matches(['(', ')']).to_owned());
    let backup = if server.backup { "backup" } else { "" };
    match (server.admin.as_str(), why, server.removed_for_s) {
        ("ready", Some(why), _) => ("down".to_owned(), why, Tone::Bad),
        ("ready", None, Some(removed)) => {
            (format!("out {}", time(removed)), "no connection".to_owned(), Tone::Bad)
        }
        ("ready", None, None) if is_full => ("up".to_owned(), "full".to_owned(), Tone::Odd),
        ("ready", None, None) => ("up".to_owned(), backup.to_owned(), Tone::Plain),
        (admin, why, _) => {
            let mut words = server.leaving.as_ref().map(|it| left(at, it)).unwrap_or_default();
            words.extend(why.map(|why| format!("down: {why}")));
            (admin.to_owned(), words.join(", "), Tone::Odd)
        }
    }
}

fn servers(stats: &Stats, filter: &Filter, order: Order) -> Vec<Row> {
    let all = stats.backends.iter().flat_map(|backend| backend.servers.iter().map(move |it| (backend, it)));
    let rows = all.filter(|(backend, server)| filter.server(backend, server)).map(|(backend, server)| {
        let lately = server.lately.as_ref();
        let (word, why, tone) = state(stats.at, server);
        let tone = if tone == Tone::Plain { failing(lately) } else { tone };
        let [rate, failures] = rate_and_failures(lately);
        let [p50, p90, p99] = quantiles(lately, false);
        let name = format!("{}/{}", backend.name, server.name);
        let state = if why.is_empty() { word } else { format!("{word}: {why}") };
        let cells = vec![
            name.clone(),
            server.address.clone(),
            state.clone(),
            state,
            server.weight.to_string(),
            count(server.in_flight),
            rate,
            failures,
            p50,
            p90,
            p99,
        ];
        (Place::new(tone, lately, name), Row { cells, tone })
    });
    ordered(rows.collect(), order).collect()
}

fn changes(stats: &Stats, filter: &Filter) -> Vec<Row> {
    let seen = stats.changes.iter().filter(|it| filter.is_in(&it.subject) || filter.is_in(&it.words));
    seen.map(|it| Row {
        cells: vec![age(stats.at - it.at), it.subject.clone(), it.words.clone()],
        tone: if it.worse { Tone::Bad } else { Tone::Plain },
    })
    .collect()
}
