//! The keeper of the table: the one place where tables are made and published, whatever the reason.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use lb_core::{ContentHash, Snapshot, Table};
use tokio::sync::mpsc;

use super::compare::compare;
use super::{Command, Current, Reloaded, Shared, configuration};
use crate::changes::{Change, Kind};
use crate::config::{Carried, Config, Origin, Purpose, codes, load};
use crate::report::{Diagnostic, Severity};

/// Knows what is wanted, and sees to it that the workers have a table of it.
pub(super) struct Keeper {
    origin: Origin,
    /// What is in force; of what only a restart changes, what the process was started with.
    config: Config,
    carried: Carried,
    shared: Arc<Shared>,
}

/// A table that is in force.
struct Applied {
    hash: ContentHash,
    generation: u64,
}

impl Keeper {
    pub(super) fn new(origin: Origin, config: Config, carried: Carried, shared: Arc<Shared>) -> Keeper {
        Keeper { origin, config, carried, shared }
    }

    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        while let Some(command) = commands.recv().await {
            let reloaded = self.reload().await;
            if let Some(answer) = command.answer {
                let _ = answer.send(reloaded);
            }
        }
        // Whoever held the other end is gone; the admin listener goes on until it is told to stop.
        std::future::pending::<()>().await;
    }

    /// Reads the configuration again and publishes what came of it.
    async fn reload(&mut self) -> Reloaded {
        let mut loaded = load(&self.origin, Purpose::Run, Some(&self.carried)).await;
        if let Some(plan) = &loaded.plan {
            compare(&self.config, &plan.config, &mut loaded.report);
        }
        if self.shared.is_draining() {
            loaded.report.add(Diagnostic::error(codes::DRAINING, "we are draining: nothing new is taken up"));
        }
        let report = loaded.report;
        let Some(plan) = loaded.plan.filter(|_| !report.failed()) else {
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
        self.carried = plan.carried;
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
        self.config.metrics = running.metrics;
        self.config.listeners = running.listeners;
    }

    /// Puts a snapshot in force: every table that is published passes here, in this order.
    fn apply(&mut self, snapshot: Snapshot) -> Applied {
        let before = self.shared.current();
        let table = Arc::new(Table::new(snapshot, Some(&before.table)));
        // Whoever must know a table's servers before anybody is sent to them is told of it here.
        self.shared.health.fit(&table, &self.config.health, self.shared.workers.now());
        self.shared.workers.publish(Arc::clone(&table));
        self.shared.stats.published(&table.snapshot, &self.shared.changes);
        let (hash, generation) = (table.snapshot.hash(), before.generation + 1);
        self.shared.put_in_force(Current { table, listeners: before.listeners.clone(), generation });
        Applied { hash, generation }
    }
}
