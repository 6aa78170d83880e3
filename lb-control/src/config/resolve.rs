//! Names as addresses: asked of the system's resolver when a configuration is loaded.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use lb_core::spec::{Address, Spec};
use tokio::task::JoinSet;

use super::backend::NamedServer;
use super::{Purpose, codes};
use crate::report::{Diagnostic, Report};

/// How long one name may take.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// Names asked for at once at most.
const LOOKUPS_AT_ONCE: usize = 32;

/// Addresses taken for one name at most; the rest is left out.
const ADDRESSES_MAX: usize = 256;

/// The last good answer for every name and port.
pub type Addresses = HashMap<(String, u16), Vec<SocketAddr>>;

/// Asks for every name and writes the addresses into the spec. A name without an answer keeps its last good
/// one; without any it is an error, or a warning where nothing is going to run.
pub(super) async fn resolve(
    named: &[NamedServer],
    spec: &mut Spec,
    purpose: Purpose,
    previous: Option<&Addresses>,
    report: &mut Report,
) -> Addresses {
    let mut answers = look_up(named).await;
    let mut addresses = Addresses::new();
    for server in named {
        let key = (server.host.clone(), server.port);
        let last = previous.and_then(|known| known.get(&key));
        if !addresses.contains_key(&key) {
            let answer = answers.remove(&key).unwrap_or_else(|| Err("nobody asked".to_owned()));
            match (answer, last) {
                (Ok(fresh), _) => {
                    addresses.insert(key.clone(), keep_order(fresh, last));
                }
                (Err(why), Some(last)) => {
                    tracing::warn!(name = server.host, why, "no answer for a name: its last addresses stay");
                    addresses.insert(key.clone(), last.clone());
                }
                (Err(why), None) => {
                    report.add(unresolved(server, &why, purpose));
                    continue;
                }
            }
        }
        let Some(known) = addresses.get(&key) else { continue };
        let count = if server.all { known.len() } else { 1 };
        let Some(target) =
            spec.backends.get_mut(server.backend).and_then(|backend| backend.servers.get_mut(server.server))
        else {
            continue;
        };
        target.address = Address::Resolved(known.iter().take(count).copied().collect());
    }
    addresses
}

fn unresolved(server: &NamedServer, why: &str, purpose: Purpose) -> Diagnostic {
    let message = format!("`{}` stands for no address: {why}", server.host);
    let diagnostic = match purpose {
        Purpose::Run => Diagnostic::error(codes::UNRESOLVED, message),
        Purpose::Check => Diagnostic::warning(codes::UNRESOLVED_HERE, message)
            .note("`lb run` would refuse to start where it cannot resolve this name"),
    };
    diagnostic.at(server.span)
}

/// The address that was first stays first while it is among the answers, so that resolvers that rotate their
/// answers move nobody; the others are sorted.
fn keep_order(mut fresh: Vec<SocketAddr>, last: Option<&Vec<SocketAddr>>) -> Vec<SocketAddr> {
    let first = match last.and_then(|last| last.first()) {
        Some(first) if fresh.contains(first) => *first,
        _ => match fresh.first() {
            Some(first) => *first,
            None => return fresh,
        },
    };
    fresh.sort();
    fresh.dedup();
    fresh.retain(|address| *address != first);
    fresh.insert(0, first);
    fresh.truncate(ADDRESSES_MAX);
    fresh
}

type Answer = Result<Vec<SocketAddr>, String>;

async fn look_up(named: &[NamedServer]) -> HashMap<(String, u16), Answer> {
    let mut names: Vec<(String, u16)> =
        named.iter().map(|server| (server.host.clone(), server.port)).collect();
    names.sort();
    names.dedup();
    let mut names = names.into_iter();
    let mut asked = JoinSet::new();
    let mut answers = HashMap::new();
    loop {
        while asked.len() < LOOKUPS_AT_ONCE {
            let Some(name) = names.next() else { break };
            asked.spawn(async move {
                let answer = ask(&name).await;
                (name, answer)
            });
        }
        match asked.join_next().await {
            Some(Ok((name, answer))) => {
                answers.insert(name, answer);
            }
            Some(Err(_)) => {}
            None => return answers,
        }
    }
}

async fn ask(name: &(String, u16)) -> Answer {
    let lookup = tokio::net::lookup_host((name.0.as_str(), name.1));
    match tokio::time::timeout(LOOKUP_TIMEOUT, lookup).await {
        Ok(Ok(found)) => {
            let found: Vec<SocketAddr> = found.collect();
            if found.is_empty() { Err("the answer is empty".to_owned()) } else { Ok(found) }
        }
        Ok(Err(error)) => Err(super::gather::plain(&error)),
        Err(_) => Err(format!("no answer within {} s", LOOKUP_TIMEOUT.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_address_stays_first() {
        let address = |last: u8| SocketAddr::from(([10, 0, 0, last], 80));
        let fresh = vec![address(3), address(1), address(3), address(2)];
        assert_eq!(keep_order(fresh.clone(), None), [address(3), address(1), address(2)]);
        let last = vec![address(2)];
        assert_eq!(keep_order(fresh.clone(), Some(&last)), [address(2), address(1), address(3)]);
        let gone = vec![address(9)];
        assert_eq!(keep_order(fresh, Some(&gone)), [address(3), address(1), address(2)]);
        assert_eq!(keep_order(Vec::new(), Some(&gone)), []);
    }
}
