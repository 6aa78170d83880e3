//! HAProxy as its experts run it on one core: one thread, connections to servers reused by anyone, splicing
//! both ways, no logs; where there are to be some, `httplog` to standard output, which is a file.
//!
//! `splice-auto` hardly ever decides to splice a body of 1 MB (version 2.6: 475 µs of CPU a request, as much
//! as without), so splicing is asked for outright: 169 µs, and 150 µs with pipes of 256 KiB. It is better at
//! 100 KB and for 64 KB POSTs, too, and small bodies are never spliced.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use super::{CONNECTIONS_MAX, Setup, free_address};
use crate::plan::{self, Shape};
use crate::{Result, launch};

pub(super) fn command(
    program: &Path,
    core: usize,
    setup: &Setup<'_>,
) -> Result<(Command, Option<SocketAddr>)> {
    let address = free_address()?;
    let map = setup.directory.join("haproxy-routes.map");
    if setup.shape == Shape::Routes {
        std::fs::write(&map, routes_map())?;
    }
    let file = setup.directory.join("haproxy.cfg");
    std::fs::write(&file, config(setup, address, &map))?;
    let mut command = launch::command(core, program)?;
    command.arg("-db").arg("-f").arg(file);
    Ok((command, Some(address)))
}

fn config(setup: &Setup<'_>, address: SocketAddr, map: &Path) -> String {
    let mut text = format!(
        "global
    nbthread 1
    maxconn {CONNECTIONS_MAX}
    maxpipes 512
    tune.pipesize 262144
defaults
    mode http
    http-reuse always
    option splice-response
    option splice-request
    timeout connect 3s
    timeout client 75s
    timeout server 30s
    timeout http-request 10s
    timeout http-keep-alive 75s
    timeout queue 3s
    timeout tunnel 1h
frontend web
    bind {address} backlog 4096
"
    );
    let origin = setup.origin;
    let servers = |text: &mut String, from: usize, to: usize, cookie: bool| {
        for (index, server) in origin.iter().enumerate().take(to).skip(from) {
            let cookie = if cookie { format!(" cookie s{index}") } else { String::new() };
            let _ = writeln!(text, "    server s{index} {server}{cookie}");
        }
    };
    match setup.shape {
        Shape::Bare => {
            text.push_str("    default_backend app\nbackend app\n");
            servers(&mut text, 0, 1, false);
        }
        Shape::Servers => {
            text.push_str("    default_backend app\nbackend app\n    balance leastconn\n");
            servers(&mut text, 0, plan::SERVERS, false);
        }
        Shape::Routes => {
            let _ = writeln!(text, "    use_backend %[base,map_beg({})]", map.display());
            for index in 0..plan::ROUTE_BACKENDS {
                let _ = writeln!(text, "backend b{index}");
                servers(&mut text, index, index + 1, false);
            }
        }
        Shape::Product | Shape::Logged(_) => {
            text.push_str(PRODUCT_FRONTEND);
            for (name, from, to) in [
                ("stable", 0, plan::PRODUCT_SERVERS),
                ("canary", plan::PRODUCT_SERVERS, plan::PRODUCT_SERVERS + 1),
            ] {
                let _ = writeln!(text, "backend {name}\n    balance leastconn");
                let _ =
                    writeln!(text, "    cookie lb_{name} insert indirect nocache httponly attr SameSite=Lax");
                servers(&mut text, from, to, true);
            }
        }
    }
    if matches!(setup.shape, Shape::Logged(_)) {
        text = text
            .replace("global\n", "global\n    log stdout len 4096 format raw local0\n")
            .replace("    mode http\n", "    mode http\n    log global\n    option httplog\n");
    }
    text
}

/// The split hashes a session cookie, so that a session stays in its arm, as ours does.
const PRODUCT_FRONTEND: &str = "    unique-id-format %{+X}o%ci%cp%fi%fp%Ts%rt%pid
    unique-id-header X-Request-Id
    http-request set-var(txn.session) req.cook(lb_session)
    http-request set-var(txn.new) bool(true) unless { var(txn.session) -m found }
    http-request set-var(txn.session) uuid() if { var(txn.new) -m found }
    http-request set-header X-Forwarded-For %[src]
    http-request set-header X-Forwarded-Proto http
    http-request set-header X-Forwarded-Host %[req.hdr(host)]
    http-response add-header Set-Cookie \"lb_session=%[var(txn.session)]; Path=/; HttpOnly; SameSite=Lax\" if { var(txn.new) -m found }
    use_backend canary if { var(txn.session),xxh32,mod(10000) lt 1000 }
    default_backend stable
";

fn routes_map() -> String {
    let mut text = String::new();
    for index in 0..plan::ROUTES {
        let (host, path) = plan::route(index);
        let _ = writeln!(text, "{host}{path}/ b{}", index % plan::ROUTE_BACKENDS);
    }
    text
}
