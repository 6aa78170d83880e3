//! What lines say of listeners, routes and servers: written once for a table, copied in one go for each line.
//!
//! A line outlives the table that it was decided by, so it holds the pieces and not the table. They are counted
//! without atomics and belong to one worker.

use std::rc::Rc;

use lb_core::Snapshot;
use lb_core::snapshot::{RouteIndex, ServerIndex};

use super::record::Format;
use super::write;

/// A piece of a line, ready to be copied.
pub type Piece = Rc<[u8]>;

/// The pieces of one table in one format.
#[derive(Debug, Default)]
pub struct Names {
    listeners: Box<[Piece]>,
    routes: Box<[Piece]>,
    servers: Box<[Piece]>,
}

impl Names {
    /// The pieces of this table.
    pub fn of(snapshot: &Snapshot, format: Format) -> Names {
        let listeners = snapshot.listeners().iter().map(|listener| match format {
            Format::Text => words(&[&listener.name]),
            Format::Json => members(&[("listener", Some(&listener.name)), ("zone", snapshot.zone())]).into(),
            Format::Combined => Piece::default(),
        });
        let routes = snapshot.routes().iter().map(|route| match format {
            Format::Text => words(&[&route.name]),
            Format::Json => members(&[("route", Some(&route.name))]).into(),
            Format::Combined => Piece::default(),
        });
        let servers = snapshot.servers().iter().map(|server| {
            let backend = &*snapshot.backend(server.backend).name;
            match format {
                Format::Text => words(&[backend, "/", server.name()]),
                Format::Json => {
                    let mut piece = members(&[
                        ("backend", Some(backend)),
                        ("server", Some(server.name())),
                        ("server_zone", server.zone.as_deref()),
                    ]);
                    labels(&mut piece, &server.labels);
                    piece.into()
                }
                Format::Combined => Piece::default(),
            }
        });
        Names { listeners: listeners.collect(), routes: routes.collect(), servers: servers.collect() }
    }

    /// For a listener at this place of the snapshot; empty if there is none.
    pub fn listener(&self, place: u32) -> &[u8] {
        self.listeners.get(place as usize).map_or(b"", |piece| piece)
    }

    /// For a route.
    ///
    /// # Panics
    /// If the table has no such route.
    pub fn route(&self, route: RouteIndex) -> Piece {
        Rc::clone(&self.routes[route.0 as usize])
    }

    /// For a server and its backend.
    ///
    /// # Panics
    /// If the table has no such server.
    pub fn server(&self, server: ServerIndex) -> Piece {
        Rc::clone(&self.servers[server.0 as usize])
    }
}

/// For a line of text: a space, and these together.
fn words(parts: &[&str]) -> Piece {
    let mut out = vec![b' '];
    parts.iter().for_each(|part| out.extend_from_slice(part.as_bytes()));
    out.into()
}

/// Those members of a JSON object that there are, with a comma before each.
fn members(members: &[(&str, Option<&str>)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, value) in members {
        if let Some(value) = value {
            write::member(&mut out, key);
            write::quoted(&mut out, value);
        }
    }
    out
}

/// The member of a JSON object that has a server's labels, if it has any.
fn labels(out: &mut Vec<u8>, labels: &[(Box<str>, Box<str>)]) {
    if labels.is_empty() {
        return;
    }
    write::member(out, "labels");
    for (place, (name, value)) in labels.iter().enumerate() {
        out.push(if place == 0 { b'{' } else { b',' });
        write::quoted(out, name);
        out.push(b':');
        write::quoted(out, value);
    }
    out.push(b'}');
}
