//! What a reload cannot apply.

use crate::config::{Config, Listener, codes};
use crate::report::{Diagnostic, Report};

/// Finds it. Changed listeners are refused: a table that counts on other listeners than
/// there are would route wrongly. Other settings stay as they are until the next start, with a warning.
pub(super) fn compare(running: &Config, wanted: &Config, report: &mut Report) {
    let bound = |listeners: &[Listener]| -> Vec<Listener> {
        let mut sorted = listeners.to_vec();
        for listener in &mut sorted {
            listener.bind.sort();
        }
        sorted.sort_by(|left, right| left.name.cmp(&right.name));
        sorted
    };
    let (running_listeners, wanted_listeners) = (bound(&running.listeners), bound(&wanted.listeners));
    let refuse = |report: &mut Report, message: String| {
        report.add(
            Diagnostic::error(codes::LISTENER_CHANGED, message)
                .note("in this version listeners are opened at start only: restart to change them"),
        );
    };
    for listener in &wanted_listeners {
        match running_listeners.iter().find(|known| known.name == listener.name) {
            None => refuse(report, format!("listener `{}` is new", listener.name)),
            Some(known) if known.bind != listener.bind => {
                refuse(
                    report,
                    format!("listener `{}` has other addresses than the running one", listener.name),
                );
            }
            Some(_) => {}
        }
    }
    for listener in &running_listeners {
        if !wanted_listeners.iter().any(|wanted| wanted.name == listener.name) {
            refuse(report, format!("listener `{}` is gone", listener.name));
        }
    }
    let changed = [
        ("[engine]", running.engine != wanted.engine),
        ("[admin]", running.admin != wanted.admin),
        ("[log]", running.access_log != wanted.access_log),
        ("[trace]", running.trace != wanted.trace),
        ("[metrics]", running.metrics != wanted.metrics),
    ];
    for (what, _) in changed.into_iter().filter(|(_, changed)| *changed) {
        report.add(Diagnostic::warning(
            codes::NEEDS_RESTART,
            format!("what {what} says is applied at the next start"),
        ));
    }
}
