//! The keeper of the table: the one place where tables are made and published, whatever the reason.
//!
//! ```text
//! a reload is asked for ──► draft ──► its new names are answered ──► compile ──┐
//! a name's addresses change ──────► several within a short time ─► compile ──┴─► apply
//! ```
//!
//! A reload that waits for the first answers of new names holds up nothing: what else changes meanwhile is taken up.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Instant;

use lb_core::spec::Secrets;
use lb_core::{Compiled, ContentHash, Health, Snapshot, Table};
use tokio::sync::{mpsc, oneshot};

use super::compare::compare;
use super::unresolved::NamedEntry;
use super::{Command, Current, Reloaded, Shared, configuration};
use crate::changes::{Change, Kind};
use crate::config::{Config, Draft, NamedServer, Names, Origin, Purpose, codes, draft};
use crate::report::{Diagnostic, Severity};
use crate::resolve::ask::Asker;
use crate::resolve::names::News;
use crate::resolve::pace::Pace;
use crate::resolve::{Answer, Failure, Question, Target, random};

/// Knows what is wanted, and sees to it that the workers have a table of it.
pub(super) struct Keeper {
    origin: Origin,
    /// What is in force; of what only a restart changes, what the process was started with.
    config: Config,
    secrets: Option<Secrets>,
    shared: Arc<Shared>,
    asker: Asker,
    pace: Pace,
    /// A reload that waits for first answers.
    pending: Option<Pending>,
}

struct Pending {
    draft: Draft,
    until: Instant,
    answer: Option<oneshot::Sender<Reloaded>>,
}

/// A table that is in force.
struct Applied {
    hash: ContentHash,
    generation: u64,
}

/// What the keeper wakes up for.
enum Event {
    Command(Option<Command>),
    Answered(Question, Result<Answer, Failure>),
    Time,
}

impl Keeper {
    pub(super) fn new(
        origin: Origin,
        config: Config,
        secrets: Option<Secrets>,
        shared: Arc<Shared>,
    ) -> Keeper {
        let asker = Asker::new(&config.resolver);
        Keeper { origin, config, secrets, shared, asker, pace: Pace::default(), pending: None }
    }

    /// Goes on until it is dropped.
    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        // Once whoever held the other end is gone, there are no further ones.
        let mut hears = true;
        loop {
            self.ask();
            let listens = hears && self.pending.is_none();
            let until = self.next_time().map(tokio::time::Instant::from_std);
            let event = tokio::select! {
                command = commands.recv(), if listens => Event::Command(command),
                (question, result) = self.asker.next() => Event::Answered(question, result),
                () = wait_until(until) => Event::Time,
            };
            match event {
                Event::Command(Some(command)) => self.begin_reload(command.answer),
                Event::Command(None) => hears = false,
                Event::Answered(question, result) => self.answered(&question, result),
                Event::Time => {}
            }
            self.look();
            self.finish_reload();
            self.follow_names();
        }
    }

    /// When something is to be done though nothing happens.
    fn next_time(&self) -> Option<Instant> {
        let names = self.names().next(self.asker.room() > 0);
        let pending = self.pending.as_ref().map(|pending| pending.until);
        [names, pending, self.pace.due()].into_iter().flatten().min()
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        self.shared.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for the names that are due.
    fn ask(&mut self) {
        let due = self.names().begin_due(Instant::now(), self.asker.room());
        due.into_iter().for_each(|question| self.asker.begin(question));
    }

    fn answered(&self, question: &Question, result: Result<Answer, Failure>) {
        let ttl = self.config.resolver.ttl;
        let news = self.names().answered(question, result, ttl, Instant::now(), random());
        news.into_iter().for_each(|news| self.tell(news));
    }

    /// Lets addresses go that left their answers, where they may.
    fn look(&self) {
        let current = self.shared.current();
        let now = self.shared.workers.now();
        let is_up = |question: &Question, target: &Target| {
            let mut servers = self.config.named.iter().filter(|server| server.question == *question);
            servers.all(|server| is_up(&current.table, server, target, now))
        };
        let news = self.names().look(Instant::now(), self.config.resolver.remove_after, is_up);
        news.into_iter().for_each(|news| self.tell(news));
    }

    fn tell(&self, news: News) {
        match news.worse {
            true => tracing::warn!(name = news.name, "{}", news.words),
            false => tracing::info!(name = news.name, "{}", news.words),
        }
        let News { name: subject, worse, words } = news;
        self.shared.changes.note(Change { kind: Kind::Addresses, worse, subject, words });
    }

    /// Makes a table of changed addresses, when it is time for one.
    fn follow_names(&mut self) {
        let now = Instant::now();
        if self.names().take_changed() {
            self.pace.changed(now);
        }
        if self.pace.due().is_none_or(|due| due > now) {
            return;
        }
        if self.shared.is_draining() {
            // Nothing new is taken up, and soon there will be nobody to take it up.
            self.pace.made(now, std::time::Duration::ZERO);
            return;
        }
        let Config { named, spec, .. } = &mut self.config;
        self.shared.names.lock().unwrap_or_else(PoisonError::into_inner).fill(named, spec);
        match lb_core::compile(spec) {
            // What weights or priorities say may change and mean the same.
            Ok(Compiled { snapshot, .. })
                if snapshot.hash() == self.shared.current().table.snapshot.hash() => {}
            Ok(Compiled { snapshot, .. }) => {
                let Applied { hash, generation } = self.apply(snapshot);
                self.shared.address_tables.fetch_add(1, Relaxed);
                tracing::info!(%hash, generation, "a table with changed addresses is in force");
            }
            Err(problems) => {
                let why = problems.problems.first().map_or("", |problem| problem.message.as_str());
                tracing::error!(why, "changed addresses cannot be taken up: the last table stays");
            }
        }
        self.pace.made(Instant::now(), now.elapsed());
    }

    /// Reads the configuration again. What comes of it waits for the first answers of its names.
    fn begin_reload(&mut self, answer: Option<oneshot::Sender<Reloaded>>) {
        let draft = draft(&self.origin, Purpose::Run, self.secrets.as_ref());
        let Config { named, resolver, .. } = draft.config();
        let mut until = Instant::now();
        if !draft.failed() {
            self.names().fit(self.config.named.iter().chain(named), until);
            until += resolver.start_wait;
        }
        self.pending = Some(Pending { draft, until, answer });
    }

    /// Ends a reload whose names have been answered, or that has waited long enough.
    fn finish_reload(&mut self) {
        let is_time = |pending: &Pending| {
            let named = &pending.draft.config().named;
            pending.until <= Instant::now() || self.names().were_asked(named.iter())
        };
        if !self.pending.as_ref().is_some_and(is_time) {
            return;
        }
        let Some(Pending { draft, answer, .. }) = self.pending.take() else { return };
        let reloaded = self.reload(draft);
        if let Some(answer) = answer {
            let _ = answer.send(reloaded);
        }
    }

    /// Takes up a configuration, if it can be used.
    fn reload(&mut self, draft: Draft) -> Reloaded {
        let mut loaded = draft.finish(&self.names());
        if let Some(plan) = &loaded.plan {
            compare(&self.config, &plan.config, &mut loaded.report);
        }
        if self.shared.is_draining() {
            loaded.report.add(Diagnostic::error(codes::DRAINING, "we are draining: nothing new is taken up"));
        }
        let report = loaded.report;
        let Some(plan) = loaded.plan.filter(|_| !report.failed()) else {
            self.names().fit(self.config.named.iter(), Instant::now());
            self.shared.reloads_refused.fetch_add(1, Relaxed);
            let mut findings = report.diagnostics().into_iter();
            let error = findings.find(|it| it.severity == Severity::Error);
            self.shared.changes.note(Change {
                kind: Kind::Reload,
                worse: true,
                subject: "configuration".to_owned(),
                words: format!("refused: {}", error.map_or("", |it| it.message.as_str())),
            });
            tracing::error!(
                "the configuration was not taken:\n{}",
                report.text("Nothing was changed.").trim_end()
            );
            return Reloaded { report, applied: false };
        };
        self.secrets = Some(plan.config.spec.secrets.clone());
        self.want(plan.config);
        let Applied { hash, generation } = self.apply(plan.snapshot);
        self.shared.reloads_applied.fetch_add(1, Relaxed);
        if report.warnings() > 0 {
            tracing::warn!("the configuration was taken, but:\n{}", report.text("").trim_end());
        }
        tracing::info!(%hash, generation, "a new configuration is in force");
        self.shared.changes.note(configuration(
            Kind::Reload,
            &hash,
            &format!("in force, generation {generation}"),
        ));
        Reloaded { report, applied: true }
    }

    /// Takes up what is wanted from now on, but for what only a restart changes.
    fn want(&mut self, config: Config) {
        let running = std::mem::replace(&mut self.config, config);
        self.config.engine = running.engine;
        self.config.admin = running.admin;
        self.config.access_log = running.access_log;
        self.config.trace = running.trace;
        self.config.metrics = running.metrics;
        self.config.servers_told_apart = running.servers_told_apart;
        self.config.listeners = running.listeners;
        let now = Instant::now();
        self.names().fit(self.config.named.iter(), now);
        if self.asker.set(&self.config.resolver) {
            self.names().ask_all_soon(now);
        }
    }

    /// Puts a snapshot in force: every table that is published passes here, in this order.
    fn apply(&mut self, snapshot: Snapshot) -> Applied {
        let before = self.shared.current();
        let table = Arc::new(Table::new(snapshot, Some(&before.table)));
        // Whoever must know a table's servers before anybody is sent to them is told of it here.
        let now = self.shared.workers.now();
        self.shared.health.fit(&table, &self.config.health, now);
        self.shared.drains.fit(&table, &self.config.drains, now);
        self.shared.workers.publish(Arc::clone(&table));
        self.shared.stats.published(&table.snapshot, &self.shared.changes);
        self.shared.tell_of_bound(&table);
        let (hash, generation) = (table.snapshot.hash(), before.generation + 1);
        let (listeners, named) = (before.listeners.clone(), NamedEntry::all(&self.config));
        self.shared.put_in_force(Current { table, listeners, named, generation });
        Applied { hash, generation }
    }
}

async fn wait_until(until: Option<tokio::time::Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}

/// Whether an address serves as one server of a table and is up, as far as anybody knows.
fn is_up(table: &Table, server: &NamedServer, target: &Target, now: std::time::Duration) -> bool {
    let Some(backend) = table.snapshot.backends().get(server.backend) else { return false };
    let mut address = target.address;
    if server.port != 0 {
        address.set_port(server.port);
    }
    let mut servers = backend.servers.clone().map(|place| &table.live.servers()[place as usize]);
    servers.any(|live| {
        let its = live.identity();
        its.address == address && live.health() == Health::Up && live.removed_until() <= now
    })
}
