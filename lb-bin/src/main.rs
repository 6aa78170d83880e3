//! The `lb` command: wires the control side to the engine.
#![forbid(unsafe_code)]

mod check;
mod cli;
mod demo;
mod engine;
mod explain;
mod output;
mod readings;
mod run;
mod signals;
mod top;

use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::{Cli, Command};

/// How a command ended, as its exit code says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// 0: done.
    Done,
    /// 1: something failed.
    Failed,
    /// 2: called wrongly.
    Usage,
    /// 3: the configuration cannot be used.
    Invalid,
}

impl From<Ending> for ExitCode {
    fn from(ending: Ending) -> ExitCode {
        ExitCode::from(match ending {
            Ending::Done => 0,
            Ending::Failed => 1,
            Ending::Usage => 2,
            Ending::Invalid => 3,
        })
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let format = cli.format;
    output::start_events();
    let ending = match cli.command {
        Command::Run(arguments) => run::run(&arguments, format),
        Command::Check(arguments) => check::check(&arguments, format),
        Command::Explain(arguments) => explain::explain(arguments, format),
        Command::Demo(arguments) => demo::demo(&arguments, format),
        Command::Top(arguments) => top::top(&arguments, format),
    };
    ending.into()
}
