//! `lb check`: everything that is wrong with a file.

use lb_control::config::{Origin, Purpose, load_blocking};

use crate::Ending;
use crate::cli::{CheckArguments, Format};
use crate::output::{complain, print};

pub(crate) fn check(arguments: &CheckArguments, format: Format) -> Ending {
    let origin = Origin::File(arguments.config.clone());
    let loaded = match load_blocking(&origin, Purpose::Check, None) {
        Ok(loaded) => loaded,
        Err(error) => {
            complain(&format!("lb: no runtime: {error}\n"));
            return Ending::Failed;
        }
    };
    match format {
        Format::Json => print(&(loaded.json() + "\n")),
        Format::Text => {
            print(&loaded.report.text("Nothing was changed."));
            if let Some(summary) = loaded.summary() {
                print(&format!("{} is valid: {summary}\n", arguments.config.display()));
            }
        }
    }
    if loaded.plan.is_some() { Ending::Done } else { Ending::Invalid }
}
