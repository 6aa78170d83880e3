//! `lb explain`: where a request would go, by a file or by what runs.

use std::sync::Arc;
use std::time::Instant;

use lb_control::admin::client;
use lb_control::config::{Origin, Purpose, load_blocking};
use lb_control::drain::Drains;
use lb_control::explain::{Question, answer, parse_from, parse_header};
use lb_core::Table;

use crate::Ending;
use crate::cli::{ExplainArguments, Format};
use crate::output::{complain, print};

pub(crate) fn explain(arguments: ExplainArguments, format: Format) -> Ending {
    let (at, config) = (arguments.at.clone(), arguments.config.clone());
    let question = match question(arguments, format) {
        Ok(question) => question,
        Err(why) => {
            complain(&format!("lb: {why}\n"));
            return Ending::Usage;
        }
    };
    match (at, config) {
        (Some(at), _) => ask_running(&at, &question),
        (None, Some(config)) => ask_file(Origin::File(config), &question, format),
        (None, None) => Ending::Usage,
    }
}

fn question(arguments: ExplainArguments, format: Format) -> Result<Question, String> {
    let headers = arguments.headers.iter().map(|text| parse_header(text)).collect::<Result<_, _>>()?;
    Ok(Question {
        method: arguments.method,
        url: arguments.url,
        headers,
        from: arguments.from.as_deref().map(parse_from).transpose()?,
        listener: arguments.listener,
        json: format == Format::Json,
    })
}

fn ask_running(at: &str, question: &Question) -> Ending {
    match client::get(at, &format!("/explain?{}", question.to_query())) {
        Ok((200, body)) => {
            print(&body);
            Ending::Done
        }
        Ok((400, body)) => {
            complain(&format!("lb: {body}"));
            Ending::Usage
        }
        Ok((status, body)) => {
            complain(&format!("lb: {at} answered {status}: {body}"));
            Ending::Failed
        }
        Err(why) => {
            complain(&format!("lb: {why}\n"));
            Ending::Failed
        }
    }
}

fn ask_file(origin: Origin, question: &Question, format: Format) -> Ending {
    let loaded = match load_blocking(&origin, Purpose::Check, None) {
        Ok(loaded) => loaded,
        Err(error) => {
            complain(&format!("lb: no runtime: {error}\n"));
            return Ending::Failed;
        }
    };
    let Some(plan) = loaded.plan else {
        match format {
            Format::Text => complain(&loaded.report.text("Nothing can be explained.")),
            Format::Json => print(&(loaded.json() + "\n")),
        }
        return Ending::Invalid;
    };
    let table = Arc::new(Table::new(plan.snapshot, None));
    let now = lb_io::clock::now();
    Drains::default().fit(&table, &plan.config.drains, now);
    match answer(&table, &plan.config.listeners, question, now) {
        Ok(answer) => {
            let answer = answer.with_names(&table, &plan.carried.names, Instant::now());
            print(&if question.json { answer.json() + "\n" } else { answer.text() });
            Ending::Done
        }
        Err(why) => {
            complain(&format!("lb: {why}\n"));
            Ending::Usage
        }
    }
}
