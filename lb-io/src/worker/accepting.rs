//! Taking clients on, up to the bounds, and pausing at them.

use std::net::SocketAddr;

use super::conns::Owner;
use super::{ACCEPT_RETRY, Listener, Worker};
use crate::driver::{ConnKey, Socket};

impl Worker {
    /// Whether a bound on client connections is reached: the worker's, or its part of the listener's.
    pub(super) fn is_full(&self, listener: u32) -> bool {
        let share = |bound: u32| (bound as usize).div_ceil(self.limits.workers.max(1));
        let bound = self.current.borrow().listener(listener).max_connections.map_or(usize::MAX, share);
        let open = self.open_by_listener.borrow()[listener as usize];
        self.downstream.get() >= self.limits.connections || open >= bound
    }

    /// Takes an accepted connection in.
    pub(super) fn admit(&self, listener: u32, socket: Socket, peer: SocketAddr) -> Option<ConnKey> {
        let Ok(conn) = self.driver.attach(socket) else {
            self.siblings.borrow().ended();
            self.metrics.listener(listener).turned_away.add(1);
            return None;
        };
        self.enter(conn, Owner::IdleDownstream, peer, listener);
        self.downstream.set(self.downstream.get() + 1);
        self.open_by_listener.borrow_mut()[listener as usize] += 1;
        self.metrics.listener(listener).active.add(1);
        let head_timeout = self.current.borrow().listener(listener).timeouts.request_head;
        self.set_deadline(conn, self.now() + head_timeout);
        Some(conn)
    }

    pub(super) fn pause_accepting(&self, which: impl Fn(&Listener) -> bool) {
        for listener in self.listeners.borrow_mut().iter_mut() {
            if !listener.paused && which(listener) {
                listener.paused = true;
                self.driver.pause_accept(listener.key);
            }
        }
        // Whoever holds the descriptors may not be us: no close of ours would ever resume accepting.
        self.accept_retry_at.set(Some(self.now() + ACCEPT_RETRY));
    }

    /// A descriptor was closed: accepting can go on, first with what is held.
    pub(super) fn resume_accepting(&self) {
        if self.accept_retry_at.get().is_none() && self.held.borrow().is_empty() {
            return;
        }
        loop {
            let admissible = self.held.borrow().iter().position(|(listener, ..)| !self.is_full(*listener));
            let Some((listener, socket, peer)) = admissible.and_then(|at| self.held.borrow_mut().remove(at))
            else {
                break;
            };
            if let Some(conn) = self.admit(listener, socket, peer) {
                self.driver.watch(conn);
            }
        }
        let mut all_resumed = true;
        for listener in self.listeners.borrow_mut().iter_mut().filter(|listener| listener.paused) {
            if self.is_full(listener.listener) {
                all_resumed = false;
            } else {
                listener.paused = false;
                self.driver.resume_accept(listener.key);
            }
        }
        if all_resumed {
            self.accept_retry_at.set(None);
        }
    }

    pub(super) fn retry_accepting(&self) {
        if self.accept_retry_at.get().is_some_and(|at| self.now() >= at) {
            self.accept_retry_at.set(Some(self.now() + ACCEPT_RETRY));
            self.resume_accepting();
        }
    }
}
