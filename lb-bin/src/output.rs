//! What goes to standard output and standard error.

use std::io::Write as _;

/// Writes to standard output. A reader that left is no reason to fail.
pub(crate) fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Writes to standard error, in the same way.
pub(crate) fn complain(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// Sends events to standard error, one line each. Those of packages stay away: the one that asks name servers warns of every
/// packet that is not an answer, so that whoever sends them could fill a disk. What they come to is told by the control side.
pub(crate) fn start_events() {
    use tracing_subscriber::Layer as _;
    use tracing_subscriber::layer::SubscriberExt as _;
    use tracing_subscriber::util::SubscriberInitExt as _;
    let ours = tracing_subscriber::filter::filter_fn(|event| {
        *event.level() <= tracing::Level::INFO && event.target().starts_with("lb")
    });
    let lines =
        tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false).with_target(false);
    tracing_subscriber::registry().with(lines.with_filter(ours)).init();
}
