//! Servers of the file whose names stand for no address: no table has them, and people must see them.

use std::sync::{Arc, PoisonError};

use lb_core::spec::Admin;

use super::{Current, Shared};
use crate::config::{Config, NamedServer};

/// A server of the file whose address is a name.
#[derive(Debug)]
pub(crate) struct NamedEntry {
    server: NamedServer,
    /// Its name in the file.
    pub(crate) name: String,
    /// What the file has for its address.
    pub(crate) address: String,
    pub(crate) weight: u32,
    pub(crate) backup: bool,
    pub(crate) admin: Admin,
    pub(crate) max_requests: Option<u32>,
}

/// One that stands for no address.
#[derive(Debug)]
pub(crate) struct Unresolved<'a> {
    pub(crate) entry: &'a NamedEntry,
    /// Why there is none.
    pub(crate) why: String,
}

impl NamedEntry {
    /// All of a configuration.
    pub(super) fn all(config: &Config) -> Arc<[NamedEntry]> {
        let entry = |server: &NamedServer| {
            let spec = &config.spec.backends[server.backend].servers[server.server];
            let name = &server.question.name;
            NamedEntry {
                server: server.clone(),
                name: spec.name.clone(),
                address: if server.port == 0 { name.clone() } else { format!("{name}:{}", server.port) },
                weight: spec.weight.unwrap_or(lb_core::defaults::WEIGHT),
                backup: spec.backup,
                admin: spec.admin,
                max_requests: spec.max_requests,
            }
        };
        config.named.iter().map(entry).collect()
    }

    /// Index of its backend in the table.
    pub(crate) fn backend(&self) -> usize {
        self.server.backend
    }

    /// Name of its backend.
    pub(crate) fn backend_name(&self) -> &str {
        &self.server.backend_name
    }
}

impl Shared {
    /// Those of the table in force, in the order of the file.
    pub(crate) fn unresolved<'a>(&self, current: &'a Current) -> Vec<Unresolved<'a>> {
        let snapshot = &current.table.snapshot;
        let is_there = |entry: &NamedEntry| {
            let servers = snapshot.backends()[entry.server.backend].servers.clone();
            let mut servers = snapshot.servers()[servers.start as usize..servers.end as usize].iter();
            servers.any(|server| *server.identity.name == *entry.name)
        };
        let missing: Vec<&NamedEntry> = current.named.iter().filter(|entry| !is_there(entry)).collect();
        if missing.is_empty() {
            return Vec::new();
        }
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let unresolved = missing.into_iter().map(|entry| Unresolved {
            entry,
            why: names
                .why_none(&entry.server)
                .unwrap_or_else(|| "its addresses are being taken up".to_owned()),
        });
        unresolved.collect()
    }
}
