//! nginx as its experts run it on one core: one worker, upstream keepalive over HTTP/1.1, buffers that hold
//! 100 KB in memory, nothing written to disk, no access log; where there is to be one, `combined`, written
//! in pieces of 64 KB as ours is.
//!
//! Tried and left out (version 1.22): `proxy_buffering off` and buffers of 64 KiB cost a third more CPU at
//! 1 MB, `proxy_request_buffering off` changes nothing for 64 KB POSTs.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use super::{CONNECTIONS_MAX, IDLE_UPSTREAM_MAX, Setup, free_address};
use crate::plan::{self, Shape};
use crate::{Result, launch};

pub(super) fn command(
    program: &Path,
    core: usize,
    setup: &Setup<'_>,
) -> Result<(Command, Option<SocketAddr>)> {
    let address = free_address()?;
    let file = setup.directory.join("nginx.conf");
    std::fs::write(&file, config(setup, address))?;
    let mut command = launch::command(core, program)?;
    // The prefix keeps it from the system's files; -e, before the configuration is read.
    command.arg("-p").arg(setup.directory).arg("-e").arg("stderr").arg("-c").arg(file);
    Ok((command, Some(address)))
}

fn config(setup: &Setup<'_>, address: SocketAddr) -> String {
    let directory = setup.directory.display();
    // Two descriptors for each connection.
    let worker_connections = CONNECTIONS_MAX * 2;
    let access_log = match setup.shape {
        Shape::Logged(_) => format!("{} combined buffer=64k flush=1s", setup.log("nginx").display()),
        _ => "off".to_owned(),
    };
    let mut text = format!(
        "daemon off;
worker_processes 1;
error_log stderr crit;
pid {directory}/nginx.pid;
events {{
    worker_connections {worker_connections};
}}
http {{
    access_log {access_log};
    keepalive_timeout 75s;
    keepalive_requests 1000000000;
    client_header_timeout 10s;
    client_body_timeout 30s;
    send_timeout 30s;
    client_max_body_size 0;
    client_body_buffer_size 128k;
    proxy_http_version 1.1;
    proxy_buffers 8 16k;
    proxy_buffer_size 16k;
    proxy_busy_buffers_size 64k;
    proxy_max_temp_file_size 0;
    proxy_connect_timeout 3s;
    proxy_read_timeout 30s;
    proxy_send_timeout 30s;
    proxy_set_header Connection \"\";
    proxy_set_header Host $http_host;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
"
    );
    match setup.shape {
        Shape::Bare => {
            upstream(&mut text, "app", "", &setup.origin[..1]);
            server(&mut text, address, "", "        location / { proxy_pass http://app; }\n");
        }
        Shape::Servers => {
            upstream(&mut text, "app", "least_conn;", &setup.origin[..plan::SERVERS]);
            server(&mut text, address, "", "        location / { proxy_pass http://app; }\n");
        }
        Shape::Routes => routes(&mut text, setup, address),
        Shape::Product | Shape::Logged(_) => product(&mut text, setup, address),
    }
    text.push_str("}\n");
    text
}

fn upstream(text: &mut String, name: &str, balance: &str, servers: &[SocketAddr]) {
    let _ = writeln!(text, "    upstream {name} {{ {balance}");
    for server in servers {
        let _ = writeln!(text, "        server {server};");
    }
    let _ = writeln!(
        text,
        "        keepalive {IDLE_UPSTREAM_MAX};\n        keepalive_requests 1000000000;\n        keepalive_timeout 60s;\n    }}"
    );
}

fn server(text: &mut String, address: SocketAddr, name: &str, locations: &str) {
    let name = if name.is_empty() { String::new() } else { format!("        server_name {name};\n") };
    // Options of a listening socket are given once.
    let backlog = if text.contains("backlog=") { "" } else { " backlog=4096" };
    let _ = writeln!(text, "    server {{\n        listen {address}{backlog};\n{name}{locations}    }}");
}

fn routes(text: &mut String, setup: &Setup<'_>, address: SocketAddr) {
    text.push_str("    server_names_hash_max_size 4096;\n");
    for index in 0..plan::ROUTE_BACKENDS {
        upstream(text, &format!("b{index}"), "", &setup.origin[index..=index]);
    }
    for host in 0..plan::ROUTE_HOSTS {
        let mut locations = String::new();
        for index in (host..plan::ROUTES).step_by(plan::ROUTE_HOSTS) {
            let (_, path) = plan::route(index);
            let backend = index % plan::ROUTE_BACKENDS;
            let _ = writeln!(locations, "        location {path}/ {{ proxy_pass http://b{backend}; }}");
        }
        server(text, address, &plan::route(host).0, &locations);
    }
}

/// The split hashes a session cookie, so that a session stays in its arm, as ours does. Stickiness by a
/// cookie is not in the free nginx: maps do it, from the cookie to a group whose first server it names.
fn product(text: &mut String, setup: &Setup<'_>, address: SocketAddr) {
    let (stable, rest) = setup.origin.split_at(plan::PRODUCT_SERVERS);
    let canary = &rest[..1];
    upstream(text, "stable", "least_conn;", stable);
    upstream(text, "canary", "least_conn;", canary);
    for (index, server) in stable.iter().enumerate() {
        let _ = writeln!(text, "    upstream stable_s{index} {{\n        server {server};");
        for other in stable.iter().filter(|other| *other != server) {
            let _ = writeln!(text, "        server {other} backup;");
        }
        let _ = writeln!(
            text,
            "        keepalive {IDLE_UPSTREAM_MAX};\n        keepalive_requests 1000000000;\n    }}"
        );
    }
    text.push_str(
        "    map $cookie_lb_session $session { \"\" $request_id; default $cookie_lb_session; }
    map $cookie_lb_session $set_session {
        \"\" \"lb_session=$request_id; Path=/; HttpOnly; SameSite=Lax\";
        default \"\";
    }
    split_clients $session $arm { 10% canary; * stable; }
    map $arm:$cookie_lb_server $target {
        default $arm;
",
    );
    for index in 0..stable.len() {
        let _ = writeln!(text, "        stable:s{index} stable_s{index};");
    }
    text.push_str("    }\n    map $upstream_addr $server_used {\n        default \"\";\n");
    for (index, server) in setup.origin.iter().enumerate().take(stable.len() + 1) {
        let _ = writeln!(text, "        {server} s{index};");
    }
    text.push_str("    }\n    map $cookie_lb_server=$server_used $set_server {\n");
    text.push_str("        default \"lb_server=$server_used; Path=/; HttpOnly; SameSite=Lax\";\n");
    for index in 0..=stable.len() {
        let _ = writeln!(text, "        s{index}=s{index} \"\";");
    }
    text.push_str(
        "    }
    map $set_session$set_server $cache { \"\" \"\"; default private; }
    proxy_set_header X-Forwarded-For $remote_addr;
    proxy_set_header X-Forwarded-Proto $scheme;
    proxy_set_header X-Forwarded-Host $http_host;
    proxy_set_header X-Request-Id $request_id;
    add_header Set-Cookie $set_session;
    add_header Set-Cookie $set_server;
    add_header Cache-Control $cache;
",
    );
    server(text, address, "", "        location / { proxy_pass http://$target; }\n");
}
