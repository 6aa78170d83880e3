//! `lb` with one worker.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use super::{CONNECTIONS_MAX, Kind, Setup};
use crate::plan::{self, Log, Shape};
use crate::{Result, launch};

pub(super) fn command(program: &Path, core: usize, setup: &Setup<'_>, kind: Kind) -> Result<Command> {
    let driver = if kind == Kind::LbIoUring { "io_uring" } else { "epoll" };
    let file = setup.directory.join("lb.toml");
    std::fs::write(&file, config(setup, driver))?;
    let mut command = launch::command(core, program)?;
    command.args(["run", "--format", "json", "-c"]).arg(file);
    Ok(command)
}

fn config(setup: &Setup<'_>, driver: &str) -> String {
    let state = setup.directory.join("state");
    let mut text = format!(
        "[engine]
workers = 1
driver = \"{driver}\"
max_connections = {CONNECTIONS_MAX}

[state]
dir = \"{}\"

[[listener]]
name = \"web\"
bind = \"127.0.0.1:0\"
",
        state.display()
    );
    if let Shape::Logged(log) = setup.shape {
        let format = match log {
            Log::Json => "json",
            Log::Combined => "combined",
        };
        let file = setup.log("lb");
        let _ = writeln!(text, "\n[log]\naccess = \"{}\"\nformat = \"{format}\"", file.display());
    }
    let backend = |text: &mut String, name: &str, from: usize, to: usize, extra: &str| {
        let _ = writeln!(text, "\n[[backend]]\nname = \"{name}\"\n{extra}server = [");
        for (index, server) in setup.origin.iter().enumerate().take(to).skip(from) {
            let _ = writeln!(text, "  {{ name = \"s{index}\", address = \"{server}\" }},");
        }
        text.push_str("]\n");
    };
    match setup.shape {
        Shape::Bare => {
            text.push_str("\n[[route]]\nname = \"app\"\nbackend = \"app\"\n");
            backend(&mut text, "app", 0, 1, "");
        }
        Shape::Servers => {
            text.push_str("\n[[route]]\nname = \"app\"\nbackend = \"app\"\n");
            backend(&mut text, "app", 0, plan::SERVERS, "balance = \"least_request\"\n");
        }
        Shape::Routes => {
            for index in 0..plan::ROUTES {
                let (host, path) = plan::route(index);
                let _ = writeln!(
                    text,
                    "\n[[route]]\nname = \"r{index}\"\nhost = \"{host}\"\npath_prefix = \"{path}\"\nbackend = \"b{}\"",
                    index % plan::ROUTE_BACKENDS
                );
            }
            for index in 0..plan::ROUTE_BACKENDS {
                backend(&mut text, &format!("b{index}"), index, index + 1, "");
            }
        }
        // X-Forwarded-*, request ids and all timeouts are what it does by default.
        Shape::Product | Shape::Logged(_) => {
            text.push_str(
                "\n[[route]]\nname = \"app\"\nbackend = \"stable\"
canary = { backend = \"canary\", share = \"10%\", cookie = \"canary\", release = \"1\" }\n",
            );
            let extra =
                |name| format!("balance = \"least_request\"\nsticky = {{ cookie = \"lb_{name}\" }}\n");
            backend(&mut text, "stable", 0, plan::PRODUCT_SERVERS, &extra("stable"));
            backend(&mut text, "canary", plan::PRODUCT_SERVERS, plan::PRODUCT_SERVERS + 1, &extra("canary"));
        }
    }
    text
}
