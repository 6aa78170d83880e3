//! The config file: TOML with places, turned into what the core compiles.
//!
//! ```text
//! gather (files → one tree) → read (tree → settings and spec) → secrets → names → compile
//! ```
//!
//! Every step reports all that it finds; none stops at the first mistake. What follows from a mistake that is
//! already reported is left out.

pub mod address;
mod backend;
pub mod codes;
mod drain;
mod gather;
mod health;
mod log;
mod metrics;
pub mod moment;
mod outliers;
mod place;
mod queue;
mod rate;
mod reader;
mod resolver;
mod retry;
mod route;
mod secrets;
mod settings;
mod shapes;
pub mod source;
mod trace;
pub mod tree;
pub mod value;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use lb_core::compile::codes as core_codes;
use lb_core::spec::{Secrets, Spec};
use lb_core::{Compiled, Snapshot};

use self::address::AdminAddress;
use self::reader::{Located, Reader, Scope};
use self::source::{SourceFile, Span};
use self::tree::{Table, Value};
use crate::drain::DrainSettings;
use crate::health::HealthSettings;
use crate::report::{Diagnostic, Report};
use crate::resolve::ask::Asker;
use crate::resolve::random;

pub(crate) use self::gather::plain;
pub use self::log::{AccessLog, LogFormat, LogTarget, SyslogSettings};
pub use self::metrics::{MetricsSettings, SinkAddress, StatsdSettings, StatusDetail};
pub use self::resolver::{Family, ResolverSettings};
pub use self::settings::{Driver, EngineSettings, Listener};
pub use self::trace::{Endpoint, OtlpSettings, TraceSettings};
pub use crate::resolve::names::Names;

pub(crate) use self::backend::{NamedServer, Way};

/// Where a configuration comes from.
#[derive(Debug, Clone)]
pub enum Origin {
    /// A file, and what it includes.
    File(PathBuf),
    /// A text; relative paths in it count from the working directory.
    Text {
        /// What it is called in messages.
        name: String,
        /// The text.
        text: String,
    },
}

/// What a configuration is loaded for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To be used: keys are made where there are none.
    Run,
    /// To be looked at: nothing is made.
    Check,
}

/// What one load hands to the next, so that what is not written down stays.
#[derive(Debug, Clone, Default)]
pub struct Carried {
    /// The keys in use.
    pub secrets: Option<Secrets>,
    /// What is known about names.
    pub names: Names,
}

/// A configuration that was understood, apart from the routing table.
#[derive(Debug, Clone)]
pub struct Config {
    /// How the engine is to run.
    pub engine: EngineSettings,
    /// The admin listener's address; absent: there is none.
    pub admin: Option<AdminAddress>,
    /// Where state is kept.
    pub state_dir: Option<PathBuf>,
    /// Where access log lines go.
    pub access_log: AccessLog,
    /// What is done about traces; none: nothing.
    pub trace: Option<TraceSettings>,
    /// What is counted apart, and where it goes.
    pub metrics: MetricsSettings,
    /// Servers that metrics tell apart at most, as the bound on series has it: names may come to stand for more.
    pub servers_told_apart: usize,
    /// How names are asked for.
    pub resolver: ResolverSettings,
    /// The servers whose addresses are names.
    pub(crate) named: Vec<NamedServer>,
    /// The listeners' addresses, in the order of the spec's listeners.
    pub listeners: Vec<Listener>,
    /// How servers are checked and watched.
    pub health: Arc<HealthSettings>,
    /// When drains end.
    pub drains: Arc<DrainSettings>,
    /// What the core compiled.
    pub spec: Spec,
}

/// A configuration that can be used.
#[derive(Debug)]
pub struct Plan {
    /// Everything but the table.
    pub config: Config,
    /// The table.
    pub snapshot: Snapshot,
    /// What the next load should be given.
    pub carried: Carried,
}

/// What came of loading: always a report, and a plan unless the report has an error.
#[derive(Debug)]
pub struct Loaded {
    /// All findings.
    pub report: Report,
    /// The configuration, if it can be used.
    pub plan: Option<Plan>,
}

impl Loaded {
    /// The report as one line of JSON, with what was understood: `hash` and the numbers of things.
    pub fn json(&self) -> String {
        let Some(plan) = &self.plan else { return self.report.json() };
        let counts = serde_json::json!({
            "hash": plan.snapshot.hash().to_string(),
            "listeners": plan.snapshot.listeners().len(),
            "routes": plan.snapshot.routes().len(),
            "backends": plan.snapshot.backends().len(),
            "servers": plan.snapshot.servers().len(),
        });
        let report = self.report.json();
        let (whole, counts) = (report.strip_suffix('}').unwrap_or_default(), counts.to_string());
        format!("{whole},{}", counts.trim_start_matches('{'))
    }

    /// `1 listener, 2 routes, 2 backends, 3 servers; hash 0123456789abcdef`, if there is a plan.
    pub fn summary(&self) -> Option<String> {
        let snapshot = &self.plan.as_ref()?.snapshot;
        let count =
            |number: usize, word: &str| format!("{number} {word}{}", if number == 1 { "" } else { "s" });
        Some(format!(
            "{}, {}, {}, {}; hash {}",
            count(snapshot.listeners().len(), "listener"),
            count(snapshot.routes().len(), "route"),
            count(snapshot.backends().len(), "backend"),
            count(snapshot.servers().len(), "server"),
            snapshot.hash()
        ))
    }
}

/// Loads a configuration: reads and checks it, waits for the first answers of its names, and compiles it. Needs a tokio
/// runtime with I/O and time.
pub async fn load(origin: &Origin, purpose: Purpose, previous: Option<&Carried>) -> Loaded {
    let draft = draft(origin, purpose, previous.and_then(|carried| carried.secrets.as_ref()));
    let mut names = previous.map(|carried| carried.names.clone()).unwrap_or_default();
    let Config { named, resolver, .. } = draft.config();
    if !draft.failed() {
        names.fit(named.iter(), Instant::now());
        settle(&mut names, named, resolver).await;
    }
    let mut loaded = draft.finish(&names);
    if let Some(plan) = &mut loaded.plan {
        plan.carried.names = names;
    }
    loaded
}

/// Asks for names until each has been answered, well or not, or the time for that is over.
async fn settle(names: &mut Names, named: &[NamedServer], settings: &ResolverSettings) {
    if names.were_asked(named.iter()) {
        return;
    }
    let mut asker = Asker::new(settings);
    let until = tokio::time::Instant::now() + settings.start_wait;
    while !names.were_asked(named.iter()) {
        names.begin_due(Instant::now(), asker.room()).into_iter().for_each(|question| asker.begin(question));
        tokio::select! {
            (question, result) = asker.next() => {
                // What is to be known about it is reported with its place.
                let _ = names.answered(&question, result, settings.ttl, Instant::now(), random());
            }
            () = tokio::time::sleep_until(until) => break,
        }
    }
    names.give_up_asking();
}

/// Reads a configuration up to where addresses of names are needed.
pub(crate) fn draft(origin: &Origin, purpose: Purpose, known_secrets: Option<&Secrets>) -> Draft {
    let mut report = Report::new();
    let mut document = read(origin, &mut report);
    let place = secrets::Place {
        file: document.secret_file.as_ref(),
        state_dir: document.config.state_dir.as_deref(),
    };
    let spec = &mut document.config.spec;
    spec.secrets = secrets::find(&place, spec, purpose, known_secrets, &mut report);
    Draft { document, report }
}

/// A configuration that was read and not yet compiled.
pub(crate) struct Draft {
    document: Document,
    report: Report,
}

impl Draft {
    /// Whether it cannot be used, whatever its names stand for.
    pub(crate) fn failed(&self) -> bool {
        self.report.failed()
    }

    /// What was understood so far.
    pub(crate) fn config(&self) -> &Config {
        &self.document.config
    }

    /// Compiles it with what names stand for now. What is known about them is not carried on.
    pub(crate) fn finish(self, names: &Names) -> Loaded {
        let Draft { mut document, mut report } = self;
        if !report.failed() {
            resolver::report_unresolved(&document.config, names, &mut report);
        }
        let Config { named, spec, .. } = &mut document.config;
        names.fill(named, spec);
        let snapshot = document.compile(&mut report);
        if let Some(snapshot) = &snapshot {
            let Config { metrics, engine, .. } = &mut document.config;
            let (bound, workers) = (document.metrics_bound, engine.workers);
            document.config.servers_told_apart =
                metrics::check(bound, metrics, snapshot, workers, names.len(), &mut report);
        }
        if document.config.listeners.is_empty() && !report.failed() {
            let nothing =
                Diagnostic::warning(codes::NO_LISTENER, "there is no [[listener]]: nothing would be served");
            report.add(nothing);
        }
        let plan = match snapshot {
            Some(snapshot) if !report.failed() => {
                let secrets = Some(document.config.spec.secrets.clone());
                let carried = Carried { secrets, names: Names::default() };
                Some(Plan { config: document.config, snapshot, carried })
            }
            _ => None,
        };
        Loaded { report, plan }
    }
}

/// The same for callers without a runtime.
///
/// # Errors
/// When the system refuses what a runtime needs.
pub fn load_blocking(
    origin: &Origin,
    purpose: Purpose,
    previous: Option<&Carried>,
) -> std::io::Result<Loaded> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let loaded = runtime.block_on(load(origin, purpose, previous));
    // A lookup that hangs must not keep us.
    runtime.shutdown_background();
    Ok(loaded)
}

/// What was read, with the places that later findings need.
struct Document {
    config: Config,
    tree: Table,
    broken: HashSet<Span>,
    secret_file: Option<Located<PathBuf>>,
    /// Of the bound on series.
    metrics_bound: Option<Span>,
}

fn read(origin: &Origin, report: &mut Report) -> Document {
    let mut tree = match origin {
        Origin::File(path) => gather::file(path, report),
        Origin::Text { name, text } => {
            gather::from_text(SourceFile::new(name.clone(), name.clone(), text.clone()), report)
        }
    };
    let start = Span { file: 0, start: 0, end: 0 };
    let mut reader = Reader::new(report);
    let root = reader.enter(&tree, start, &shapes::ROOT);
    let defaults = defaults(&mut reader, root);
    for (path, table) in defaults {
        give_defaults(&mut tree, path, &table);
    }
    let root = Scope { table: &tree, span: start, shape: &shapes::ROOT };
    let (engine, zone) = settings::engine(&mut reader, root);
    let admin = settings::admin(&mut reader, root);
    let state_dir = settings::state(&mut reader, root);
    let (session, secret_file) = settings::session(&mut reader, root);
    let access_log = log::log(&mut reader, root);
    let trace = trace::trace(&mut reader, root, cfg!(feature = "otlp"));
    let metrics = metrics::metrics(&mut reader, root);
    let resolver = resolver::resolver(&mut reader, root);
    let timeouts = settings::timeouts(&mut reader, root, &shapes::TIMEOUTS);
    let retry = retry::retry(&mut reader, root, &shapes::RETRY);
    let classes = settings::classes(&mut reader, root);
    let (listeners, listener_specs) = settings::listeners(&mut reader, root, admin.as_ref());
    let routes = route::routes(&mut reader, root);
    let backend::Found { backends, named, health, drains } = backend::backends(&mut reader, root);
    resolver::check_bounds(&mut reader, &named);
    let broken = reader.broken;
    let spec = Spec {
        secrets: Secrets::default(),
        session,
        zone,
        timeouts,
        retry,
        classes,
        listeners: listener_specs,
        routes,
        backends,
    };
    let admin = admin.map(|found| found.value);
    let config = Config {
        engine,
        admin,
        state_dir,
        access_log,
        trace,
        metrics: metrics.settings,
        servers_told_apart: usize::MAX,
        resolver,
        named,
        listeners,
        health: Arc::new(health),
        drains: Arc::new(drains),
        spec,
    };
    Document { config, tree, broken, secret_file, metrics_bound: metrics.bound }
}

/// The tables of `[defaults]`, each with the path of what it is for.
fn defaults(reader: &mut Reader<'_>, root: Scope<'_>) -> Vec<(&'static [&'static str], Table)> {
    let Some(scope) = reader.table(root, "defaults", &shapes::DEFAULTS) else { return Vec::new() };
    let kinds: [(&'static str, &'static [&'static str], _); 4] = [
        ("listener", &["listener"], &shapes::DEFAULT_LISTENER),
        ("route", &["route"], &shapes::DEFAULT_ROUTE),
        ("backend", &["backend"], &shapes::DEFAULT_BACKEND),
        ("server", &["backend", "server"], &shapes::DEFAULT_SERVER),
    ];
    let mut defaults = Vec::new();
    for (key, path, shape) in kinds {
        if let Some(inner) = reader.table(scope, key, shape) {
            let mut table = inner.table.clone();
            table.entries.retain(|entry| shape.keys.contains(&entry.key.as_str()));
            defaults.push((path, table));
        }
    }
    defaults
}

fn give_defaults(table: &mut Table, path: &[&str], defaults: &Table) {
    let Some((first, rest)) = path.split_first() else { return };
    let Some(entry) = table.entries.iter_mut().find(|entry| entry.key == *first) else { return };
    if rest.is_empty() {
        gather::apply_defaults(&mut entry.node.value, defaults);
        return;
    }
    let items = match &mut entry.node.value {
        Value::Array(items) => items.as_mut_slice(),
        _ => std::slice::from_mut(&mut entry.node),
    };
    for item in items {
        if let Value::Table(inner) = &mut item.value {
            give_defaults(inner, rest, defaults);
        }
    }
}

impl Document {
    /// Compiles the spec. Findings about values that could not even be read are left out.
    fn compile(&self, report: &mut Report) -> Option<Snapshot> {
        let (snapshot, problems) = match lb_core::compile(&self.config.spec) {
            Ok(Compiled { snapshot, warnings, .. }) => (Some(snapshot), warnings),
            Err(error) => (None, error.problems),
        };
        let is_error = |problem: &&lb_core::Problem| problem.severity == lb_core::Severity::Error;
        let incomplete = report.failed() || problems.iter().any(|problem| is_error(&problem));
        for problem in &problems {
            let follows = match problem.code {
                // These count on routes that are whole.
                core_codes::NEVER_REACHED
                | core_codes::UNUSED
                | core_codes::MARK_CLASH
                | core_codes::CLASSES_UNUSED => incomplete,
                // Why there is no key has been said where it was looked for.
                core_codes::SECRET => report.has(codes::NO_KEY) || report.has(codes::UNREADABLE),
                // What is for all may mean nothing to one of them.
                core_codes::RETRY_UNUSED | core_codes::ATTEMPT_TIMEOUT_UNUSED => {
                    place::is_inherited(problem, &self.tree)
                }
                // A target is written, but could not be read.
                core_codes::NO_TARGET => {
                    place::has_any(problem, &self.tree, &["backend", "redirect", "reply"])
                }
                _ => false,
            };
            let diagnostic = place::diagnostic(problem, &self.tree);
            if !follows && !diagnostic.span.is_some_and(|span| self.broken.contains(&span)) {
                report.add(diagnostic);
            }
        }
        if snapshot.is_none() && !report.failed() {
            // The core refuses without a reason that has a place of its own: never stay silent about it.
            report.add(Diagnostic::error(codes::BAD_VALUE, "the configuration cannot be compiled"));
        }
        snapshot
    }
}
