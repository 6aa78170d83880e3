//! `lb demo`: something to try within a minute.

use std::net::{SocketAddr, TcpListener};

use lb_control::config::{Origin, Purpose, load_blocking};
use lb_control::demo::{NAMES, Origins, SHARE_PERCENT};

use crate::Ending;
use crate::cli::{DemoArguments, Format};
use crate::output::{complain, print};
use crate::run::Service;

pub(crate) fn demo(arguments: &DemoArguments, format: Format) -> Ending {
    match begin(arguments) {
        Ok((service, _origins)) => {
            print(&match format {
                Format::Json => service.ready_line(format),
                Format::Text => welcome(&service),
            });
            service.serve()
        }
        Err(why) => {
            complain(&format!("lb: {why}\n"));
            Ending::Failed
        }
    }
}

fn begin(arguments: &DemoArguments) -> Result<(Service, Origins), String> {
    is_free(arguments.listen, "--listen")?;
    is_free(arguments.admin, "--admin")?;
    let origins = Origins::start().map_err(|error| format!("the demo's servers cannot start: {error}"))?;
    let text = origins.config(&arguments.listen.to_string(), &arguments.admin.to_string());
    let origin = Origin::Text { name: "demo.toml".to_owned(), text };
    let loaded =
        load_blocking(&origin, Purpose::Run, None).map_err(|error| format!("no runtime: {error}"))?;
    // That its keys last only as long as it runs is no news for a demo.
    let plan = loaded.plan.ok_or_else(|| loaded.report.text("The demo cannot start."))?;
    Ok((Service::start(plan, origin)?, origins))
}

/// Tells early and clearly that a port is taken; binding for good still may fail, and says so too.
fn is_free(address: SocketAddr, flag: &str) -> Result<(), String> {
    TcpListener::bind(address).map(drop).map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            let mut any = address;
            any.set_port(0);
            format!("{address} is taken by another process; choose another address, or any free port with {flag} {any}")
        }
        _ => format!("cannot listen on {address} ({flag}): {error}"),
    })
}

fn welcome(service: &Service) -> String {
    let address = service.addresses().first().map_or_else(String::new, |local| local.address.to_string());
    let [old_1, old_2, new_1] = NAMES;
    let line = |command: &str, what: &str| format!("{command:<58}{what}\n");
    [
        format!("listening on http://{address} ({}){}\n", service.engine_words(), service.admin_words()),
        format!("  shop   stable → {old_1}, {old_2}     canary {SHARE_PERCENT} % → {new_1}\n"),
        line(&format!("try   curl {address}/"), "which server answered, and why"),
        line(&format!("      curl --cookie canary=always {address}/"), "the canary"),
        line(
            &format!("      curl --cookie-jar jar --cookie jar {address}/"),
            "again and again: the same server",
        ),
        line(&format!("      open http://{address}/ in a browser"), "the same as a page"),
        "stop with Ctrl-C\n".to_owned(),
    ]
    .concat()
}
