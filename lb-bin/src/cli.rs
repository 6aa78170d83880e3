//! What may be typed.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use lb_control::config::value::duration;

/// An HTTP load balancer: routes, splits, sticks and balances.
#[derive(Debug, Parser)]
#[command(name = "lb", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,

    /// How to say it: for people or for programs.
    #[arg(long, global = true, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// For whom output is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// For programs: one JSON object per line.
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Balance, until told to stop.
    ///
    /// HUP reloads the file, TERM, INT and QUIT drain and stop (a second one stops at once), USR1 reopens the
    /// access log.
    Run(RunArguments),
    /// Tell everything that is wrong with a file, without changing anything.
    Check(CheckArguments),
    /// Tell where a request would go, and why.
    Explain(ExplainArguments),
    /// Balance three small servers that are built in: something to try at once.
    Demo(DemoArguments),
    /// Look at a running process: shares, rates, times, servers, changes.
    ///
    /// It asks the admin listener; without --at and --config the one at 127.0.0.1:9900.
    Top(TopArguments),
}

#[derive(Debug, Args)]
pub(crate) struct RunArguments {
    /// The config file.
    #[arg(short, long, value_name = "FILE")]
    pub config: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArguments {
    /// The config file.
    #[arg(short, long, value_name = "FILE")]
    pub config: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArguments {
    /// The config file.
    #[arg(short, long, value_name = "FILE", required_unless_present = "at")]
    pub config: Option<PathBuf>,

    /// Ask the running process at this admin address, with its live state: 127.0.0.1:9900 or unix:/path.
    #[arg(long, value_name = "ADMIN")]
    pub at: Option<String>,

    /// The method, such as GET.
    #[arg(value_name = "METHOD")]
    pub method: String,

    /// The URL: scheme, host, path and query.
    #[arg(value_name = "URL")]
    pub url: String,

    /// A header of the request; may be given several times.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    pub headers: Vec<String>,

    /// The client's address; 127.0.0.1 unless given.
    #[arg(long, value_name = "IP")]
    pub from: Option<String>,

    /// The listener's name; the one with the URL's port, else the first, unless given.
    #[arg(long, value_name = "NAME")]
    pub listener: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct TopArguments {
    /// The admin address of the running process: 127.0.0.1:9900 or unix:/path.
    #[arg(long, value_name = "ADMIN")]
    pub at: Option<String>,

    /// The config file that names it.
    #[arg(short, long, value_name = "FILE", conflicts_with = "at")]
    pub config: Option<PathBuf>,

    /// Print everything once, as plain text; with --format json the document itself.
    #[arg(long)]
    pub once: bool,

    /// How often to ask.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = interval)]
    pub interval: Duration,

    /// Show only routes, backends and servers whose names have this in them.
    #[arg(value_name = "FILTER")]
    pub filter: Option<String>,
}

/// The shortest time between two questions.
const INTERVAL_MIN: Duration = Duration::from_millis(100);

fn interval(text: &str) -> Result<Duration, String> {
    let interval = duration(text).map_err(|refused| format!("expected {}", refused.expected))?;
    if interval < INTERVAL_MIN { Err("at least 100ms".to_owned()) } else { Ok(interval) }
}

#[derive(Debug, Args)]
pub(crate) struct DemoArguments {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,

    /// Where the admin listener is; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9900")]
    pub admin: SocketAddr,
}
